//! Shortages of this process or machine: of file descriptors, of memory for sockets, of local ports.
//!
//! A shortage is never a receiver's failure: the scheduler puts the delivery off without an attempt.
//! A shortage that is noted here is logged once a minute and shown in status and health until it has
//! passed. A leaf.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::clock::Timestamp;

/// How long a shortage is shown after it was last met. Deliveries that it stopped are tried again each second.
const SHOWN: Duration = Duration::from_secs(5);
/// How often a shortage that lasts is logged.
const LOGGED_EVERY: Duration = Duration::from_secs(60);
/// File descriptors that deliveries leave to the store and the API, unless the limit is small.
const RESERVED_MAX: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// File descriptors, of the process (EMFILE) or of the machine (ENFILE).
    Files,
    /// The kernel's memory for sockets.
    Memory,
    /// Local ports for connections to one address.
    Ports,
}

impl Shortage {
    pub const ALL: [Shortage; 3] = [Shortage::Files, Shortage::Memory, Shortage::Ports];

    /// As the metrics and the problems of the status name it.
    pub fn name(self) -> &'static str {
        match self {
            Shortage::Files => "file_descriptors",
            Shortage::Memory => "socket_memory",
            Shortage::Ports => "local_ports",
        }
    }

    /// The shortage behind an error of the system. A lack of ports has an error with a second meaning, so
    /// it is recognised where connections are made.
    pub fn of(error: &io::Error) -> Option<Shortage> {
        match error.raw_os_error()? {
            libc::EMFILE | libc::ENFILE => Some(Shortage::Files),
            libc::ENOMEM | libc::ENOBUFS => Some(Shortage::Memory),
            _ => None,
        }
    }

    /// The problem and its remedy, as sentences for the operator.
    pub fn sentence(self) -> &'static str {
        match self {
            Shortage::Files => {
                "File descriptors have run out: deliveries wait, and connections to the API may be \
                 refused. Raise LimitNOFILE of the unit (or `ulimit -n`), or lower \
                 delivery.in_flight_max or limits.connections_max."
            }
            Shortage::Memory => {
                "The kernel has no memory for more sockets: deliveries wait. Free memory, or lower \
                 delivery.in_flight_max."
            }
            Shortage::Ports => {
                "No local port is free for connections to an address: its deliveries wait. Widen \
                 net.ipv4.ip_local_port_range, or lower delivery.in_flight_per_endpoint_max."
            }
        }
    }
}

/// Whether what failed with this error may go another time, without anything being mended: once some of the
/// disk was freed, or of what else this machine lacked.
pub fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded) || Shortage::of(error).is_some()
}

/// When each shortage was last met, and last logged; 0 for never.
#[derive(Debug, Default)]
pub struct Shortages {
    met: [AtomicU64; Shortage::ALL.len()],
    logged: [AtomicU64; Shortage::ALL.len()],
}

impl Shortages {
    pub fn note(&self, shortage: Shortage, now: Timestamp) {
        let place = shortage as usize;
        self.met[place].store(now.0, Ordering::Relaxed);
        let last = self.logged[place].load(Ordering::Relaxed);
        let is_time = last == 0 || apart(now, Timestamp(last)) >= LOGGED_EVERY;
        // Whoever changes it first logs it.
        let takes = || {
            self.logged[place].compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_time && takes().is_ok() {
            log::error!("{}", shortage.sentence());
        }
    }

    /// Those that have not passed.
    pub fn current(&self, now: Timestamp) -> Vec<Shortage> {
        let is_current = |shortage: &Shortage| {
            let met = self.met[*shortage as usize].load(Ordering::Relaxed);
            met != 0 && apart(now, Timestamp(met)) < SHOWN
        };
        Shortage::ALL.into_iter().filter(is_current).collect()
    }
}

/// The time between two instants, in either order: after a clock was set back, an old one lies in the future.
fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

/// How many file descriptors deliveries may use.
///
/// The last ones are left to the store, which ends the process when it cannot open a file, and to the
/// API. The system gives out the lowest number that is free, so that a high one means that few are.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    end: u64,
}

impl Descriptors {
    /// By the process's limit as it is now.
    pub fn of_process() -> Descriptors {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Descriptors {
            end: limit - RESERVED_MAX.min(limit / 8),
        }
    }

    #[cfg(test)]
    pub fn up_to(end: u64) -> Descriptors {
        Descriptors { end }
    }

    /// Pretends that this thread has no descriptor left, or that it has.
    #[cfg(test)]
    pub fn run_out(gone: bool) {
        RUN_OUT.set(gone);
    }

    /// An error as if the system had refused a socket whose number is too high.
    pub fn check(self, socket: &impl std::os::fd::AsRawFd) -> io::Result<()> {
        let number = u64::try_from(socket.as_raw_fd()).unwrap_or(u64::MAX);
        #[cfg(test)]
        let number = if RUN_OUT.get() { u64::MAX } else { number };
        match number < self.end {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        }
    }
}

#[cfg(test)]
thread_local! {
    static RUN_OUT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The shortage that opening a file meets at this moment. Listeners find out only by failing.
pub fn probe() -> Option<Shortage> {
    let opened = rustix::io::dup(std::io::stderr());
    Shortage::of(&opened.err()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_machine_lacks_is_a_shortage() {
        for (code, expected) in [
            (libc::EMFILE, Some(Shortage::Files)),
            (libc::ENFILE, Some(Shortage::Files)),
            (libc::ENOMEM, Some(Shortage::Memory)),
            (libc::ENOBUFS, Some(Shortage::Memory)),
            // Without a look at the address it could be a missing route.
            (libc::EADDRNOTAVAIL, None),
            (libc::ECONNREFUSED, None),
            (libc::ENETUNREACH, None),
            (libc::EACCES, None),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(Shortage::of(&error), expected, "{error}");
        }
        assert_eq!(Shortage::of(&io::Error::other("too many open files")), None);
    }

    #[test]
    fn a_shortage_is_shown_until_it_has_passed() {
        let shortages = Shortages::default();
        let at = |seconds: u64| Timestamp::from_seconds(1_700_000_000 + seconds);
        assert_eq!(shortages.current(at(0)), []);
        shortages.note(Shortage::Ports, at(1));
        shortages.note(Shortage::Files, at(3));
        shortages.note(Shortage::Files, at(2));
        let both = [Shortage::Files, Shortage::Ports];
        assert_eq!(shortages.current(at(5)), both);
        assert_eq!(shortages.current(at(6)), [Shortage::Files]);
        assert_eq!(shortages.current(at(8)), []);

        // The clock is set back.
        shortages.note(Shortage::Memory, at(3600));
        assert_eq!(shortages.current(at(10)), []);
        shortages.note(Shortage::Memory, at(10));
        assert_eq!(shortages.current(at(11)), [Shortage::Memory]);
    }

    #[test]
    fn the_last_descriptors_are_not_for_deliveries() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&socket)).unwrap();
        assert!(Descriptors::up_to(number + 1).check(&socket).is_ok());
        let refused = Descriptors::up_to(number).check(&socket).unwrap_err();
        assert_eq!(Shortage::of(&refused), Some(Shortage::Files));
    }
}
