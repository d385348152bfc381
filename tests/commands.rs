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
