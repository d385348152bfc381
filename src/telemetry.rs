//! Logging and metrics.
use crate::domain::attempt::FailureKind;
use std::time::Duration;

#[derive(Default)]
pub struct Metrics {}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics {}
    }
    pub fn waiting(&self, _count: u64) {}
    pub fn store_bytes(&self, _bytes: u64, _blob_files: u64) {}
    pub fn commit(&self, _commands: usize, _elapsed: Duration) {}
    pub fn attempt(&self, _failure: Option<FailureKind>) {}
}
