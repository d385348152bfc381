//! A DNS server on loopback that knows every name but those that it is silent about.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A global address that nobody was ever given: IANA keeps 2d00::/8 for later.
pub const UNUSED: Ipv6Addr = Ipv6Addr::new(0x2d00, 0, 0, 0, 0, 0, 0, 1);
const UNUSED_BYTES: [u8; 16] = UNUSED.octets();

/// It answers on a thread of its own until it is dropped.
pub struct Dns {
    pub address: SocketAddr,
    asked: Arc<Mutex<BTreeSet<String>>>,
    stopped: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // The thread looks at each datagram, an empty one too.
        let woken = UdpSocket::bind("127.0.0.1:0").and_then(|one| one.send_to(&[], self.address));
        if let (Ok(_), Some(answering)) = (woken, self.answering.take()) {
            let _ = answering.join();
        }
    }
}

impl Dns {
    /// Names below `silent.test` get no answer, those below `missing.test` do not exist, those below
    /// `private.test` have 10.0.0.1, those below `unused.test` have [`UNUSED`], and all others
    /// 127.0.0.1.
    pub fn start() -> Dns {
        Dns::start_at("127.0.0.1:0")
    }

    pub fn start_at(address: &str) -> Dns {
        let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = socket.local_addr().expect("it is bound");
        let asked = Arc::<Mutex<BTreeSet<String>>>::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (noted, stop) = (asked.clone(), stopped.clone());
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Some((answer, name)) = answer(&buffer[..length]) else {
                    continue;
                };
                noted.lock().expect("nobody panics").insert(name);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Dns {
            address,
            asked,
            stopped,
            answering: Some(answering),
        }
    }

    /// How many names below this one were asked for.
    pub fn asked_below(&self, zone: &str) -> usize {
        let asked = self.asked.lock().expect("nobody panics");
        asked.iter().filter(|name| name.ends_with(zone)).count()
    }
}

/// The answer to a query, where there is one, and the name that it asks for.
fn answer(query: &[u8]) -> Option<(Option<Vec<u8>>, String)> {
    const HEADER: usize = 12;
    let mut at = HEADER;
    let mut name = String::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase();
        name = format!("{name}{label}.");
        at += length;
    }
    let name = name.trim_end_matches('.').to_owned();
    let question = query.get(HEADER..at + 4)?;
    let kind = query.get(at..at + 2)?;
    let address: &[u8] = match (name.ends_with("unused.test"), kind) {
        (false, [0, 1]) if name.ends_with("private.test") => &[10, 0, 0, 1],
        (false, [0, 1]) => &[127, 0, 0, 1],
        (true, [0, 28]) => &UNUSED_BYTES,
        _ => &[],
    };
    if name.ends_with("silent.test") {
        return Some((None, name));
    }
    let exists = !name.ends_with("missing.test");
    let has_address = exists && !address.is_empty();
    let mut answer = query[..2].to_vec();
    // A response, recursion desired and available; 3 is NXDOMAIN.
    answer.extend([0x81, if exists { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    answer.extend(question);
    if has_address {
        // The question's name and kind, IN, 60 seconds, and as many bytes as there are.
        answer.extend([0xc0, 12, 0, kind[1], 0, 1, 0, 0, 0, 60]);
        answer.extend([0, address.len() as u8]);
        answer.extend(address);
    }
    Some((Some(answer), name))
}
