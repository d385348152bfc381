//! The customer's server behind an endpoint: reads requests as cheaply as it can and answers what
//! a function says.
//!
//! [`serve`] is the bare loop, which the benchmark's sink process runs; [`Receiver`] runs it on a
//! thread inside a test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::until;

pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    head: &'a str,
    pub body: &'a [u8],
}

impl Request<'_> {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

pub enum Reply {
    Status(u16),
    /// This status, and the end of the connection: the next request needs a new one.
    StatusThenClose(u16),
    /// 200 with this text, as `text/plain`.
    Text(&'static str),
    After(Duration, u16),
    Never,
}

/// Serves connections until the future is dropped. `open` counts them.
///
/// # Panics
/// Outside a `LocalSet`.
pub async fn serve(
    listener: TcpListener,
    open: Arc<AtomicUsize>,
    handle: impl Fn(&Request<'_>) -> Reply + 'static,
) {
    listener
        .set_nonblocking(true)
        .expect("a listener can be made non-blocking");
    let listener =
        tokio::net::TcpListener::from_std(listener).expect("the runtime takes a listener");
    let handle = Rc::new(handle);
    loop {
        // Fails when descriptors run out: the next connection that ends frees one.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        open.fetch_add(1, Ordering::SeqCst);
        let (open, handle) = (open.clone(), handle.clone());
        tokio::task::spawn_local(async move {
            // A connection that breaks is the server's to notice, not ours.
            let _ = converse(stream, &*handle).await;
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn converse(
    mut stream: tokio::net::TcpStream,
    handle: &impl Fn(&Request<'_>) -> Reply,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        let (reply, length) = loop {
            if let Some((request, length)) = parse(&buffer) {
                break (handle(&request), length);
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        buffer.drain(..length);
        let status = match reply {
            Reply::Status(status) => status,
            Reply::StatusThenClose(status) => {
                let answer = format!(
                    "HTTP/1.1 {status} Answer\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                );
                return stream.write_all(answer.as_bytes()).await;
            }
            Reply::Text(text) => {
                let length = text.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n"
                );
                stream.write_all(format!("{head}{text}").as_bytes()).await?;
                continue;
            }
            Reply::After(delay, status) => {
                tokio::time::sleep(delay).await;
                status
            }
            Reply::Never => hang(&mut stream).await?,
        };
        if status == 200 {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await?;
        } else {
            let answer = format!("HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}

/// Says nothing until the other side gives up.
async fn hang(stream: &mut tokio::net::TcpStream) -> std::io::Result<u16> {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await? != 0 {}
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

/// The first whole request in the buffer, and its length. What is not a request of postrider's
/// never becomes whole; the tests' deadlines catch that.
fn parse(buffer: &[u8]) -> Option<(Request<'_>, usize)> {
    let head_length = buffer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|place| place + 4)?;
    let head = std::str::from_utf8(&buffer[..head_length]).ok()?;
    let body_length = match header(head, "content-length") {
        Some(value) => value.parse().ok()?,
        None => 0,
    };
    let body = buffer.get(head_length..head_length + body_length)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let request = Request {
        method,
        path,
        head,
        body,
    };
    Some((request, head_length + body_length))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A receiver on a thread of its own, until it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    open: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Receiver {
    pub fn start(handle: impl Fn(&Request<'_>) -> Reply + Send + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound listener");
        let open = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let thread = {
            let open = open.clone();
            std::thread::spawn(move || {
                run(async move {
                    tokio::select! {
                        () = serve(listener, open, handle) => {}
                        _ = stopped => {}
                    }
                });
            })
        };
        Receiver {
            address,
            open,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until everything that a dead sender had sent is handled. Only for when no sender
    /// lives: its connections never end.
    pub fn settle(&self) {
        // Connections are accepted in the order in which they were made, so that once this one is
        // answered, all earlier ones are counted in `open`.
        let mut last = TcpStream::connect(self.address).expect("the receiver accepts");
        last.write_all(b"GET /settle HTTP/1.1\r\n\r\n")
            .expect("the receiver reads");
        last.read_exact(&mut [0; 12]).expect("the receiver answers");
        drop(last);
        until(Duration::from_secs(30), || {
            (self.open.load(Ordering::SeqCst) == 0).then_some(())
        })
        .expect("the connections of a dead process end");
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs a future to its end on this thread.
pub fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    LocalSet::new().block_on(&runtime, future);
}
