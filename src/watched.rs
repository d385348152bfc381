//! What a panic means: the end of the process, or of one piece of work.
//!
//! Every thread that is held for as long as the server runs starts with [`spawn`]: a panic in it is
//! told to whoever can end the process, since nothing would do its work any more. Work that holds
//! no state of others (a request, an attempt, a read, a decision about a change) runs under
//! [`contained`] or [`contained_future`] instead: the panic is the end of that work alone, so that
//! a message that provokes one cannot end the process again and again. The threads of actix that
//! accept connections are started by actix, which looks at them only at a stop; [`acceptor_panicked`]
//! says when one of them is gone. A leaf.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;

/// The name of actix's threads that accept connections.
const ACCEPTOR: &str = "actix-server acceptor";

static ACCEPTOR_PANICKED: AtomicBool = AtomicBool::new(false);

/// Whether a thread that accepts connections has panicked: the process would go on, healthy in its
/// own eyes, and take no connection any more.
pub fn acceptor_panicked() -> bool {
    ACCEPTOR_PANICKED.load(Ordering::Relaxed)
}

/// The work ended in a panic. The log says where: the message may quote what customers sent.
#[derive(Debug)]
pub struct Panicked;

/// Starts a thread and tells `failed` its name, should it panic. Joining it never fails.
pub fn spawn(
    name: &str,
    failed: impl FnOnce(String) + Send + 'static,
    run: impl FnOnce() + Send + 'static,
) -> JoinHandle<()> {
    let known_as = format!("the thread {name}");
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if contained(run).is_err() {
                failed(known_as);
            }
        })
        .expect("the system has room for a thread at start")
}

/// Runs work whose panic concerns nobody else.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(forget)
}

/// The same for work that waits.
pub async fn contained_future<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let work: Pin<&mut _> = work.as_mut();
        match catch_unwind(AssertUnwindSafe(|| work.poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(forget(panic))),
        }
    })
    .await
}

/// The panic hook has logged it. Dropping what a panic carries may panic itself.
fn forget(panic: Box<dyn Any + Send>) -> Panicked {
    std::mem::forget(panic);
    Panicked
}

/// Logs panics as one line each, with thread and place, and notes one of an acceptor. A text that was
/// put together may quote what customers sent, as that of an index within a letter does, so that it
/// is for the log of the level debug alone.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        // Nothing contains a panic there.
        if thread == ACCEPTOR {
            ACCEPTOR_PANICKED.store(true, Ordering::Relaxed);
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

/// Panics where a test has planned it: `POSTRIDER_PANIC` names the place and what it is about, as
/// `commit:invoice.paid`. Release builds have none of it.
#[cfg(debug_assertions)]
pub fn planned_panic(place: &str, about: impl std::fmt::Display) {
    static PLANNED: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("POSTRIDER_PANIC").ok());
    if let Some(planned) = &*PLANNED
        && let Some((planned_place, planned_about)) = planned.split_once(':')
        && planned_place == place
        && planned_about == about.to_string()
    {
        panic!("planned at {place} for {about}");
    }
}

/// Starts a thread that is named as actix's acceptors are and panics, where a test has planned it.
#[cfg(debug_assertions)]
pub fn planned_acceptor_panic() {
    drop(spawn(ACCEPTOR, drop, || planned_panic("acceptor", "any")));
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
    use std::sync::mpsc::channel;

    #[test]
    fn a_threads_panic_is_told_by_its_name_and_a_clean_end_is_not() {
        let (told, heard) = channel();
        let quiet = told.clone();
        let clean = spawn("clean", move |name| quiet.send(name).unwrap(), || {});
        clean.join().unwrap();
        let broken = spawn("broken", move |name| told.send(name).unwrap(), || panic!());
        broken.join().unwrap();
        assert_eq!(Vec::from_iter(heard), ["the thread broken"]);
    }

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
