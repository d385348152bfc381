//! `delivery.verify_endpoints`: nothing but challenges goes to an endpoint until it echoes one.

use std::sync::Arc;
use std::time::Duration;

use awc::http::Method;
use postrider::catalog::Catalog;
use postrider::clock::Clock;
use postrider::config::{Config, VerifyEndpoints};
use postrider::delivery::{self, address::OwnAddresses};
use postrider::error::Error;
use postrider::scheduler::Scheduler;
use postrider::store::{self, OpenError, Store};
use postrider::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::support::{
    Planned, Receiver, Request, Script, Server, assert_error, wait_for, wait_until,
};

fn on(config: &mut Config) {
    config.delivery.verify_endpoints = VerifyEndpoints::Challenge;
}

async fn start() -> Server {
    Server::start_with(on).await
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).expect("a body of JSON")
}

fn is_challenge(request: &Request) -> bool {
    body(request)["type"] == "postrider.verification"
}

fn challenges(receiver: &Receiver) -> usize {
    receiver
        .requests()
        .iter()
        .filter(|one| is_challenge(one))
        .count()
}

async fn endpoint_at(server: &Server, application: &str, url: &str) -> String {
    server.endpoint_of(application, json!({ "url": url })).await
}

fn path(application: &str, endpoint: &str) -> String {
    format!("/api/v1/app/{application}/endpoint/{endpoint}")
}

async fn verification(server: &Server, application: &str, endpoint: &str) -> Value {
    let shown = server.get(&path(application, endpoint)).await.expect(200);
    shown["verification"].clone()
}

/// Waits until the endpoint's verification has this status after so many attempts, and shows it.
async fn becomes(server: &Server, endpoint: &str, status: &str, attempts: u32) -> Value {
    is_stored(server, endpoint, status, attempts).await;
    let found = verification(server, "app", endpoint).await;
    assert_eq!(
        (&found["status"], &found["attempts"]),
        (&json!(status), &json!(attempts))
    );
    found
}

async fn is_stored(server: &Server, endpoint: &str, status: &str, attempts: u32) {
    wait_until(&format!("{status} after {attempts} attempts"), || {
        let catalog = server.store().catalog();
        let mut lanes = catalog.lanes().into_iter();
        let stored = lanes.find_map(|lane| {
            let stored = catalog.endpoint_by_number(lane)?;
            (stored.id.to_string() == endpoint).then(|| stored.clone())
        });
        let stored = stored.expect("the endpoint is there");
        let found = match &stored.verification {
            None => ("verified", 0),
            Some(one) if one.next_at.is_some() => ("pending", one.attempts),
            Some(one) => ("failed", one.attempts),
        };
        found == (status, attempts)
    })
    .await;
}

#[actix_web::test]
async fn messages_are_held_until_a_challenge_is_echoed() {
    let receiver = Receiver::scripted([Script::Status(200)], Script::Echo).await;
    let server = start().await;
    let endpoint = endpoint_at(&server, "app", &receiver.url()).await;
    let message = server.publish("a", json!({ "n": 1 })).await;
    let pending = becomes(&server, &endpoint, "pending", 1).await;
    let error = pending["lastError"].as_str().expect("a sentence");
    assert!(error.contains("is not the challenge"), "{error}");
    assert_eq!(pending["lastAttemptAt"], server.now().to_string());
    assert_eq!((receiver.count(), challenges(&receiver)), (1, 1));
    let request = receiver.requests().remove(0);
    assert_eq!(request.method, "POST");
    assert!(request.header("webhook-signature").is_some());
    assert_eq!(body(&request)["challenge"].as_str().map(str::len), Some(48));

    // It is held, and so it is shown, and a test cannot be sent.
    server.settle().await;
    let lanes = server.get("/api/v1/lane").await.expect(200);
    assert_eq!(lanes["data"][0]["state"], "held");
    assert!(server.attempts(&message).await.is_empty());
    let test = server
        .post(
            &format!("{}/send-example", path("app", &endpoint)),
            json!({ "eventType": "svix.ping" }),
        )
        .await;
    assert_error(&test, 409, "conflict");

    server.advance(Duration::from_secs(10));
    becomes(&server, &endpoint, "verified", 0).await;
    receiver.received(3).await;
    server.settle().await;
    assert_eq!((receiver.count(), challenges(&receiver)), (3, 2));
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
    assert_eq!(server.store().waiting_count(), 0);
}

#[actix_web::test]
async fn challenges_are_repeated_a_few_times_and_then_on_demand() {
    let receiver = Receiver::ok().await;
    let mut server = start().await;
    server.leftovers_are_fine();
    let endpoint = endpoint_at(&server, "app", &receiver.url()).await;
    server.publish("a", json!({ "n": 1 })).await;
    becomes(&server, &endpoint, "pending", 1).await;
    for (attempts, seconds) in [(2, 10), (3, 60), (4, 600)] {
        server.advance(Duration::from_secs(seconds));
        becomes(&server, &endpoint, "pending", attempts).await;
    }
    // What is known is on disk.
    let mut server = server.restart().await;
    server.leftovers_are_fine();
    server.advance(Duration::from_secs(3600));
    let failed = becomes(&server, &endpoint, "failed", 5).await;
    assert_eq!(failed["nextAttemptAt"], Value::Null);
    server.advance(Duration::from_secs(24 * 3600));
    assert_eq!(receiver.count(), 5);

    receiver.then(Script::Echo);
    let verify = format!("{}/verify", path("app", &endpoint));
    let asked = server.post(&verify, json!({})).await.expect(202);
    assert_eq!(asked["status"], "pending");
    becomes(&server, &endpoint, "verified", 0).await;
    receiver.received(7).await;
    server.settle().await;
    assert_eq!(challenges(&receiver), 6);
    // There is nothing to ask for any more.
    let asked = server.post(&verify, json!({})).await.expect(202);
    assert_eq!(asked["status"], "verified");
    server.round_trip().await;
    assert_eq!(challenges(&receiver), 6);
}

#[actix_web::test]
async fn own_endpoints_are_challenged_and_can_be_asked_for_it() {
    const OWN: &str = "/api/v1/operational-webhook/endpoint";
    let receiver = Receiver::scripted([Script::Status(200)], Script::Echo).await;
    let server = start().await;
    let made = server.post(OWN, json!({ "url": receiver.url() })).await;
    let made = made.expect(201);
    assert_eq!(made["verification"]["status"], "pending");
    let endpoint = made["id"].as_str().expect("an id");
    is_stored(&server, endpoint, "pending", 1).await;
    let verify = format!("{OWN}/{endpoint}/verify");
    let asked = server.call(Method::POST, &verify, &[], None).await;
    assert_eq!(asked.expect(202)["status"], "pending");
    is_stored(&server, endpoint, "verified", 0).await;
    assert_eq!((receiver.count(), challenges(&receiver)), (2, 2));
    let nowhere = format!("{OWN}/nothing/verify");
    let nowhere = server.call(Method::POST, &nowhere, &[], None).await;
    assert_error(&nowhere, 404, "not_found");
}

#[actix_web::test]
async fn what_an_endpoint_shows_of_it_can_be_sent_back() {
    let receiver = Receiver::scripted([], Script::Echo).await;
    let server = start().await;
    let endpoint = endpoint_at(&server, "app", &receiver.url()).await;
    becomes(&server, &endpoint, "verified", 0).await;
    let own = "/api/v1/operational-webhook/endpoint";
    let made = server.post(own, json!({ "url": receiver.url() })).await;
    let made = made.expect(201);
    let own_endpoint = made["id"].as_str().expect("an id");
    is_stored(&server, own_endpoint, "verified", 0).await;
    let mut shown = server.get(&path("app", &endpoint)).await.expect(200);
    assert_eq!(shown["verification"]["status"], "verified");
    let put = server.put(&path("app", &endpoint), shown.clone()).await;
    assert_eq!(put.expect(200)["verification"], shown["verification"]);
    // Nobody sets it by that.
    shown["url"] = json!(format!("{}/other", receiver.url()));
    let moved = server.patch(&path("app", &endpoint), shown).await;
    assert_eq!(moved.expect(200)["verification"]["status"], "pending");
    becomes(&server, &endpoint, "verified", 0).await;
    let shown = server.get(&format!("{own}/{own_endpoint}")).await;
    let shown = shown.expect(200);
    let put = server.put(&format!("{own}/{own_endpoint}"), shown).await;
    put.expect(200);
    // The own endpoint is told of the changes.
    server.settle().await;
}

#[actix_web::test]
async fn an_endpoint_that_leads_elsewhere_is_challenged_anew() {
    let receiver = Receiver::scripted([], Script::Echo).await;
    let server = start().await;
    let endpoint = endpoint_at(&server, "app", &receiver.url()).await;
    becomes(&server, &endpoint, "verified", 0).await;
    let path = path("app", &endpoint);
    let query = json!({ "url": format!("{}?a=1", receiver.url()), "description": "x" });
    let same = server.patch(&path, query).await.expect(200);
    assert_eq!(same["verification"]["status"], "verified");
    let elsewhere = json!({ "url": format!("{}/other", receiver.url()) });
    let moved = server.patch(&path, elsewhere).await.expect(200);
    assert_eq!(moved["verification"]["status"], "pending");
    becomes(&server, &endpoint, "verified", 0).await;
    assert_eq!((receiver.count(), challenges(&receiver)), (2, 2));
    assert_eq!(receiver.requests()[1].target, "/hook/other");
    // A challenge is nothing that a caller did.
    let shown = server.get(&path).await.expect(200);
    assert_eq!(shown["updatedAt"], moved["updatedAt"]);
}

#[actix_web::test]
async fn turning_it_on_concerns_no_endpoint_that_there_is_and_off_lets_all_go() {
    let (old, new) = (Receiver::ok().await, Receiver::ok().await);
    let server = Server::start().await;
    let first = endpoint_at(&server, "app", &old.url()).await;
    let shown = server.get(&path("app", &first)).await.expect(200);
    assert_eq!(shown.get("verification"), None, "it is off");
    let verify = format!("{}/verify", path("app", &first));
    let asked = server.post(&verify, json!({})).await.expect(202);
    assert_eq!(asked["status"], "verified");

    let server = server.restart_with(on).await;
    assert_eq!(
        verification(&server, "app", &first).await["status"],
        "verified"
    );
    let second = endpoint_at(&server, "app", &new.url()).await;
    server.publish("a", json!({ "n": 1 })).await;
    becomes(&server, &second, "pending", 1).await;
    old.received(1).await;
    server.settle().await;
    assert_eq!((old.count(), challenges(&old)), (1, 0));
    assert_eq!((new.count(), challenges(&new)), (1, 1));

    let server = server
        .restart_with(|config| config.delivery.verify_endpoints = VerifyEndpoints::Off)
        .await;
    new.received(2).await;
    server.settle().await;
    assert_eq!((new.count(), challenges(&new)), (2, 1));
}

/// The store of a server that was stopped, as soon as that has let go of it.
async fn opened(config: &Config, clock: &Clock, metrics: &Arc<Metrics>) -> Store {
    let open = || {
        let settings = store::StoreSettings::from_config(config);
        match Store::open(settings, clock.clone(), metrics.clone()) {
            Err(OpenError::Locked { .. }) => None,
            opened => Some(opened.expect("the store opens")),
        }
    };
    wait_for("the store to be free", open).await
}

#[actix_web::test]
async fn what_could_not_be_let_go_at_once_is_let_go_soon() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    let endpoint = endpoint_at(&server, "app", &receiver.url()).await;
    becomes(&server, &endpoint, "pending", 1).await;
    let mut config = server.config().clone();
    let clock = Clock::manual(server.now());
    let directory = server.stopped().await;
    config.delivery.verify_endpoints = VerifyEndpoints::Off;
    config.limits.commit_queue_max = 1;
    let metrics = Arc::new(Metrics::new());
    let store = opened(&config, &clock, &metrics).await;

    // A change that takes long, and one that waits behind it: there is room for no other.
    let (begins, begun) = oneshot::channel();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let change = {
        let store = store.clone();
        async move {
            let decide = move |_: &Catalog| {
                let _ = begins.send(());
                let _ = gate.recv();
                Ok((Vec::new(), ()))
            };
            store.change(Planned(decide)).await
        }
    };
    let long = actix_web::rt::spawn(change);
    begun.await.expect("it begins");
    let waiting = {
        let store = store.clone();
        async move {
            store
                .change(Planned(|_: &Catalog| Ok((Vec::new(), ()))))
                .await
        }
    };
    let waiting = actix_web::rt::spawn(waiting);
    tokio::task::yield_now().await;
    let full = store
        .change(Planned(|_: &Catalog| Ok((Vec::new(), ()))))
        .await;
    assert!(matches!(full, Err(Error::Unavailable { .. })), "{full:?}");
    let settings = delivery::SendSettings::from_config(&config, &OwnAddresses::default());
    let settings = Arc::new(settings.expect("they are good"));
    let mut scheduler = Scheduler::start(store.clone(), &config, settings, metrics);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    open.send(()).expect("it waits");
    long.await.expect("no panic").expect("it is committed");
    waiting.await.expect("no panic").expect("it is committed");
    let held = || {
        let catalog = store.catalog();
        let mut lanes = catalog.lanes().into_iter();
        lanes.any(|lane| {
            let endpoint = catalog.endpoint_by_number(lane);
            endpoint.is_some_and(|endpoint| endpoint.verification.is_some())
        })
    };
    wait_until("the endpoint to be let go", || !held()).await;
    scheduler.drain().await;
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    closed.expect("no panic").expect("a clean end");
    drop(directory);
}

#[actix_web::test]
async fn a_customer_has_ten_challenges_in_a_minute_and_holds_up_no_other() {
    let stranger = Receiver::ok().await;
    let mut server = start().await;
    server.leftovers_are_fine();
    for _ in 0..25 {
        endpoint_at(&server, "flood", &stranger.url()).await;
    }
    stranger.received(10).await;
    let other = Receiver::scripted([], Script::Echo).await;
    let honest = endpoint_at(&server, "app", &other.url()).await;
    becomes(&server, &honest, "verified", 0).await;
    assert_eq!(stranger.count(), 10);
    server.advance(Duration::from_secs(60));
    stranger.received(20).await;
    let honest = endpoint_at(&server, "app", &other.url()).await;
    becomes(&server, &honest, "verified", 0).await;
    assert_eq!(stranger.count(), 20);
}

#[actix_web::test]
async fn challenges_that_hang_end_soon_and_leave_places_to_other_customers() {
    let hanging = Receiver::scripted([], Script::Hang).await;
    let mut server = start().await;
    server.leftovers_are_fine();
    let slow = json!({ "url": hanging.url(), "timeoutSeconds": 60 });
    for _ in 0..12 {
        server.endpoint_of("flood", slow.clone()).await;
    }
    hanging.received(8).await;
    // A challenge that comes later has its turn behind all that could be sent.
    let other = Receiver::scripted([], Script::Echo).await;
    let honest = endpoint_at(&server, "app", &other.url()).await;
    becomes(&server, &honest, "verified", 0).await;
    assert_eq!(hanging.count(), 8);
    // Their places go to the next, as many as there may be in a minute.
    server.advance(Duration::from_secs(15));
    hanging.received(10).await;
    server.advance(Duration::from_secs(15));
    let tried = || {
        let catalog = server.store().catalog();
        let lanes = catalog.lanes().into_iter();
        let endpoints = lanes.filter_map(|lane| catalog.endpoint_by_number(lane));
        let verifications = endpoints.filter_map(|one| one.verification.as_ref());
        verifications.filter(|one| one.attempts == 1).count()
    };
    wait_until("all that were sent to have ended", || tried() == 10).await;
}

#[actix_web::test]
async fn disabled_endpoints_get_no_challenge() {
    let receiver = Receiver::scripted([], Script::Echo).await;
    let server = start().await;
    let disabled = json!({ "url": receiver.url(), "disabled": true });
    let endpoint = server.endpoint_of("app", disabled).await;
    let verify = format!("{}/verify", path("app", &endpoint));
    assert_error(&server.post(&verify, json!({})).await, 409, "conflict");
    // A challenge that comes later has its turn behind it.
    let other = endpoint_at(&server, "app", &format!("{}/other", receiver.url())).await;
    becomes(&server, &other, "verified", 0).await;
    let before = challenges(&receiver);
    server.set_disabled("app", &endpoint, false).await;
    becomes(&server, &endpoint, "verified", 0).await;
    assert_eq!((before, challenges(&receiver)), (1, 2));
    server.settle().await;
}

#[actix_web::test]
async fn other_surfaces_make_no_exception() {
    let receiver = Receiver::scripted([], Script::Echo).await;
    let server = start().await;
    for name in ["BOOK_VERIFIED", "report_signed"] {
        let body = json!({ "name": name, "description": name });
        server.post("/api/v1/event-type", body).await.expect(201);
    }
    server.application("456").await;
    let token = json!({ "name": "t", "role": "application", "applicationId": "456" });
    let token = server.post("/api/v1/token", token).await.expect(201);
    let token = token["token"].as_str().expect("a text").to_owned();
    let ocrolus = json!({
        "webhook_endpoint": format!("{}/ocrolus", receiver.url()), "event": "BOOK_VERIFIED",
    });
    let path = "/v1/account/settings/update/webhook_endpoint";
    let made = server
        .call_as(&token, Method::POST, path, Some(ocrolus.to_string()))
        .await;
    made.expect(200);
    receiver.received(1).await;
    let ovation = json!({ "webhookEndpoint": {
        "target_url": format!("{}/ovation", receiver.url()), "event": "report_signed",
        "username": "someUser", "password": "somePassword",
    } });
    let path = "/api/v3/project_templates/456/webhook_endpoints";
    server.post(path, ovation).await.expect(201);
    let requests = receiver.received(2).await;
    for (request, target) in requests.iter().zip(["/hook/ocrolus", "/hook/ovation"]) {
        assert!(is_challenge(request), "{target}");
        assert_eq!(request.target, target);
    }
}

#[actix_web::test]
async fn profiles_that_render_are_challenged_at_the_url_itself() {
    let receiver = Receiver::scripted([], Script::Echo).await;
    let server = start().await;
    for (number, profile) in [
        "ioffice", "github", "ovcode", "okhi", "ovation", "ocrolus", "svix",
    ]
    .into_iter()
    .enumerate()
    {
        let url = format!("{}/{profile}", receiver.url());
        let input = json!({ "url": url, "profile": profile });
        let endpoint = server.endpoint_of("app", input).await;
        becomes(&server, &endpoint, "verified", 0).await;
        let request = receiver.requests().remove(number);
        assert_eq!(request.target, format!("/hook/{profile}"));
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("content-type"), Some("application/json"));
        let signed = match profile {
            "github" => "x-hub-signature-256",
            "svix" => "svix-signature",
            _ => continue,
        };
        assert!(request.header(signed).is_some(), "{profile}");
    }
    wait_until("nothing else", || receiver.count() == 7).await;
}
