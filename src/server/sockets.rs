//! The system's options for a client's connection.

use std::any::Any;
use std::time::Duration;

use actix_rt::net::TcpStream;
use actix_web::dev::Extensions;
use socket2::SockRef;

use crate::api;

/// How much of an answer the system holds for a connection before it can be sent, in bytes.
const UNSENT_MAX: u32 = 128 << 10;

/// Sets the options of a new connection; `stall` is the longest time without a byte taken of an answer.
pub fn prepare(connection: &dyn Any, data: &mut Extensions, stall: Duration) {
    if let Some(connection) = connection.downcast_ref() {
        cut_when_stalled(connection, stall);
        limit_unsent(connection);
        send_at_once(connection);
    }
    data.insert(api::Unread::default());
}

/// Has the system send the last piece of an answer without waiting until those before it are
/// acknowledged, which a client that expects more puts off for 40 ms.
fn send_at_once(connection: &TcpStream) {
    if let Err(error) = connection.set_nodelay(true) {
        log::warn!("long answers on a connection come late: {error}");
    }
}

/// Has the system take little more of an answer than is on its way to the reader. It would otherwise
/// keep up to 4 MB for each reader that takes nothing, and copying that for hundreds at once keeps
/// everybody else waiting.
fn limit_unsent(connection: &TcpStream) {
    if let Err(error) = SockRef::from(connection).set_tcp_notsent_lowat(UNSENT_MAX) {
        log::warn!("the system's part of answers that nobody reads is not limited: {error}");
    }
}

/// Has the system end the connection when its reader takes nothing of an answer for this long. Neither
/// actix-web nor a timer of ours would notice, since nothing happens on the connection.
fn cut_when_stalled(connection: &TcpStream, after: Duration) {
    let milliseconds = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(connection, milliseconds) {
        log::warn!("a connection has no limit for readers that take nothing: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[actix_web::test]
    async fn the_system_sends_at_once_and_keeps_little_that_nobody_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap());
        let connection = connection.await.unwrap();
        prepare(&connection, &mut Extensions::new(), Duration::from_secs(30));
        assert!(connection.nodelay().unwrap());
        let unsent = SockRef::from(&connection).tcp_notsent_lowat().unwrap();
        assert_eq!(unsent, UNSENT_MAX);
    }
}
