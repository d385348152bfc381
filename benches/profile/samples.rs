//! Samples of `perf script -F comm,ip,sym`, and the function and the group that each one belongs to.
//!
//! A sample has the frames of one moment, the innermost first. Its *function* is the innermost one. Its
//! *group* tells what the time went for: `memcpy` belongs to nobody, but `serde_json` three frames out
//! does. So kernel time goes by the system call it was made in, the allocator and copying are groups of
//! their own, and other code belongs to the innermost frame that a rule of the table names.

/// One sample: the thread's name, and the functions, the innermost first.
#[derive(Debug, PartialEq, Eq)]
pub struct Sample {
    pub thread: String,
    pub frames: Vec<Frame>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub function: String,
    pub is_kernel: bool,
}

/// Reads samples. Each begins with a line for its thread, then has a line for each frame, and ends with an
/// empty line.
pub fn parse(script: &str) -> Vec<Sample> {
    let mut samples = Vec::new();
    for text in script.split("\n\n") {
        let mut lines = text.trim_matches('\n').lines();
        let Some(thread) = lines.next().map(str::trim).filter(|name| !name.is_empty()) else {
            continue;
        };
        let frames: Vec<Frame> = lines.filter_map(frame).collect();
        if !frames.is_empty() {
            samples.push(Sample {
                thread: thread.to_owned(),
                frames,
            });
        }
    }
    samples
}

/// `address function`, of which the function may have spaces.
fn frame(line: &str) -> Option<Frame> {
    let (address, function) = line.trim().split_once(' ')?;
    // Where the stack ends in what cannot be unwound.
    if address.starts_with("ffffffffffffffff") {
        return None;
    }
    Some(Frame {
        function: function.trim().to_owned(),
        is_kernel: address.len() == 16 && address.starts_with("ffff"),
    })
}

/// Kernel functions that tell what the kernel was asked for; the first row that one of the kernel's frames
/// begins with decides.
const KERNEL: &[(&str, &[&str])] = &[
    (
        "futex",
        &["do_futex", "__x64_sys_futex", "__arm64_sys_futex", "futex_"],
    ),
    (
        "kernel: TCP",
        &[
            "tcp_",
            "inet_",
            "__inet",
            "sock_",
            "__sock",
            "__sys_send",
            "__sys_recv",
            "__sys_connect",
            "__sys_accept",
            "__sys_socket",
            "net_rx",
            "ip_",
            "__ip_",
            "skb_",
            "__skb",
            "sk_",
        ],
    ),
    (
        "kernel: files and disk",
        &[
            "ext4_",
            "xfs_",
            "btrfs_",
            "jbd2_",
            "vfs_",
            "ksys_",
            "do_fsync",
            "__x64_sys_fdatasync",
            "blk_",
            "submit_bio",
            "generic_perform_write",
            "iomap_",
            "do_sys_openat",
            "shmem_",
        ],
    ),
    (
        "kernel: epoll, eventfd",
        &["do_epoll", "ep_", "__x64_sys_epoll", "eventfd"],
    ),
    (
        "kernel: memory",
        &[
            "handle_mm_fault",
            "do_user_addr_fault",
            "exc_page_fault",
            "asm_exc_page_fault",
            "__x64_sys_madvise",
            "do_madvise",
            "__x64_sys_brk",
            "do_mmap",
            "__x64_sys_mmap",
            "__x64_sys_munmap",
            "do_munmap",
        ],
    ),
];

/// Functions of the C library and of jemalloc.
const ALLOCATOR: &[&str] = &[
    "malloc",
    "free",
    "calloc",
    "realloc",
    "_int_malloc",
    "_int_free",
    "_int_realloc",
    "cfree",
    "__libc_malloc",
    "__libc_free",
    "__libc_calloc",
    "__libc_realloc",
    "malloc_consolidate",
    "unlink_chunk",
    "sysmalloc",
    "systrim",
    "tcache_",
    "arena_",
    "_rjem_",
    "je_",
    "__rust_alloc",
    "__rust_dealloc",
    "__rust_realloc",
    "__rdl_",
    "posix_memalign",
    "aligned_alloc",
];
const COPYING: &[&str] = &["__mem", "mem", "__strlen", "__str", "bcmp"];

/// Whose code it is, by a part of the function's name; the innermost frame with a match decides, and of its
/// matches the first.
const CODE: &[(&str, &[&str])] = &[
    (
        "crypto and checksums",
        &[
            "aws_lc", "sha2::", "sha1::", "hmac::", "sha256", "sha512", "crc32", "base64::",
            "rustls",
        ],
    ),
    (
        "JSON",
        &["serde_json", "raw_value", "itoa::", "ryu::", "schemars"],
    ),
    ("journal", &["postrider::journal"]),
    ("sled", &["sled::"]),
    (
        "HTTP out",
        &[
            "awc::",
            "postrider::delivery",
            "actix_tls::connect",
            "actix_http::client",
            "hickory",
        ],
    ),
    ("scheduler", &["postrider::scheduler"]),
    (
        "store",
        &["postrider::store", "postrider::rules", "bincode"],
    ),
    (
        "HTTP in",
        &[
            "postrider::api",
            "postrider::server",
            "actix_web",
            "actix_router",
            "actix_http",
            "actix_server",
            "actix_service",
            "httparse",
            "http::",
            "regex",
        ],
    ),
    (
        "runtime (tokio, mio)",
        &[
            "tokio::",
            "mio::",
            "actix_rt",
            "parking_lot",
            "std::sync",
            "crossbeam",
        ],
    ),
];

pub const OTHER: &str = "other";

/// The group that a sample's time went to.
pub fn group(sample: &Sample) -> &'static str {
    if sample.frames.iter().any(|frame| frame.is_kernel) {
        let kernel = || sample.frames.iter().filter(|frame| frame.is_kernel);
        let found = KERNEL.iter().find(|(_, starts)| {
            kernel().any(|frame| starts.iter().any(|start| frame.function.starts_with(start)))
        });
        return found.map_or("kernel: other", |(name, _)| name);
    }
    let innermost = sample.frames.first().map_or("", |frame| &frame.function);
    if ALLOCATOR.iter().any(|start| innermost.starts_with(start)) {
        return "malloc";
    }
    if COPYING.iter().any(|start| innermost.starts_with(start)) {
        return "copying";
    }
    // Both sides of HTTP are actix-http's code: a delivery's thread uses its client.
    let is_sending = sample.thread.starts_with("delivery");
    for frame in &sample.frames {
        let found = CODE
            .iter()
            .find(|(_, parts)| parts.iter().any(|part| frame.function.contains(part)));
        match found {
            Some(("HTTP in", _)) if is_sending => return "HTTP out",
            Some((name, _)) => return name,
            None => {}
        }
    }
    OTHER
}

/// The function without the hash that the compiler adds.
pub fn function(sample: &Sample) -> &str {
    let name = sample.frames.first().map_or("", |frame| &frame.function);
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 => name,
        _ => name,
    }
}
