//! The `postrider` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    return_memory_of_what_is_large();
    postrider::cli::main()
}

/// Has the C library give memory of large pages and payloads back to the system when they are sent.
///
/// By default glibc's bound for that rises to 32 MiB with the first large allocation, and each thread's
/// arena keeps what it once had: a third more memory was measured under lists of all kinds.
fn return_memory_of_what_is_large() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: they take numbers only, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        // Setting one stops the rise of both, and this one's default makes and ends pages all the time.
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 << 20);
    }
}
