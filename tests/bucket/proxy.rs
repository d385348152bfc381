//! The way to the service, on which there is trouble when a test says so.
//!
//! A connection carries one request, as moto closes it after each answer. The trouble counts as it is
//! when the request has come.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

/// A side that is silent for this long has failed.
const SILENT_MAX: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A slow line carries so many bytes, and then nothing for so long.
const SLOW_BYTES: usize = 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Every request is answered with 503.
    Unavailable,
    /// Bytes come slowly, both ways.
    Slow,
    /// A connection breaks in the middle of each body that is sent.
    CutUploads,
    /// The same, and a connection breaks in the middle of each answer to a GET.
    Cut,
    /// The connection of every second request breaks in the middle of its answer. The request was carried out.
    CutAnswers,
    /// The service does not hear that an object is to be created only where there is none.
    Unconditional,
    /// No connection comes about.
    Refused,
}

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
    /// Keeps the port while nobody listens.
    _port: OwnedFd,
}

struct Shared {
    service: SocketAddr,
    trouble: Mutex<Trouble>,
    /// The first lines of the requests that the trouble has met.
    met: Mutex<Vec<String>>,
    requests: AtomicUsize,
    stops_listening: AtomicBool,
}

impl Proxy {
    pub fn start(service: SocketAddr) -> Proxy {
        let (port, address) = reserved_port().expect("a free port on loopback");
        let proxy = Proxy {
            address,
            shared: Arc::new(Shared {
                service,
                trouble: Mutex::new(Trouble::None),
                met: Mutex::default(),
                requests: AtomicUsize::new(0),
                stops_listening: AtomicBool::new(false),
            }),
            listening: Mutex::default(),
            _port: port,
        };
        proxy.listen();
        proxy
    }

    /// Ends the trouble of before and begins this one.
    pub fn begin(&self, trouble: Trouble) {
        *self.shared.trouble() = trouble;
        self.shared.met().clear();
        match trouble {
            Trouble::Refused => self.stop_listening(),
            _ => self.listen(),
        }
    }

    /// How many requests with these words in their first lines have met the trouble. Of connections that are
    /// refused nobody knows.
    pub fn met(&self, words: &str) -> usize {
        let met = self.shared.met();
        met.iter().filter(|line| line.contains(words)).count()
    }

    fn listen(&self) {
        let mut listening = self.listening.lock().expect("no holder of it panics");
        if listening.is_some() {
            return;
        }
        self.shared.stops_listening.store(false, Ordering::SeqCst);
        let listener = TcpListener::bind(self.address).expect("the port is ours");
        let shared = self.shared.clone();
        *listening = Some(std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.stops_listening.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                // A connection that breaks is for the client to notice.
                std::thread::spawn(move || shared.converse(client));
            }
        }));
    }

    fn stop_listening(&self) {
        let mut listening = self.listening.lock().expect("no holder of it panics");
        let Some(thread) = listening.take() else {
            return;
        };
        self.shared.stops_listening.store(true, Ordering::SeqCst);
        // The thread looks at each connection, this one too.
        let _ = TcpStream::connect(self.address);
        thread.join().expect("it does not panic");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

impl Shared {
    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().expect("no holder of it panics")
    }

    fn met(&self) -> MutexGuard<'_, Vec<String>> {
        self.met.lock().expect("no holder of it panics")
    }

    /// One request and its answer.
    fn converse(&self, mut client: TcpStream) -> Result<()> {
        limit(&client)?;
        let Some(mut request) = Request::read(&mut client)? else {
            return Ok(());
        };
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let trouble = *self.trouble();
        let is_met = match trouble {
            Trouble::None | Trouble::Refused => false,
            Trouble::Unavailable | Trouble::Slow => true,
            Trouble::CutUploads => request.body_bytes > 0,
            Trouble::Cut => request.body_bytes > 0 || request.is_get(),
            Trouble::CutAnswers => number.is_multiple_of(2),
            Trouble::Unconditional => request.leave_out_condition(),
        };
        if !is_met {
            return self.relay(client, &request, Carry::Fast);
        }
        self.met().push(request.first_line());
        match trouble {
            Trouble::Unavailable => {
                request.read_body(&mut client)?;
                client.write_all(UNAVAILABLE.as_bytes())
            }
            Trouble::Slow => self.relay(client, &request, Carry::Slow),
            Trouble::Unconditional => self.relay(client, &request, Carry::Fast),
            Trouble::CutUploads | Trouble::Cut if request.body_bytes > 0 => {
                // The service sees nothing of it, as it would take the half for all.
                let half = request.body_bytes / 2;
                carry(&mut client, &mut std::io::sink(), half, Carry::Fast).map(|_| ())
            }
            _ => {
                let mut answer = Vec::new();
                let mut service = self.hand_on(&mut client, &request, Carry::Fast)?;
                service.read_to_end(&mut answer)?;
                client.write_all(&answer[..answer.len() / 2])
            }
        }
    }

    /// One request and all of its answer.
    fn relay(&self, mut client: TcpStream, request: &Request, how: Carry) -> Result<()> {
        let mut service = self.hand_on(&mut client, request, how)?;
        carry(&mut service, &mut client, u64::MAX, how).map(|_| ())
    }

    /// Hands a request to the service, whose answer comes on the connection.
    fn hand_on(&self, client: &mut TcpStream, request: &Request, how: Carry) -> Result<TcpStream> {
        let mut service = TcpStream::connect(self.service)?;
        limit(&service)?;
        service.write_all(&request.head)?;
        match carry(client, &mut service, request.body_bytes, how)? < request.body_bytes {
            true => Err(ErrorKind::UnexpectedEof.into()),
            false => Ok(service),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Carry {
    Fast,
    Slow,
}

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/xml\r\n\
                           content-length: 36\r\nconnection: close\r\n\r\n\
                           <Error><Code>SlowDown</Code></Error>";

struct Request {
    head: Vec<u8>,
    body_bytes: u64,
}

impl Request {
    /// Reads the head. None where the client closes the connection instead.
    fn read(client: &mut TcpStream) -> Result<Option<Request>> {
        let mut head = Vec::new();
        // A byte at a time, so that nothing of the body is taken with it.
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if head.len() == HEAD_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            match client.read(&mut byte)? {
                0 => return Ok(None),
                _ => head.push(byte[0]),
            }
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let body_bytes = length.map_or(Ok(0), |length| length.trim().parse());
        let body_bytes = body_bytes.map_err(|_| ErrorKind::InvalidData)?;
        Ok(Some(Request { head, body_bytes }))
    }

    fn first_line(&self) -> String {
        let line = self.head.split(|byte| *byte == b'\r').next();
        String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
    }

    /// Removes the header `If-None-Match`. False where there is none.
    fn leave_out_condition(&mut self) -> bool {
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let is_condition = |line: &&str| line.to_ascii_lowercase().starts_with("if-none-match:");
        let kept = head
            .split_inclusive('\n')
            .filter(|line| !is_condition(line));
        let kept: String = kept.collect();
        let is_met = kept.len() < head.len();
        self.head = kept.into_bytes();
        is_met
    }

    fn is_get(&self) -> bool {
        self.head.starts_with(b"GET ")
    }

    fn read_body(&self, client: &mut TcpStream) -> Result<()> {
        carry(client, &mut std::io::sink(), self.body_bytes, Carry::Fast).map(|_| ())
    }
}

/// Carries so many bytes, or all to the end. Returns how many it were.
fn carry(from: &mut impl Read, to: &mut impl Write, bytes_max: u64, how: Carry) -> Result<u64> {
    let mut buffer = vec![
        0;
        if how == Carry::Slow {
            SLOW_BYTES
        } else {
            64 << 10
        }
    ];
    let mut carried = 0;
    while carried < bytes_max {
        let most = (bytes_max - carried).min(buffer.len() as u64) as usize;
        let bytes = from.read(&mut buffer[..most])?;
        if bytes == 0 {
            break;
        }
        if how == Carry::Slow {
            std::thread::sleep(SLOW_PAUSE);
        }
        to.write_all(&buffer[..bytes])?;
        carried += bytes as u64;
    }
    Ok(carried)
}

fn limit(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENT_MAX))?;
    stream.set_write_timeout(Some(SILENT_MAX))
}

/// A port that nobody else is given for as long as the socket is there. A listener may have it too, because
/// this socket does not listen.
fn reserved_port() -> Result<(OwnedFd, SocketAddr)> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let address = SocketAddrV4::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, address.into()))
}
