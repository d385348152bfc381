//! A receiver: an HTTP server on loopback whose answers the test scripts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

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
    /// Never answers, and notices when the other side gives up.
    Hang,
    /// Writes these bytes and then hangs.
    RawThenHang(Vec<u8>),
    /// Answers with this status once the receiver's gate is open.
    AtGate(u16),
    /// Answers 200 with what stands in the request's body as `challenge`.
    Echo,
    /// Answers 200 with a body of this many bytes, as far as the other side takes them.
    Endless(usize),
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
    /// Connections that were accepted.
    connections: usize,
    /// Times that the other sides' first bytes came where a request was to begin.
    begun: usize,
    /// Requests that came and are not answered or given up.
    open: usize,
    /// The most that `open` has been.
    busiest: usize,
    /// Bytes of endless bodies that the other sides took.
    body_bytes: usize,
    gate: watch::Sender<bool>,
}

pub struct Receiver {
    pub port: u16,
    tls: bool,
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
        Receiver::start(script, otherwise, None).await
    }

    /// Answers 200 to everything that gets through the handshake.
    pub async fn tls(acceptor: TlsAcceptor) -> Receiver {
        Receiver::start([], Script::Status(200), Some(acceptor)).await
    }

    async fn start(
        script: impl IntoIterator<Item = Script>,
        otherwise: Script,
        acceptor: Option<TlsAcceptor>,
    ) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let script = script.into_iter().collect();
        let state = State {
            script,
            otherwise: Some(otherwise),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let tls = acceptor.is_some();
        let accepting = tokio::task::spawn_local(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.len();
                shared.lock().unwrap().connections += 1;
                let (state, acceptor) = (shared.clone(), acceptor.clone());
                let served = async move {
                    match acceptor {
                        None => serve(stream, number, state).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, number, state).await;
                            }
                        }
                    }
                };
                connections.push(AbortOnDrop(tokio::task::spawn_local(served)));
            }
        });
        Receiver {
            port,
            tls,
            state,
            accepting,
        }
    }

    /// A certificate is for a name, so a receiver with TLS goes by its name.
    pub fn url(&self) -> String {
        match self.tls {
            false => format!("http://127.0.0.1:{}/hook", self.port),
            true => format!("https://localhost:{}/hook", self.port),
        }
    }

    /// Requests that came and are neither answered nor given up by the other side.
    pub fn open(&self) -> usize {
        self.state.lock().unwrap().open
    }

    /// Requests of which something came, whatever that was.
    pub fn begun(&self) -> usize {
        self.state.lock().unwrap().begun
    }

    /// The most requests that were open at a time.
    pub fn busiest(&self) -> usize {
        self.state.lock().unwrap().busiest
    }

    /// How much of endless bodies was taken.
    pub fn body_bytes(&self) -> usize {
        self.state.lock().unwrap().body_bytes
    }

    /// Answers what waits at the gate, and from now on at once.
    pub fn open_gate(&self) {
        self.state.lock().unwrap().gate.send_replace(true);
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

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    state: Arc<Mutex<State>>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, connection, &state).await {
        let challenge = serde_json::from_slice::<serde_json::Value>(&request.body)
            .ok()
            .and_then(|body| Some(body["challenge"].as_str()?.to_owned()));
        let script = {
            let mut state = state.lock().unwrap();
            state.requests.push(request);
            let next = state.script.pop_front();
            next.or_else(|| state.otherwise.clone())
                .unwrap_or(Script::Status(200))
        };
        let _open = Open::new(&state);
        let written = match script {
            Script::Status(status) => stream.write_all(&plain_answer(status)).await,
            Script::Raw(bytes) => stream.write_all(&bytes).await,
            Script::RawThenClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Script::Close => return,
            Script::Echo => {
                let text = challenge.unwrap_or_default();
                let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", text.len());
                stream.write_all(format!("{head}{text}").as_bytes()).await
            }
            Script::Hang => return hang(&mut stream).await,
            Script::RawThenHang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return hang(&mut stream).await;
            }
            Script::AtGate(status) => {
                let mut gate = state.lock().unwrap().gate.subscribe();
                let _ = gate.wait_for(|open| *open).await;
                stream.write_all(&plain_answer(status)).await
            }
            Script::Endless(bytes) => {
                let head = format!("HTTP/1.1 200 X\r\ncontent-length: {bytes}\r\n\r\n");
                let mut written = stream.write_all(head.as_bytes()).await;
                let chunk = [b'x'; 64 << 10];
                for _ in 0..bytes / chunk.len() {
                    if written.is_err() {
                        break;
                    }
                    written = stream.write_all(&chunk).await;
                    state.lock().unwrap().body_bytes += chunk.len();
                }
                written
            }
        };
        if written.is_err() {
            return;
        }
    }
}

fn plain_answer(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

/// Waits for the other side to give up.
async fn hang(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 64];
    while matches!(stream.read(&mut bytes).await, Ok(1..)) {}
}

/// Counts a request as open for as long as it is.
struct Open(Arc<Mutex<State>>);

impl Open {
    fn new(state: &Arc<Mutex<State>>) -> Open {
        let mut locked = state.lock().unwrap();
        locked.open += 1;
        locked.busiest = locked.busiest.max(locked.open);
        drop(locked);
        Open(state.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    connection: usize,
    state: &Mutex<State>,
) -> Option<Request> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let begins = buffer.is_empty();
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        if begins {
            state.lock().unwrap().begun += 1;
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
