//! The thread that drives the connections of a target.
//!
//! The requests themselves run on the threads that wait for them. This thread moves the bytes of
//! connections and keeps the time, so that several calls can go on at once. It ends with the target,
//! and leaves behind a system call that hangs, as on a network file system that went away.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads for system calls on folders and for names, which are started as they are needed.
const BLOCKING_THREADS_MAX: usize = 8;

pub(super) struct Connection {
    handle: Handle,
    /// The thread ends once this is gone.
    _end: oneshot::Sender<()>,
}

impl Connection {
    pub fn open() -> io::Result<Connection> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("backup-target".to_owned());
        thread.spawn(move || {
            // Nothing is ever sent.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Connection { handle, _end: end })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
