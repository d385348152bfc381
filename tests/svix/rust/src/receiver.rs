//! The customer's server behind an endpoint: answers 200, or what it was told for a path.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

#[derive(Clone)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    answers: HashMap<String, u16>,
}

impl Receiver {
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound listener");
        let receiver = Receiver {
            address,
            state: Arc::default(),
        };
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // A connection that breaks is the server's to notice, not ours.
                std::thread::spawn(move || serving.converse(stream));
            }
        });
        receiver
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn answer(&self, path: &str, status: u16) {
        let mut state = self.state.lock().expect("no holder of it panics");
        state.answers.insert(path.to_owned(), status);
    }

    pub fn at(&self, path: &str) -> Vec<Received> {
        let state = self.state.lock().expect("no holder of it panics");
        let found = state.received.iter().filter(|one| one.path == path);
        found.cloned().collect()
    }

    fn converse(&self, mut stream: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut headers = HeaderMap::new();
            loop {
                line.clear();
                reader.read_line(&mut line)?;
                let Some((name, value)) = line.trim_end().split_once(':') else {
                    break;
                };
                let name = HeaderName::try_from(name).expect("a header's name");
                let value = HeaderValue::from_str(value.trim()).expect("a header's value");
                headers.insert(name, value);
            }
            let length = headers.get("content-length");
            let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body)?;
            let status = {
                let mut state = self.state.lock().expect("no holder of it panics");
                let status = *state.answers.get(&path).unwrap_or(&200);
                state.received.push(Received {
                    path,
                    headers,
                    body,
                });
                status
            };
            write!(
                stream,
                "HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\n\r\n"
            )?;
        }
    }
}
