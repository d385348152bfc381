//! `postrider import svix` between two real servers: what the source has is on the target, wherever
//! it is interrupted and however often it runs nothing is there twice, and what cannot come over is
//! named.

#[path = "process/mod.rs"]
mod process;

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use process::receiver::{Receiver, Reply};
use process::{Api, Launch, Server, scratch, until};
use serde_json::{Value, json};
use sha2::Sha256;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

struct Servers {
    directory: tempfile::TempDir,
    source: Server,
    target: Server,
}

impl Servers {
    fn start() -> Servers {
        Servers::start_with(|source| source, |target| target)
    }

    fn start_with(
        source: impl FnOnce(Launch) -> Launch,
        target: impl FnOnce(Launch) -> Launch,
    ) -> Servers {
        let directory = scratch();
        let source = source(Launch::new(directory.path().join("source"))).start();
        let target = target(Launch::new(directory.path().join("target"))).start();
        Servers {
            directory,
            source,
            target,
        }
    }

    fn import(&self) -> Command {
        self.import_from(&format!("http://{}", self.source.api.address))
    }

    fn import_from(&self, source: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        let token = |server: &Server| std::fs::read_to_string(&server.token_path).expect("a token");
        command
            .args(["import", "svix"])
            .args(["--from", source])
            .args(["--url", &format!("http://{}", self.target.api.address)])
            .env("POSTRIDER_FROM_TOKEN", token(&self.source).trim())
            .env("POSTRIDER_TOKEN", token(&self.target).trim())
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.import().args(more).output().expect("the binary runs")
    }

    fn state(&self) -> std::path::PathBuf {
        self.directory.path().join("postrider-import.state")
    }
}

fn post(api: &Api, path: &str, body: Value) -> Value {
    api.call("POST", path, &body, 201)
}

/// One of everything on the source; the endpoint with the secret is its first.
fn fill(source: &Api, url: &str) {
    let schemas = json!({"1": {"type": "object", "required": ["id"]}});
    for body in [
        json!({"name": "invoice.paid", "description": "Paid", "schemas": schemas,
               "featureFlags": ["beta"], "groupName": "invoices"}),
        json!({"name": "invoice.old", "description": "Old", "archived": true}),
    ] {
        post(source, "/api/v1/event-type", body);
    }
    let acme = json!({"name": "Acme", "uid": "acme", "metadata": {"plan": "gold"},
                      "throttleRate": 50});
    post(source, "/api/v1/app", acme);
    let nameless = post(source, "/api/v1/app", json!({"name": "Nameless"}));
    let endpoints = "/api/v1/app/acme/endpoint";
    let books = json!({"url": url, "uid": "books", "description": "The books", "secret": SECRET,
                       "eventTypes": ["invoice.paid"], "channels": ["eu"], "throttleRate": 7,
                       "metadata": {"k": "v"},
                       "headers": {"X-Region": "eu", "X-Api-Key": "hidden"}});
    post(source, endpoints, books);
    let plain = json!({"url": url, "disabled": true, "secret": OTHER_SECRET});
    post(source, endpoints, plain);
    let path = format!("/api/v1/app/{}/endpoint", nameless["id"].as_str().unwrap());
    post(source, &path, json!({"url": format!("{url}nameless")}));
}

/// All there is, without the ids and times that are each server's own.
fn contents(api: &Api) -> Value {
    let list = |path: &str| {
        let mut items = Vec::new();
        let mut place = String::new();
        loop {
            let page = api.get(&format!("{path}limit=250{place}"));
            items.extend(page["data"].as_array().expect("a list").clone());
            if page["done"] != false {
                return items;
            }
            place = format!("&iterator={}", page["iterator"].as_str().expect("a place"));
        }
    };
    let strip = |mut item: Value| {
        for own in ["id", "createdAt", "updatedAt", "disabledAt", "number"] {
            item.as_object_mut().expect("an object").remove(own);
        }
        item
    };
    let applications = list("/api/v1/app?").into_iter().map(|application| {
        let endpoints = format!("/api/v1/app/{}/endpoint", text(&application["id"]));
        let shown = list(&format!("{endpoints}?")).into_iter().map(|endpoint| {
            let path = format!("{endpoints}/{}", text(&endpoint["id"]));
            let headers = api.get(&format!("{path}/headers"))["headers"].clone();
            let secret = api.get(&format!("{path}/secret"));
            json!([strip(endpoint), headers, secret["key"]])
        });
        let mut shown: Vec<Value> = shown.collect();
        shown.sort_by_key(Value::to_string);
        json!([strip(application), shown])
    });
    let mut applications: Vec<Value> = applications.collect();
    applications.sort_by_key(Value::to_string);
    let types = list("/api/v1/event-type?with_content=true&include_archived=true&");
    let types: Vec<Value> = types.into_iter().map(strip).collect();
    json!({"applications": applications, "types": types})
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[track_caller]
fn succeeds(output: &Output) -> (String, String) {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), errors)
}

#[test]
fn what_the_source_has_is_on_the_target_and_what_it_hides_is_named() {
    let servers = Servers::start();
    let (source, target) = (&servers.source.api, &servers.target.api);
    fill(source, "http://127.0.0.1:9/");
    let nothing = contents(target);
    let (told, _) = succeeds(&servers.run(&["--dry-run"]));
    assert!(
        told.ends_with("would import 2 event types, 2 applications, 3 endpoints\n"),
        "{told}"
    );
    assert_eq!(contents(target), nothing);
    assert!(!servers.state().exists());

    let (told, warnings) = succeeds(&servers.run(&[]));
    assert!(
        told.ends_with("went through 2 event types, 2 applications, 3 endpoints\n"),
        "{told}"
    );
    assert!(
        warnings.contains(
            "WARNING: endpoint books of application acme: the source does not show these \
             headers, set them by hand: X-Api-Key"
        ),
        "{warnings}"
    );
    for secret in [SECRET, OTHER_SECRET, "hidden"] {
        assert!(!warnings.contains(secret) && !told.contains(secret));
        let state = std::fs::read_to_string(servers.state()).expect("the state");
        assert!(!state.contains(secret));
    }
    assert_eq!(contents(target), contents(source));

    let (told, _) = succeeds(&servers.run(&[]));
    assert!(
        told.ends_with(
            "3 endpoints; 5 of the applications and endpoints were there already and were brought \
             up to date\n"
        ),
        "{told}"
    );

    // What was set by hand stays, and what changed at the source comes over, to the same things.
    let books = "/api/v1/app/acme/endpoint/books";
    let id = target.get(books)["id"].clone();
    let by_hand = json!({"headers": {"X-Api-Key": "by hand"}});
    target.call("PATCH", &format!("{books}/headers"), &by_hand, 204);
    source.call("PATCH", books, &json!({"description": "New"}), 200);
    let rotated = json!({"key": OTHER_SECRET, "gracePeriodSeconds": 0});
    source.call("POST", &format!("{books}/secret/rotate"), &rotated, 200);
    succeeds(&servers.run(&[]));
    assert_eq!(contents(target), contents(source));
    assert_eq!(target.get(books)["id"], id);
    let headers = target.get(&format!("{books}/headers"));
    assert_eq!(headers["sensitive"], json!(["X-Api-Key"]));

    // Without its state things are found by their uid.
    std::fs::remove_file(servers.state()).expect("the state");
    succeeds(&servers.run(&[]));
    assert_eq!(target.get(books)["id"], id);
    let applications = &target.get("/api/v1/app")["data"];
    assert_eq!(
        applications.as_array().map(Vec::len),
        Some(3),
        "the nameless one again"
    );
}

#[test]
fn the_receiver_goes_on_with_the_secret_that_it_knows() {
    let servers = Servers::start();
    let (sender, received) = mpsc::channel();
    let receiver = Receiver::start(move |request| {
        let signed = |name: &str| request.header(name).unwrap_or_default().to_owned();
        let message = format!("{}.{}.", signed("webhook-id"), signed("webhook-timestamp"));
        let content = [message.as_bytes(), request.body].concat();
        sender
            .send((content, signed("webhook-signature")))
            .expect("the test waits");
        Reply::Status(200)
    });
    fill(
        &servers.source.api,
        &format!("http://{}/", receiver.address),
    );
    succeeds(&servers.run(&[]));
    let message = json!({"eventType": "invoice.paid", "channels": ["eu"], "payload": {"id": 1}});
    let path = "/api/v1/app/acme/msg";
    servers.target.api.call("POST", path, &message, 202);
    let (content, signature) = received
        .recv_timeout(Duration::from_secs(60))
        .expect("the receiver is called");
    let key = STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key");
    mac.update(&content);
    let expected = STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(signature, format!("v1,{expected}"));
}

#[test]
fn killed_at_any_time_and_run_again_nothing_is_there_twice() {
    const APPLICATIONS: usize = 30;
    let servers = Servers::start();
    let source = &servers.source.api;
    for number in 0..APPLICATIONS {
        // Without a uid, so that only the state and the keys of requests tell what came over.
        let application = post(source, "/api/v1/app", json!({"name": format!("{number}")}));
        let path = format!("/api/v1/app/{}/endpoint", text(&application["id"]));
        for place in 0..2 {
            let url = format!("http://127.0.0.1:9/{number}/{place}");
            post(source, &path, json!({ "url": url }));
        }
    }
    let lines = || {
        let state = std::fs::read_to_string(servers.state()).unwrap_or_default();
        state.lines().count()
    };
    for more in [3, 25, 40] {
        let before = lines();
        let mut import = servers
            .import()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        until(Duration::from_secs(60), || {
            (lines() >= before + more).then_some(())
        })
        .expect("it comes on");
        import.kill().expect("it runs or has ended");
        import.wait().expect("our child");
        let state = std::fs::read_to_string(servers.state()).expect("the state");
        assert!(!state.contains("ended"), "it was killed in its middle");
        // A kill may as well come between what the target did and the line about it.
        let last = state.trim_end().rfind('\n').expect("two lines") + 4;
        std::fs::write(servers.state(), &state[..last]).expect("the state");
    }
    let (told, _) = succeeds(&servers.run(&[]));
    assert!(!told.contains(" 0 had come over"), "{told}");
    let expected = contents(source);
    assert_eq!(contents(&servers.target.api), expected);
    succeeds(&servers.run(&[]));
    assert_eq!(contents(&servers.target.api), expected);
}

#[test]
fn what_the_target_does_not_take_is_named_and_the_rest_comes_over() {
    // The source takes any text for a secret.
    let servers = Servers::start_with(
        |source| source.set("delivery.default_profile", "github"),
        |target| target.set("limits.url_bytes", 64),
    );
    let source = &servers.source.api;
    fill(source, "http://127.0.0.1:9/");
    let long = format!("http://127.0.0.1:9/{}", "x".repeat(100));
    post(
        source,
        "/api/v1/app/acme/endpoint",
        json!({"url": long, "uid": "long"}),
    );
    let odd = json!({"url": "http://127.0.0.1:9/", "uid": "odd", "secret": "just a text"});
    post(source, "/api/v1/app/acme/endpoint", odd);
    let output = servers.run(&[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let odd = "WARNING: endpoint odd of application acme: its secret is not the source's";
    assert!(errors.contains(odd), "{errors}");
    assert!(!errors.contains("just a text"), "{errors}");
    assert!(
        errors.contains("NOT IMPORTED: endpoint long of application acme: the server answered 422"),
        "{errors}"
    );
    assert!(errors.ends_with(
        "postrider: 1 of these could not be imported; what is said above has the reasons\n"
    ));
    let endpoints = &servers.target.api.get("/api/v1/app/acme/endpoint")["data"];
    assert_eq!(endpoints.as_array().map(Vec::len), Some(3));
}

#[test]
fn a_source_that_says_nothing_is_waited_for_aloud_until_it_is_interrupted() {
    let servers = Servers::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let from = format!("http://{}", silent.local_addr().expect("it has one"));
    let mut import = servers.import_from(&from);
    import
        .args(["--timeout-seconds", "3"])
        .stderr(Stdio::piped());
    // What is started in the background by a script ignores the signal, and so does all that it starts.
    // SAFETY: signal(2) may be called between fork and exec.
    unsafe {
        import.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    let mut import = import.spawn().expect("the binary runs");
    let (sender, lines) = mpsc::channel();
    let errors = BufReader::new(import.stderr.take().expect("it is piped"));
    std::thread::spawn(move || {
        for line in errors.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let next = || {
        let line = lines.recv_timeout(Duration::from_secs(60));
        line.expect("it says what it does")
    };
    let told = next();
    let expected =
        format!("postrider: source: waiting for an answer of {from}, for 1 s more at most");
    assert!(told.starts_with(&expected), "{told}");
    let told = next();
    assert!(told.contains("did not answer within 3 s"), "{told}");
    assert!(
        told.contains("asking again in 0.5 s, and up to 9 times within "),
        "{told}"
    );
    let process = libc::pid_t::try_from(import.id()).expect("a pid");
    // SAFETY: it is our child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(process, libc::SIGINT) }, 0);
    let ended = until(Duration::from_secs(30), || {
        import.try_wait().expect("it is ours")
    });
    let ended = ended.expect("it ends");
    assert_eq!(ended.signal(), Some(libc::SIGINT));
    drop(silent);
}

#[test]
fn a_mistake_is_one_line_with_its_exit_code() {
    let servers = Servers::start();
    let code = |output: &Output| {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), errors)
    };
    let run = |change: &dyn Fn(&mut Command)| {
        let mut command = servers.import();
        change(&mut command);
        code(&command.output().expect("the binary runs"))
    };
    let (status, told) = run(&|command| {
        command.env_remove("POSTRIDER_FROM_TOKEN");
    });
    assert_eq!(status, Some(2), "{told}");
    assert!(told.contains("--from-token"), "{told}");
    let (status, told) = run(&|command| {
        command.env("POSTRIDER_FROM_TOKEN", "wrong");
    });
    assert_eq!(status, Some(1), "{told}");
    assert!(
        told.contains("postrider: source: the server answered 401"),
        "{told}"
    );
    let (status, told) = run(&|command| {
        command.env("POSTRIDER_TOKEN", "wrong");
    });
    assert_eq!(status, Some(0), "nothing to import: {told}");

    let file = servers.directory.path().join("notes");
    std::fs::write(&file, "my notes").expect("the directory is ours");
    let (status, told) = run(&|command| {
        command.args([Path::new("--state"), &file]);
    });
    assert_eq!(status, Some(1), "{told}");
    assert!(told.contains("is not the state of an import"), "{told}");
    assert_eq!(
        std::fs::read_to_string(&file).expect("it is there"),
        "my notes"
    );
}
