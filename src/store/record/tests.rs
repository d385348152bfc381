//! A store and an export as earlier versions wrote them. The records themselves are pinned in
//! `layout::golden`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalog::Change;
use crate::clock::Clock;
use crate::config;
use crate::domain::application::Application;
use crate::domain::attempt::Trigger;
use crate::domain::event_type::EventType;
use crate::domain::id::ApplicationId;
use crate::domain::message::{DeliveryKey, Origin};
use crate::domain::organisation::Organisation;
use crate::error::Error;
use crate::rules::decision::Planned;
use crate::store::engine::{Changes, Engine};
use crate::store::layout::golden::rows::{
    self, APPLICATION, AT, ATTEMPT_ID, ENDPOINT, LANE, LATER, MESSAGE_ID, ORGANISATION, PAYLOAD,
    TOKEN,
};
use crate::store::layout::{self, AttemptPlace, SliceMeta, SliceRecord, Waiting, golden};
use crate::store::{NewMessage, OpenError, Store, StoreSettings, export, open, verify};
use crate::telemetry::Metrics;

/// An export of the registrations of the first schema, as it was written then.
const EXPORT: &str = concat!(
    r#"{"format":1,"exported_at":1700000060000,"last_endpoint_number":7,"registrations":["#,
    r#"{"organisation":{"id":"org_08scxQNHVpFTZAuVqZq347lZyZV","name":"default","created_at":"#,
    r#"1700000000000}},"#,
    r#"{"token":{"id":"tok_0rHlkYFh4xUrP3T55T2IOkbTrR0","organisation":"org_08scxQNHVpFTZAuVq"#,
    r#"Zq347lZyZV","name":"t","role":"Application","application":"app_0HlFuqkZ1eUx8Lp1h9g68FX"#,
    r#"9x90","hash":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7],"create"#,
    r#"d_at":1700000000000,"expires_at":1700000060000}},"#,
    r#"{"event_type":{"organisation":"org_08scxQNHVpFTZAuVqZq347lZyZV","name":"a.b","descript"#,
    r#"ion":"d","archived":true,"deprecated":false,"feature_flag":"beta","schemas":"{\"1\":{}}"#,
    r#"","created_at":1700000000000,"updated_at":1700000060000}},"#,
    r#"{"application":{"id":"app_0HlFuqkZ1eUx8Lp1h9g68FX9x90","organisation":"org_08scxQNHVpF"#,
    r#"TZAuVqZq347lZyZV","uid":"acme","name":"Acme","metadata":{},"throttle_rate":null,"creat"#,
    r#"ed_at":1700000000000,"updated_at":1700000000000}},"#,
    r#"{"endpoint":{"id":"ep_0QdssH7qXTkQhWjXXjW9CNIjviV","number":7,"organisation":"org_08sc"#,
    r#"xQNHVpFTZAuVqZq347lZyZV","application":"app_0HlFuqkZ1eUx8Lp1h9g68FX9x90","uid":"books""#,
    r#","url":"https://example.com/in","description":"d","disabled":true,"event_types":["a.b""#,
    r#"],"channels":["c"],"metadata":{"k":"v"},"throttle_rate":300,"secrets":[{"secret":"whse"#,
    r#"c_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","expires_at":1700000060000}],"headers":{"X-One":"1"#,
    r#""},"basic_auth":{"username":"u","password":"p"},"created_at":1700000000000,"updated_at"#,
    r#"":1700000060000}}]}"#,
);

fn text(text: &str) -> String {
    text.to_owned()
}

fn settings(directory: &Path) -> StoreSettings {
    let mut config = config::load(None, config::Flags::default()).expect("the defaults");
    config.store.path = directory.join("data");
    config.store.min_free_bytes = 1;
    StoreSettings {
        migrate: true,
        is_being_restored: false,
        ..StoreSettings::from_config(&config)
    }
}

/// Threads of a store that was closed just now let go of its files within moments.
#[track_caller]
fn once_free<T>(mut open: impl FnMut() -> Result<T, OpenError>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match open() {
            Err(OpenError::Locked { .. }) if Instant::now() < deadline => {
                std::thread::yield_now();
            }
            result => return result.expect("it opens"),
        }
    }
}

fn store(settings: &StoreSettings) -> Store {
    let clock = Clock::manual(LATER);
    once_free(|| Store::open(settings.clone(), clock.clone(), Arc::new(Metrics::new())))
}

/// A store in whose files stand the pinned records, closed, and a delivery that is held.
fn write_store_of_then(settings: &StoreSettings) {
    let mut files = open::open_files(settings, &Clock::manual(AT)).expect("a new store");
    let mut live = Changes::default();
    let put = |changes: &mut Changes, row: golden::Row| changes.put(&row.key, row.record);
    for change in [
        Change::PutOrganisation(Organisation {
            id: ORGANISATION,
            name: text("o"),
            created_at: AT,
        }),
        Change::PutApplication(Application {
            created_at: AT,
            updated_at: AT,
            ..rows::application()
        }),
    ] {
        let (key, record) = layout::registration(&change);
        live.put(&key, record.expect("it is there"));
    }
    for name in ["Endpoint", "EventType", "Token"] {
        put(&mut live, rows::pinned(name, 1));
    }
    let waiting = DeliveryKey {
        lane: LANE,
        due: LATER,
        message: MESSAGE_ID,
    };
    let delivery = Waiting {
        attempts: 2,
        trigger: Trigger::Manual,
    };
    layout::put(&mut live, &layout::waiting_key(&waiting), &delivery, &[]);
    files.meta.commit = 1;
    files.meta.registrations += 5;
    files.meta.last_endpoint_number = LANE;
    files.meta.waiting = vec![(1, 1)];
    files.meta.slice = SliceMeta {
        commit: 1,
        messages: 1,
        attempts: 1,
        bytes: 500,
    };
    let mut slice = Changes::default();
    put(&mut slice, rows::pinned("MessageMeta", 1));
    put(&mut slice, rows::event_id_of_the_format_before());
    put(&mut slice, rows::pinned("Attempt", 1));
    let place_key = layout::attempt_of_message_key(MESSAGE_ID, ATTEMPT_ID);
    layout::put(&mut slice, &place_key, &AttemptPlace { lane: LANE }, &[]);
    layout::put(&mut slice, &[layout::META], &files.meta.slice, &[]);
    let first = files.slices[&1].first;
    let record = SliceRecord::beginning(first, None);
    layout::put(&mut live, &layout::slice_key(1), &record, &[]);
    files.meta.format = layout::FORMAT_OF_SLICES;
    let path = settings.path.join("slices").join("00000001");
    let engine = Engine::open(&path, 1 << 20).expect("a new slice");
    engine.commit(slice).expect("room");
    layout::replace(&files.live, &mut live, &[layout::META], &files.meta).expect("it is there");
    files.live.commit(live).expect("room");
}

fn assert_has_what_was_written(store: &Store) {
    let catalog = store.catalog();
    let endpoint = catalog.endpoint_by_number(LANE).expect("it is there");
    assert_eq!(**endpoint, rows::endpoint());
    let event_type = catalog
        .event_type(ORGANISATION, "a.b")
        .expect("it is there");
    let example = event_type.example.clone();
    let as_written = EventType {
        example,
        ..rows::event_type()
    };
    assert_eq!(**event_type, as_written);
    let token = catalog.token(TOKEN).expect("it is there");
    assert_eq!(**token, rows::token());
    let message = store.message(APPLICATION, MESSAGE_ID).expect("it reads");
    let message = message.expect("it is there");
    assert_eq!(message.payload[..], *PAYLOAD);
    assert_eq!(message.origin, Origin::Published);
    let attempt = store.attempt(MESSAGE_ID, ATTEMPT_ID).expect("it reads");
    assert_eq!(attempt, Some(rows::attempt()));
    assert_eq!(store.waiting_count(), 1);
}

#[actix_web::test]
async fn a_store_of_the_version_before_opens_and_is_written_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    write_store_of_then(&settings);
    let opened = store(&settings);
    assert_has_what_was_written(&opened);
    let again = |catalog: &crate::catalog::Catalog| {
        let endpoint = (**catalog.endpoint_by_number(LANE).expect("it is there")).clone();
        let mut kind = (**catalog.event_type(ORGANISATION, "a.b").expect("so is this")).clone();
        kind.example = Some(text("{}"));
        let token = (**catalog.token(TOKEN).expect("and this")).clone();
        let changes = vec![
            Change::PutEndpoint(endpoint),
            Change::PutEventType(kind),
            Change::PutToken(token),
        ];
        Ok((changes, ()))
    };
    opened.change(Planned(again)).await.expect("it is written");
    opened.close().expect("a clean close");
    drop(opened);
    let report = once_free(|| verify(&settings, &Clock::manual(LATER), &mut |_| {}));
    assert_eq!(report.problems, [""; 0]);
    let opened = store(&settings);
    assert_has_what_was_written(&opened);
    let example = {
        let catalog = opened.catalog();
        let kind = catalog.event_type(ORGANISATION, "a.b");
        kind.and_then(|kind| kind.example.clone())
    };
    assert_eq!(example.as_deref(), Some("{}"), "in the newest schema");
    opened.close().expect("a clean close");
}

/// An event id was unique in the organisation, and is in the application now.
#[actix_web::test]
async fn an_event_id_of_the_version_before_counts_in_its_own_application() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    write_store_of_then(&settings);
    let opened = store(&settings);
    let other = ApplicationId([9; 20]);
    let with_event_id = |application| NewMessage {
        organisation: ORGANISATION,
        application,
        event_type: text("a.b"),
        event_id: Some(text("x")),
        channels: Vec::new(),
        payload: "{}".into(),
        is_raw: false,
        content_type: None,
        lanes: Vec::new(),
        matched_as_of: None,
        once: None,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    };
    let register = move |_: &crate::catalog::Catalog| {
        let application = Application {
            id: other,
            organisation: ORGANISATION,
            uid: None,
            name: text("Other"),
            metadata: BTreeMap::new(),
            throttle_rate: None,
            created_at: AT,
            updated_at: AT,
            tokens_valid_from: None,
            tokens_ending: None,
        };
        Ok((vec![Change::PutApplication(application)], ()))
    };
    opened
        .change(Planned(register))
        .await
        .expect("it is written");
    let by_event_id = |application| opened.message_by_event_id(application, "x");
    assert!(by_event_id(other).expect("it reads").is_none());
    let of_other = opened.accept_message(with_event_id(other)).await;
    let of_other = of_other.expect("another application's");
    for application in [APPLICATION, other] {
        let again = opened.accept_message(with_event_id(application)).await;
        assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
    }
    let found = |application| {
        let message = by_event_id(application).expect("it reads");
        message.expect("it is there").id
    };
    assert_eq!(
        (found(APPLICATION), found(other)),
        (MESSAGE_ID, of_other.id)
    );
    opened.close().expect("a clean close");
}

#[test]
fn an_export_of_the_version_before_is_restored() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    let file = directory.path().join("export.json");
    std::fs::write(&file, EXPORT).expect("room");
    let report =
        export::restore(&settings, &file, &Clock::manual(LATER), false).expect("it restores");
    let none = ["revoked tokens", "contacts"];
    let expected = |kind: &str| u64::from(!none.contains(&kind));
    assert!(
        report
            .counts
            .iter()
            .all(|(kind, count)| *count == expected(kind)),
        "{report:?}"
    );
    let opened = store(&settings);
    {
        let catalog = opened.catalog();
        let endpoint = catalog.endpoint_by_number(LANE).expect("it is there");
        assert_eq!(**endpoint, rows::endpoint());
        let event_type = catalog.event_type(ORGANISATION, "a.b");
        assert_eq!(**event_type.expect("it is there"), rows::event_type());
        let token = catalog.token(TOKEN).expect("it is there");
        assert_eq!(**token, rows::token());
        let application = catalog.application(ORGANISATION, "acme");
        assert_eq!(application.expect("it is there").application.name, "Acme");
        assert_eq!(catalog.len(), 5);
    }
    opened.close().expect("a clean close");
}

#[test]
fn a_webhook_user_from_before_is_granted_the_applications_of_its_endpoints_for_good() {
    let directory = tempfile::tempdir().expect("room");
    let settings = settings(directory.path());
    let file = directory.path().join("export.json");
    std::fs::write(&file, EXPORT).expect("room");
    export::restore(&settings, &file, &Clock::manual(LATER), false).expect("it restores");
    {
        let live = once_free(|| {
            Engine::open(&settings.path.join("live"), 1 << 20)
                .map_err(|error| panic!("it opens: {error}"))
        });
        let mut changes = Changes::default();
        let row = rows::pinned("Token", 4);
        changes.put(&row.key, row.record);
        live.commit(changes).expect("room");
    }
    let granted = |store: &Store| {
        let catalog = store.catalog();
        catalog
            .token(TOKEN)
            .expect("it is there")
            .applications
            .clone()
    };
    let opened = store(&settings);
    assert_eq!(granted(&opened), Some(BTreeSet::from([APPLICATION])));
    let delete =
        |_: &crate::catalog::Catalog| Ok((vec![Change::DeleteEndpoint(APPLICATION, ENDPOINT)], ()));
    let runtime = actix_rt::System::new();
    runtime
        .block_on(opened.change(Planned(delete)))
        .expect("it is deleted");
    opened.close().expect("a clean close");
    drop(opened);
    let opened = store(&settings);
    assert_eq!(
        granted(&opened),
        Some(BTreeSet::from([APPLICATION])),
        "it was decided once"
    );
    opened.close().expect("a clean close");
}
