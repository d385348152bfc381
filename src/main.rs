//! The `postrider` binary: everything is in the library.

/// It gives memory that is free for some seconds back to the system.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    postrider::cli::main()
}
