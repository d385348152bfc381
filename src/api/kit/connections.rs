//! Limits the connections of each client, and the time that one may be open without a request.
//!
//! A client address has at most `limits.connections_per_address_max` of the connections that all
//! share; a further one gets an error and is closed at once. Connections of trusted proxies are not
//! counted: they carry everybody's requests.
//!
//! actix-web limits the time of a connection's first request head, and closes a connection on which
//! nothing comes after an answer. The head of a later request may take for ever, though, once its first
//! byte is there. So a connection is closed, too, when no request has begun on it for some time after the
//! last one was answered.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix_rt::net::TcpStream;
use actix_web::dev::Extensions;
use ipnet::IpNet;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::by_address::{ByAddress, Count};
use super::client_address::counted_as;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::network::is_in;
use crate::lock::locked;
use crate::telemetry::Metrics;

/// How many connections each client has.
pub struct Connections {
    max: usize,
    proxies: Vec<IpNet>,
    open: Mutex<Open>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Open {
    by_address: HashMap<IpAddr, usize>,
    refused: ByAddress,
}

/// Marks a connection that was refused and closed: a request that had arrived by then is not
/// answered.
pub struct RefusedConnection;

/// One connection of a client; no longer counted when it is dropped, with the connection.
struct Counted {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

impl Connections {
    pub fn new(config: &Config, clock: Clock, metrics: Arc<Metrics>) -> Connections {
        Connections {
            max: config.limits.connections_per_address_max,
            proxies: config.server.trusted_proxies.clone(),
            open: Mutex::default(),
            clock,
            metrics,
        }
    }

    /// Counts a new connection, or closes it where its client has too many. Called by the thread that
    /// will answer on it.
    pub fn opened(self: &Arc<Self>, connection: &TcpStream, data: &mut Extensions, idle: Duration) {
        let Ok(peer) = connection.peer_addr() else {
            // The client has closed it already.
            return;
        };
        if !is_in(peer.ip(), &self.proxies) {
            match self.count(peer.ip()) {
                Some(counted) => drop(data.insert(counted)),
                None => {
                    refuse(connection, self.max);
                    data.insert(RefusedConnection);
                    return;
                }
            }
        }
        data.insert(Watched::begin(connection, peer, idle));
    }

    /// How many connections the address has.
    pub fn of(&self, ip: IpAddr) -> usize {
        let open = self.lock();
        open.by_address.get(&counted_as(ip)).copied().unwrap_or(0)
    }

    /// None where the client has as many as it may.
    fn count(self: &Arc<Self>, ip: IpAddr) -> Option<Counted> {
        let address = counted_as(ip);
        let mut open = self.lock();
        let count = open.by_address.entry(address).or_default();
        if *count < self.max {
            *count += 1;
            return Some(Counted {
                connections: self.clone(),
                address,
            });
        }
        let now = self.clock.now();
        let lines = open.refused.note(Some(address), true, now);
        drop(open);
        tell(lines);
        self.metrics.connections_refused.inc();
        None
    }

    /// Logs the minute that is over, if one is; to be called now and then.
    pub fn tell(&self) {
        let lines = self.lock().refused.ended(self.clock.now());
        tell(lines);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        locked(self.open.lock())
    }
}

fn tell(lines: Vec<(String, Count)>) {
    for (who, Count { refused, .. }) in lines {
        log::warn!(
            "{who}: {refused} connections were refused within a minute, since as many were open as \
             one address may have (limits.connections_per_address_max)"
        );
    }
}

/// Tells the client why, as far as the socket has room for it, and closes the connection.
fn refuse(connection: &TcpStream, max: usize) {
    let body = format!(
        "{{\"code\":\"too_many\",\"detail\":\"{max} connections of this address are open already \
         (limits.connections_per_address_max)\"}}"
    );
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    // A client that is gone needs no answer.
    let _ = rustix::net::send(connection, answer.as_bytes(), flags);
    let _ = rustix::net::shutdown(connection, Shutdown::Both);
}

/// A connection that is closed when no request begins on it for too long. It is data of the connection,
/// so that it is gone before the connection is.
pub struct Watched {
    requests: Rc<Requests>,
    watch: JoinHandle<()>,
}

/// The requests of one connection.
struct Requests {
    under_way: Cell<usize>,
    /// When the last one ended, or the connection began.
    ended_at: Cell<Instant>,
}

/// A request of the connection, until its answer is on its way to the client.
pub struct UnderWay(Rc<Requests>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let requests = &self.0;
        requests.under_way.set(requests.under_way.get() - 1);
        requests.ended_at.set(Instant::now());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Watched {
    fn begin(connection: &TcpStream, peer: SocketAddr, idle: Duration) -> Watched {
        let requests = Rc::new(Requests {
            under_way: Cell::new(0),
            ended_at: Cell::new(Instant::now()),
        });
        let descriptor = connection.as_raw_fd();
        let seen = requests.clone();
        let watch = actix_rt::spawn(async move {
            loop {
                let now = Instant::now();
                let until = match seen.under_way.get() {
                    0 => seen.ended_at.get() + idle,
                    _ => now + idle,
                };
                if until <= now {
                    break;
                }
                tokio::time::sleep_until(until).await;
            }
            close(descriptor, peer);
        });
        Watched { requests, watch }
    }

    /// A request has begun.
    pub fn request(&self) -> UnderWay {
        let under_way = &self.requests.under_way;
        under_way.set(under_way.get() + 1);
        UnderWay(self.requests.clone())
    }
}

/// Ends the connection to this peer, for which actix-web sees that nothing more comes.
fn close(descriptor: RawFd, peer: SocketAddr) {
    // SAFETY: this thread owns the connection and closes it only after it dropped `Watched`, which ends
    // the task that calls this; so the descriptor is open. Even if it were another one's, it would be
    // left alone: its peer is another.
    let connection = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let found = rustix::net::getpeername(connection).and_then(|peer| {
        let peer = peer.ok_or(Errno::NOTCONN)?;
        SocketAddr::try_from(peer)
    });
    if found == Ok(peer) {
        // It may be gone in the same moment.
        let _ = rustix::net::shutdown(connection, Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use actix_web::{App, HttpServer, web};
    use std::net::TcpListener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;
    use tokio::time::timeout;

    const DEADLINE: Duration = Duration::from_secs(20);

    async fn send(connection: &mut TcpStream, text: &str) {
        let sent = connection.write_all(text.as_bytes()).await;
        sent.expect("it is open");
    }

    /// All that comes until the other side closes it.
    async fn rest(connection: &mut TcpStream) -> String {
        let mut rest = String::new();
        let read = timeout(DEADLINE, connection.read_to_string(&mut rest)).await;
        read.expect("it is closed in time").expect("it is text");
        rest
    }

    #[actix_web::test]
    async fn a_later_head_that_does_not_end_is_cut_off_and_a_request_under_way_is_not() {
        let connections = Arc::new(Connections {
            max: 10,
            proxies: Vec::new(),
            open: Mutex::default(),
            clock: Clock::manual(Timestamp(0)),
            metrics: Arc::new(Metrics::new()),
        });
        let gate = web::Data::new(Notify::new());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (counting, at_gate) = (connections.clone(), gate.clone());
        let server = HttpServer::new(move || {
            let wait = async |gate: web::Data<Notify>| {
                gate.notified().await;
                "late"
            };
            App::new()
                .app_data(at_gate.clone())
                .wrap_fn(crate::api::kit::outgoing::around)
                .route("/", web::get().to(async || "at once"))
                .route("/gate", web::get().to(wait))
        })
        .on_connect(move |connection, data| {
            let connection = connection.downcast_ref().expect("it is plain TCP");
            counting.opened(connection, data, Duration::from_millis(300));
        })
        .listen(listener)
        .unwrap()
        .workers(1)
        .disable_signals()
        .run();
        let handle = server.handle();
        actix_rt::spawn(server);

        let mut waiting = TcpStream::connect(address).await.unwrap();
        let closing = "host: x\r\nconnection: close\r\n";
        send(
            &mut waiting,
            &format!("GET /gate HTTP/1.1\r\n{closing}\r\n"),
        )
        .await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        send(
            &mut slow,
            "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nx: ",
        )
        .await;
        let answer = rest(&mut slow).await;
        assert!(answer.ends_with("at once"), "{answer}");
        // By now the other one has waited for longer.
        gate.notify_one();
        let answer = rest(&mut waiting).await;
        assert!(answer.ends_with("late"), "{answer}");
        let forgotten = async {
            while connections.of(address.ip()) > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let forgotten = timeout(DEADLINE, forgotten).await;
        forgotten.expect("closed connections are not counted any more");
        handle.stop(false).await;
    }
}
