//! A server, receivers and a client for tests. See the habits in each: nothing sleeps to wait for
//! something, every wait looks at a state and has a deadline.

mod contract;
#[path = "../../process/dns.rs"]
mod dns;
mod example;
mod planned;
mod receiver;
mod server;

pub use contract::{assert_error, assert_invalid, assert_pages, keys, texts};
pub use dns::{Dns, UNUSED};
pub use example::Example;
pub use planned::Planned;
pub use receiver::{Receiver, Request, Script};
pub use server::{Answer, Server, copy_directory, rot_in_journal};

use std::future::Future;
use std::task::Poll;
use std::time::{Duration, Instant};

use postrider::clock::Clock;
use postrider::store::{self, OpenError, VerifyReport};
use serde_json::Value;

/// How long anything may take that takes milliseconds when all is well.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Looks until `holds` is true; fails the test with `what` when the deadline passes.
pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(())).await;
}

/// Looks until there is something; fails the test with `what` when the deadline passes. The only
/// pause of these tests.
pub async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs all of them at once and waits for the last.
pub async fn together<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in running.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Looks at every record of a store that was stopped just now.
pub async fn verify(settings: &store::StoreSettings, clock: &Clock) -> VerifyReport {
    let open = || match store::verify(settings, clock, &mut |_| {}) {
        Err(OpenError::Locked { .. }) => None,
        report => Some(report),
    };
    let report = wait_for(
        "the threads of the stopped server to let go of the store",
        open,
    )
    .await;
    report.expect("the store opens")
}

/// A publish's answer as its message is read later: how many endpoints matched is not in that.
pub fn as_read(published: &Value) -> Value {
    let mut read = published.clone();
    let matched = read
        .as_object_mut()
        .and_then(|read| read.remove("endpointsMatched"));
    assert!(
        matched.is_some_and(|matched| matched.is_u64()),
        "{published}"
    );
    read
}
