//! Clients that publish until they are told to stop.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::books::{Books, USUAL};
use crate::process::Api;
use crate::process::ending::Ending;

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
    end: Arc<Ending>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(books: &Arc<Books>, api: &Api, path: &str, clients: usize, next: Next) -> Load {
        let end = Arc::<Ending>::default();
        let client = || {
            let (books, api, path, end) =
                (books.clone(), api.clone(), path.to_owned(), end.clone());
            std::thread::spawn(move || match publish(&books, &api, &path, next, &end) {
                Err(error) if !end.has_come() => {
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
        self.end.comes();
    }
}

fn publish(books: &Books, api: &Api, path: &str, next: Next, end: &Ending) -> Result<(), String> {
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
