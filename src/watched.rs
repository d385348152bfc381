//! Panics: one ends the process, or one piece of work.
//!
//! Every thread that is held for as long as the server runs starts with [`Threads::spawn`]: a callback
//! reports a panic in it and so ends the process, because nothing would do the thread's work any more.
//! Work that holds no state of others (a request, an attempt, a read, a decision about a change) runs
//! under [`contained`] or [`contained_future`] instead: the panic is the end of that work alone, so that
//! a message that provokes one cannot end the process again and again. The threads of actix that
//! accept connections are started by actix, which looks at them only at a stop; [`acceptor_panicked`]
//! says when one of them is gone. Those that answer requests are started by actix, too: a panic of a
//! handler is contained, one around it ends its connection, and one of `on_connect` is reported by `server`.
//! [`Threads`] lists all of these. The threads of sled and of pools are not listed: a panic of theirs is an
//! error of the call that waits for them. Of ours this knows `clock` and `lock` alone.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::sync::Notify;

mod threads;

pub use threads::{
    Kind, LastError, Look, State, Thread, Threads, idle, idle_during, idle_while, note_error,
    planned_thread_panic, working,
};

/// The name of actix's threads that accept connections.
const ACCEPTOR: &str = "actix-server acceptor";

/// The error that a thread notes when a panic ended some of its work.
const CONTAINED: &str = "a panic ended one piece of work; the server's log says where";

static ACCEPTOR_PANICKED: Notify = Notify::const_new();

/// Returns once a thread that accepts connections has panicked: the process would go on, healthy in its
/// own eyes, and take no connection any more.
pub async fn acceptor_panicked() {
    ACCEPTOR_PANICKED.notified().await;
}

/// The work ended in a panic. The log says where; the panic's text is not kept, because it may quote a
/// customer's data.
#[derive(Debug)]
pub struct Panicked;

/// Runs work whose panic concerns nobody else.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    caught(work).inspect_err(|Panicked| note_error(CONTAINED))
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(forget)
}

/// The same for work that waits.
pub async fn contained_future<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let work: Pin<&mut _> = work.as_mut();
        match contained(|| work.poll(context)) {
            Ok(poll) => poll.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    })
    .await
}

/// The panic hook has logged it. The payload is not dropped, because that may panic itself.
fn forget(panic: Box<dyn Any + Send>) -> Panicked {
    std::mem::forget(panic);
    Panicked
}

/// Logs each panic as one line with thread and place, and notes a panic of an acceptor. A text that was
/// put together may quote a customer's data, as the message about an index within a letter does, so it
/// is logged at the level debug only.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let current = std::thread::current();
        let listed = threads::current_name();
        let thread = listed.as_deref().or(current.name());
        let thread = thread.unwrap_or("without a name");
        // Nothing contains a panic there.
        if thread == ACCEPTOR {
            ACCEPTOR_PANICKED.notify_one();
        }
        let place = panic.location().map(|place| format!(" at {place}"));
        let place = place.unwrap_or_default();
        match panic.payload().downcast_ref::<&'static str>() {
            Some(fixed) => log::error!("the thread {thread} panicked{place}: {fixed}"),
            None => log::error!("the thread {thread} panicked{place}"),
        }
        if let Some(text) = panic.payload().downcast_ref::<String>() {
            log::debug!("the thread {thread} panicked{place}: {text}");
        }
    }));
}

/// Panics where a test has planned it: `POSTRIDER_PANIC` names the place and its subject, as
/// `commit:invoice.paid`. Where `POSTRIDER_PANIC_WHEN` names a file, the panic waits until that exists.
/// Release builds have none of it.
#[cfg(debug_assertions)]
pub fn planned_panic(place: &str, about: impl std::fmt::Display) {
    if is_planned(place, &about) {
        panic!("planned at {place} for {about}");
    }
}

#[cfg(debug_assertions)]
fn is_planned(place: &str, about: &impl std::fmt::Display) -> bool {
    use std::sync::LazyLock;
    static PLANNED: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("POSTRIDER_PANIC").ok());
    static WHEN: LazyLock<Option<std::ffi::OsString>> =
        LazyLock::new(|| std::env::var_os("POSTRIDER_PANIC_WHEN"));
    let planned = PLANNED.as_deref().and_then(|text| text.split_once(':'));
    planned.is_some_and(|(planned, what)| planned == place && what == about.to_string())
        && (WHEN.as_ref()).is_none_or(|file| std::path::Path::new(file).exists())
}

/// Starts a thread that is named as actix's acceptors are and panics, where a test has planned it.
#[cfg(debug_assertions)]
pub fn planned_acceptor_panic() {
    if is_planned("thread", &ACCEPTOR) {
        let thread = std::thread::Builder::new().name(ACCEPTOR.to_owned());
        drop(thread.spawn(|| planned_panic("thread", ACCEPTOR)));
    }
}

#[cfg(not(debug_assertions))]
#[inline]
pub fn planned_acceptor_panic() {}

#[cfg(not(debug_assertions))]
#[inline]
pub fn planned_panic(_place: &str, _about: impl std::fmt::Display) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_panic_behind_an_await_is_contained() {
        let work = async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        };
        assert!(contained_future::<()>(work).await.is_err());
        assert_eq!(contained_future(async { 7 }).await.unwrap(), 7);
    }
}
