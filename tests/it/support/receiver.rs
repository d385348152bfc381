//! A receiver: an HTTP server on loopback whose answers the test scripts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::wait_until;

/// What the receiver does with one request.
#[derive(Clone, Debug)]
pub enum Script {
    /// Answers with this status and an empty body.
    Status(u16),
    /// Answers with these bytes, whatever they are, and keeps the connection.
    Raw(Vec<u8>),
    /// Answers with these bytes and closes the connection.
    RawThenClose(Vec<u8>),
    /// Closes the connection without a word.
    Close,
    /// Never answers.
    Hang,
}

impl Script {
    /// Status, header lines and body.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Script {
        let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        Script::Raw(format!("{text}\r\n{body}").into_bytes())
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Counts the receiver's connections, from 0.
    pub connection: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    /// For the next requests; then `otherwise`.
    script: VecDeque<Script>,
    otherwise: Option<Script>,
    requests: Vec<Request>,
}

pub struct Receiver {
    pub port: u16,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Receiver {
    /// Answers 200 to everything.
    pub async fn ok() -> Receiver {
        Receiver::scripted([], Script::Status(200)).await
    }

    /// Answers with these statuses, then with 200.
    pub async fn answering(statuses: impl IntoIterator<Item = u16>) -> Receiver {
        Receiver::scripted(
            statuses.into_iter().map(Script::Status),
            Script::Status(200),
        )
        .await
    }

    pub async fn scripted(script: impl IntoIterator<Item = Script>, otherwise: Script) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let script = script.into_iter().collect();
        let state = State {
            script,
            otherwise: Some(otherwise),
            requests: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let accepting = tokio::task::spawn_local(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.len();
                connections.push(AbortOnDrop(tokio::task::spawn_local(serve(
                    stream,
                    number,
                    shared.clone(),
                ))));
            }
        });
        Receiver {
            port,
            state,
            accepting,
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    pub fn count(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    pub fn then(&self, script: Script) {
        self.state.lock().unwrap().otherwise = Some(script);
    }

    /// Waits until `count` requests have come, whole.
    pub async fn received(&self, count: usize) -> Vec<Request> {
        wait_until(&format!("{count} requests"), || self.count() >= count).await;
        self.requests()
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(mut stream: TcpStream, connection: usize, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, connection).await {
        let script = {
            let mut state = state.lock().unwrap();
            state.requests.push(request);
            let next = state.script.pop_front();
            next.or_else(|| state.otherwise.clone())
                .unwrap_or(Script::Status(200))
        };
        let written = match script {
            Script::Status(status) => {
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).await
            }
            Script::Raw(bytes) => stream.write_all(&bytes).await,
            Script::RawThenClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Script::Close => return,
            Script::Hang => std::future::pending().await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Request> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
    while buffer.len() < head_end + 4 + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[head_end + 4..head_end + 4 + length].to_vec();
    buffer.drain(..head_end + 4 + length);
    Some(Request {
        method,
        target,
        headers,
        body,
        connection,
    })
}
