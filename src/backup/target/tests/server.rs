//! A server on loopback whose answers a test scripts.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    /// In small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let (_, value) = all.find(|(known, _)| known == name)?;
        Some(value)
    }
}

/// What the server does with a request.
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// The connection is closed without an answer.
    Cut,
    /// The answer breaks off after half of its body.
    Half { body: Vec<u8> },
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply::with_body(status, Vec::new())
    }

    pub fn with_body(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply::Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub fn code(status: u16, code: &str) -> Reply {
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        Reply::with_body(status, body)
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        if let Reply::Answer { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

type Script = dyn FnMut(&Asked) -> Reply + Send;

/// Listens until the test's process ends.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers each request with what the script returns. Requests come one after the other.
    pub fn new(script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let noted = asked.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (script, noted) = (script.clone(), noted.clone());
                std::thread::spawn(move || serve(connection.unwrap(), &script, &noted));
            }
        });
        Server { address, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(connection: TcpStream, script: &Mutex<Box<Script>>, noted: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    while let Some(asked) = read(&mut reader) {
        noted.lock().unwrap().push(asked.clone());
        let reply = (script.lock().unwrap())(&asked);
        if !answer(&connection, reply) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// None once the connection is closed.
fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|bytes| *bytes > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut asked = Asked {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    let length = asked.header("content-length").unwrap_or("0");
    asked.body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

/// Whether the connection goes on.
fn answer(mut connection: &TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Cut => false,
        Reply::Half { body } => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = connection.write_all(head.as_bytes());
            let _ = connection.write_all(&body[..body.len() / 2]);
            false
        }
        Reply::Answer {
            status,
            headers,
            body,
        } => {
            let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            head += "\r\n";
            let written = connection.write_all(head.as_bytes());
            written.and_then(|()| connection.write_all(&body)).is_ok()
        }
    }
}
