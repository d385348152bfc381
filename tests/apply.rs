//! `postrider apply` against the real server: what a file says is there, again changes nothing, and
//! a file that is wrong changes nothing at all.

#[path = "process/mod.rs"]
mod process;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use process::{Launch, Server, scratch, until};
use serde_json::{Value, json};

const EXAMPLES: [&str; 5] = ["ovcode", "ocrolus", "ovation", "ioffice", "okhi"];

const FILE: &str = r#"
[[event_types]]
name = "invoice.paid"
description = "An invoice was paid"

[[event_types]]
name = "invoice.sent"
description = "An invoice was sent"
schemas = '{"1": {"type": "object",  "minProperties": 1}}'

[[applications]]
uid = "acme"
name = "Acme Inc."
metadata = { plan = "gold" }

[[applications.endpoints]]
uid = "books"
url = "http://127.0.0.1:9"
event_types = ["invoice.paid"]
channels = ["eu"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
headers = { X-Region = "eu" }

[[applications.endpoints]]
uid = "audit"
url = "http://127.0.0.1:9/audit"
"#;

#[test]
fn the_shipped_catalogues_are_applied_and_applying_them_again_changes_nothing() {
    for example in EXAMPLES {
        let directory = scratch();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(example);
        let server = Launch::new(directory.path().join("data"))
            .config(folder.join("config.toml"))
            .start();
        let catalogue = folder.join("catalogue.toml");
        let first = succeeds(apply(&server, &catalogue));
        let count = first.lines().count() - 1;
        assert!(first.ends_with(&format!("{count} created, 0 changed, 0 unchanged\n")));
        let again = succeeds(apply(&server, &catalogue));
        assert!(
            again.ends_with(&format!("0 created, 0 changed, {count} unchanged\n")),
            "{example}: {again}"
        );
        let text = std::fs::read_to_string(&catalogue).expect("the catalogue");
        let names = text.matches("[[event_types]]").count();
        let listed = server.api.get("/api/v1/event-type?limit=250");
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(names));
    }
}

#[test]
fn what_the_file_says_is_there_and_only_what_differs_is_written() {
    let (directory, server) = start();
    let file = write(directory.path(), FILE);
    assert_eq!(
        succeeds(apply(&server, &file)),
        "created    event type invoice.paid\n\
         created    event type invoice.sent\n\
         created    application acme\n\
         created    endpoint acme/books\n\
         created    endpoint acme/audit\n\
         5 created, 0 changed, 0 unchanged\n"
    );
    let books = "/api/v1/app/acme/endpoint/books";
    let before = server.api.get(books);
    assert_eq!(before["url"], "http://127.0.0.1:9/");
    assert_eq!(before["eventTypes"], json!(["invoice.paid"]));
    assert_eq!(before["channels"], json!(["eu"]));
    let headers = server.api.get(&format!("{books}/headers"));
    assert_eq!(headers["headers"], json!({"X-Region": "eu"}));

    let again = succeeds(apply(&server, &file));
    assert!(
        again.ends_with("0 created, 0 changed, 5 unchanged\n"),
        "{again}"
    );
    assert_eq!(server.api.get(books), before, "its time, too");

    // One thing of each kind is changed, and one more appears.
    let changed = FILE
        .replace("An invoice was paid", "Somebody paid an invoice")
        .replace("Acme Inc.", "Acme Ltd.")
        .replace("[\"eu\"]", "[\"eu\", \"us\"]")
        .replace("\"eu\" }", "\"us\" }");
    let changed = changed + "\n[[event_types]]\nname = 'invoice.lost'\ndescription = ''\n";
    let file = write(directory.path(), &changed);
    assert_eq!(
        succeeds(apply(&server, &file)),
        "changed    event type invoice.paid: description\n\
         unchanged  event type invoice.sent\n\
         created    event type invoice.lost\n\
         changed    application acme: name\n\
         changed    endpoint acme/books: channels, headers\n\
         unchanged  endpoint acme/audit\n\
         1 created, 3 changed, 2 unchanged\n"
    );
    assert_eq!(server.api.get(books)["channels"], json!(["eu", "us"]));
    assert_eq!(server.api.get(books)["id"], before["id"]);
}

#[test]
fn the_operators_own_endpoints_are_made_and_changed_likewise() {
    let (directory, server) = start();
    let own = "[[operational_endpoints]]\nuid = 'chat'\nurl = 'http://127.0.0.1:9/'\n\
               profile = 'to-slack'\nevent_types = ['endpoint.disabled']\nthrottle_rate = 1\n";
    let file = write(directory.path(), own);
    let created = "created    operational endpoint chat\n1 created, 0 changed, 0 unchanged\n";
    assert_eq!(succeeds(apply(&server, &file)), created);
    let again = succeeds(apply(&server, &file));
    assert!(
        again.ends_with("0 created, 0 changed, 1 unchanged\n"),
        "{again}"
    );
    let file = write(directory.path(), &own.replace("to-slack", "to-discord"));
    let changed = succeeds(apply(&server, &file));
    let expected = "changed    operational endpoint chat: profile\n";
    assert!(changed.starts_with(expected), "{changed}");
    let shown = server.api.get("/api/v1/operational-webhook/endpoint/chat");
    assert_eq!(shown["profile"], "to-discord");
    assert_eq!(shown["throttleRate"], 1);
}

#[test]
fn a_contact_in_the_file_is_answered_for_and_without_one_it_is_left_alone() {
    let (directory, server) = start();
    let plan = "metadata = { plan = \"gold\" }\n";
    let with = |address: &str| FILE.replace(plan, &format!("{plan}contact = \"{address}\"\n"));
    let told = |text: &str| succeeds(apply(&server, &write(directory.path(), text)));
    let first = told(&with("ops@acme.example"));
    assert!(
        first.contains("changed    contact of acme: address"),
        "{first}"
    );
    let contact = "/api/v1/app/acme/contact";
    let shown = server.api.get(contact);
    assert_eq!(
        (&shown["address"], &shown["verified"]),
        (&json!("ops@acme.example"), &json!(true))
    );
    let again = told(&with("ops@acme.example"));
    assert!(again.contains("unchanged  contact of acme\n"), "{again}");
    let changed = told(&with("new@acme.example"));
    assert!(
        changed.contains("changed    contact of acme: address"),
        "{changed}"
    );
    told(FILE);
    assert_eq!(server.api.get(contact)["address"], "new@acme.example");
    let refused = fails(apply(&server, &write(directory.path(), &with("acme"))));
    let place = "applications.0.contact: must be an e-mail address";
    assert!(refused.contains(place), "{refused}");
}

#[test]
fn another_secret_takes_the_place_of_the_old_one_and_none_is_left_as_it_is() {
    let (directory, server) = start();
    succeeds(apply(&server, &write(directory.path(), FILE)));
    let (old, new) = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    );
    let secret = || server.api.get("/api/v1/app/acme/endpoint/books/secret")["key"].clone();
    assert_eq!(secret(), old);
    let file = write(directory.path(), &FILE.replace(old, new));
    let told = succeeds(apply(&server, &file));
    assert!(told.contains("changed    endpoint acme/books: secret\n"));
    assert!(!told.contains("whsec_"), "{told}");
    assert_eq!(secret(), new);
    let without = FILE.replace(&format!("secret = \"{old}\""), "");
    let file = write(directory.path(), &without);
    let told = succeeds(apply(&server, &file));
    assert!(told.ends_with("5 unchanged\n"), "{told}");
    assert_eq!(secret(), new);
}

#[test]
fn an_endpoint_that_its_receiver_disabled_stays_so_until_the_file_enables_it() {
    let receiver = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("http://{}", receiver.local_addr().expect("it is bound"));
    let answering = std::thread::spawn(move || {
        let (mut connection, _) = receiver.accept().expect("a request");
        let mut head = [0; 64];
        connection.read_exact(&mut head).expect("its beginning");
        let gone = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        connection.write_all(gone).expect("it reads the answer");
        // All of the request, so that closing does not break the answer off.
        drop(connection.read(&mut [0; 65_536]));
    });
    let (directory, server) = start();
    let text = FILE.replace(r#""http://127.0.0.1:9""#, &format!("\"{url}\""));
    let of_books = |line: &str| {
        let place = "channels = [\"eu\"]\n";
        write(
            directory.path(),
            &text.replace(place, &format!("{place}{line}\n")),
        )
    };
    succeeds(apply(&server, &of_books("")));
    let message = json!({ "eventType": "invoice.paid", "channels": ["eu"], "payload": {} });
    server
        .api
        .call("POST", "/api/v1/app/acme/msg", &message, 202);
    let books = || server.api.get("/api/v1/app/acme/endpoint/books");
    let is_gone = || (books()["disabledReason"] == "gone").then_some(());
    until(Duration::from_secs(30), is_gone).expect("it is disabled");
    answering.join().expect("it answered");
    let again = succeeds(apply(&server, &of_books("")));
    assert!(again.ends_with("5 unchanged\n"), "{again}");
    let changed = succeeds(apply(&server, &of_books("throttle_rate = 3")));
    assert!(
        changed.contains("changed    endpoint acme/books: throttleRate\n"),
        "{changed}"
    );
    assert_eq!(books()["disabledReason"], "gone");
    let enabled = of_books("throttle_rate = 3\ndisabled = false");
    let changed = succeeds(apply(&server, &enabled));
    assert!(
        changed.contains("changed    endpoint acme/books: disabled\n"),
        "{changed}"
    );
}

#[test]
fn what_the_server_does_not_show_is_sent_again_and_said_so() {
    let (directory, server) = start();
    let text = FILE.replace("X-Region", "X-Api-Key");
    let file = write(directory.path(), &text);
    succeeds(apply(&server, &file));
    let told = succeeds(apply(&server, &file));
    assert!(
        told.contains(
            "unchanged  endpoint acme/books (sent again, because the server does not show it \
             so: headers)\n"
        ),
        "{told}"
    );
}

#[test]
fn each_thing_that_may_not_be_meant_is_warned_of_also_where_nothing_changes() {
    let (directory, server) = start();
    let text = FILE.replace("[\"invoice.paid\"]", "[\"invoice.piad\"]");
    let file = write(directory.path(), &text);
    let warning = "warning:   endpoint acme/books: eventTypes[0]: invoice.piad is not registered\n";
    for outcome in ["created  ", "unchanged"] {
        let told = succeeds(apply(&server, &file));
        let expected = format!("{warning}{outcome}  endpoint acme/books\n");
        assert!(told.contains(&expected), "{told}");
        assert_eq!(told.matches("warning:").count(), 1, "{told}");
    }
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let (directory, server) = start();
    for (find, replace, place) in [
        (
            "schemas",
            "scehmas",
            "event_types.1.scehmas: there is no such setting here",
        ),
        (
            "minProperties\": 1",
            "minProperties\": ",
            "event_types.1.schemas: is not JSON",
        ),
        (
            "uid = \"audit\"",
            "uid = \"books\"",
            "applications.0.endpoints.1.uid: is that of applications.0.endpoints.0, too",
        ),
        (
            "metadata = { plan = \"gold\" }",
            "metadata = { plan = 3 }",
            "applications.0.metadata.plan: must be text in quotes",
        ),
    ] {
        let text = FILE.replace(find, replace);
        assert_ne!(text, FILE);
        let told = fails(apply(&server, &write(directory.path(), &text)));
        assert!(told.contains(place), "{told}");
        assert!(told.contains("nothing was sent"), "{told}");
        for list in ["/api/v1/event-type", "/api/v1/app"] {
            assert_eq!(server.api.get(list)["data"], json!([]));
        }
    }
    let missing = fails(apply(&server, &directory.path().join("none.toml")));
    assert!(missing.contains("cannot read"), "{missing}");
}

#[test]
fn the_first_refusal_ends_it_with_its_reason_and_its_place() {
    let (directory, server) = start();
    let text = FILE.replace("\"http://127.0.0.1:9\"", "\"ftp://127.0.0.1\"");
    let output = apply(&server, &write(directory.path(), &text));
    let done = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(done.ends_with("created    application acme\n"), "{done}");
    let told = fails(output);
    assert_eq!(
        told,
        "postrider: applications.0.endpoints.0 (endpoint acme/books): the server answered 422 \
         Unprocessable Entity: body.url: must be http or https\n"
    );
    let endpoints = server.api.get("/api/v1/app/acme/endpoint");
    assert_eq!(endpoints["data"], json!([]));

    // Once it is right, what is missing follows.
    let told = succeeds(apply(&server, &write(directory.path(), FILE)));
    assert!(
        told.ends_with("2 created, 0 changed, 3 unchanged\n"),
        "{told}"
    );
}

fn start() -> (tempfile::TempDir, Server) {
    let directory = scratch();
    let server = Launch::new(directory.path().join("data")).start();
    let nothing: Value = server.api.get("/api/v1/app")["data"].clone();
    assert_eq!(nothing, json!([]));
    (directory, server)
}

fn write(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("catalogue.toml");
    std::fs::write(&file, text).expect("the directory is ours");
    file
}

fn apply(server: &Server, file: &Path) -> Output {
    let token = std::fs::read_to_string(&server.token_path).expect("the owner's token");
    Command::new(env!("CARGO_BIN_EXE_postrider"))
        .arg("apply")
        .arg(file)
        .args(["--url", &format!("http://{}", server.api.address)])
        .env("POSTRIDER_TOKEN", token.trim())
        .output()
        .expect("the binary runs")
}

#[track_caller]
fn succeeds(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn fails(output: Output) -> String {
    let errors = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{errors}");
    errors
}
