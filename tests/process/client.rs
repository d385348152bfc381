//! The least HTTP/1.1 that talks to our own server: one request at a time on one connection.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

/// Longer than any answer may take; a server that is silent for this long has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A connection that is kept alive. After an error it must not be used again.
pub struct Connection {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Connection {
    pub fn open(address: SocketAddr, token: &str) -> Result<Connection> {
        Connection::on(TcpStream::connect_timeout(&address, ANSWER_WITHIN)?, token)
    }

    /// The same on a stream that is there.
    pub fn on(stream: TcpStream, token: &str) -> Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Connection {
            stream: BufReader::new(stream),
            token: token.to_owned(),
        })
    }

    pub fn request(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        self.request_once(method, path, body, None)
    }

    /// With an idempotency key, where there is one.
    pub fn request_once(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        key: Option<&str>,
    ) -> Result<Answer> {
        let key = key.map_or(String::new(), |key| format!("idempotency-key: {key}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{key}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        self.stream
            .get_mut()
            .write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let status_line = self.line()?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| broken(&format!("no status in {status_line:?}")))?;
        let mut length = 0;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            if name.eq_ignore_ascii_case("content-length") {
                length = value
                    .trim()
                    .parse()
                    .map_err(|_| broken(&format!("content-length {value}")))?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(broken("an answer in chunks, which nothing here reads"));
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Connects from this address, one of the machine's own.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(from, 0))?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket.into())
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}
