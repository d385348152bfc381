//! The continuous copy of a store to another place, and the way back from it.
//!
//! A *target* is a folder, or a bucket of an object store with a prefix. Below it each store has a
//! folder of its own, named by its journal's stream in 16 hex digits:
//!
//! | object | content |
//! |---|---|
//! | `STREAM/manifest-NNNNNNNNNNNNNNNN` | all objects that the copy consists of; the newest number counts |
//! | `STREAM/sealed-NNNNNNNNNNNNNNNN` | the list of sealed segments and their indexes |
//! | `STREAM/segment-NUMBER-XXXXXXXX` | a whole sealed segment, up to and with its end mark |
//! | `STREAM/piece-NUMBER-OFFSET-XXXXXXXX` | a stretch of the open segment |
//! | `STREAM/checkpoint-POSITION-XXXXXXXX` | a checkpoint file |
//! | `STREAM/index-SLICE-XXXXXXXX` | the index file of a sealed slice |
//! | `STREAM/verified-TIME` | when the copy was verified last, and the result: see the file `verification` |
//!
//! - `XXXXXXXX` is random, and manifests are only ever created. So every object is immutable, and two
//!   servers that copy the same stream cannot overwrite each other's objects.
//! - Manifests and lists are JSON. They name each object with its size and SHA-256.
//! - Every object has a head of its own, and may be encrypted: see [`seal`].
//!
//! A *restore* lays the files of a store into an empty directory, and the store makes its databases of them. It goes on
//! as a stream of its own, so its copy is another one beside the first.
//!
//! This room knows `journal` and `store`, and the leaves. It does not know `api`, `scheduler` and `delivery`. `config`
//! reads `key` and `place`, which import nothing of ours.
//!
//! | file | what it is |
//! |---|---|
//! | `continuous` | the thread that copies a running store |
//! | `copy`, `erasing`, `retention` | one run: what is uploaded, erased and let go of |
//! | `manifest` | the manifest, and the list of sealed segments |
//! | `restore`, `laying` | choosing a moment, and laying down its files |
//! | `follow` | the same again and again, while the server goes on |
//! | `verifier`, `verification` | the thread that reads the copy of a running store and checks all of it, and its results |
//! | `target`, `place` | folders and buckets |
//! | `seal`, `key` | the bytes of an object |

mod continuous;
mod copy;
mod erasing;
mod error;
mod follow;
pub mod key;
mod laying;
mod manifest;
pub mod place;
mod restore;
mod retention;
pub mod seal;
pub mod target;
mod verification;
mod verifier;

pub use continuous::{Backup, BackupSettings};
pub use copy::{Copied, Copier, Progress, Source};
pub use error::BackupError;
pub use follow::Follow;
pub use key::BackupKey;
pub use manifest::{folder_of, stream_of};
pub use restore::{Choice, Fetched, fetch};
pub use target::{Target, TargetSettings};
pub use verifier::discard_scratch;
