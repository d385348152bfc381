//! The API against its own OpenAPI document.
//!
//! `schemathesis` reads `/openapi.json` of a real server and makes thousands of requests of it, right
//! and wrong ones, by itself and in sequences. Every answer must be one that the document has: its
//! status, its content type, its headers, its body; a wrong request must be refused, and nothing may
//! be a failure of the server. The choices are the same in every run.
//!
//! `tests/schemathesis/prepare` installs it under `target/schemathesis`: skipped with a loud line
//! where that was not done, a failure under `CI=true`.

#[path = "../process/mod.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use process::receiver::{Receiver, Reply};
use process::{Api, Launch, can_run, die_with_parent, scratch, until};
use serde_json::json;

/// Some minutes on two cores that have something else to do as well.
const DONE_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Requests made up for each operation, beside those that try out each of its limits.
const EXAMPLES: &str = "8";

/// Left out: a right request may be refused for what the document cannot say, such as an address
/// that may not be sent to.
const CHECKS_LEFT_OUT: &str = "positive_data_acceptance";

/// What would end the credentials that the run is made with.
const OPERATIONS_LEFT_OUT: [&str; 1] = ["v1.token.delete"];

#[test]
fn every_answer_is_as_the_document_says() {
    let tools = tools();
    if !can_run("schemathesis", missing(&tools)) {
        return;
    }
    let receiver = Receiver::start(|_| Reply::Status(200));
    let directory = scratch();
    // Many requests of the suite have no valid credential on purpose, and it need not wait for each.
    let server = Launch::new(directory.path().join("data"))
        .set("limits.auth_failures_per_address_minute_max", 1_000_000)
        .set(
            "limits.auth_failures_per_token_prefix_minute_max",
            1_000_000,
        )
        .start();
    let account = register(&server.api, &receiver);
    let id_at = |path: &str| {
        server.api.get(path)["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let application = id_at("/api/v1/app/acme");
    let endpoint = id_at("/api/v1/app/acme/endpoint/hook");
    let owner = std::fs::read_to_string(&server.token_path).expect("the owner's token");

    let document = server.api.get("/openapi.json");
    let copy = directory.path().join("openapi.json");
    std::fs::write(&copy, document.to_string()).expect("a file in a directory of ours");
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    let mut valid = Command::new(tools.join("venv/bin/python3"));
    valid.arg(suite.join("valid.py")).arg(&copy);
    run(&mut valid, "the document is not valid OpenAPI 3.1");

    let mut command = Command::new(tools.join("venv/bin/schemathesis"));
    command
        .arg("--config-file")
        .arg(suite.join("schemathesis.toml"))
        .args(["run", "--no-color", "--workers", "1"])
        .args(["--checks", "all", "--exclude-checks", CHECKS_LEFT_OUT])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        .args(["--max-examples", EXAMPLES, "--generation-deterministic"])
        .arg("--continue-on-failure")
        .args(["--warnings", "off", "--request-timeout", "30"]);
    for operation in OPERATIONS_LEFT_OUT {
        command.args(["--exclude-operation-id", operation]);
    }
    command
        .arg(format!("http://{}/openapi.json", server.api.address))
        .env("OWNER_TOKEN", owner.trim())
        .env("ACCOUNT_TOKEN", account)
        // Reports and caches go where everything else of this run goes.
        .current_dir(directory.path());
    run(&mut command, "answers are not as the document says");
    // The credentials survived, and with them the meaning of all this. By ids: a valid change of
    // the uids is among the requests.
    server
        .api
        .get(&format!("/api/v1/app/{application}/endpoint/{endpoint}"));
}

/// Where `tests/schemathesis/prepare` installs.
fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("the target directory").join("schemathesis")
}

fn missing(tools: &Path) -> Option<String> {
    (!tools.join("prepared").exists())
        .then(|| "run tests/schemathesis/prepare, which needs python3".to_owned())
}

/// What `schemathesis.toml` names. Returns the token of an account.
fn register(api: &Api, receiver: &Receiver) -> String {
    let event_type = json!({
        "name": "invoice.paid",
        "description": "An invoice was paid",
        "example": { "invoice": 1 },
        "channels": ["eu"],
    });
    api.call("POST", "/api/v1/event-type", &event_type, 201);
    let application = json!({ "name": "Acme", "uid": "acme" });
    api.call("POST", "/api/v1/app", &application, 201);
    let endpoint = json!({ "uid": "hook", "url": receiver.url("/hook") });
    api.call("POST", "/api/v1/app/acme/endpoint", &endpoint, 201);
    let message = json!({
        "eventType": "invoice.paid",
        "eventId": "first",
        "payload": { "invoice": 7 },
    });
    api.call("POST", "/api/v1/app/acme/msg", &message, 202);
    let token = json!({ "name": "Account", "role": "application", "applicationId": "acme" });
    let token = api.call("POST", "/api/v1/token", &token, 201);
    let until_attempted = || {
        let attempts = api.get("/api/v1/app/acme/attempt/msg/first");
        let is_there = attempts["data"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        is_there.then_some(())
    };
    until(Duration::from_secs(60), until_attempted).expect("the message is sent");
    token["token"].as_str().expect("a token's text").to_owned()
}

/// Runs a program to its end, which must be a good one.
fn run(command: &mut Command, what: &str) {
    die_with_parent(command);
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let file = |file: &tempfile::NamedTempFile| Stdio::from(file.reopen().expect("it is there"));
    let mut child: Child = command
        .stdin(Stdio::null())
        .stdout(file(&output))
        .stderr(file(&output))
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let status = until(DONE_WITHIN, || {
        child.try_wait().expect("our child can be waited for")
    });
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let printed = std::fs::read_to_string(output.path()).unwrap_or_default();
    assert!(
        status.is_some_and(|status| status.success()),
        "{what}: {status:?}\n{printed}"
    );
    println!("{printed}");
}
