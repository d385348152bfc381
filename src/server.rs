//! (to be written)

/// Runs a server until it is told to stop.
pub fn serve(config: crate::config::Config) -> Result<(), Box<dyn std::error::Error>> {
    let _ = config;
    todo!()
}
