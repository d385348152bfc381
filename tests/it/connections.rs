//! How many connections one client may have.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::{DEADLINE, Server, wait_until};

/// A connection from an address of this machine's loopback.
async fn connect(server: &Server, from: &str) -> TcpStream {
    let from: IpAddr = from.parse().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::new(from, 0))
        .expect("all of 127.0.0.0/8 is this machine's");
    let to = server.url("").replace("http://", "");
    let connected = socket.connect(to.parse().expect("an address")).await;
    connected.expect("the server takes a connection")
}

/// Reads until the server closes the connection.
async fn read_all(connection: &mut TcpStream) -> String {
    let mut answer = String::new();
    let read = timeout(DEADLINE, connection.read_to_string(&mut answer)).await;
    read.expect("it is closed in time").expect("it is text");
    answer
}

/// Whether a request on it is answered.
async fn is_served(connection: &mut TcpStream) -> bool {
    let request = "GET /api/v1/health/ping HTTP/1.1\r\nhost: x\r\n\r\n";
    // Both fail where the server has closed it.
    if connection.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let read = timeout(DEADLINE, connection.read_buf(&mut answer)).await;
        match read.expect("it is answered or closed in time") {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
    }
    answer.starts_with(b"HTTP/1.1 204 ")
}

#[actix_web::test]
async fn one_address_has_so_many_and_the_others_and_proxies_are_not_touched() {
    let server = Server::start_with(|config| {
        config.limits.connections_per_address_max = 3;
        config.server.trusted_proxies = vec!["127.0.0.9/32".parse().unwrap()];
    })
    .await;
    let mut own = Vec::new();
    for _ in 0..3 {
        let mut connection = connect(&server, "127.0.0.2").await;
        assert!(is_served(&mut connection).await);
        own.push(connection);
    }
    for _ in 0..2 {
        let answer = read_all(&mut connect(&server, "127.0.0.2").await).await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert!(answer.contains("limits.connections_per_address_max"));
    }
    assert_eq!(server.metrics().connections_refused.get(), 2);
    // A request that comes with a refused connection is not done: its client asks again.
    for number in 0..20 {
        let mut refused = connect(&server, "127.0.0.2").await;
        let body = format!("{{\"name\":\"refused {number}\"}}");
        let request = format!(
            "POST /api/v1/app HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            server.token,
            body.len()
        );
        // It may be closed by then.
        let _ = refused.write_all(request.as_bytes()).await;
        let _ = timeout(DEADLINE, refused.read_to_end(&mut Vec::new())).await;
    }
    let made = server.get("/api/v1/app").await.expect(200);
    assert_eq!(made["data"].as_array().map(Vec::len), Some(0));
    for connection in &mut own {
        assert!(is_served(connection).await);
    }
    let mut other = connect(&server, "127.0.0.3").await;
    assert!(is_served(&mut other).await);
    let mut of_proxy = Vec::new();
    for _ in 0..10 {
        let mut connection = connect(&server, "127.0.0.9").await;
        assert!(is_served(&mut connection).await);
        of_proxy.push(connection);
    }

    // One that is closed makes room for another.
    drop(own.pop());
    wait_until("the server to see it", || {
        server.connections_of("127.0.0.2".parse().unwrap()) == 2
    })
    .await;
    assert!(is_served(&mut connect(&server, "127.0.0.2").await).await);
}
