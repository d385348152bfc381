//! Records, a store and an export as the version before wrote them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;
use crate::config;
use crate::domain::application::Application;
use crate::domain::attempt::FailureKind;
use crate::domain::message::DeliveryKey;
use crate::domain::organisation::Organisation;
use crate::domain::secret::{Secret, SecretForm};
use crate::domain::token::Capability;
use crate::error::Error;
use crate::store::engine::{Changes, Engine};
use crate::store::layout::{self, AttemptPlace, SliceMeta, Waiting};
use crate::store::{Change, NewMessage, OpenError, Settings, Store, export, open, verify};
use crate::telemetry::Metrics;

// Whole records under their keys, as version 1 of each schema wrote them. They never change.
const ENDPOINT_1: &str = concat!(
    "b77001005ae44cf5c3000000030303030303030303030303030303030303030307010101010101010101",
    "010101010101010101010102020202020202020202020202020202020202020105626f6f6b7316687474",
    "70733a2f2f6578616d706c652e636f6d2f696e016401010103612e620101016301016b017601fb2c0101",
    "2677687365635f4d664b51397238474b59717254776a55504438494c505a496f324c614c61537701fd60",
    "52e6cf8b0100000105582d4f6e6501310101750170fd0068e5cf8b010000fd6052e6cf8b010000",
);
const EVENT_TYPE_1: &str = concat!(
    "b7650100c3f5b6403e000000010101010101010101010101010101010101010103612e62016401010104",
    "6265746101087b2231223a7b7d7dfd0068e5cf8b010000fd6052e6cf8b010000",
);
const TOKEN_1: &str = concat!(
    "b7740100ffda6cdd73000000060606060606060606060606060606060606060601010101010101010101",
    "010101010101010101010174010102020202020202020202020202020202020202020707070707070707",
    "070707070707070707070707070707070707070707070707fd0068e5cf8b01000001fd6052e6cf8b0100",
    "00",
);
const MESSAGE_1: &str =
    "b74d010003675d5e1e00000001fd0068e5cf8b01000003612e620101780101637b226e223a312e31307d";
const ATTEMPT_1: &str = concat!(
    "b74101003fc4d8b4ae00000011e1a3010505050505050505050505050505050502020202020202020202",
    "0202020202020202020211e1a30004040404040404040404040404040404030303030303030303030303",
    "03030303030303030201fd6052e6cf8b01000001010001fb2c0100fc701101001668747470733a2f2f65",
    "78616d706c652e636f6d2f696e04504f5354010161016201fbf701010163016402ff000101070a737461",
    "747573203530330101fd6052e6cf8b010000",
);

// And as version 2 of the schema wrote those that had one, and version 1 of a later one.
const EVENT_TYPE_2: &str = concat!(
    "b7650200addacc9846000000010101010101010101010101010101010101010103612e62016401010104",
    "6265746101087b2231223a7b7d7dfd0068e5cf8b010000fd6052e6cf8b01000001027b7d01010163",
);
const TOKEN_2: &str = concat!(
    "b7740200822088b09d000000060606060606060606060606060606060606060601010101010101010101",
    "010101010101010101010174010102020202020202020202020202020202020202020707070707070707",
    "070707070707070707070707070707070707070707070707fd0068e5cf8b01000001fd6052e6cf8b0100",
    "000103030303030303030303030303030303030303030103030303030303030303030303030303030303",
    "03",
);
const TOKEN_3: &str = concat!(
    "b7740300c5aa6d5da9000000060606060606060606060606060606060606060601010101010101010101",
    "010101010101010101010174010102020202020202020202020202020202020202020707070707070707",
    "070707070707070707070707070707070707070707070707fd0068e5cf8b01000001fd6052e6cf8b0100",
    "000103030303030303030303030303030303030303030103030303030303030303030303030303030303",
    "03010101730100010462657461",
);
const MESSAGE_2: &str = concat!(
    "b74d0200b31ecde61f00000001fd0068e5cf8b01000003612e62010178010163027b226e223a312e3130",
    "7d",
);
const MESSAGE_3: &str = concat!(
    "b74d0300bb314b702e00000001fd0068e5cf8b01000003612e62010178010163020101740001fd6052e6",
    "cf8b010000017b226e223a312e31307d",
);
const APPLICATION_1: &str = concat!(
    "b761010085977f954c000000020202020202020202020202020202020202020201010101010101010101",
    "01010101010101010101010461636d650441636d6501016b01760107fd0068e5cf8b010000fd6052e6cf",
    "8b010000",
);

const ENDPOINT_2: &str = concat!(
    "b77002000655b0f3d6000000030303030303030303030303030303030303030307010101010101010101",
    "010101010101010101010102020202020202020202020202020202020202020105626f6f6b7316687474",
    "70733a2f2f6578616d706c652e636f6d2f696e016401010103612e620101016301016b017601fb2c0101",
    "2677687365635f4d664b51397238474b59717254776a55504438494c505a496f324c614c61537701fd60",
    "52e6cf8b0100000105582d4f6e6501310101750170fd0068e5cf8b010000fd6052e6cf8b01000001076f",
    "766174696f6e01010101410173000109",
);
const TOKEN_4: &str = concat!(
    "b77404005cb80e8f80000000060606060606060606060606060606060606060601010101010101010101",
    "010101010101010101010174040007070707070707070707070707070707070707070707070707070707",
    "07070707fd0068e5cf8b01000001fd6052e6cf8b01000001030303030303030303030303030303030303",
    "0303000001fd6052e6cf8b010000",
);
/// The note of an event id, which stood under the organisation then.
const EVENT_ID_OF_ORGANISATION: &str = concat!(
    "b74501003cb1958c2900000001020202020202020202020202020202020202020211e1a3000404040404",
    "0404040404040404040404",
);
const EVENT_ID_OF_ORGANISATION_KEY: &str =
    "4501010101010101010101010101010101010101012d711642b726b04401627ca9fbac32f5";

/// An export of the same registrations, as it was written then.
const EXPORT: &str = concat!(
    r#"{"format":1,"exported_at":1700000060000,"last_endpoint_number":7,"registrations":["#,
    r#"{"organisation":{"id":"org_08scxQNHVpFTZAuVqZq347lZyZV","name":"default","created_at":"#,
    r#"1700000000000}},"#,
    r#"{"token":{"id":"tok_0rHlkYFh4xUrP3T55T2IOkbTrR0","organisation":"org_08scxQNHVpFTZAuVq"#,
    r#"Zq347lZyZV","name":"t","role":"Application","application":"app_0HlFuqkZ1eUx8Lp1h9g68FX"#,
    r#"9x90","hash":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7],"create"#,
    r#"d_at":1700000000000,"expires_at":1700000060000}},"#,
    r#"{"event_type":{"organisation":"org_08scxQNHVpFTZAuVqZq347lZyZV","name":"a.b","descript"#,
    r#"ion":"d","archived":true,"deprecated":true,"feature_flag":"beta","schemas":"{\"1\":{}}"#,
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

const AT: Timestamp = Timestamp(1_700_000_000_000);
const LATER: Timestamp = Timestamp(1_700_000_060_000);
const ORGANISATION: OrganisationId = OrganisationId([1; 20]);
const APPLICATION: ApplicationId = ApplicationId([2; 20]);
const ENDPOINT: EndpointId = EndpointId([3; 20]);
const LANE: u64 = 7;
const TOKEN: TokenId = TokenId([6; 20]);
/// Both begin with their time, which is near `AT`.
const MESSAGE: MessageId =
    MessageId(*b"\x11\xe1\xa3\x00\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04");
const ATTEMPT: AttemptId =
    AttemptId(*b"\x11\xe1\xa3\x01\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05");

fn text(text: &str) -> String {
    text.to_owned()
}

fn endpoint_1() -> Endpoint1 {
    let form = SecretForm::StandardWebhooks;
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", form);
    Endpoint1 {
        id: ENDPOINT,
        number: LANE,
        organisation: ORGANISATION,
        application: APPLICATION,
        uid: Some(text("books")),
        url: text("https://example.com/in"),
        description: text("d"),
        disabled: true,
        event_types: Some(vec![text("a.b")]),
        channels: Some(vec![text("c")]),
        metadata: BTreeMap::from([(text("k"), text("v"))]),
        throttle_rate: Some(300),
        secrets: vec![EndpointSecret {
            secret: secret.expect("it is one"),
            expires_at: Some(LATER),
        }],
        headers: BTreeMap::from([(text("X-One"), text("1"))]),
        basic_auth: Some(BasicAuth {
            username: text("u"),
            password: text("p"),
        }),
        created_at: AT,
        updated_at: LATER,
    }
}

fn event_type_1() -> EventType1 {
    EventType1 {
        organisation: ORGANISATION,
        name: text("a.b"),
        description: text("d"),
        archived: true,
        deprecated: true,
        feature_flag: Some(text("beta")),
        schemas: Some(text(r#"{"1":{}}"#)),
        created_at: AT,
        updated_at: LATER,
    }
}

fn token_1() -> Token1 {
    Token1 {
        id: TOKEN,
        organisation: ORGANISATION,
        name: text("t"),
        role: Role::Application,
        application: Some(APPLICATION),
        hash: [7; 32],
        created_at: AT,
        expires_at: Some(LATER),
    }
}

fn message_1() -> MessageMeta1 {
    MessageMeta1 {
        commit: 1,
        accepted_at: AT,
        event_type: text("a.b"),
        event_id: Some(text("x")),
        channels: vec![text("c")],
    }
}

fn attempt_1() -> Attempt1 {
    Attempt1 {
        id: ATTEMPT,
        application: APPLICATION,
        message: MESSAGE,
        endpoint: ENDPOINT,
        number: 2,
        trigger: Trigger::Manual,
        started_at: LATER,
        timings: Timings {
            dns_us: Some(1),
            connect_us: None,
            tls_us: Some(300),
            first_byte_us: None,
            total_us: 70_000,
        },
        url: text("https://example.com/in"),
        method: text("POST"),
        request_headers: vec![(text("a"), text("b"))],
        answer: Some(Answer {
            status: 503,
            headers: vec![(text("c"), text("d"))],
            body: vec![0xff, 0],
            truncated: true,
        }),
        failure: Some(Failure {
            kind: FailureKind::WrongAnswer,
            detail: text("status 503"),
        }),
        sent_again: true,
        verdict: Verdict::RetryAt(LATER),
    }
}

const PAYLOAD: &[u8] = br#"{"n":1.10}"#;

/// So that old structs can be written once more.
macro_rules! as_then {
    ($schema:literal; $($kind:ty),*) => {$(
        impl Kept for $kind {
            const SCHEMA: u16 = $schema;

            fn read_older(_: u16, bytes: &mut &[u8]) -> bincode::Result<Self> {
                read_struct(bytes)
            }
        }
    )*};
}

as_then!(1; Endpoint1, EventType1, Token1, Application1, MessageMeta1, Attempt1);
as_then!(2; EventType2, Token2, MessageMeta2, Endpoint2);
as_then!(3; Token3, MessageMeta3);
as_then!(4; Token4);

/// What `new` has beside the fields of `old`, which must be the same.
#[track_caller]
fn gained(old: &impl Serialize, new: &impl Serialize) -> Value {
    let value = |one: Result<Value, serde_json::Error>| one.expect("it is plain data");
    let (old, mut new) = (
        value(serde_json::to_value(old)),
        value(serde_json::to_value(new)),
    );
    for (name, value) in old.as_object().expect("a struct") {
        // One flag or none has become a list of them.
        let (name, value) = match (name.as_str(), value) {
            ("feature_flag", Value::Null) => ("feature_flags", json!([])),
            ("feature_flag", flag) => ("feature_flags", json!([flag])),
            (name, value) => (name, value.clone()),
        };
        let same = new.as_object_mut().and_then(|new| new.remove(name));
        assert_eq!(same, Some(value), "{name}");
    }
    new
}

/// Checks a pinned record against the struct that it was made from; returns what it gained by
/// being read, and the raw bytes behind it.
#[track_caller]
fn read_today<Old: Kept, New: Kept + DeserializeOwned>(
    key: &[u8],
    pinned: &str,
    old: &Old,
    raw: &[u8],
) -> (Value, Vec<u8>) {
    assert_eq!(hex::encode(layout::encode(key, old, raw)), pinned);
    let record = hex::decode(pinned).expect("it is hex");
    let (new, raw_at) = layout::decode::<New>(key, &record).expect("it reads");
    (gained(old, &new), record[raw_at..].to_vec())
}

#[test]
fn records_of_the_first_schema_read_as_what_they_meant() {
    let none = Vec::new();
    assert_eq!(
        read_today::<_, Endpoint>(&endpoint_key(), ENDPOINT_1, &endpoint_1(), &[]),
        (
            json!({
                "profile": null, "method": null, "auth_headers": {}, "retry": null,
                "timeout_seconds": null, "open_headers": [],
            }),
            none.clone()
        )
    );
    assert_eq!(
        read_today::<_, EventType>(&event_type_key(), EVENT_TYPE_1, &event_type_1(), &[]),
        (
            json!({ "example": null, "channels": null, "group_name": null }),
            none.clone()
        )
    );
    assert_eq!(
        read_today::<_, Token>(&layout::token_key(TOKEN), TOKEN_1, &token_1(), &[]),
        (
            json!({
                "grants": [], "account_endpoint": null, "session": null, "last_used_at": null,
                "applications": null, "made_by": null,
            }),
            none.clone()
        )
    );
    assert_eq!(
        read_today::<_, MessageMeta>(&message_key(), MESSAGE_1, &message_1(), PAYLOAD),
        (
            json!({
                "origin": "Published", "tags": [], "deliver_at": null, "expires_at": null,
                "expunged": false, "is_raw": false, "content_type": null,
            }),
            PAYLOAD.to_vec()
        )
    );
    assert_eq!(
        read_today::<_, Attempt>(&attempt_key(), ATTEMPT_1, &attempt_1(), &[]),
        (json!({ "test": false }), none)
    );
}

#[test]
fn records_of_the_second_schema_read_as_what_they_meant() {
    let none = Vec::new();
    let event_type = EventType2 {
        example: Some(text("{}")),
        channels: Some(vec![text("c")]),
        ..event_type_1().into()
    };
    assert_eq!(
        read_today::<_, EventType>(&event_type_key(), EVENT_TYPE_2, &event_type, &[]),
        (json!({ "group_name": null }), none.clone())
    );
    let token = Token2 {
        grants: BTreeSet::from([ENDPOINT]),
        account_endpoint: Some(ENDPOINT),
        ..token_1().into()
    };
    assert_eq!(
        read_today::<_, Token>(&layout::token_key(TOKEN), TOKEN_2, &token, &[]),
        (
            json!({
                "session": null, "last_used_at": null, "applications": null, "made_by": null,
            }),
            none.clone()
        )
    );
    let message = MessageMeta2 {
        origin: Origin::TestOnce,
        ..message_1().into()
    };
    assert_eq!(
        read_today::<_, MessageMeta>(&message_key(), MESSAGE_2, &message, PAYLOAD),
        (
            json!({
                "tags": [], "deliver_at": null, "expires_at": null, "expunged": false,
                "is_raw": false, "content_type": null,
            }),
            PAYLOAD.to_vec()
        )
    );
    let message = MessageMeta3 {
        tags: vec![text("t")],
        expires_at: Some(LATER),
        expunged: true,
        ..message.into()
    };
    assert_eq!(
        read_today::<_, MessageMeta>(&message_key(), MESSAGE_3, &message, PAYLOAD),
        (
            json!({ "is_raw": false, "content_type": null }),
            PAYLOAD.to_vec()
        )
    );
    let application = Application1 {
        id: APPLICATION,
        organisation: ORGANISATION,
        uid: Some(text("acme")),
        name: text("Acme"),
        metadata: BTreeMap::from([(text("k"), text("v"))]),
        throttle_rate: Some(7),
        created_at: AT,
        updated_at: LATER,
    };
    assert_eq!(
        read_today::<_, Application>(
            &layout::application_key(APPLICATION),
            APPLICATION_1,
            &application,
            &[]
        ),
        (
            json!({ "tokens_valid_from": null, "tokens_ending": null }),
            none
        )
    );
}

fn endpoint_key() -> Vec<u8> {
    layout::endpoint_key(APPLICATION, ENDPOINT)
}

fn event_type_key() -> Vec<u8> {
    layout::event_type_key(ORGANISATION, "a.b")
}

fn message_key() -> Vec<u8> {
    layout::message_key(APPLICATION, MESSAGE)
}

fn attempt_key() -> Vec<u8> {
    layout::attempt_key(LANE, ATTEMPT)
}

fn settings(directory: &Path) -> Settings {
    let mut config = config::load(None, config::Flags::default()).expect("the defaults");
    config.store.path = directory.join("data");
    config.store.min_free_bytes = 1;
    Settings::from_config(&config)
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

fn store(settings: &Settings) -> Store {
    let clock = Clock::manual(LATER);
    once_free(|| Store::open(settings.clone(), clock.clone(), Arc::new(Metrics::new())))
}

/// A store in whose files stand the pinned records, closed, and a delivery that is held.
fn write_store_of_then(settings: &Settings) {
    let mut files = open::open_files(settings, &Clock::manual(AT)).expect("a new store");
    let mut live = Changes::default();
    let pinned = |record: &str| hex::decode(record).expect("it is hex");
    for change in [
        Change::PutOrganisation(Organisation {
            id: ORGANISATION,
            name: text("o"),
            created_at: AT,
        }),
        Change::PutApplication(Application {
            id: APPLICATION,
            organisation: ORGANISATION,
            uid: Some(text("acme")),
            name: text("Acme"),
            metadata: BTreeMap::new(),
            throttle_rate: None,
            created_at: AT,
            updated_at: AT,
            tokens_valid_from: None,
            tokens_ending: None,
        }),
    ] {
        let (key, record) = layout::registration(&change);
        live.put(&key, record.expect("it is there"));
    }
    live.put(&endpoint_key(), pinned(ENDPOINT_1));
    live.put(&event_type_key(), pinned(EVENT_TYPE_1));
    live.put(&layout::token_key(TOKEN), pinned(TOKEN_1));
    let waiting = DeliveryKey {
        lane: LANE,
        due: LATER,
        message: MESSAGE,
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
    slice.put(&message_key(), pinned(MESSAGE_1));
    let event_key = pinned(EVENT_ID_OF_ORGANISATION_KEY);
    slice.put(&event_key, pinned(EVENT_ID_OF_ORGANISATION));
    slice.put(&attempt_key(), pinned(ATTEMPT_1));
    let place_key = layout::attempt_of_message_key(MESSAGE, ATTEMPT);
    layout::put(&mut slice, &place_key, &AttemptPlace { lane: LANE }, &[]);
    layout::put(&mut slice, &[layout::META], &files.meta.slice, &[]);
    let path = settings.path.join("slices").join("00000001");
    let engine = Engine::open(&path, 1 << 20).expect("a new slice");
    engine.commit(slice).expect("room");
    layout::replace(&files.live, &mut live, &[layout::META], &files.meta).expect("it is there");
    files.live.commit(live).expect("room");
}

fn assert_has_what_was_written(store: &Store) {
    let catalog = store.catalog();
    let endpoint = catalog.endpoint_by_number(LANE).expect("it is there");
    gained(&endpoint_1(), &**endpoint);
    let event_type = catalog
        .event_type(ORGANISATION, "a.b")
        .expect("it is there");
    gained(&event_type_1(), &**event_type);
    gained(&token_1(), &**catalog.token(TOKEN).expect("it is there"));
    let message = store.message(APPLICATION, MESSAGE).expect("it reads");
    let message = message.expect("it is there");
    assert_eq!(message.payload, PAYLOAD);
    assert_eq!(message.origin, Origin::Published);
    let attempt = store.attempt(MESSAGE, ATTEMPT).expect("it reads");
    gained(&attempt_1(), &attempt.expect("it is there"));
    assert_eq!(store.waiting_count(), 1);
}

#[actix_web::test]
async fn a_store_of_the_version_before_opens_and_is_written_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    write_store_of_then(&settings);
    let opened = store(&settings);
    assert_has_what_was_written(&opened);
    let again = |catalog: &crate::store::Catalog| {
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
    opened.change(again).await.expect("it is written");
    opened.close().expect("a clean close");
    drop(opened);
    let report = once_free(|| verify(&settings, &Clock::manual(LATER)));
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
        payload: actix_web::web::Bytes::from_static(b"{}"),
        is_raw: false,
        content_type: None,
        lanes: Vec::new(),
        once: None,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
    };
    let register = move |_: &crate::store::Catalog| {
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
    opened.change(register).await.expect("it is written");
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
    assert_eq!((found(APPLICATION), found(other)), (MESSAGE, of_other.id));
    opened.close().expect("a clean close");
}

#[test]
fn an_export_of_the_version_before_is_restored() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = settings(directory.path());
    let file = directory.path().join("export.json");
    std::fs::write(&file, EXPORT).expect("room");
    let report = export::restore(&settings, &file, &Clock::manual(LATER)).expect("it restores");
    let expected = |kind: &str| if kind == "revoked tokens" { 0 } else { 1 };
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
        gained(&endpoint_1(), &**endpoint);
        let event_type = catalog.event_type(ORGANISATION, "a.b");
        gained(&event_type_1(), &**event_type.expect("it is there"));
        gained(&token_1(), &**catalog.token(TOKEN).expect("it is there"));
        let application = catalog.application(ORGANISATION, "acme");
        assert_eq!(application.expect("it is there").application.name, "Acme");
        assert_eq!(catalog.len(), 5);
    }
    opened.close().expect("a clean close");
}

#[test]
fn records_of_the_third_schema_read_as_what_they_meant() {
    let token = Token3 {
        session: Some(PortalSession {
            id: Some(text("s")),
            capabilities: BTreeSet::from([Capability::ViewBase]),
            feature_flags: BTreeSet::from([text("beta")]),
        }),
        ..Token2 {
            grants: BTreeSet::from([ENDPOINT]),
            account_endpoint: Some(ENDPOINT),
            ..token_1().into()
        }
        .into()
    };
    assert_eq!(
        read_today::<_, Token>(&layout::token_key(TOKEN), TOKEN_3, &token, &[]),
        (
            json!({ "last_used_at": null, "applications": null, "made_by": null }),
            Vec::new()
        )
    );
}

fn endpoint_2() -> Endpoint2 {
    Endpoint2 {
        profile: Some(text("ovation")),
        method: Some(Method::Put),
        auth_headers: BTreeMap::from([(text("A"), text("s"))]),
        timeout_seconds: Some(9),
        ..endpoint_1().into()
    }
}

fn token_4() -> Token4 {
    Token4 {
        role: Role::WebhookUser,
        application: None,
        grants: BTreeSet::from([ENDPOINT]),
        last_used_at: Some(LATER),
        ..Token3::from(Token2::from(token_1())).into()
    }
}

#[test]
fn endpoints_and_tokens_from_before_applications_were_granted_read_as_what_they_meant() {
    assert_eq!(
        read_today::<_, Endpoint>(&endpoint_key(), ENDPOINT_2, &endpoint_2(), &[]),
        (json!({ "open_headers": ["X-One"] }), Vec::new()),
        "what Ovation's surface showed it goes on showing"
    );
    assert_eq!(
        read_today::<_, Token>(&layout::token_key(TOKEN), TOKEN_4, &token_4(), &[]),
        (json!({ "applications": null, "made_by": null }), Vec::new())
    );
}

#[test]
fn a_webhook_user_from_before_is_granted_the_applications_of_its_endpoints_for_good() {
    let directory = tempfile::tempdir().expect("room");
    let settings = settings(directory.path());
    let file = directory.path().join("export.json");
    std::fs::write(&file, EXPORT).expect("room");
    export::restore(&settings, &file, &Clock::manual(LATER)).expect("it restores");
    {
        let live = once_free(|| {
            Engine::open(&settings.path.join("live"), 1 << 20)
                .map_err(|error| panic!("it opens: {error}"))
        });
        let mut changes = Changes::default();
        let key = layout::token_key(TOKEN);
        layout::replace(&live, &mut changes, &key, &token_4()).expect("it is written");
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
        |_: &crate::store::Catalog| Ok((vec![Change::DeleteEndpoint(APPLICATION, ENDPOINT)], ()));
    let runtime = actix_rt::System::new();
    runtime
        .block_on(opened.change(delete))
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
