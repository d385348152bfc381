//! The console and the portal in Chromium, against the real binary.
//!
//! Each test starts servers of its own and lets a script drive the pages with Playwright's core
//! package: `pages.mjs` looks at every page in both widths and themes, `portal.mjs` and
//! `console.mjs` do what customers and operators do there, `systems.mjs` follows the documents of
//! the five systems, `access.mjs` has sign-in, roles and frames, `sessions.mjs` who is signed in, over a
//! restart too, `verification.mjs` endpoints that are not verified, `holds.mjs` those that the operator
//! holds, `health.mjs` those that fail, `contact.mjs` who hears of them by e-mail, `filters.mjs` what endpoints
//! get, `transformations.mjs` how it is made anew, `limits.mjs` refusals for a while, and
//! `large.mjs` ten thousand endpoints and the clock.
//! `lib.mjs` watches every page: what the browser complains of fails. The scripts print a line a step,
//! and leave screenshots in `target/browser`.
//!
//! `tests/browser/prepare` installs what they need there: skipped with a loud line where that was
//! not done or there is no Chromium, a failure under `CI=true`.

#[path = "../process/mod.rs"]
mod process;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use process::{Launch, Server, can_run, die_with_parent, say, scratch, until};

/// For a whole script, on a machine that is busy with much else; alone it takes a minute or two.
const DONE_WITHIN: Duration = Duration::from_secs(600);

#[test]
fn every_page_fits_and_is_accessible() {
    drive("pages", None, |place| start(launch(place)));
}

#[test]
fn customers_set_up_watch_and_test_their_webhooks() {
    drive("portal", None, |place| start(launch(place)));
}

#[test]
fn operators_see_and_change_everything() {
    drive("console", None, |place| start(launch(place)));
}

#[test]
fn ovcodes_document_can_be_followed() {
    system("ovcode");
}

#[test]
fn ocroluss_document_can_be_followed() {
    system("ocrolus");
}

#[test]
fn ovations_document_can_be_followed() {
    system("ovation");
}

#[test]
fn ioffices_document_can_be_followed() {
    system("ioffice");
}

#[test]
fn okhis_document_can_be_followed() {
    system("okhi");
}

#[test]
fn everybody_sees_what_they_may_and_frames_are_refused() {
    drive("access", None, |place| {
        // By another name it is another site, too, to which browsers send fewer cookies.
        let allowed = format!("http://localhost:{}", frames().port());
        let refused = format!("http://{}", frames());
        let mut running = start(
            launch(place)
                .set("portal.frame_origins", &allowed)
                .set("console.frame_origins", ""),
        );
        running.variables.extend([
            ("ALLOWED_FRAMES".to_owned(), allowed),
            ("REFUSED_FRAMES".to_owned(), refused),
        ]);
        running
    });
}

#[test]
fn sessions_outlive_a_restart_and_portals_are_beside_each_other() {
    drive("sessions", None, |place| {
        let running = start(launch(place));
        let address = running.servers[0].api.address;
        Running {
            again: Some(launch(place).set("server.listen", address)),
            ..running
        }
    });
}

#[test]
fn unverified_endpoints_say_so_and_addresses_of_requests_are_shown() {
    drive("verification", None, |place| {
        let addresses = "203.0.113.7,198.51.100.0/28,2001:db8:dddd:eeee:ffff:1111:2222:3333";
        let mut running = start(
            launch(place)
                .set("delivery.verify_endpoints", "challenge")
                .set("delivery.source_addresses", addresses),
        );
        let addresses = ("SOURCE_ADDRESSES".to_owned(), addresses.to_owned());
        running.variables.push(addresses);
        running
    });
}

#[test]
fn operators_hold_endpoints_and_release_them() {
    drive("holds", None, |place| start(launch(place)));
}

#[test]
fn customers_choose_events_by_patterns_and_filters() {
    drive("filters", None, |place| start(launch(place)));
}

#[test]
fn customers_transform_their_requests() {
    drive("transformations", None, |place| start(launch(place)));
}

#[test]
fn customers_say_who_hears_of_their_endpoints_by_mail() {
    drive("contact", None, |place| {
        start(
            launch(place)
                .set("notify.smtp_host", "127.0.0.1")
                .set("notify.smtp_port", 9)
                .set("notify.from", "hooks@example.com")
                .set("notify.to", "ops@example.com"),
        )
    });
}

#[test]
fn endpoints_that_fail_say_so_and_can_be_helped() {
    drive("health", None, |place| {
        start(
            launch(place)
                .set("delivery.breaker.failures", 3)
                .set("delivery.breaker.min_open_after_seconds", 0)
                // No probe comes by itself while a step looks at its page.
                .set("delivery.breaker.probe_first_seconds", 300),
        )
    });
}

#[test]
fn pages_say_when_the_server_refuses_for_a_while_and_recover() {
    drive("limits", None, |place| {
        start(
            launch(place)
                .set("limits.requests_per_customer_second_max", 10)
                .set("limits.requests_burst_seconds", 2)
                .set("limits.auth_failures_per_address_minute_max", 2)
                .set("limits.sign_ins_per_credential_minute_max", 3),
        )
    });
}

#[test]
fn ten_thousand_endpoints_are_a_page_at_a_time() {
    drive("large", None, |place| {
        start(launch(place).set("limits.endpoints_per_application_max", 20_000))
    });
}

/// Starts `examples/NAME` with its settings and its catalogue, and does the steps named after it.
fn system(name: &str) {
    drive("systems", Some(name), |place| {
        let example = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(name);
        let running = start(
            Launch::new(place.join("data"))
                .config(example.join("config.toml"))
                .set("portal.name", name),
        );
        let server = &running.servers[0];
        let applied = Command::new(env!("CARGO_BIN_EXE_postrider"))
            .arg("apply")
            .arg(example.join("catalogue.toml"))
            .args(["--dev", "--url", &format!("http://{}", server.api.address)])
            .env("POSTRIDER_TOKEN", token(server))
            .current_dir(place)
            .output()
            .expect("the binary can be started");
        assert!(applied.status.success(), "{name}: {applied:?}");
        running
    });
}

/// What a script is given: processes that live as long as it, and variables of its environment.
#[derive(Default)]
struct Running {
    servers: Vec<Server>,
    variables: Vec<(String, String)>,
    /// How the server is started again, where the script asks for that.
    again: Option<Launch>,
}

impl Running {
    /// Stops the server and starts it again, if the script has made a file that asks for it, and
    /// removes that.
    fn restart_if_asked(&mut self, place: &Path) {
        let asked = place.join("restart");
        let Some(launch) = self.again.as_ref().filter(|_| asked.exists()) else {
            return;
        };
        let mut server = self.servers.remove(0);
        server.process.terminate();
        let status = server.process.wait(DONE_WITHIN);
        assert!(status.is_some(), "the server stops");
        self.servers.push(launch.start());
        std::fs::remove_file(asked).expect("the script made it");
    }
}

/// The settings of an operator who has made the portal their own.
fn launch(place: &Path) -> Launch {
    let logo = place.join("logo.svg");
    std::fs::write(&logo, include_bytes!("logo.svg")).expect("our directory can be written");
    Launch::new(place.join("data"))
        .set("portal.name", "Northwind")
        .set("portal.logo_file", logo.display())
        .set("portal.accent_color", "#0f766e")
        .set("portal.profiles", "standard,github,ocrolus,ioffice,okhi")
        // One retry soon, the next when nobody waits for it any more.
        .set("delivery.retry_delays_seconds", "1,3600")
        // Each step signs in with the same token.
        .set("limits.sign_ins_per_credential_minute_max", 1000)
}

fn start(launch: Launch) -> Running {
    let server = launch.start();
    Running {
        variables: vec![
            (
                "SERVER_URL".to_owned(),
                format!("http://{}", server.api.address),
            ),
            ("TOKEN".to_owned(), token(&server)),
        ],
        servers: vec![server],
        again: None,
    }
}

fn token(server: &Server) -> String {
    let text = std::fs::read_to_string(&server.token_path).expect("the token");
    text.trim().to_owned()
}

/// Runs a script to its end, or those of its steps whose names have a word.
fn drive(script: &str, word: Option<&str>, start: impl FnOnce(&Path) -> Running) {
    let tools = tools();
    let name = format!("{script} {}", word.unwrap_or_default());
    let name = name.trim_end();
    if !can_run(&format!("browser, {name}"), missing(&tools)) {
        return;
    }
    // What measures the machine has it alone.
    static MACHINE: RwLock<()> = RwLock::new(());
    let (_alone, _shared) = match script {
        "large" => (
            Some(MACHINE.write().unwrap_or_else(PoisonError::into_inner)),
            None,
        ),
        _ => (
            None,
            Some(MACHINE.read().unwrap_or_else(PoisonError::into_inner)),
        ),
    };
    let directory = scratch();
    let mut running = start(directory.path());

    let output = directory.path().join("output");
    let file = std::fs::File::create(&output).expect("a file in our directory");
    let copy = file.try_clone().expect("a second handle to it");
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let mut command = Command::new("node");
    command
        .arg(suite.join(format!("{script}.mjs")))
        .args(word)
        .envs(running.variables.iter().map(|(name, value)| (name, value)))
        .env("OUTPUT", &tools)
        // Where Chromium's own profiles go, too.
        .env("TMPDIR", directory.path())
        .stdout(file)
        .stderr(copy);
    die_with_parent(&mut command);
    let mut driver = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let status = until(DONE_WITHIN, || {
        running.restart_if_asked(directory.path());
        driver.try_wait().expect("our child can be waited for")
    });
    if status.is_none() {
        let _ = driver.kill();
        let _ = driver.wait();
    }
    let printed = std::fs::read_to_string(&output).expect("what the script printed");
    say(&format!("{name}:\n{printed}"));
    let logs = running.servers.iter().map(|server| server.api.log());
    assert!(
        status.is_some_and(|status| status.success()),
        "{name}: {status:?}; the servers' logs:\n{}",
        logs.collect::<Vec<_>>().join("\n\n")
    );
}

/// Serves, on an origin of its own and until the process ends, a page that holds in a frame the
/// URL that its query is, with `%23` for the `#` that browsers would keep to themselves.
fn frames() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    let address = listener.local_addr().expect("a bound listener");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A browser also opens connections that it does not use.
            std::thread::spawn(move || answer_with_frame(stream));
        }
    });
    address
}

fn answer_with_frame(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        match line? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let target = head.first().and_then(|line| line.split(' ').nth(1));
    let framed = target.and_then(|target| target.strip_prefix("/?"));
    let framed = framed.map(|url| url.replace("%23", "#"));
    let page = match framed {
        Some(url) => format!(
            "<!doctype html><html lang=en><title>A platform</title>\
             <iframe title=Webhooks width=1000 height=700 src=\"{url}\"></iframe>"
        ),
        None => String::new(),
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{page}",
        page.len()
    )
}

/// Where `tests/browser/prepare` installs, and screenshots go.
fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("the target directory").join("browser")
}

fn missing(tools: &Path) -> Option<String> {
    let chromium = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
    if !tools.join("prepared").exists() {
        Some("run tests/browser/prepare, which needs node, npm, python3 and chromium".to_owned())
    } else if !Path::new(&chromium).exists() {
        Some(format!("there is no {}", chromium.display()))
    } else {
        None
    }
}
