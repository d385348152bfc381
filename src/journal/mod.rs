//! The journal: one log of records on disk, which everything else is made from.
//!
//! One thread owns the [`Journal`] and appends; an append is one write and one sync, and a record is
//! durable when [`Journal::append`] answers. Any thread reads through a [`Reader`]. The content of a
//! record, its effects, is bytes to this layer.
//!
//! What it promises, whatever the machine does meanwhile:
//! - A record whose append was answered is read again, unchanged, or told as damage with file and
//!   position. Positions have no gaps and no record is there twice.
//! - A record whose append was not answered is there or not after the next start, and stays so. At
//!   most one record is ever in that state: the last.
//! - Damage is never taken for the end, but for one case: a broken last record cannot be told from
//!   one that was being written when the power failed.
//! - After a failed write or sync nothing more is written or synced: the process has to end.
//!
//! | file | holds |
//! |---|---|
//! | `record` | the format of records |
//! | `segment` | the format of segments |
//! | `walk` | the records of one segment, and what lies behind the last |
//! | `append` | appending, rolling over to the next segment, removing segments |
//! | `erase` | overwriting parts |
//! | `recovery` | opening: what is decided at a start |
//! | `reader` | parts and stretches of records, for any thread |
//! | `copy` | how far a segment goes, and its bytes, for backups |
//! | `through` | stretches of records of which something may be damaged |
//! | `spares` | files that are zeroed ahead |
//! | `files` | the calls of the file system |
//! | `simulation` | a disk that fails, and a workload on it against a model |

mod append;
mod copy;
mod erase;
mod error;
pub mod files;
mod reader;
mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod simulation;
mod spares;
#[cfg(test)]
mod tests;
mod through;
mod walk;

pub use append::{Appended, CutOff, Journal, Known, Opened, Sizes};
pub use copy::{ErasedStretches, SegmentBytes, SegmentPlace, Walked, segment_file};
pub use erase::ErasingCosts;
pub use error::{DamagedFile, JournalError};
pub use files::Disk;
pub use reader::{Part, Reader, Records};
pub use record::{PartName, RecordDraft, Tip};
pub use segment::Segment;
pub use spares::Zeroing;
pub use through::Next;
pub use walk::{PartPlace, Record};
