//! (to be written)
pub fn main() -> std::process::ExitCode {
    todo!()
}
