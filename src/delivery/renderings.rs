//! The turns of transformations on a thread that sends.
//!
//! A transformation may take two milliseconds of the thread that all lanes share. So one is rendered at a
//! time, the applications that have some take turns, and after one that took long the thread looks after
//! everything else first. Whoever has a thousand endpoints with the costliest templates waits for
//! himself, and others for one rendering of his.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::domain::id::ApplicationId;

/// A rendering that took longer makes room for others before the next one.
const LONG: Duration = Duration::from_micros(200);

/// How long that room is; the timer's own smallest step.
const ROOM: Duration = Duration::from_millis(1);

/// Applications whose queue is remembered although nobody waits in it.
const IDLE_MAX: usize = 256;

#[derive(Default)]
pub struct Renderings {
    one: Mutex<()>,
    by_application: RefCell<HashMap<ApplicationId, Weak<Mutex<()>>>>,
}

impl Renderings {
    /// Renders once it is this application's turn.
    pub async fn in_turn<T>(&self, application: ApplicationId, render: impl FnOnce() -> T) -> T {
        let queue = self.queue(application);
        // At most one of each application waits here, so that the applications take turns.
        let _of_application = queue.lock().await;
        let _of_all = self.one.lock().await;
        let started = Instant::now();
        let rendered = render();
        if started.elapsed() > LONG {
            // A mere yield would not do: the runtime looks for input and output only now and then while
            // there are tasks to run.
            tokio::time::sleep(ROOM).await;
        }
        rendered
    }

    fn queue(&self, application: ApplicationId) -> Arc<Mutex<()>> {
        let mut queues = self.by_application.borrow_mut();
        if let Some(queue) = queues.get(&application).and_then(Weak::upgrade) {
            return queue;
        }
        if queues.len() >= IDLE_MAX {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::default();
        queues.insert(application, Arc::downgrade(&queue));
        queue
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::clock::Timestamp;

    #[actix_web::test]
    async fn applications_take_turns_whatever_each_has() {
        let (many, one) = (
            ApplicationId::at(Timestamp(1)),
            ApplicationId::at(Timestamp(2)),
        );
        let renderings = Rc::new(Renderings::default());
        let order = Rc::new(RefCell::new(Vec::new()));
        let held = renderings.one.lock().await;
        let waiting: Vec<_> = std::iter::repeat_n(many, 20)
            .chain([one])
            .map(|application| {
                let (renderings, order) = (renderings.clone(), order.clone());
                actix_web::rt::spawn(async move {
                    let render = || order.borrow_mut().push(application);
                    renderings.in_turn(application, render).await;
                })
            })
            .collect();
        // All of them wait before the first may begin.
        tokio::task::yield_now().await;
        drop(held);
        for one in waiting {
            one.await.expect("it ends");
        }
        let order = order.take();
        assert_eq!(order.len(), 21);
        assert!(order[..2].contains(&one), "{order:?}");
    }
}
