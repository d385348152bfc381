//! Logging and metrics.
pub struct Metrics {}

impl Metrics {
    pub fn encode(&self) -> String {
        String::new()
    }
}
