//! Drives every resource with the official Rust SDK, unchanged but for the server's URL.
//!
//! `tests/svix/main.rs` starts the server and gives SERVER_URL, TOKEN (an owner's), and LOSING_URL,
//! a way to the same server on which the first answer to each POST is lost.

mod receiver;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use js_option::JsOption;
use receiver::Receiver;
use serde_json::json;
use svix::api::*;
use svix::error::{Error, Result};
use svix::models::*;
use svix::webhooks::Webhook;

/// For what the server does in the background; a debug build on a busy machine takes seconds.
const WITHIN: Duration = Duration::from_secs(60);

const EVENT_TYPE: &str = "invoice.paid";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(drive());
}

async fn drive() {
    let driver = Driver {
        svix: client("SERVER_URL"),
        receiver: Receiver::start(),
    };
    driver.event_types().await.expect("event types");
    println!("ok      event types: create, list, patch, upsert, import, archive, expunge");
    driver.applications().await.expect("applications");
    println!("ok      applications: create, get_or_create, list both ways, patch, upsert, delete");
    driver.errors().await.expect("errors");
    println!("ok      errors: 401, 404, 409, 422");
    driver.endpoints().await.expect("endpoints");
    println!("ok      endpoints: create, list, patch, upsert, headers, secret, rotate, delete");
    driver.messages().await.expect("messages");
    println!("ok      messages: publish, verify, list, filters, content, expunge, precheck");
    driver.attempts().await.expect("attempts");
    println!("ok      attempts: lists, resend, attempted messages, stats, recover and replay");
    driver.credentials().await.expect("credentials");
    println!("ok      portal access, logout, expire_all");
    driver.operational().await.expect("operational webhooks");
    println!("ok      operational webhooks: create, list, an event, upsert, rotate, delete");
    driver.statistics().await.expect("statistics");
    println!("ok      statistics of usage");
    driver.lost_answers().await.expect("lost answers");
    println!("ok      retries: a lost answer, and a killed server, publish exactly once");
    driver.not_offered().await;
    println!("ok      what postrider does not offer is a 404 that says so");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn client(url: &str) -> Svix {
    let options = SvixOptions {
        server_url: Some(variable(url)),
        timeout: Some(WITHIN),
        ..SvixOptions::default()
    };
    Svix::new(variable("TOKEN"), Some(options))
}

fn texts<const N: usize>(all: [&str; N]) -> Option<BTreeSet<String>> {
    Some(all.map(str::to_owned).into())
}

fn headers<const N: usize>(all: [(&str, &str); N]) -> BTreeMap<String, String> {
    all.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn an_hour_ago() -> DateTime<Utc> {
    Utc::now() - TimeDelta::hours(1)
}

/// The status, and what the SDK made of the body: its code, or the place.
fn told<T: std::fmt::Debug>(result: Result<T>) -> (u16, String) {
    match result {
        Ok(answer) => panic!("no error, but {answer:?}"),
        Err(Error::Http(error)) => {
            let payload = error.payload.expect("the body of an error");
            assert!(!payload.detail.is_empty());
            (error.status.as_u16(), payload.code)
        }
        Err(Error::Validation(error)) => {
            let payload = error.payload.expect("the body of an error");
            assert!(!payload.detail[0].msg.is_empty());
            (error.status.as_u16(), payload.detail[0].loc.join("."))
        }
        Err(other) => panic!("{other}"),
    }
}

/// Looks again until `look` finds something; at most for [`WITHIN`].
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All pages of a list of applications, forwards by `iterator` and back by `prev_iterator`.
macro_rules! pages {
    ($iterator:ident => $page:expr) => {{
        let mut forwards: Vec<Vec<String>> = Vec::new();
        let mut $iterator: Option<String> = None;
        let last = loop {
            let page = $page.await?;
            forwards.push(page.data.iter().map(|one| one.id.clone()).collect());
            if page.done {
                break page;
            }
            $iterator = page.iterator.clone();
        };
        let mut previous = last.prev_iterator;
        for wanted in forwards.iter().rev().skip(1) {
            let $iterator = previous;
            let page = $page.await?;
            let found: Vec<String> = page.data.iter().map(|one| one.id.clone()).collect();
            assert_eq!(&found, wanted, "a page backwards");
            previous = page.prev_iterator;
        }
        forwards.concat()
    }};
}

struct Driver {
    svix: Svix,
    receiver: Receiver,
}

/// An application with an endpoint of its own at the receiver.
struct Customer {
    app: String,
    endpoint: String,
    path: String,
}

impl Driver {
    async fn customer(&self, name: &str) -> Result<Customer> {
        let mut application = ApplicationIn::new(name.to_owned());
        application.uid = Some(name.to_owned());
        let app = self.svix.application().create(application, None).await?.id;
        let path = format!("/{name}");
        let endpoint = EndpointIn::new(self.receiver.url(&path));
        let endpoints = self.svix.endpoint();
        let endpoint = endpoints.create(app.clone(), endpoint, None).await?.id;
        Ok(Customer {
            app,
            endpoint,
            path,
        })
    }

    async fn publish(&self, customer: &Customer, n: u32) -> Result<MessageOut> {
        let message = MessageIn::new(EVENT_TYPE.to_owned(), json!({ "n": n }));
        let messages = self.svix.message();
        messages.create(customer.app.clone(), message, None).await
    }

    async fn delivered(&self, app: &str, message: &str, status: MessageStatus) {
        until(&format!("{message} to be {status}"), async || {
            let (app, message) = (app.to_owned(), message.to_owned());
            let attempts = self.svix.message_attempt();
            let found = attempts.list_attempted_destinations(app, message, None);
            let found = found.await.expect("a list of destinations");
            (found.data.first()?.status == status).then_some(())
        })
        .await;
    }

    async fn finished(&self, id: &str) {
        let what = format!("the end of {id}");
        let status = until(&what, async || {
            let found = self.svix.background_task().get(id.to_owned()).await;
            let status = found.expect("a background task").status;
            (status != BackgroundTaskStatus::Running).then_some(status)
        });
        assert_eq!(status.await, BackgroundTaskStatus::Finished);
    }

    async fn received(&self, path: &str, count: usize) -> Vec<receiver::Received> {
        until(&format!("{count} requests to {path}"), async || {
            let found = self.receiver.at(path);
            (found.len() >= count).then_some(found)
        })
        .await
    }

    async fn event_types(&self) -> Result<()> {
        let api = self.svix.event_type();
        let mut event_type = EventTypeIn::new(EVENT_TYPE.to_owned(), "Paid".to_owned());
        event_type.schemas = Some(json!({ "1": { "examples": [{ "n": 1 }] } }));
        event_type.feature_flags = texts(["beta"]);
        let made = api.create(event_type, None).await?;
        assert_eq!(
            (made.name.as_str(), made.archived),
            (EVENT_TYPE, Some(false))
        );
        assert_eq!(made.feature_flags, texts(["beta"]));
        let mut patch = EventTypePatch::new();
        patch.feature_flags = JsOption::Null;
        let patched = api.patch(EVENT_TYPE.to_owned(), patch).await?;
        assert_eq!(patched.feature_flags.unwrap_or_default().len(), 0);
        let put = EventTypeUpsertIn::new("Put".to_owned());
        let put = api.upsert("a.a".to_owned(), put).await?;
        assert_eq!(put.description, "Put");
        let listed = api.list(None).await?;
        let names: Vec<&str> = listed.data.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a.a", EVENT_TYPE]);
        let mut import = EventTypeImportOpenApiIn::new();
        import.spec_raw = Some(
            r#"{"openapi":"3.1.0","info":{"title":"t","version":"1"},
                "webhooks":{"order.shipped":{"post":{"description":"Shipped"}}}}"#
                .to_owned(),
        );
        let imported = api.import_openapi(import, None).await?.data;
        assert_eq!(imported.modified, ["order.shipped"]);
        api.delete("a.a".to_owned(), None).await?;
        assert_eq!(api.get("a.a".to_owned()).await?.archived, Some(true));
        let expunge = EventTypeDeleteOptions {
            expunge: Some(true),
        };
        api.delete("a.a".to_owned(), Some(expunge)).await?;
        assert_eq!(told(api.get("a.a".to_owned()).await).0, 404);
        Ok(())
    }

    async fn applications(&self) -> Result<()> {
        let api = self.svix.application();
        let mut one = ApplicationIn::new("One".to_owned());
        one.uid = Some("one".to_owned());
        one.throttle_rate = Some(100);
        let made = api.create(one.clone(), None).await?;
        assert_eq!(made.throttle_rate, Some(100));
        assert_eq!(api.get("one".to_owned()).await?, made);
        assert_eq!(api.get_or_create(one, None).await?.id, made.id);
        for name in ["two", "three", "four", "five"] {
            api.create(ApplicationIn::new(name.to_owned()), None)
                .await?;
        }
        let ids = pages!(iterator => api.list(Some(ApplicationListOptions {
            limit: Some(2),
            iterator: iterator.clone(),
            ..ApplicationListOptions::default()
        })));
        assert_eq!(ids.len(), 5);
        let mut patch = ApplicationPatch::new();
        patch.uid = JsOption::Null;
        patch.name = Some("Uno".to_owned());
        let patched = api.patch("one".to_owned(), patch).await?;
        assert_eq!((patched.uid, patched.name.as_str()), (None, "Uno"));
        assert_eq!(patched.throttle_rate, Some(100), "not named, not changed");
        let put = ApplicationIn::new("Put".to_owned());
        assert_eq!(api.upsert(made.id.clone(), put).await?.name, "Put");
        for id in ids {
            api.delete(id.clone()).await?;
            assert_eq!(told(api.get(id).await).0, 404);
        }
        Ok(())
    }

    async fn errors(&self) -> Result<()> {
        let api = self.svix.application();
        let nobody = self.svix.with_token("nonsense".to_owned());
        let unknown = told(nobody.application().list(None).await);
        assert_eq!(unknown, (401, "authentication_failed".to_owned()));
        let missing = told(api.get("nobody".to_owned()).await);
        assert_eq!(missing, (404, "not_found".to_owned()));
        let mut taken = ApplicationIn::new("taken".to_owned());
        taken.uid = Some("taken".to_owned());
        api.create(taken.clone(), None).await?;
        let conflict = told(api.create(taken, None).await);
        assert_eq!(conflict, (409, "conflict".to_owned()));
        let endpoint = EndpointIn::new("not a url".to_owned());
        let endpoints = self.svix.endpoint();
        let invalid = endpoints.create("taken".to_owned(), endpoint, None);
        assert_eq!(told(invalid.await), (422, "body.url".to_owned()));
        Ok(())
    }

    async fn endpoints(&self) -> Result<()> {
        let app = self.customer("endpoints").await?.app;
        let api = self.svix.endpoint();
        let mut endpoint = EndpointIn::new(self.receiver.url("/first"));
        endpoint.uid = Some("first".to_owned());
        endpoint.channels = texts(["eu"]);
        endpoint.event_types = texts([EVENT_TYPE]);
        endpoint.throttle_rate = Some(50);
        endpoint.headers = Some(headers([("X-One", "1"), ("Authorization", "secret")]));
        let made = api.create(app.clone(), endpoint, None).await?;
        assert_eq!(
            (made.channels, made.throttle_rate),
            (texts(["eu"]), Some(50))
        );
        for uid in ["b", "c", "d"] {
            let put = EndpointUpsertIn::new(self.receiver.url(&format!("/{uid}")));
            api.upsert(app.clone(), uid.to_owned(), put).await?;
        }
        let ids = pages!(iterator => api.list(app.clone(), Some(EndpointListOptions {
            limit: Some(2),
            iterator: iterator.clone(),
            ..EndpointListOptions::default()
        })));
        assert_eq!(ids.len(), 5);
        let first = || (app.clone(), "first".to_owned());
        let mut change = EndpointHeadersPatchIn::new(headers([("X-Two", "2")]));
        change.delete_headers = Some(vec!["X-One".to_owned()]);
        api.patch_headers(first().0, first().1, change).await?;
        let shown = api.get_headers(first().0, first().1).await?;
        assert_eq!(shown.headers.into_values().collect::<Vec<_>>(), ["2"]);
        assert_eq!(shown.sensitive.len(), 1);
        let change = EndpointHeadersIn::new(headers([("X-Three", "3")]));
        api.set_headers(first().0, first().1, change).await?;
        let key = api.get_secret(first().0, first().1).await?.key;
        let rotate = EndpointSecretRotateIn::new();
        let rotated = api
            .rotate_secret(first().0, first().1, rotate, None)
            .await?;
        assert_ne!(rotated.key, key);
        assert_eq!(api.get_secret(first().0, first().1).await?.key, rotated.key);
        let mut patch = EndpointPatch::new();
        patch.channels = JsOption::Null;
        patch.throttle_rate = JsOption::Null;
        let patched = api.patch(first().0, first().1, patch).await?;
        assert_eq!((patched.channels, patched.throttle_rate), (None, None));
        assert_eq!(patched.event_types, texts([EVENT_TYPE]));
        api.delete(first().0, first().1).await?;
        assert_eq!(told(api.get(first().0, first().1).await).0, 404);
        Ok(())
    }

    async fn messages(&self) -> Result<()> {
        let customer = self.customer("messages").await?;
        let app = || customer.app.clone();
        let api = self.svix.message();
        let mut message = MessageIn::new(EVENT_TYPE.to_owned(), json!({ "text": "Grüße" }));
        message.channels = texts(["eu"]);
        message.tags = texts(["spring"]);
        message.event_id = Some("e-1".to_owned());
        let first = api.create(app(), message.clone(), None).await?;
        assert_eq!(
            (&first.tags, &first.channels),
            (&texts(["spring"]), &texts(["eu"]))
        );
        assert_eq!(told(api.create(app(), message, None).await).0, 409);
        let endpoints = self.svix.endpoint();
        let key = endpoints
            .get_secret(app(), customer.endpoint.clone())
            .await?
            .key;
        let webhook = Webhook::new(&key).expect("a secret in the SDK's form");
        let request = self.received(&customer.path, 1).await.remove(0);
        let verified = webhook.verify(&request.body, &request.headers);
        verified.expect("what was received verifies");
        let changed = [&request.body[..], b" "].concat();
        assert!(webhook.verify(&changed, &request.headers).is_err());
        let raw = MessageIn::new_raw_payload(EVENT_TYPE.to_owned(), "<paid/>".to_owned());
        let mut raw = raw.with_content_type("text/xml".to_owned());
        raw.channels = texts(["raw"]);
        let raw = api.create(app(), raw, None).await?.id;
        let request = self.received(&customer.path, 2).await.remove(1);
        assert_eq!(request.body, b"<paid/>");
        let content_type = request.headers.get("content-type");
        assert_eq!(content_type.expect("one"), "text/xml");
        api.expunge_content(app(), raw).await?;
        for n in 0..4 {
            self.publish(&customer, n).await?;
        }
        let ids = pages!(iterator => api.list(app(), Some(MessageListOptions {
            limit: Some(2),
            iterator: iterator.clone(),
            ..MessageListOptions::default()
        })));
        assert_eq!((ids.len(), ids.last()), (6, Some(&first.id)));
        let options = MessageListOptions {
            tag: Some("spring".to_owned()),
            channel: Some("eu".to_owned()),
            event_types: texts([EVENT_TYPE, "a.a"]),
            after: Some(an_hour_ago()),
            before: Some(Utc::now() + TimeDelta::hours(1)),
            with_content: Some(true),
            ..MessageListOptions::default()
        };
        let found = api.list(app(), Some(options)).await?.data;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].payload, json!({ "text": "Grüße" }));
        self.delivered(&customer.app, &first.id, MessageStatus::Success)
            .await;
        api.expunge_content(app(), first.id.clone()).await?;
        let options = MessageGetOptions {
            with_content: Some(true),
        };
        let shown = api.get(app(), first.id, Some(options)).await?;
        assert!(shown.payload.get("text").is_none(), "{}", shown.payload);
        let precheck = MessagePrecheckIn::new(EVENT_TYPE.to_owned());
        assert!(api.precheck(app(), precheck, None).await?.active);
        Ok(())
    }

    async fn attempts(&self) -> Result<()> {
        let customer = self.customer("attempts").await?;
        let (app, endpoint) = (|| customer.app.clone(), || customer.endpoint.clone());
        let api = self.svix.message_attempt();
        self.receiver.answer(&customer.path, 500);
        let message = self.publish(&customer, 1).await?.id;
        let other = self.publish(&customer, 2).await?.id;
        for id in [&message, &other] {
            self.delivered(&customer.app, id, MessageStatus::Fail).await;
        }
        let ids = pages!(iterator => api.list_by_endpoint(app(), endpoint(), Some(
            MessageAttemptListByEndpointOptions {
                limit: Some(1),
                iterator: iterator.clone(),
                status_code_class: Some(StatusCodeClass::Code5xx),
                ..MessageAttemptListByEndpointOptions::default()
            }
        )));
        // tests/svix/main.rs has a schedule with one retry.
        assert_eq!(ids.len(), 4);
        let attempts = api.list_by_msg(app(), message.clone(), None).await?.data;
        assert_eq!(attempts[0].response_status_code, 500);
        assert_eq!(
            attempts[0].trigger_type,
            MessageAttemptTriggerType::Scheduled
        );
        let one = api.get(app(), message.clone(), attempts[0].id.clone(), None);
        assert_eq!(one.await?.id, attempts[0].id);
        self.receiver.answer(&customer.path, 200);
        api.resend(app(), message.clone(), endpoint(), None).await?;
        self.delivered(&customer.app, &message, MessageStatus::Success)
            .await;
        let recover = RecoverIn::new(an_hour_ago());
        let endpoints = self.svix.endpoint();
        let task = endpoints.recover(app(), endpoint(), recover, None).await?;
        assert_eq!(task.task, BackgroundTaskType::EndpointRecover);
        self.finished(&task.id).await;
        self.delivered(&customer.app, &other, MessageStatus::Success)
            .await;
        // Both were delivered after they had failed: both count.
        let stats = endpoints.get_stats(app(), endpoint(), None).await?;
        assert_eq!((stats.success, stats.fail, stats.pending), (2, 2, 0));
        let attempted = api.list_attempted_messages(app(), endpoint(), None).await?;
        assert_eq!(attempted.data.len(), 2);
        assert_eq!(attempted.data[0].status_text, MessageStatusText::Success);

        let late = EndpointIn::new(self.receiver.url("/attempts-late"));
        let late = endpoints.create(app(), late, None).await?.id;
        let replay = ReplayIn::new(an_hour_ago());
        let task = endpoints
            .replay_missing(app(), late.clone(), replay, None)
            .await?;
        self.finished(&task.id).await;
        self.received("/attempts-late", 2).await;
        let replay = BulkReplayIn::new(an_hour_ago());
        let task = endpoints.bulk_replay(app(), late, replay, None).await?;
        self.finished(&task.id).await;
        self.received("/attempts-late", 4).await;
        assert_eq!(self.svix.background_task().list(None).await?.data.len(), 3);
        let example = EventExampleIn::new(EVENT_TYPE.to_owned());
        endpoints
            .send_example(app(), endpoint(), example, None)
            .await?;
        Ok(())
    }

    async fn credentials(&self) -> Result<()> {
        let customer = self.customer("portal").await?;
        let api = self.svix.authentication();
        let access = || api.app_portal_access(customer.app.clone(), AppPortalAccessIn::new(), None);
        let theirs = self.svix.with_token(access().await?.token);
        let endpoints = theirs.endpoint();
        let listed = endpoints.list(customer.app.clone(), None).await?;
        assert_eq!(listed.data.len(), 1);
        assert_eq!(told(theirs.application().list(None).await).0, 403);
        theirs.authentication().logout(None).await?;
        assert_eq!(
            told(endpoints.list(customer.app.clone(), None).await).0,
            401
        );
        let theirs = self.svix.with_token(access().await?.token);
        theirs.endpoint().list(customer.app.clone(), None).await?;
        let mut expire = ApplicationTokenExpireIn::new();
        expire.expiry = Some(0);
        api.expire_all(customer.app.clone(), expire, None).await?;
        let listed = theirs.endpoint().list(customer.app.clone(), None).await;
        assert_eq!(told(listed).0, 401);
        Ok(())
    }

    async fn operational(&self) -> Result<()> {
        let operational = self.svix.operational_webhook();
        let api = operational.endpoint();
        let mut endpoint = OperationalWebhookEndpointIn::new(self.receiver.url("/operational"));
        endpoint.event_types = texts(["endpoint.created"]);
        let made = api.create(endpoint, None).await?;
        assert_eq!(api.list(None).await?.data, [made.clone()]);
        self.customer("watched").await?;
        let request = self.received("/operational", 1).await.remove(0);
        let key = api.get_secret(made.id.clone()).await?.key;
        let webhook = Webhook::new(&key).expect("a secret in the SDK's form");
        let verified = webhook.verify(&request.body, &request.headers);
        verified.expect("what was received verifies");
        let rotate = OperationalWebhookEndpointSecretIn::new();
        api.rotate_secret(made.id.clone(), rotate, None).await?;
        assert_ne!(api.get_secret(made.id.clone()).await?.key, key);
        let put = OperationalWebhookEndpointUpsertIn::new(self.receiver.url("/put"));
        assert_eq!(api.upsert(made.id.clone(), put).await?.id, made.id);
        api.delete(made.id.clone()).await?;
        assert_eq!(told(api.get(made.id).await).0, 404);
        Ok(())
    }

    async fn statistics(&self) -> Result<()> {
        let mut usage = AppUsageStatsIn::new(an_hour_ago(), Utc::now());
        usage.app_ids = texts(["messages", "unknown"]);
        let api = self.svix.statistics();
        let task = api.aggregate_app_stats(usage, None).await?;
        assert_eq!(
            task.unresolved_app_ids.into_iter().collect::<Vec<_>>(),
            ["unknown"]
        );
        self.finished(&task.id).await;
        let task = api.aggregate_event_types().await?;
        self.finished(&task.id).await;
        Ok(())
    }

    async fn lost_answers(&self) -> Result<()> {
        let customer = self.customer("lost").await?;
        let losing = client("LOSING_URL");
        let message = MessageIn::new(EVENT_TYPE.to_owned(), json!({ "n": 1 }));
        let api = losing.message();
        let published = api
            .create(customer.app.clone(), message.clone(), None)
            .await?;
        let options = MessageCreateOptions {
            idempotency_key: Some(format!("RESTART-{}", customer.app)),
            ..MessageCreateOptions::default()
        };
        let again = api
            .create(customer.app.clone(), message, Some(options))
            .await?;
        let listed = self.svix.message().list(customer.app.clone(), None).await?;
        let listed: Vec<String> = listed.data.into_iter().map(|one| one.id).collect();
        assert_eq!(listed, [again.id, published.id]);
        Ok(())
    }

    async fn not_offered(&self) {
        let says_so = |result: Result<()>| match result {
            Err(Error::Http(error)) => {
                let payload = error.payload.expect("the body of an error");
                assert_eq!(
                    (error.status.as_u16(), payload.code.as_str()),
                    (404, "not_offered")
                );
                assert!(
                    payload.detail.contains("does not offer"),
                    "{}",
                    payload.detail
                );
            }
            other => panic!("{other:?}"),
        };
        says_so(self.svix.connector().list(None).await.map(drop));
        let integrations = self.svix.integration();
        says_so(
            integrations
                .list("messages".to_owned(), None)
                .await
                .map(drop),
        );
        says_so(self.svix.streaming().stream().list(None).await.map(drop));
        says_so(self.svix.ingest().source().list(None).await.map(drop));
    }
}
