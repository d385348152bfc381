//! Reading through a stretch of the journal of which something may be damaged or missing.

use std::ops::Range;

use super::error::{JournalError, Result};
use super::reader::{Reader, Records};
use super::walk::Record;

/// The next thing in a stretch.
pub enum Next {
    Record(Record),
    /// Records that cannot be read, by their positions.
    Lost {
        positions: Range<u64>,
        why: JournalError,
    },
}

/// A stretch of records, whatever is damaged in it; see [`Reader::through`].
pub struct Through {
    records: Records,
    /// What is missing before the first segment.
    missing: Option<Next>,
}

impl Reader {
    /// All durable records from this position on that can be read, in order, and between them what cannot
    /// be read.
    ///
    /// # Errors
    /// `Missing` if no segment has the position or a later one.
    pub fn through(&self, position: u64) -> Result<Through> {
        let missing = match self.records(position) {
            Ok(records) => {
                let missing = None;
                return Ok(Through { records, missing });
            }
            Err(error) => error,
        };
        let segments = self.segments();
        let Some(first) = segments.first() else {
            return Err(missing);
        };
        let begin = first.begin.position;
        Ok(Through {
            records: self.records(begin)?,
            missing: Some(Next::Lost {
                positions: position..begin,
                why: missing,
            }),
        })
    }
}

impl Through {
    /// The position of the next record.
    pub fn position(&self) -> u64 {
        match &self.missing {
            Some(Next::Lost { positions, .. }) => positions.start,
            _ => self.records.position(),
        }
    }

    /// The next durable record, or records that cannot be read; `None` after the last.
    ///
    /// # Errors
    /// Those that are no damage, such as a file that cannot be opened just now.
    pub fn next(&mut self) -> Result<Option<Next>> {
        if let Some(missing) = self.missing.take() {
            return Ok(Some(missing));
        }
        loop {
            let why = match self.records.next_record() {
                Ok(record) => return Ok(record.map(Next::Record)),
                Err(error) if error.is_damage() => error,
                Err(error) => return Err(error),
            };
            let positions = self.records.skip_damage();
            if !positions.is_empty() {
                return Ok(Some(Next::Lost { positions, why }));
            }
        }
    }
}
