//! The rows: what stands on disk, and what it means. See the module above.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::*;
use crate::domain::application::TokensEnding;
use crate::domain::attempt::{Answer, FailureKind, SendFailure, Timings, Verdict};
use crate::domain::contact::{ContactCode, Digits};
use crate::domain::disabled::{Disabled, DisabledReason};
use crate::domain::endpoint::{BasicAuth, CatchUp, EndpointSecret};
use crate::domain::event_type::{EventType, Strictness};
use crate::domain::filter::Filter;
use crate::domain::health::{Failing, Health, Rest, RestReason};
use crate::domain::hold::{Held, HeldReason};
use crate::domain::id::VisitId;
use crate::domain::job::{JobState, Matching, Progress, Replay, Which, Work};
use crate::domain::jwt::{Claims, Subject};
use crate::domain::message::DeliveryStatus;
use crate::domain::notice::{News, Notice, Told, ToldKind};
use crate::domain::profile::Method;
use crate::domain::retry::{RetrySchedule, Waits};
use crate::domain::scope::Scope;
use crate::domain::secret::{Secret, SecretForm};
use crate::domain::token::{Capability, MadeByLink, PortalSession, Role};
use crate::domain::transformation::{Transformation, TransformationVersion};
use crate::domain::verification::Verification;
use crate::domain::visit::{SignedInWith, Surface};

pub const AT: Timestamp = Timestamp(1_700_000_000_000);
pub const LATER: Timestamp = Timestamp(1_700_000_060_000);
const LATEST: Timestamp = Timestamp(1_700_000_120_000);
pub const ORGANISATION: OrganisationId = OrganisationId([1; 20]);
pub const APPLICATION: ApplicationId = ApplicationId([2; 20]);
pub const ENDPOINT: EndpointId = EndpointId([3; 20]);
pub const LANE: u64 = 7;
pub const TOKEN: TokenId = TokenId([6; 20]);
const HASH: [u8; 32] = [7; 32];
const JOB_ID: JobId = JobId([8; 20]);
/// Both begin with their time, which is near `AT`.
pub const MESSAGE_ID: MessageId =
    MessageId(*b"\x11\xe1\xa3\x00\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04\x04");
pub const ATTEMPT_ID: AttemptId =
    AttemptId(*b"\x11\xe1\xa3\x01\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05");
pub const PAYLOAD: &[u8] = br#"{"n":1.10}"#;

pub fn all() -> Vec<Row> {
    let mut rows = of_registrations();
    rows.extend(of_endpoints());
    rows.extend(of_tokens());
    rows.extend(of_visits());
    rows.extend(of_jobs());
    rows.extend(of_the_live_database());
    rows.extend(of_messages());
    rows.extend(of_attempts());
    rows
}

/// The first row of a schema.
pub fn pinned(name: &str, schema: u16) -> Row {
    let mut rows = all().into_iter();
    let row = rows.find(|row| (row.name, row.schema) == (name, schema));
    row.unwrap_or_else(|| panic!("{name} {schema} has no row"))
}

pub fn text(text: &str) -> String {
    text.to_owned()
}

fn map(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(text(name), text(value))])
}

// Values of the first schema of what has had several, as they read today.

pub fn application() -> Application {
    Application {
        id: APPLICATION,
        organisation: ORGANISATION,
        uid: Some(text("acme")),
        name: text("Acme"),
        metadata: map("k", "v"),
        throttle_rate: Some(7),
        created_at: AT,
        updated_at: LATER,
        tokens_valid_from: None,
        tokens_ending: None,
    }
}

pub fn event_type() -> EventType {
    EventType {
        organisation: ORGANISATION,
        name: text("a.b"),
        description: text("d"),
        archived: true,
        deprecated: false,
        feature_flags: vec![text("beta")],
        schemas: Some(text(r#"{"1":{}}"#)),
        created_at: AT,
        updated_at: LATER,
        example: None,
        channels: None,
        group_name: None,
        validate: Strictness::Off,
    }
}

pub fn endpoint() -> Endpoint {
    let form = SecretForm::StandardWebhooks;
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", form);
    Endpoint {
        id: ENDPOINT,
        number: LANE,
        organisation: ORGANISATION,
        application: APPLICATION,
        uid: Some(text("books")),
        url: text("https://example.com/in"),
        description: text("d"),
        disabled: Some(Disabled {
            at: LATER,
            reason: DisabledReason::Unknown,
        }),
        event_types: Some(vec![text("a.b")].into()),
        channels: Some(vec![text("c")]),
        metadata: map("k", "v"),
        throttle_rate: Some(300),
        secrets: vec![EndpointSecret {
            secret: secret.expect("it is one"),
            expires_at: Some(LATER),
        }],
        headers: map("X-One", "1"),
        basic_auth: Some(BasicAuth {
            username: text("u"),
            password: text("p"),
        }),
        created_at: AT,
        updated_at: LATER,
        profile: None,
        method: None,
        auth_headers: BTreeMap::new(),
        retry: None,
        timeout_seconds: None,
        open_headers: BTreeSet::new(),
        verification: None,
        held: None,
        breaker_failures: None,
        disable_after_hours: None,
        catch_up: None,
        filter: None,
        transformations: Vec::new(),
    }
}

pub fn token() -> Token {
    Token {
        id: TOKEN,
        application: Some(APPLICATION),
        expires_at: Some(LATER),
        ..Token::new(ORGANISATION, Role::Application, text("t"), HASH, AT)
    }
}

pub fn message() -> MessageMeta {
    MessageMeta {
        commit: 1,
        accepted_at: AT,
        event_type: text("a.b"),
        event_id: Some(text("x")),
        channels: vec![text("c")],
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        expunged: false,
        is_raw: false,
        content_type: None,
        endpoints_matched: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    }
}

pub fn attempt() -> Attempt {
    Attempt {
        id: ATTEMPT_ID,
        application: APPLICATION,
        message: MESSAGE_ID,
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
        failure: Some(SendFailure {
            kind: FailureKind::WrongAnswer,
            detail: text("status 503"),
        }),
        sent_again: true,
        verdict: Verdict::RetryAt(LATER),
        test: false,
    }
}

fn of_registrations() -> Vec<Row> {
    let organisation = Organisation {
        id: ORGANISATION,
        name: text("o"),
        created_at: AT,
    };
    let application_at = || ("61 02*20", application_key(APPLICATION));
    let event_type_at = || {
        let pinned = "65 01*20 612e62";
        (pinned, event_type_key(ORGANISATION, "a.b"))
    };
    let contact = Contact {
        application: APPLICATION,
        address: Some(text("a@b.c")),
        verified_at: Some(AT),
        code: Some(ContactCode {
            digits: Digits::kept(text("012345")),
            asked_at: LATER,
            tries: 3,
            mail_due: true,
        }),
        asked_at: vec![LATEST],
    };
    let revocation = Revocation {
        hash: HASH,
        until: Some(AT),
    };
    vec![
        row(
            1,
            ("6f 01*20", organisation_key(ORGANISATION)),
            "b76f 0100 9d7bee2b 1f000000 01*20 01 6f fd0068e5cf8b010000",
            &organisation,
            &[],
        ),
        row(
            1,
            application_at(),
            "b761 0100 85977f95 4c000000 02*20 01*20 01 0461636d65 0441636d65 01016b0176 0107
             fd0068e5cf8b010000 fd6052e6cf8b010000",
            &application(),
            &[],
        ),
        row(
            2,
            application_at(),
            "b761 0200 fd0d99ab 69000000 02*20 01*20 01 0461636d650441636d6501016b01760107
             fd0068e5cf8b010000 fd6052e6cf8b010000 01fd0068e5cf8b010000 01fd6052e6cf8b010000
             fdc03ce7cf8b010000",
            &Application {
                tokens_valid_from: Some(AT),
                tokens_ending: Some(TokensEnding {
                    issued_before: LATER,
                    at: LATEST,
                }),
                ..application()
            },
            &[],
        ),
        row(
            1,
            event_type_at(),
            "b765 0100 0be2288f 3e000000 01*20 03612e62 0164 01 00 010462657461
             01087b2231223a7b7d7d fd0068e5cf8b010000 fd6052e6cf8b010000",
            &event_type(),
            &[],
        ),
        row(
            2,
            event_type_at(),
            "b765 0200 562cdfdf 46000000 01*20 03612e62 0164 01 00 010462657461
             01087b2231223a7b7d7d fd0068e5cf8b010000 fd6052e6cf8b010000 01027b7d 01010163",
            &EventType {
                example: Some(text("{}")),
                channels: Some(vec![text("c")]),
                ..event_type()
            },
            &[],
        ),
        row(
            3,
            event_type_at(),
            "b765 0300 e1adb4ab 4d000000 01*20
             03612e6201640100020462657461036e657701087b2231223a7b7d7d fd0068e5cf8b010000
             fd6052e6cf8b010000 01027b7d01010163010167",
            &EventType {
                feature_flags: vec![text("beta"), text("new")],
                example: Some(text("{}")),
                channels: Some(vec![text("c")]),
                group_name: Some(text("g")),
                ..event_type()
            },
            &[],
        ),
        row(
            4,
            event_type_at(),
            "b765 0400 40a90236 4e000000 01*20 03612e6201640100020462657461036e657701087b2231223a7b7d7d
             fd0068e5cf8b010000 fd6052e6cf8b010000 01027b7d01010163010167 02",
            &EventType {
                feature_flags: vec![text("beta"), text("new")],
                example: Some(text("{}")),
                channels: Some(vec![text("c")]),
                group_name: Some(text("g")),
                validate: Strictness::Reject,
                ..event_type()
            },
            &[],
        ),
        row(
            1,
            ("63 02*20", contact_key(APPLICATION)),
            "b763 0100 b311625d 42000000 02*20 01056140622e63 01fd0068e5cf8b010000
             01 06303132333435 fd6052e6cf8b010000 03 01 01fdc03ce7cf8b010000",
            &contact,
            &[],
        ),
        row(
            1,
            ("78 07*32", revocation_key(&HASH)),
            "b778 0100 ffe3f6a8 2a000000 07*32 01fd0068e5cf8b010000",
            &revocation,
            &[],
        ),
    ]
}

fn of_visits() -> Vec<Row> {
    vec![row(
        1,
        ("76 07*32", visit_key(&HASH)),
        "b776 0100 0a3493cb fc000000 09*20 07*32 01 01*20 01 02*20 0a*32 01 01*20 01 02*20 01
             fd0068e5cf8b010000 01 fd6052e6cf8b010000 01 0462657461 0b*32 fd0068e5cf8b010000
             fdc03ce7cf8b010000 00 c0000207 010162",
        &Visit {
            id: VisitId([9; 20]),
            key: HASH,
            surface: Surface::Portal,
            organisation: ORGANISATION,
            application: Some(APPLICATION),
            credential: [10; 32],
            with: SignedInWith::Signed {
                claims: claims(),
                seal: [11; 32],
            },
            begun_at: AT,
            seen_at: LATEST,
            address: "192.0.2.7".parse().expect("an address"),
            user_agent: Some(text("b")),
        },
        &[],
    )]
}

/// Claims of a signed token that somebody signed in with.
pub fn claims() -> Claims {
    Claims {
        subject: Subject {
            organisation: ORGANISATION,
            application: Some(APPLICATION),
        },
        issued_at: Some(AT),
        expires_at: Some(LATER),
        feature_flags: BTreeSet::from([text("beta")]),
    }
}

fn of_endpoints() -> Vec<Row> {
    let key = || ("70 02*20 03*20", endpoint_key(APPLICATION, ENDPOINT));
    let second = Endpoint {
        profile: Some(text("ovation")),
        method: Some(Method::Put),
        auth_headers: map("A", "s"),
        timeout_seconds: Some(9),
        // What Ovation's surface showed it goes on showing.
        open_headers: BTreeSet::from([text("X-One")]),
        ..endpoint()
    };
    let retried = |waits: Waits| Endpoint {
        retry: Some(RetrySchedule { waits, jitter: 0.5 }),
        ..second.clone()
    };
    let sixth = Endpoint {
        disabled: Some(Disabled {
            at: LATER,
            reason: DisabledReason::Failing,
        }),
        verification: Some(Verification {
            attempts: 2,
            next_at: Some(LATEST),
            last_at: Some(LATER),
            last_error: Some(text("e")),
        }),
        held: Some(Held {
            since: LATEST,
            reason: HeldReason::Restored,
        }),
        breaker_failures: Some(3),
        disable_after_hours: Some(300),
        catch_up: Some(CatchUp {
            rate: 7,
            published_before: LATEST,
        }),
        ..retried(Waits::Listed(vec![Duration::from_secs(5)]))
    };
    vec![
        row(
            1,
            key(),
            "b770 0100 5ae44cf5 c3000000 03*20 07 01*20 02*20 0105626f6f6b73
             1668747470733a2f2f6578616d706c652e636f6d2f696e 0164 01 010103612e62 01010163 01016b0176
             01fb2c01 01267768736563
             5f4d664b51397238474b59717254776a55504438494c505a496f324c614c61537701fd6052e6cf8b010000
             0105582d4f6e650131 0101750170 fd0068e5cf8b010000 fd6052e6cf8b010000",
            &endpoint(),
            &[],
        ),
        row(
            2,
            key(),
            "b770 0200 0655b0f3 d6000000 03*20 07 01*20 02*20 0105626f6f6b73
             1668747470733a2f2f6578616d706c652e636f6d2f696e 0164 01 010103612e62 01010163 01016b0176
             01fb2c01 01267768736563
             5f4d664b51397238474b59717254776a55504438494c505a496f324c614c61537701fd6052e6cf8b010000
             0105582d4f6e650131 0101750170 fd0068e5cf8b010000 fd6052e6cf8b010000 01076f766174696f6e
             0101 0101410173 00 0109",
            &second,
            &[],
        ),
        row(
            2,
            key(),
            "b770 0200 1b4db50a e8000000 03*20 07 01*20 02*20
             0105626f6f6b731668747470733a2f2f6578616d706c652e636f6d2f696e016401010103
             612e620101016301016b017601fb2c01012677687365635f4d664b51397238474b597172
             54776a55504438494c505a496f324c614c615377 01fd6052e6cf8b010000
             0105582d4f6e6501310101750170 fd0068e5cf8b010000 fd6052e6cf8b010000
             01076f766174696f6e0101010141017301000205003cfc40420f00000000000000e03f01 09",
            &retried(Waits::Listed(vec![
                Duration::from_secs(5),
                Duration::from_millis(60_001),
            ])),
            &[],
        ),
        row(
            3,
            key(),
            "b770 0300 0a0cff39 f4000000 03*20 07 01*20 02*20
             0105626f6f6b731668747470733a2f2f6578616d706c652e636f6d2f696e016401010103
             612e620101016301016b017601fb2c01012677687365635f4d664b51397238474b597172
             54776a55504438494c505a496f324c614c615377 01fd6052e6cf8b010000
             0105582d4f6e6501310101750170 fd0068e5cf8b010000 fd6052e6cf8b010000
             01076f766174696f6e01010101410173010101 00*8
             4003000400000000000000e03f01090105582d4f6e65",
            &retried(Waits::Growing {
                first: Duration::from_secs(1),
                factor: 2.0,
                max: Duration::from_secs(3),
                give_up_after: Duration::from_secs(4),
            }),
            &[],
        ),
        row(
            4,
            key(),
            "b770 0400 2463dd98 02010000 03*20 07 01*20 02*20
             0105626f6f6b731668747470733a2f2f6578616d706c652e636f6d2f696e016401010103
             612e620101016301016b017601fb2c01012677687365635f4d664b51397238474b597172
             54776a55504438494c505a496f324c614c615377 01fd6052e6cf8b010000
             0105582d4f6e6501310101750170 fd0068e5cf8b010000 fd6052e6cf8b010000
             01076f766174696f6e0101010141017301 0001050000000000 0000e03f0109 0105582d4f6e65
             01 02 01fdc03ce7cf8b010000 01fd6052e6cf8b010000 010165",
            &Endpoint {
                verification: Some(Verification {
                    attempts: 2,
                    next_at: Some(LATEST),
                    last_at: Some(LATER),
                    last_error: Some(text("e")),
                }),
                ..retried(Waits::Listed(vec![Duration::from_secs(5)]))
            },
            &[],
        ),
        row(
            5,
            key(),
            "b770 0500 c4ab0b05 0d010000 03*20 07 01*20 02*20
             0105626f6f6b731668747470733a2f2f6578616d706c652e636f6d2f696e016401010103
             612e620101016301016b017601fb2c01012677687365635f4d664b51397238474b597172
             54776a55504438494c505a496f324c614c615377 01fd6052e6cf8b010000
             0105582d4f6e6501310101750170 fd0068e5cf8b010000 fd6052e6cf8b010000
             01076f766174696f6e0101010141017301 0001050000000000 0000e03f0109 0105582d4f6e65
             01 02 01fdc03ce7cf8b010000 01fd6052e6cf8b010000 010165
             01 fdc03ce7cf8b010000 01",
            &Endpoint {
                verification: Some(Verification {
                    attempts: 2,
                    next_at: Some(LATEST),
                    last_at: Some(LATER),
                    last_error: Some(text("e")),
                }),
                held: Some(Held {
                    since: LATEST,
                    reason: HeldReason::Restored,
                }),
                ..retried(Waits::Listed(vec![Duration::from_secs(5)]))
            },
            &[],
        ),
        row(
            6,
            key(),
            "b770 0600 67237cd5 29010000
              03*20 07 01*20 02*20 0105626f6f6b731668747470733a2f2f6578616d706c652e63
             6f6d2f696e016401010103612e620101016301016b017601fb2c01012677687365635f4d
             664b51397238474b59717254776a55504438494c505a496f324c614c61537701fd6052e6
             cf8b0100000105582d4f6e6501310101750170fd0068e5cf8b010000fd6052e6cf8b0100
             0001076f766174696f6e010101014101730100010500000000000000e03f01090105582d
             4f6e65010201fdc03ce7cf8b01000001fd6052e6cf8b01000001016501fdc03ce7cf8b01
             00000101fd6052e6cf8b01000004010301fb2c010107fdc03ce7cf8b010000",
            &sixth,
            &[],
        ),
        row(
            7,
            key(),
            "b770 0700 c44d71f9 73010000 03*20 07 01*20 02*20
             0105626f6f6b731668747470733a2f2f6578616d706c652e636f6d2f696e016401010103
             612e620101016301016b017601fb2c01012677687365635f4d664b51397238474b597172
             54776a55504438494c505a496f324c614c61537701fd6052e6cf8b010000
             0105582d4f6e6501310101750170fd0068e5cf8b010000fd6052e6cf8b010000
             01076f766174696f6e010101014101730100010500000000000000e03f01090105582d4f6e65
             010201fdc03ce7cf8b01000001fd6052e6cf8b010000010165 01fdc03ce7cf8b010000
             0101fd6052e6cf8b01000004010301fb2c010107fdc03ce7cf8b010000
             01107b2264617461223a7b2261223a317d7d
             0202fdc03ce7cf8b0100000001fd6052e6cf8b01000001010d7b7b207061796c6f6164207d7d
             0107582d5468726565013301010103612f62",
            &Endpoint {
                filter: Some(Arc::new(
                    Filter::read(r#"{"data":{"a":1}}"#).expect("it is one"),
                )),
                transformations: vec![
                    Arc::new(TransformationVersion {
                        number: 2,
                        saved_at: LATEST,
                        transformation: None,
                    }),
                    Arc::new(TransformationVersion {
                        number: 1,
                        saved_at: LATER,
                        transformation: Some(Transformation {
                            body: Some(text("{{ payload }}")),
                            headers: map("X-Three", "3"),
                            method: Some(Method::Put),
                            content_type: Some(text("a/b")),
                        }),
                    }),
                ],
                ..sixth.clone()
            },
            &[],
        ),
    ]
}

/// Of an endpoint that fails, with everything that a record may hold.
pub fn health() -> Health {
    let news = |exhausted| News {
        exhausted,
        failure: text("f"),
        event_type: text("a.b"),
        disabled: true,
    };
    Health {
        failing: Some(Failing {
            since: AT,
            last_at: LATER,
            failures: 300,
            rest: Some(Rest {
                reason: RestReason::Failures,
                since: LATER,
                probe_at: LATEST,
                probes: 2,
            }),
            warned: 1,
            disables_at: Some(LATEST),
        }),
        notice: Some(Notice {
            due: Some(LATEST),
            news: news(3),
            told_at: Some(AT),
            told_failing: true,
            mail: Some(Told {
                at: AT,
                kind: ToldKind::Failing,
                failing_since: Some(AT),
                disables_at: None,
                news: news(0),
            }),
        }),
    }
}

fn of_tokens() -> Vec<Row> {
    let key = || ("74 06*20", token_key(TOKEN));
    let second = Token {
        grants: BTreeSet::from([ENDPOINT]),
        account_endpoint: Some(ENDPOINT),
        ..token()
    };
    let third = Token {
        session: Some(PortalSession {
            id: Some(text("s")),
            capabilities: BTreeSet::from([Capability::ViewBase]),
            feature_flags: BTreeSet::from([text("beta")]),
        }),
        ..second.clone()
    };
    let full = Token {
        account_endpoint: Some(EndpointId([9; 20])),
        last_used_at: Some(LATEST),
        ..third.clone()
    };
    let fifth = Token {
        applications: Some(BTreeSet::from([APPLICATION])),
        made_by: Some(MadeByLink {
            link: TokenId([0x0a; 20]),
            session: Some(text("m")),
        }),
        ..full.clone()
    };
    let network = |network: &str| network.parse::<IpNet>().expect("a network");
    vec![
        row(
            1,
            key(),
            "b774 0100 ffda6cdd 73000000 06*20 01*20 0174 01 01 02*20 07*32 fd0068e5cf8b010000
             01fd6052e6cf8b010000",
            &token(),
            &[],
        ),
        row(
            2,
            key(),
            "b774 0200 822088b0 9d000000 06*20 01*20 0174 01 01 02*20 07*32 fd0068e5cf8b010000
             01fd6052e6cf8b010000 01 03*20 01 03*20",
            &second,
            &[],
        ),
        row(
            3,
            key(),
            "b774 0300 c5aa6d5d a9000000 06*20 01*20 0174 01 01 02*20 07*32 fd0068e5cf8b010000
             01fd6052e6cf8b010000 01 03*20 01 03*20 01 010173 0100 010462657461",
            &third,
            &[],
        ),
        row(
            4,
            key(),
            "b774 0400 5cb80e8f 80000000 06*20 01*20 0174 04 00 07*32 fd0068e5cf8b010000
             01fd6052e6cf8b010000 01 03*20 00 00 01fd6052e6cf8b010000",
            &Token {
                role: Role::WebhookUser,
                application: None,
                grants: BTreeSet::from([ENDPOINT]),
                last_used_at: Some(LATER),
                ..token()
            },
            &[],
        ),
        row(
            4,
            key(),
            "b774 0400 83211165 b3000000 06*20 01*20 01 740101 02*20 07*32 fd0068e5cf8b010000
             01fd6052e6cf8b010000 01 03*20 01 09*20 010101730100010462657461
             01fdc03ce7cf8b010000",
            &full,
            &[],
        ),
        row(
            5,
            key(),
            "b774 0500 82259c78 e1000000 06*20 01*20 01 740101 02*20 07*32 fd0068e5cf8b010000
             01fd6052e6cf8b010000 01 03*20 01 09*20 010101730100010462657461
             01fdc03ce7cf8b010000 0101 02*20 01 0a*20 01016d",
            &fifth,
            &[],
        ),
        row(
            6,
            key(),
            "b774 0600 a874c7e1 11010000 06*20 01*20 01 740101 02*20 07*32 fd0068e5cf8b010000
             01fd6052e6cf8b010000 01 03*20 01 09*20 010101730100010462657461
             01fdc03ce7cf8b010000 0101 02*20 01 0a*20 01016d
             010164 01020002 02 00c000020018 0120010db8 00*12 20 0100c0000207 01fd6052e6cf8b010000",
            &Token {
                description: Some(text("d")),
                scopes: Some(BTreeSet::from([Scope::Publish, Scope::Endpoints])),
                allowed_ips: vec![network("192.0.2.0/24"), network("2001:db8::/32")],
                last_used_from: Some(IpAddr::from([192, 0, 2, 7])),
                makes_until: Some(LATER),
                ..fifth.clone()
            },
            &[],
        ),
        row(
            6,
            key(),
            "b774 0600 fc9caf7a 8f000000 06*20 01*20 01 740101 02*20 07*32 fd0068e5cf8b010000
             01fd6052e6cf8b010000 00*9 010120010db8 00*11 07 00",
            &Token {
                last_used_from: Some("2001:db8::7".parse().expect("an address")),
                ..token()
            },
            &[],
        ),
    ]
}

fn of_jobs() -> Vec<Row> {
    let key = || ("6a 08*20", job_key(JOB_ID));
    let job = |work: Work, state: JobState| Job {
        id: JOB_ID,
        organisation: ORGANISATION,
        work,
        state,
        created_at: AT,
        updated_at: LATER,
        behind: Some(MESSAGE_ID),
        progress: Progress {
            looked_at: 300,
            done: 2,
        },
        result: Some(text("{}")),
    };
    let replay = Replay {
        application: APPLICATION,
        endpoint: ENDPOINT,
        which: Which::Matching(Matching {
            event_types: Some(vec![text("a.b")]),
            channel: Some(text("c")),
            tag: Some(text("t")),
            status: Some(DeliveryStatus::Held),
            status_class: Some(5),
        }),
        since: AT,
        until: LATER,
    };
    let usage = Work::ApplicationUsage {
        since: AT,
        until: LATER,
        applications: Some(vec![APPLICATION]),
    };
    vec![
        row(
            1,
            key(),
            "b76a 0100 bfeaaf44 a6000000 08*20 01*20 00 02*20 03*20
             02010103612e6201016301017401020105 fd0068e5cf8b010000 fd6052e6cf8b010000 020166
             fd0068e5cf8b010000 fd6052e6cf8b010000 0111e1a300 04*16 fb2c010201027b7d",
            &job(Work::Replay(replay), JobState::Failed(text("f"))),
            &[],
        ),
        row(
            1,
            key(),
            "b76a 0100 1fd0906b 81000000 08*20 01*20 01 fd0068e5cf8b010000 fd6052e6cf8b010000
             0101 02*20 01fd0068e5cf8b010000 fd6052e6cf8b010000 0111e1a300 04*16
             fb2c010201027b7d",
            &job(usage, JobState::Finished),
            &[],
        ),
    ]
}

fn of_the_live_database() -> Vec<Row> {
    let slice_meta = SliceMeta {
        commit: 300,
        messages: 2,
        attempts: 3,
        bytes: 70_000,
    };
    let meta = Meta {
        format: 1,
        commit: 300,
        clean: true,
        registrations: 2,
        waiting: vec![(4, 5)],
        last_endpoint_number: 6,
        last_time: AT,
        slice: slice_meta.clone(),
        dead_commits: vec![(8, 9)],
    };
    let stretch = Stretch {
        segment: 300,
        from: 70_000,
        to: Some(5),
    };
    let delivery = DeliveryKey {
        lane: 258,
        due: AT,
        message: MESSAGE_ID,
    };
    let waiting_at = waiting_key(&delivery);
    assert_eq!(parse_waiting_key(&waiting_at), Some(delivery));
    vec![
        row(
            1,
            ("6d", vec![META]),
            "b76d 0100 5df9a753 20000000 01fb2c01010201040506 fd0068e5cf8b010000
             fb2c010203fc70110100010809",
            &meta,
            &[],
        ),
        row(
            1,
            ("6b", vec![CHECKPOINT]),
            "b76b 0100 af2cdb63 15000000 fd8877665544332211 fb2c01 fd00ffeeddccbbaa99",
            &Checkpoint {
                stream: 0x1122_3344_5566_7788,
                position: 300,
                chain: 0x99aa_bbcc_ddee_ff00,
            },
            &[],
        ),
        row(
            1,
            ("6d", vec![META]),
            "b76d 0100 b1f4c714 0a000000 fb2c010203fc70110100",
            &slice_meta,
            &[],
        ),
        row(
            1,
            ("73 00000102", slice_key(258)),
            "b773 0100 34764316 14000000 fd0068e5cf8b010000 01fb2c010203fc70110100",
            &SliceRecord {
                first: AT,
                sealed: Some(slice_meta.clone()),
                stretch: None,
                attempts_since: None,
            },
            &[],
        ),
        row(
            2,
            ("73 00000102", slice_key(258)),
            "b773 0200 cd43a3eb 1f000000 fd0068e5cf8b010000 01fb2c010203fc70110100 01fb2c01fc701101000105",
            &SliceRecord {
                first: AT,
                sealed: Some(slice_meta.clone()),
                stretch: Some(stretch),
                attempts_since: None,
            },
            &[],
        ),
        row(
            3,
            ("73 00000102", slice_key(258)),
            "b773 0300 6507a32a 34000000 fd0068e5cf8b010000 01fb2c010203fc70110100 01fb2c01fc701101000105
             01 11e1a300 04*16",
            &SliceRecord {
                first: AT,
                sealed: Some(slice_meta),
                stretch: Some(stretch),
                attempts_since: Some(MESSAGE_ID),
            },
            &[],
        ),
        row(
            1,
            ("64 02*20", erasure_key(APPLICATION)),
            "b764 0100 ec04b371 15000000 fd0068e5cf8b010000 fb2c01 07 024d05 fc70110100",
            &Erasure {
                deleted_at: AT,
                until: 300,
                slice: 7,
                from: b"M\x05".to_vec(),
                left_out: 70_000,
            },
            &[],
        ),
        row(
            1,
            ("68 00*7 07", health_key(LANE)),
            "b768 0100 d8b39d2c 72000000
             01fd0068e5cf8b010000fd6052e6cf8b010000fb2c010100fd6052e6cf8b010000fdc03c
             e7cf8b010000020101fdc03ce7cf8b0100000101fdc03ce7cf8b01000003016603612e62
             0101fd0068e5cf8b0100000101fd0068e5cf8b0100000001fd0068e5cf8b010000000001
             6603612e6201",
            &health(),
            &[],
        ),
        row(
            1,
            (
                "72 11e1a300 04*16 00*6 0102",
                resent_key(MESSAGE_ID, delivery.lane),
            ),
            "b772 0100 45777a8f 09000000 fd0068e5cf8b010000",
            &Resent { due: AT },
            &[],
        ),
        row(
            1,
            ("71 00*6 0102 0000018bcfe56800 11e1a300 04*16", waiting_at),
            "b771 0100 c41c77b8 02000000 0301",
            &Waiting {
                attempts: 3,
                trigger: Trigger::Manual,
            },
            &[],
        ),
    ]
}

fn event_id_record() -> EventIdRecord {
    EventIdRecord {
        commit: 1,
        application: APPLICATION,
        message: MESSAGE_ID,
    }
}

/// Then an event id stood under the organisation.
pub fn event_id_of_the_format_before() -> Row {
    let [_, key] = event_id_keys(ORGANISATION, APPLICATION, "x");
    row(
        1,
        ("45 01*20 2d711642b726b04401627ca9fbac32f5", key),
        "b745 0100 3cb1958c 29000000 01 02*20 11e1a300 04*16",
        &event_id_record(),
        &[],
    )
}

fn of_messages() -> Vec<Row> {
    let key = || {
        let pinned = "4d 02*20 11e1a300 04*16";
        (pinned, message_key(APPLICATION, MESSAGE_ID))
    };
    let [event_id, _] = event_id_keys(ORGANISATION, APPLICATION, "x");
    let once = |answer| OnceRecord {
        commit: 300,
        at: AT,
        request: [0x0a; 32],
        answer,
    };
    let once_at = || ("49 09*32", once_key(&[9; 32]));
    let third = MessageMeta {
        origin: Origin::TestOnce,
        tags: vec![text("t")],
        expires_at: Some(LATER),
        expunged: true,
        ..message()
    };
    let fourth = MessageMeta {
        commit: 300,
        deliver_at: Some(LATEST),
        is_raw: false,
        content_type: Some(text("a/b")),
        ..third.clone()
    };
    vec![
        row(
            1,
            key(),
            "b74d 0100 03675d5e 1e000000 01 fd0068e5cf8b010000 03612e62 010178 010163
             7b226e223a312e31307d",
            &message(),
            PAYLOAD,
        ),
        row(
            2,
            key(),
            "b74d 0200 b31ecde6 1f000000 01 fd0068e5cf8b010000 03612e62 010178 010163 02
             7b226e223a312e31307d",
            &MessageMeta {
                origin: Origin::TestOnce,
                ..message()
            },
            PAYLOAD,
        ),
        row(
            3,
            key(),
            "b74d 0300 bb314b70 2e000000 01 fd0068e5cf8b010000 03612e62 010178 010163 02 010174 00
             01fd6052e6cf8b010000 01 7b226e223a312e31307d",
            &third,
            PAYLOAD,
        ),
        row(
            4,
            key(),
            "b74d 0400 688110b4 3f000000 fb2c 01fd0068e5cf8b010000
             03612e6201017801016302010174 01fdc03ce7cf8b010000 01fd6052e6cf8b010000
             01000103612f627b226e223a312e31307d",
            &fourth,
            PAYLOAD,
        ),
        row(
            5,
            key(),
            "b74d 0500 bbbc178f 43000000 fb2c 01fd0068e5cf8b010000
             03612e6201017801016302010174 01fdc03ce7cf8b010000 01fd6052e6cf8b010000
             01000103612f62 01fb2d01 7b226e223a312e31307d",
            &MessageMeta {
                endpoints_matched: Some(301),
                ..fourth.clone()
            },
            PAYLOAD,
        ),
        row(
            6,
            key(),
            "b74d 0600 157e52e3 51000000 fb2c 01fd0068e5cf8b010000
             03612e6201017801016302010174 01fdc03ce7cf8b010000 01fd6052e6cf8b010000
             01000103612f62 01fb2d01 01016d0131 0105582d54776f0132 7b226e223a312e31307d",
            &MessageMeta {
                endpoints_matched: Some(301),
                metadata: map("m", "1"),
                headers: map("X-Two", "2"),
                ..fourth.clone()
            },
            PAYLOAD,
        ),
        row(
            1,
            ("45 02*20 2d711642b726b04401627ca9fbac32f5", event_id),
            "b745 0100 72b659b3 29000000 01 02*20 11e1a300 04*16",
            &event_id_record(),
            &[],
        ),
        event_id_of_the_format_before(),
        row(
            1,
            once_at(),
            "b749 0100 f5504e5d 55000000 fb2c 01fd0068e5cf8b010000 0a*32 00 02*20 11e1a300
             04*16",
            &once(OnceAnswer::Message(APPLICATION, MESSAGE_ID)),
            &[],
        ),
        row(
            1,
            once_at(),
            "b749 0100 efae617b 32000000 fb2c 01fd0068e5cf8b010000 0a*32 01fb94017b7d",
            &once(OnceAnswer::Answered(404)),
            b"{}",
        ),
    ]
}

fn of_attempts() -> Vec<Row> {
    let key = || {
        let pinned = "41 00*7 07 11e1a301 05*16";
        (pinned, attempt_key(LANE, ATTEMPT_ID))
    };
    let hour_at = lane_hour_key(258, 472_222);
    assert_eq!(hour_at_end(&hour_at), 472_222);
    let place_at = attempt_of_message_key(MESSAGE_ID, ATTEMPT_ID);
    assert_eq!(last_id(&place_at), ATTEMPT_ID.0);
    vec![
        row(
            1,
            key(),
            "b741 0100 3fc4d8b4 ae000000 11e1a301 05*16 02*20 11e1a300 04*16 03*20 02 01
             fd6052e6cf8b010000 0101 00 01fb2c01 00 fc70110100
             1668747470733a2f2f6578616d706c652e636f6d2f696e 04504f5354 0101610162
             01 fbf701 0101630164 02ff00 01 01 07 0a73746174757320353033 01 01fd6052e6cf8b010000",
            &attempt(),
            &[],
        ),
        row(
            2,
            key(),
            "b741 0200 37288c8e b1000000 11e1a301 05*16 02*20 11e1a300 04*16 03*20 02
             01fd6052e6cf8b010000
             0101010201fb2c010104fc701101001668747470733a2f2f6578616d706c652e636f6d2f
             696e04504f5354010161016201fbf701010163016402ff000101070a7374617475732035 303301
             01fd6052e6cf8b010000 00",
            &Attempt {
                timings: Timings {
                    dns_us: Some(1),
                    connect_us: Some(2),
                    tls_us: Some(300),
                    first_byte_us: Some(4),
                    total_us: 70_000,
                },
                ..attempt()
            },
            &[],
        ),
        row(
            1,
            (
                "51 00*7 07 11e1a301 05*16",
                content_key(REQUEST, &attempt_key(LANE, ATTEMPT_ID)),
            ),
            "b751 0100 81c51c1f 15000000 0f68747470733a2f2f612e746573742f 0101610131",
            &RequestContent {
                url: text("https://a.test/"),
                headers: vec![(text("a"), text("1"))],
            },
            &[],
        ),
        row(
            1,
            (
                "57 00*7 07 11e1a301 05*16",
                content_key(ANSWER, &attempt_key(LANE, ATTEMPT_ID)),
            ),
            "b757 0100 4400f20e 08000000 0101620132 026f6b",
            &AnswerContent {
                headers: vec![(text("b"), text("2"))],
                body: b"ok".to_vec(),
            },
            &[],
        ),
        row(
            1,
            ("54 11e1a300 04*16 11e1a301 05*16", place_at),
            "b754 0100 d5340fc5 03000000 fb2c01",
            &AttemptPlace { lane: 300 },
            &[],
        ),
        row(
            1,
            ("43 00*6 0102 000000000007349e", hour_at),
            "b743 0100 2d821502 0d000000 01fb2c01020304fc7011010005",
            &LaneHour {
                attempts_succeeded: 1,
                attempts_failed: 300,
                delivered: 2,
                failed: 3,
                answered: 4,
                answer_us_sum: 70_000,
                answer_us_max: 5,
            },
            &[],
        ),
    ]
}
