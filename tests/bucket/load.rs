//! Clients that publish until they are told to stop.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::books::{Books, USUAL};
use crate::process::Api;

/// When a client publishes its next message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Once the one before was accepted.
    AtOnce,
    /// Once the one before has arrived, and this time has passed: everything arrives meanwhile.
    OnceArrivedAndAfter(Duration),
}

/// Running clients. Dropping it stops them.
pub struct Load {
    end: Arc<End>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct End {
    has_come: Mutex<bool>,
    comes: Condvar,
}

impl Load {
    pub fn start(books: &Arc<Books>, api: &Api, path: &str, clients: usize, next: Next) -> Load {
        let end = Arc::<End>::default();
        let client = || {
            let (books, api, path, end) =
                (books.clone(), api.clone(), path.to_owned(), end.clone());
            std::thread::spawn(move || match publish(&books, &api, &path, next, &end) {
                Err(error) if !end.comes_within(Duration::ZERO) => {
                    books.note_wrong(format!("publishing failed: {error}"));
                }
                _ => {}
            })
        };
        let clients = (0..clients).map(|_| client()).collect();
        Load { end, clients }
    }

    /// From now on a request may fail: the server is about to be killed.
    pub fn end_comes(&self) {
        *self.end.has_come.lock().expect("no holder of it panics") = true;
        self.end.comes.notify_all();
    }
}

impl End {
    /// Whether the end has come once this time has passed.
    fn comes_within(&self, time: Duration) -> bool {
        let has_come = self.has_come.lock().expect("no holder of it panics");
        let waited = self
            .comes
            .wait_timeout_while(has_come, time, |has_come| !*has_come);
        *waited.expect("no holder of it panics").0
    }
}

fn publish(books: &Books, api: &Api, path: &str, next: Next, end: &End) -> Result<(), String> {
    let mut connection = api.connect().map_err(|error| error.to_string())?;
    let pause = match next {
        Next::AtOnce => Duration::ZERO,
        Next::OnceArrivedAndAfter(pause) => pause,
    };
    while !end.comes_within(pause) {
        let number = books.publish(&mut connection, path, USUAL)?;
        if next != Next::AtOnce && !books.arrive(&[number]) {
            return Err(format!("message {number} does not arrive"));
        }
    }
    Ok(())
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end_comes();
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}
