//! Logging and metrics.
pub struct Metrics {}
