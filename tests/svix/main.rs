//! The official Svix SDKs, unchanged but for the server's URL, against the real binary.
//!
//! Each test starts a server of its own and lets a script drive every resource with an SDK:
//! `drive.py` with the newest for Python, `drive.mjs` with the newest for JavaScript, `rust/` with
//! the newest for Rust, and `older.py` with one of those that the contract was written for. The
//! scripts have a receiver of their own and check what arrives there with the SDK's own
//! `Webhook.verify`. They print a line a step. `inputs.py` reads from the installed SDKs what they can
//! send (`sdk.py`) and holds all of it against the server.
//!
//! `tests/svix/prepare` installs the SDKs under `target/svix`: skipped with a loud line where that
//! was not done, a failure under `CI=true`.

#[path = "../process/mod.rs"]
mod process;
mod proxy;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use process::{Launch, can_run, die_with_parent, say, scratch};
use proxy::Proxy;
use serde_json::{Value, json};

/// For a whole script; most of its time is spent waiting for retries.
const DONE_WITHIN: Duration = Duration::from_secs(300);

#[test]
fn the_newest_python_sdk_drives_every_resource() {
    drive("python", &["venv/bin/python3", "drive.py"], 3);
}

#[test]
fn the_newest_javascript_sdk_drives_every_resource() {
    drive("javascript", &["node", "drive.mjs"], 2);
}

#[test]
fn the_newest_rust_sdk_drives_every_resource() {
    drive("rust", &["../svix-rust/debug/drive"], 2);
}

/// Every call, query option and field of all of them, read from what is installed.
#[test]
fn every_input_of_the_sdks_is_implemented_refused_or_ignored_with_a_reason() {
    drive("inputs", &["venv/bin/python3", "inputs.py"], 0);
}

#[test]
fn an_older_python_sdk_still_works() {
    drive("older python", &["venv-older/bin/python3", "older.py"], 1);
}

/// As they stand there, but for the server's URL and the token.
#[test]
fn the_samples_of_the_page_publish() {
    let tools = tools();
    if !can_run("svix, the page's samples", missing(&tools)) {
        return;
    }
    let directory = scratch();
    let server = Launch::new(directory.path().join("data")).start();
    let token = std::fs::read_to_string(&server.token_path).expect("the token");
    let application = json!({ "name": "Acme", "uid": "acme" });
    server.api.call("POST", "/api/v1/app", &application, 201);

    let page = include_str!("../../docs/svix.md");
    let sample = |language: &str| {
        let (_, rest) = page
            .split_once(&format!("```{language}\n"))
            .unwrap_or_else(|| panic!("no sample in {language}"));
        let text = rest.split("```").next().expect("the rest has a beginning");
        text.replace(
            "http://127.0.0.1:8071",
            &format!("http://{}", server.api.address),
        )
        .replace("TOKEN", token.trim())
    };
    // What is compiled is compared with its file instead of running.
    let compiled = include_str!("rust/src/bin/sample.rs");
    assert!(page.contains(&format!("```rust\n{compiled}```")));
    for (language, words) in [
        ("python", vec!["venv/bin/python3", "-c"]),
        ("javascript", vec!["node", "--input-type=module", "-e"]),
        ("sh", vec!["bash", "-c"]),
    ] {
        let own = tools.join(words[0]);
        let mut command = Command::new(if own.exists() { own } else { words[0].into() });
        command.args(&words[1..]).arg(sample(language));
        let output = command
            .current_dir(&tools)
            .output()
            .expect("it can be started");
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains("msg_"), "{language}: {printed}{complaint}");
    }
    let listed = server.api.get("/api/v1/app/acme/msg");
    let payloads = listed["data"].as_array().expect("a list of messages");
    let ids: Vec<&Value> = payloads.iter().map(|one| &one["payload"]["id"]).collect();
    assert_eq!(ids, [4, 2, 1]);
}

/// Runs one of the scripts to its end. `lost` is the number of answers that its SDK must at least
/// have lost and asked for again.
fn drive(name: &str, words: &[&str], lost: usize) {
    let tools = tools();
    if !can_run(&format!("svix, {name}"), missing(&tools)) {
        return;
    }
    let directory = scratch();
    // One retry, soon: the scripts wait for deliveries that have failed for good.
    let launch =
        Launch::new(directory.path().join("data")).set("delivery.retry_delays_seconds", "1");
    let mut server = launch.start();
    let address = server.api.address;
    let (restart, restarts) = mpsc::channel();
    let proxy = Proxy::start(address, restart);

    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/svix");
    let own = tools.join(words[0]);
    let mut command = Command::new(if own.exists() { own } else { words[0].into() });
    command.args(words[1..].iter().map(|script| suite.join(script)));
    let output = directory.path().join("output");
    let file = std::fs::File::create(&output).expect("a file in our directory");
    let copy = file.try_clone().expect("a second handle to it");
    command
        .current_dir(&tools)
        .env("SERVER_URL", format!("http://{address}"))
        .env("LOSING_URL", format!("http://{}", proxy.address))
        .env(
            "TOKEN",
            std::fs::read_to_string(&server.token_path)
                .expect("the token")
                .trim(),
        )
        .env("MODULES", tools.join("package.json"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(file)
        .stderr(copy);
    die_with_parent(&mut command);
    let mut script = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));

    let deadline = Instant::now() + DONE_WITHIN;
    let status = loop {
        if let Some(status) = script.try_wait().expect("our child can be waited for") {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        // Here and not in the proxy: a server ends with the thread that started it.
        match restarts.recv_timeout(Duration::from_millis(20)) {
            Ok(restarted) => {
                server.process.kill();
                server = launch.clone().set("server.listen", address).start();
                restarted.send(()).expect("the proxy waits for it");
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => unreachable!("the proxy holds the other end"),
        }
    };
    if status.is_none() {
        let _ = script.kill();
        let _ = script.wait();
    }
    let printed = std::fs::read_to_string(&output).expect("what the script printed");
    say(&format!("{name}:\n{printed}"));
    assert!(
        status.is_some_and(|status| status.success()),
        "{name}: {status:?}; the server's log:\n{}",
        server.api.log()
    );
    let repeated = proxy.repeated();
    assert!(
        repeated >= lost,
        "{name} repeated {repeated} of its requests, not {lost}"
    );
}

/// Where `tests/svix/prepare` installs.
fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("the target directory").join("svix")
}

fn missing(tools: &Path) -> Option<String> {
    (!tools.join("prepared").exists())
        .then(|| "run tests/svix/prepare, which needs node, npm, python3 and cargo".to_owned())
}
