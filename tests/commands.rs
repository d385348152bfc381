//! Commands of the real binary beside the server: what they say of settings and servers.

#[path = "process/mod.rs"]
mod process;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use process::{Launch, scratch};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::json;

fn run(directory: &tempfile::TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTRIDER") {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(directory.path());
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_names_the_file_of_each_value_and_leaves_out_the_defaults() {
    let directory = scratch();
    let file = directory.path().join("mine.toml");
    std::fs::write(&file, "[server]\nworkers = 3\n").unwrap();
    let name = file.to_str().unwrap();
    let printed = text(&run(&directory, &["check", "--config", name]).stdout);
    let (first, rest) = printed.split_once('\n').unwrap();
    assert!(
        first.contains("settings from") && first.contains("mine.toml"),
        "{first}"
    );
    assert_eq!(rest, format!("\n[server]\nworkers = 3 # from {name}\n"));
    let all = text(&run(&directory, &["check", "--all", "--config", name]).stdout);
    assert!(
        all.contains("\nretention_days = 30\n") && all.contains("[profiles.okhi]"),
        "{all}"
    );
}

#[test]
fn each_mistake_in_the_settings_is_a_line_of_its_own() {
    let directory = scratch();
    let file = directory.path().join("mine.toml");
    let wrong = "[delivery]\njitter = 2\n\n[server]\nworkers = 'a'\n";
    std::fs::write(&file, wrong).unwrap();
    let name = file.to_str().unwrap();
    for command in [&["check", "--config", name][..], &["--config", name]] {
        let refused = run(&directory, command);
        assert_eq!(refused.status.code(), Some(1), "{command:?}");
        let told = text(&refused.stderr);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 2, "{told}");
        for setting in ["delivery.jitter", "server.workers"] {
            let start = format!("postrider: {setting}: ");
            let found = lines.iter().filter(|line| line.starts_with(&start));
            assert_eq!(found.count(), 1, "{told}");
        }
    }
}

#[test]
fn commands_reach_a_server_over_https_that_a_file_vouches_for() {
    let directory = scratch();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, certified.cert.pem()).unwrap();
    let certificate = CertificateDer::from(certified.cert.der().to_vec());
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let mut connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let mut request = [0; 4096];
            // A client that does not trust us ends it here.
            if tls.read(&mut request).is_ok() {
                let body = r#"{"data":[{"id":"tok_over_tls"}],"done":true,"iterator":null}"#;
                let _ = write!(
                    tls,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        }
    });
    let url = format!("https://localhost:{port}");
    let list = ["token", "list", "--token", "t", "--url", &url];
    let trusted = run(
        &directory,
        &[&list[..], &["--ca-file", file.to_str().unwrap()]].concat(),
    );
    assert!(
        text(&trusted.stdout).starts_with("tok_over_tls "),
        "{}",
        text(&trusted.stderr)
    );
    let refused = run(&directory, &list);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    let told = text(&refused.stderr);
    assert!(
        told.contains("The issuer of the server's certificate is unknown"),
        "{told}"
    );
}

#[test]
fn what_is_missing_or_misspelled_is_said_with_what_would_do() {
    let directory = scratch();
    for (arguments, expected) in [
        (
            &["token", "create", "--name", "n", "--expires-at", "tomorrow"][..],
            "a date and time such as 2026-01-31T08:00:00Z",
        ),
        (&["token", "grant", "tok_x"], "--application"),
        (&["token", "revoke-grant", "tok_x"], "--application"),
        (
            &["token", "grant", "tok_x", "ep_x", "--application", "a"],
            "cannot be used with",
        ),
    ] {
        let output = run(&directory, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = text(&output.stderr);
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
}

#[test]
fn the_log_names_no_token_file_that_a_restore_did_not_write() {
    let directory = scratch();
    let old = directory.path().join("old");
    let launch = Launch::new(&old);
    let mut server = launch.start();
    let app = json!({ "name": "app", "uid": "app" });
    server.api.call("POST", "/api/v1/app", &app, 201);
    server.process.terminate();
    assert!(
        server
            .process
            .wait(Duration::from_secs(30))
            .is_some_and(|status| status.success())
    );
    let settings = directory.path().join("new.toml");
    let new = directory.path().join("new");
    std::fs::write(&settings, format!("[store]\npath = '{}'\n", new.display())).unwrap();
    let export = old.join("export.json");
    let restore = ["restore", "--from", export.to_str().unwrap()];
    let config = ["--config", settings.to_str().unwrap()];
    let restored = run(&directory, &[&restore[..], &config[..]].concat());
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let mut process = Launch::new(&new).spawn();
    let log = process::until(Duration::from_secs(30), || {
        let log = process.log();
        log.contains("listening on").then_some(log)
    });
    let log = log.expect("it starts");
    assert!(!log.contains("the owner's token is in"), "{log}");
    assert!(log.contains("postrider token reset-owner"), "{log}");
    process.terminate();
    process.wait(Duration::from_secs(30)).expect("it stops");
}

#[test]
fn a_restore_with_hold_says_that_nothing_is_sent_and_how_to_release() {
    let within = Duration::from_secs(30);
    let directory = scratch();
    let (old, copy) = (directory.path().join("old"), directory.path().join("copy"));
    let launch = Launch::new(&old)
        .set("backup.to", copy.display())
        .set("backup.every_seconds", 1);
    let mut server = launch.start();
    let app = json!({ "name": "app", "uid": "app" });
    server.api.call("POST", "/api/v1/app", &app, 201);
    let endpoint = json!({ "url": "http://127.0.0.1:9/", "uid": "books" });
    let endpoints = "/api/v1/app/app/endpoint";
    server.api.call("POST", endpoints, &endpoint, 201);
    let copied = process::until(within, || {
        let status = server.api.get("/api/v1/status");
        let is_whole = status["backup"]["lagSeconds"] == 0.0;
        let folders = std::fs::read_dir(&copy).into_iter().flatten().flatten();
        let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok());
        let mut names = files.flatten().flatten().map(|file| file.file_name());
        let has_checkpoint = names.any(|name| name.to_string_lossy().starts_with("checkpoint-"));
        (is_whole && has_checkpoint).then_some(())
    });
    copied.expect("the store is copied");
    let token = std::fs::read_to_string(old.join("owner.token")).unwrap();
    let token = token.trim();
    server.process.terminate();
    assert!(server.process.wait(within).is_some_and(|one| one.success()));

    let export = old.join("export.json");
    for (from, to) in [(&copy, "of-copy"), (&export, "of-export")] {
        let to = directory.path().join(to);
        let from = from.to_str().unwrap();
        let command = [
            "restore",
            "--hold",
            "--from",
            from,
            "--to",
            to.to_str().unwrap(),
        ];
        let restored = run(&directory, &command);
        let said = text(&restored.stdout);
        assert!(restored.status.success(), "{}", text(&restored.stderr));
        let last: Vec<&str> = said.lines().rev().take(2).collect();
        let expected = [
            "look first; then release an endpoint, an application or all, in the console or with POST /api/v1/release",
            "all endpoints are held (1): the server takes messages and sends nothing until they are released",
        ];
        assert_eq!(last, expected, "{said}");
        assert!(!said.contains("goes on delivering"), "{said}");
        let launch = Launch::new(&to);
        let mut server = launch
            .try_start(|| token.to_owned())
            .unwrap_or_else(|(why, process)| panic!("it {why}: {}", process.log()));
        let shown = server.api.get(&format!("{endpoints}/books"));
        assert_eq!(shown["hold"]["reason"], "restored", "{shown}");
        server.process.terminate();
        server.process.wait(within).expect("it stops");
    }
    let both = [
        "restore",
        "--hold",
        "--dry-run",
        "--from",
        copy.to_str().unwrap(),
    ];
    assert_eq!(run(&directory, &both).status.code(), Some(2));
}

/// What a server does that a command should not wait for.
#[derive(Clone, Copy, Debug)]
enum Misbehaviour {
    /// Takes the request and says nothing.
    Silent,
    /// Sends a byte of its head now and then.
    DripsHead,
    /// Sends a byte of its body now and then.
    DripsBody,
    /// Sends a body as fast as it is taken.
    Floods,
    /// Says that there are more pages, and what they hold is always new.
    Lists,
}

/// A server on loopback that answers everything in this way; its address.
fn misbehaving(how: Misbehaviour) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut talks = 0;
        for talk in listener.incoming() {
            let Ok(talk) = talk else { return };
            talks += 1_000_000;
            std::thread::spawn(move || answer_badly(talk, how, talks));
        }
    });
    format!("http://{address}")
}

/// Ends when the other side has gone.
fn answer_badly(mut talk: std::net::TcpStream, how: Misbehaviour, first: u64) -> Option<()> {
    const PACE: Duration = Duration::from_millis(50);
    let mut buffer = [0; 4096];
    talk.read(&mut buffer).ok().filter(|count| *count > 0)?;
    let long_body = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
    match how {
        Misbehaviour::Silent => while talk.read(&mut buffer).ok()? > 0 {},
        Misbehaviour::DripsHead | Misbehaviour::DripsBody => {
            let start = match how {
                Misbehaviour::DripsHead => "HTTP/1.1 200 OK\r\nx: ",
                _ => long_body,
            };
            talk.write_all(start.as_bytes()).ok()?;
            talk.set_read_timeout(Some(PACE)).ok()?;
            // Waits for the other side's end, for a moment each time.
            while !matches!(talk.read(&mut buffer), Ok(0)) {
                talk.write_all(b"x").ok()?;
            }
        }
        Misbehaviour::Floods => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            talk.write_all(head.as_bytes()).ok()?;
            let chunk = [b"10000\r\n", &[b' '; 0x10000][..], b"\r\n"].concat();
            while talk.write_all(&chunk).is_ok() {}
        }
        Misbehaviour::Lists => {
            for number in first.. {
                let body = format!(
                    r#"{{"data":[{{"id":"tok_{number}","name":"a{number}"}}],"done":false,"iterator":"{number}"}}"#
                );
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                talk.write_all(format!("{head}{body}").as_bytes()).ok()?;
                talk.read(&mut buffer).ok().filter(|count| *count > 0)?;
            }
        }
    }
    Some(())
}

#[test]
fn commands_come_to_an_end_whatever_the_server_does() {
    let directory = scratch();
    let things = directory.path().join("things.toml");
    std::fs::write(
        &things,
        "[[event_types]]\nname = \"invoice.paid\"\ndescription = \"Paid\"\n",
    )
    .unwrap();
    let list: &[&str] = &["token", "list"];
    let apply = ["apply", things.to_str().unwrap()];
    for (how, expected) in [
        (Misbehaviour::Silent, "did not answer within 1 s"),
        (Misbehaviour::DripsHead, "did not answer within 1 s"),
        (Misbehaviour::DripsBody, "did not answer within 1 s"),
        (Misbehaviour::Floods, "broke off"),
    ] {
        let url = misbehaving(how);
        // What a flood says is over long before it is taken.
        let seconds = if matches!(how, Misbehaviour::Floods) {
            "600"
        } else {
            "1"
        };
        let server = ["--token", "t", "--url", &url, "--timeout-seconds", seconds];
        for command in [list, &apply] {
            let output = run(&directory, &[command, &server[..]].concat());
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{how:?} {command:?}: {told}");
            assert!(told.contains(expected), "{how:?} {command:?}: {told}");
        }
    }
}

#[test]
fn an_import_from_a_source_without_an_end_ends_and_says_so() {
    let directory = scratch();
    for how in [
        Misbehaviour::Silent,
        Misbehaviour::DripsBody,
        Misbehaviour::Lists,
    ] {
        let url = misbehaving(how);
        let import = [
            "import",
            "svix",
            "--dry-run",
            "--from",
            &url,
            "--from-token",
            "t",
        ];
        let target = ["--token", "t", "--url", &url, "--time-limit-seconds", "1"];
        let output = run(&directory, &[&import[..], &target].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{how:?}: {told}");
        assert!(
            told.ends_with(
                "postrider: the import did not end within 1 s: run it again to go on where it was, \
                 or give it longer with --time-limit-seconds\n"
            ),
            "{how:?}: {told}"
        );
    }
}

#[test]
fn urls_of_servers_that_cannot_be_called_are_told_at_once() {
    let directory = scratch();
    for (url, expected) in [
        ("a.test", "must be an absolute URL"),
        ("http://a{b}.test", "has a host with '{'"),
        ("http://u:p@a.test", "may not have a user name"),
        ("http://a.test/?x", "may not have a query"),
    ] {
        let output = run(&directory, &["token", "list", "--token", "t", "--url", url]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("--url {expected}")), "{told}");
    }
}

/// Each request of a sender that never ends is answered, and forgotten.
#[test]
fn the_test_receiver_answers_bodies_without_an_end() {
    let directory = scratch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.args([
        "sink",
        "--listen",
        "127.0.0.1:0",
        "--quiet",
        "--read-timeout-seconds",
        "1",
    ]);
    command.current_dir(directory.path());
    let mut sink = Sink(
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut told = std::io::BufReader::new(sink.0.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut told, &mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap();
    for (head, body, expected) in [
        // It waits for the rest of the body.
        ("content-length: 10", "x", "HTTP/1.1 408 "),
        ("content-length: 100000000", "", "HTTP/1.1 4"),
        ("content-length: 1", "x", "HTTP/1.1 200 "),
    ] {
        let mut talk = std::net::TcpStream::connect(address).unwrap();
        talk.set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        write!(talk, "POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{body}").unwrap();
        let mut answer = [0; 13];
        talk.read_exact(&mut answer).unwrap();
        let answer = text(&answer);
        assert!(answer.starts_with(expected), "{head}: {answer}");
    }
    // One that sends without an end.
    let mut talk = std::net::TcpStream::connect(address).unwrap();
    talk.set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    talk.set_write_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    talk.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while talk.write_all(&chunk).is_ok() {
        assert!(std::time::Instant::now() < deadline, "it has no end");
    }
}

/// Ended with the test.
struct Sink(std::process::Child);

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A live database that cannot be opened, by the command and by a start.
#[test]
fn a_damaged_live_database_is_made_anew_and_everything_is_there() {
    const MESSAGES: usize = 5;
    let directory = scratch();
    let data = directory.path().join("data");
    let launch = Launch::new(&data);
    let mut server = launch.start();
    let app = json!({ "name": "app", "uid": "app" });
    server.api.call("POST", "/api/v1/app", &app, 201);
    let endpoint = json!({ "url": "https://example.com/", "disabled": true });
    let endpoints = "/api/v1/app/app/endpoint";
    server.api.call("POST", endpoints, &endpoint, 201);
    let is_written = || data.join("checkpoint").exists().then_some(());
    process::until(Duration::from_secs(60), is_written).expect("a checkpoint file is written");
    for number in 0..MESSAGES {
        let message = json!({ "eventType": "a", "payload": { "number": number } });
        server
            .api
            .call("POST", "/api/v1/app/app/msg", &message, 202);
    }
    let settings = directory.path().join("mine.toml");
    std::fs::write(&settings, format!("[store]\npath = '{}'\n", data.display())).unwrap();
    let rebuild = || {
        run(
            &directory,
            &["rebuild", "--config", settings.to_str().unwrap()],
        )
    };
    let refused = rebuild();
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    assert!(told.contains("in use by another postrider"), "{told}");

    server.process.kill();
    std::fs::remove_file(data.join("live/db")).unwrap();
    let rebuilt = rebuild();
    assert!(rebuilt.status.success(), "{}", text(&rebuilt.stderr));
    let told = text(&rebuilt.stdout);
    assert!(told.contains("waiting deliveries"), "{told}");
    assert!(
        told.contains(" 5\n") && !told.contains("damaged:"),
        "{told}"
    );
    assert!(
        told.contains("live.damaged-") && told.contains("start the server"),
        "{told}"
    );
    let has_all = |server: &process::Server| {
        let messages = server.api.get("/api/v1/app/app/msg");
        assert_eq!(messages["data"].as_array().unwrap().len(), MESSAGES);
        let status = server.api.get("/api/v1/status");
        assert_eq!(status["held"], MESSAGES, "{status}");
        status
    };
    let mut server = launch.start();
    let status = has_all(&server);
    assert!(!status.to_string().contains("store_damaged"), "{status}");

    server.process.kill();
    std::fs::remove_dir_all(data.join("live")).unwrap();
    let server = launch.start();
    let status = has_all(&server);
    assert!(status.to_string().contains("store_damaged"), "{status}");
    let log = server.process.log();
    assert!(log.contains("the live database was made anew"), "{log}");
}
