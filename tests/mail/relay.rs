//! A mail relay: aiosmtpd, from PyPI, on a port of loopback, which answers as a test says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::net::{AddressFamily, SocketType, sockopt};
use serde_json::{Value, json};

use crate::process::{die_with_parent, until};

const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// What is waited for comes within some seconds. This is for machines that are busy.
pub const WITHIN: Duration = Duration::from_secs(90);

pub const LOGIN: &str = "postrider@relay.test";
pub const PASSWORD: &str = "open-sesame-0123456789";

/// What the machine lacks for it.
pub fn missing() -> Option<String> {
    (!tools().join("prepared").exists())
        .then(|| "run tests/mail/prepare, which needs python3".to_owned())
}

/// Where `tests/mail/prepare` installs.
fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("the target directory").join("mail")
}

/// How a relay is set up.
#[derive(Clone, Default)]
pub struct Setup {
    /// `none`, `starttls` or `tls`.
    pub tls: &'static str,
    /// `PLAIN` or `LOGIN`; no login where it is empty.
    pub mechanism: &'static str,
    /// In place of any free one.
    pub port: u16,
    pub certificate: Option<Certificate>,
}

/// A certificate with its key, in files.
#[derive(Clone)]
pub struct Certificate {
    pub file: PathBuf,
    pub key: PathBuf,
    /// Who is to be trusted for it.
    pub authority: PathBuf,
}

/// A mail as the relay got it.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: Vec<String>,
    pub from: String,
    pub is_encrypted: bool,
    pub login: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// A running relay. Dropping it ends the process.
pub struct Relay {
    pub port: u16,
    child: Child,
    orders: ChildStdin,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    port: Option<u16>,
    obeyed: usize,
    mails: Vec<Mail>,
    refused: Vec<String>,
    ended: bool,
}

impl Relay {
    /// # Panics
    /// Where it does not start. The thread that calls this must live as long as the relay.
    pub fn start(setup: &Setup) -> Relay {
        let files = setup.certificate.as_ref();
        let words = json!({
            "tls": setup.tls,
            "port": setup.port,
            "certificate": files.map(|files| &files.file),
            "key": files.map(|files| &files.key),
            "login": if setup.mechanism.is_empty() { "" } else { LOGIN },
            "password": PASSWORD,
            "mechanism": setup.mechanism,
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail/relay.py");
        let mut command = Command::new(tools().join("venv/bin/python"));
        command
            .args([script.as_os_str(), words.to_string().as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let orders = child.stdin.take().expect("stdin is a pipe");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let noted = seen.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("it tells JSON");
                locked(&noted).note(&line);
            }
            locked(&noted).ended = true;
        });
        let mut relay = Relay {
            port: 0,
            child,
            orders,
            seen,
        };
        let port = until(STARTS_WITHIN, || {
            let seen = relay.seen();
            (seen.port.is_some() || seen.ended).then_some(seen.port)
        });
        relay.port = port.flatten().expect("the relay starts");
        relay
    }

    /// Answers in this way from now on: see `relay.py`.
    pub fn obey(&mut self, orders: &Value) {
        let before = self.seen().obeyed;
        writeln!(self.orders, "{orders}").expect("the relay lives");
        let obeyed = until(STARTS_WITHIN, || {
            (self.seen().obeyed > before).then_some(())
        });
        obeyed.expect("the relay obeys");
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.seen().mails.clone()
    }

    /// The mails once there are so many.
    pub fn wait(&self, count: usize, log: impl Fn() -> String) -> Vec<Mail> {
        let found = until(WITHIN, || (self.seen().mails.len() >= count).then_some(()));
        let mails = self.mails();
        assert!(found.is_some(), "{count} mails, but {mails:#?}; {}", log());
        mails
    }

    /// The answers with which it has refused something.
    pub fn refused(&self) -> Vec<String> {
        self.seen().refused.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seen {
    fn note(&mut self, event: &Value) {
        if let Some(port) = event["ready"].as_u64() {
            self.port = u16::try_from(port).ok();
        }
        if event["obeys"] == true {
            self.obeyed += 1;
        }
        if let Some(answer) = event["answer"].as_str() {
            self.refused.push(answer.to_owned());
        }
        if event["mail"].is_object() {
            self.mails.push(Mail::read(&event["mail"]));
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no holder of it panics")
}

impl Mail {
    fn read(event: &Value) -> Mail {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let content = text(&event["content"]);
        let (head, body) = content.split_once("\r\n\r\n").expect("a head and a body");
        let head = head.replace("\r\n ", " ");
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        let headers: BTreeMap<String, String> = headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let body = match headers.get("Content-Transfer-Encoding").map(String::as_str) {
            Some("quoted-printable") => unquoted(body),
            _ => body.to_owned(),
        };
        Mail {
            to: event["to"]
                .as_array()
                .expect("a list")
                .iter()
                .map(text)
                .collect(),
            from: text(&event["from"]),
            is_encrypted: event["encrypted"] == true,
            login: event["login"].as_str().map(str::to_owned),
            headers,
            body: body.replace("\r\n", "\n"),
        }
    }

    pub fn subject(&self) -> &str {
        &self.headers["Subject"]
    }
}

/// RFC 2045, 6.7.
fn unquoted(text: &str) -> String {
    let joined = text.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let coded = (*first == b'=').then(|| behind.get(..2)).flatten();
        match coded.and_then(|digits| hex::decode(digits).ok()) {
            Some(decoded) => {
                bytes.extend(decoded);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8(bytes).expect("the body is UTF-8")
}

impl Certificate {
    /// Of an authority, for this host.
    pub fn for_host(folder: &Path, host: &str) -> Certificate {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = format!("Authority of the relay {host}");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([host.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let made = Certificate::in_folder(folder, host);
        write(&made.file, &certificate.pem());
        write(&made.key, &key.serialize_pem());
        write(&made.authority, &authority.pem());
        made
    }

    /// One that a relay has signed itself, as `openssl req -x509` makes it.
    pub fn self_signed(folder: &Path, host: &str) -> Certificate {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let made = Certificate::in_folder(folder, &format!("self-{host}"));
        write(&made.file, &certificate.pem());
        write(&made.key, &key.serialize_pem());
        write(&made.authority, &certificate.pem());
        made
    }

    fn in_folder(folder: &Path, name: &str) -> Certificate {
        let file = |kind: &str| folder.join(format!("{name}.{kind}.pem"));
        Certificate {
            file: file("certificate"),
            key: file("key"),
            authority: file("authority"),
        }
    }
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// A port that nobody else is given for as long as the socket is there. A listener may have it too, because
/// this socket does not listen.
pub fn reserved_port() -> (OwnedFd, u16) {
    let reserve = || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddrV4::try_from(rustix::net::getsockname(&socket)?)?;
        std::io::Result::Ok((socket, SocketAddr::from(address).port()))
    };
    reserve().expect("a free port on loopback")
}
