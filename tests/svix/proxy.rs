//! A way to the server on which answers are lost: what an SDK's retries are for.
//!
//! The first request with an idempotency key is done by the server and answered with 503. Where
//! the key begins with `RESTART`, the server is killed and started again instead, once it has
//! answered, and the connection closed. Every other request passes.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

/// Asks for a kill and a start; says when that is done through the sender given along.
pub type Restart = Sender<Sender<()>>;

pub struct Proxy {
    pub address: SocketAddr,
    /// How often each idempotency key has come.
    seen: Arc<Mutex<HashMap<String, usize>>>,
}

impl Proxy {
    /// Serves until the process ends.
    pub fn start(server: SocketAddr, restart: Restart) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound listener");
        let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let proxy = Proxy {
            address,
            seen: seen.clone(),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (seen, restart) = (seen.clone(), restart.clone());
                // A connection that breaks is for the script to notice.
                std::thread::spawn(move || converse(client, server, &seen, &restart));
            }
        });
        proxy
    }

    /// How many requests came again with their key.
    pub fn repeated(&self) -> usize {
        let seen = self.seen.lock().expect("no holder of it panics");
        seen.values().filter(|times| **times > 1).count()
    }
}

/// One request, then the connection is closed.
fn converse(
    mut client: TcpStream,
    server: SocketAddr,
    seen: &Mutex<HashMap<String, usize>>,
    restart: &Restart,
) -> Result<()> {
    let (head, body) = read_request(&client)?;
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(&[head.as_bytes(), &body].concat())?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    let first = header(&head, "idempotency-key").filter(|key| {
        let mut seen = seen.lock().expect("no holder of it panics");
        let times = seen.entry((*key).to_owned()).or_default();
        *times += 1;
        *times == 1
    });
    match first {
        Some(key) if key.starts_with("RESTART") => {
            let (done, restarted) = channel();
            let gone = |_| Error::from(ErrorKind::BrokenPipe);
            restart.send(done).map_err(gone)?;
            let _ = restarted.recv();
            Ok(())
        }
        Some(_) => client.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
              content-length: 2\r\nconnection: close\r\n\r\n{}",
        ),
        None => client.write_all(&answer),
    }
}

/// The head, which asks the server to close the connection after its answer, and the body.
fn read_request(client: &TcpStream) -> Result<(String, Vec<u8>)> {
    let mut reader = BufReader::new(client);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let length = header(&head, "content-length").and_then(|value| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    head.push_str("connection: close\r\n\r\n");
    Ok((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
