//! Mounts that are seen by one test alone.

use std::ffi::CString;
use std::io::Error;

/// Gives this thread, and the processes it starts, a view of the mounts of its own: however it
/// ends, no mount is left behind.
pub fn hide_mounts() {
    let root = CString::new("/").expect("no zero byte in it");
    // SAFETY: both calls take constants and a string that outlives them.
    let result = unsafe {
        match libc::unshare(libc::CLONE_NEWNS) {
            0 => libc::mount(
                std::ptr::null(),
                root.as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ),
            failed => failed,
        }
    };
    assert_eq!(
        result,
        0,
        "no mounts of our own: {}",
        Error::last_os_error()
    );
}
