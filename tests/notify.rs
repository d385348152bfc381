//! What postrider tells its supervisor: `Type=notify` and `WatchdogSec` of the systemd unit.

#[path = "process/mod.rs"]
mod process;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use process::{Launch, scratch};

/// The unit's WatchdogSec is a multiple of this; pings must come far more often.
const PING_WITHIN: Duration = Duration::from_secs(10);
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// The socket of a supervisor, in a directory whose path is short enough for one.
struct Supervisor {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Supervisor {
    fn new() -> Supervisor {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        Supervisor { socket, directory }
    }

    fn address(&self) -> String {
        self.directory.path().join("notify").display().to_string()
    }

    /// The assignments of the next datagram.
    fn hear(&self, limit: Duration) -> Vec<String> {
        self.socket
            .set_read_timeout(Some(limit))
            .expect("a time limit is set");
        let mut buffer = [0; 4096];
        let length = self
            .socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("nothing is told within {limit:?}: {error}"));
        let text = std::str::from_utf8(&buffer[..length]).expect("text");
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_supervisor_is_told_of_readiness_of_life_and_of_the_stop() {
    let supervisor = Supervisor::new();
    let directory = scratch();
    let launch = Launch::new(directory.path().join("data"))
        .env("NOTIFY_SOCKET", supervisor.address())
        // As systemd sets them for the unit.
        .env("WATCHDOG_USEC", 60_000_000);
    let mut server = launch.start();

    assert_eq!(supervisor.hear(TOLD_WITHIN), ["READY=1"]);
    server.api.get("/api/v1/health");
    for _ in 0..3 {
        assert_eq!(supervisor.hear(PING_WITHIN), ["WATCHDOG=1"]);
    }

    server.process.terminate();
    let deadline = Instant::now() + TOLD_WITHIN;
    loop {
        let told = supervisor.hear(TOLD_WITHIN);
        if told == ["STOPPING=1"] {
            break;
        }
        assert_eq!(told, ["WATCHDOG=1"], "a ping may still be under way");
        assert!(Instant::now() < deadline, "it pings and does not stop");
    }
    let status = server.process.wait(TOLD_WITHIN);
    let log = server.process.log();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{log}");
    supervisor.socket.set_nonblocking(true).expect("a mode");
    let rest = supervisor.socket.recv(&mut [0; 64]);
    assert!(rest.is_err(), "nothing is told after STOPPING=1");
}
