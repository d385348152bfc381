//! A service that speaks S3: moto's server, from PyPI, on a free port of loopback.
//!
//! All tests share one, each with a bucket of its own. A test that wants signatures to be checked starts
//! another. What is in a bucket is read here by plain HTTP, and not by the code that is tested.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::{die_with_parent, until};

const STARTS_WITHIN: Duration = Duration::from_secs(60);
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
const LINES_MAX: usize = 50;

pub const REGION: &str = "eu-north-1";

/// A running server. Dropping it ends the process.
pub struct Service {
    pub address: SocketAddr,
    /// The thread that started the process ends it once this is gone.
    end: Option<Sender<()>>,
    owner: Option<JoinHandle<()>>,
}

/// Credentials that a service knows.
pub struct Credentials {
    pub id: String,
    pub secret: String,
}

/// The one that all tests share. It is there until the test process ends, and its process ends with that.
pub fn shared() -> &'static Service {
    static SHARED: OnceLock<Service> = OnceLock::new();
    SHARED.get_or_init(Service::start)
}

/// What the machine lacks for it.
pub fn missing() -> Option<String> {
    (!tools().join("prepared").exists())
        .then(|| "run tests/bucket/prepare, which needs python3".to_owned())
}

/// Where `tests/bucket/prepare` installs.
fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("the target directory").join("bucket")
}

/// The last lines that the process wrote, and the address once it has one.
#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    address: Option<SocketAddr>,
    ended: bool,
}

impl Service {
    pub fn start() -> Service {
        let lines: Arc<Mutex<Lines>> = Arc::default();
        let (end, ended) = channel::<()>();
        let noted = lines.clone();
        // A child ends with the thread that started it, so that has to be one that lives as long.
        let owner = std::thread::spawn(move || {
            let mut command = Command::new(tools().join("venv/bin/moto_server"));
            command
                .args(["-H", "127.0.0.1", "-p", "0"])
                .env("PYTHONUNBUFFERED", "1")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            die_with_parent(&mut command);
            let mut child = command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
            let stderr = child.stderr.take().expect("stderr is a pipe");
            let follower = std::thread::spawn(move || follow(stderr, &noted));
            let _ = ended.recv();
            let _ = child.kill();
            let _ = child.wait();
            let _ = follower.join();
        });
        let lock = || lines.lock().expect("no holder of the lines panics");
        let found = until(STARTS_WITHIN, || {
            let lines = lock();
            (lines.address.is_some() || lines.ended).then_some(lines.address)
        });
        let Some(Some(address)) = found else {
            panic!("moto_server does not start: {:?}", lock().kept);
        };
        Service {
            address,
            end: Some(end),
            owner: Some(owner),
        }
    }

    /// Makes a bucket with this name.
    pub fn create_bucket(&self, name: &str) {
        let body = format!(
            "<CreateBucketConfiguration><LocationConstraint>{REGION}</LocationConstraint>\
             </CreateBucketConfiguration>"
        );
        self.call("PUT", &format!("/{name}"), "s3", &body);
    }

    /// From now on the bucket keeps what is overwritten or removed.
    pub fn keep_versions(&self, bucket: &str) {
        let body = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        self.call("PUT", &format!("/{bucket}?versioning"), "s3", body);
    }

    /// From now on each request needs a right signature. Returns credentials that may do everything.
    pub fn check_signatures(&self) -> Credentials {
        const VERSION: &str = "UserName=backup&Version=2010-05-08";
        const POLICY: &str = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%7B%22Effect%22%3A\
                              %22Allow%22%2C%22Action%22%3A%22s3%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%7D";
        let iam =
            |action: &str| self.call("POST", "/", "iam", &format!("Action={action}&{VERSION}"));
        iam("CreateUser");
        iam(&format!(
            "PutUserPolicy&PolicyName=all&PolicyDocument={POLICY}"
        ));
        let made = iam("CreateAccessKey");
        let made = String::from_utf8(made).expect("its answers are text");
        let only = |name: &str| elements(&made, name).next().expect("it is in the answer");
        let credentials = Credentials {
            id: only("AccessKeyId").to_owned(),
            secret: only("SecretAccessKey").to_owned(),
        };
        // The number of requests that pass unchecked.
        self.call("POST", "/moto-api/reset-auth", "moto", "0");
        credentials
    }

    /// All objects of a bucket, with their bytes.
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let list = self.call("GET", &format!("/{bucket}?list-type=2"), "s3", "");
        let list = String::from_utf8(list).expect("a list is text");
        assert!(
            list.contains("<IsTruncated>false<"),
            "too many objects: {list}"
        );
        let keys = elements(&list, "Key").map(str::to_owned);
        // One that is removed meanwhile is none of the objects.
        let objects = keys.filter_map(|key| {
            let (status, bytes) = self.request("GET", &format!("/{bucket}/{key}"), "s3", "");
            assert!([200, 404].contains(&status), "{key}: {status}");
            (status == 200).then_some((key, bytes))
        });
        objects.collect()
    }

    /// The names of the objects that have these bytes in them.
    pub fn holding(&self, bucket: &str, bytes: &str) -> Vec<String> {
        let objects = self.objects(bucket).into_iter();
        let holding =
            objects.filter(|(_, object)| memchr::memmem::find(object, bytes.as_bytes()).is_some());
        holding.map(|(name, _)| name).collect()
    }

    /// A request that must succeed.
    fn call(&self, method: &str, path: &str, service: &str, body: &str) -> Vec<u8> {
        let (status, answer) = self.request(method, path, service, body);
        let text = String::from_utf8_lossy(&answer);
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {text}"
        );
        answer
    }

    /// The signature tells which of its services is meant, and is not checked by default.
    fn request(&self, method: &str, path: &str, service: &str, body: &str) -> (u16, Vec<u8>) {
        let kind = match service {
            "iam" => "application/x-www-form-urlencoded",
            _ => "application/octet-stream",
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host, Signature=none\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let answer = exchange(self.address, request.as_bytes());
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let end = memchr::memmem::find(&answer, b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8_lossy(&answer[..end]);
        assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (
            status.expect("an answer has a status"),
            answer[end + 4..].to_vec(),
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(owner) = self.owner.take() {
            let _ = owner.join();
        }
    }
}

fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWERS_WITHIN)?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
    stream.set_write_timeout(Some(ANSWERS_WITHIN))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn follow(stderr: ChildStderr, lines: &Mutex<Lines>) {
    let lock = || lines.lock().expect("no holder of the lines panics");
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut lines = lock();
        let address = line
            .split_once("Running on http://")
            .map(|(_, rest)| rest.trim());
        lines.address = lines
            .address
            .or(address.and_then(|address| address.parse().ok()));
        if lines.kept.len() == LINES_MAX {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line);
    }
    lock().ended = true;
}

/// The contents of all elements with this name. What is read here has no escapes in it.
fn elements<'a>(document: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = document;
    std::iter::from_fn(move || {
        let (content, behind) = rest.split_once(&open)?.1.split_once(&close)?;
        rest = behind;
        Some(content)
    })
}
