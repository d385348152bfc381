//! Tests of the commands on endpoints.

use super::*;
use crate::domain::disabled::{Disabled, DisabledReason};
use crate::domain::event_type::EventType;
use crate::domain::hold::Held;
use crate::domain::id::ApplicationId;
use crate::domain::profile::Method;
use crate::domain::token::{Role, Token};
use crate::error::Invalid;
use crate::rules::endpoint_edit::EditKind;
use crate::rules::event_types::blank as event_type;
use crate::rules::target::target;
use crate::rules::tests::{Example, NOW, outcome};

const TAKEN: &str = "an endpoint with this uid exists already";

fn owner() -> Owner {
    Owner::Application("one".to_owned())
}

fn edit(kind: EditKind) -> EndpointEdit {
    EndpointEdit {
        problems: Problems::default(),
        kind,
        id_is_given: false,
        uid: Patch::Absent,
        url: None,
        description: Patch::Absent,
        disabled: Patch::Absent,
        event_types: Patch::Absent,
        channels: Patch::Absent,
        metadata: Patch::Absent,
        throttle_rate: Patch::Absent,
        secret: None,
        headers: Patch::Absent,
        auth_headers: Patch::Absent,
        basic_auth: Patch::Absent,
        profile: Patch::Absent,
        method: Patch::Absent,
        retry: Patch::Absent,
        timeout_seconds: Patch::Absent,
        breaker_failures: Patch::Absent,
        disable_after_hours: Patch::Absent,
        transformation: Patch::Absent,
        filter: Patch::Absent,
    }
}

fn whole() -> EndpointEdit {
    EndpointEdit {
        url: Some(target("https://example.com/in", 100).unwrap()),
        ..edit(EditKind::Whole)
    }
}

fn names(names: &[&str]) -> Patch<Vec<String>> {
    Patch::Set(names.iter().map(|name| (*name).to_owned()).collect())
}

fn create(edit: EndpointEdit) -> CreateEndpoint {
    CreateEndpoint {
        owner: owner(),
        edit,
        flags: FeatureFlags::All,
    }
}

fn replace(path: &str, edit: EndpointEdit) -> ReplaceEndpoint {
    ReplaceEndpoint {
        owner: owner(),
        path: path.to_owned(),
        edit,
        flags: FeatureFlags::All,
    }
}

fn place(endpoint: &str) -> EndpointPlace {
    EndpointPlace {
        owner: owner(),
        endpoint: endpoint.to_owned(),
        flags: FeatureFlags::All,
    }
}

/// The application `one` with the endpoint `first`, and event types.
fn example() -> Example {
    let archived = EventType {
        archived: true,
        ..event_type(Example::ORGANISATION, "archived".to_owned(), NOW)
    };
    let current = event_type(Example::ORGANISATION, "current".to_owned(), NOW);
    let example = Example::new();
    let first = Endpoint {
        uid: Some("first".to_owned()),
        ..example.endpoint()
    };
    Example::with([
        Change::PutApplication(Example::application()),
        Change::PutEndpoint(first),
        Change::PutEventType(archived),
        Change::PutEventType(current),
    ])
}

#[test]
fn a_new_endpoint_has_a_number_a_secret_and_a_uid_of_its_own() {
    let example = example();
    for (uid, event_types, expected, warnings) in [
        (None, names(&["current"]), "", vec![]),
        (Some("second"), Patch::Null, "", vec![]),
        (
            Some("second"),
            names(&["current", "strange"]),
            "",
            vec!["eventTypes[1]: strange is not registered"],
        ),
        (Some("first"), Patch::Absent, TAKEN, vec![]),
        (
            None,
            names(&["archived"]),
            "body.eventTypes: the event type archived is archived",
            vec![],
        ),
    ] {
        let edit = EndpointEdit {
            uid: uid.map_or(Patch::Absent, |uid| Patch::Set(uid.to_owned())),
            event_types,
            ..whole()
        };
        let decided = example.decide(create(edit));
        assert_eq!(outcome(&decided), expected);
        let Ok((changes, made)) = decided else {
            continue;
        };
        let [Change::PutEndpoint(put)] = &changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!(put, &made.endpoint);
        assert_eq!(made.warnings, warnings);
        assert_eq!(put.number, example.catalog.last_endpoint_number() + 1);
        assert_eq!((put.secrets.len(), put.created_at), (1, NOW));
        assert_eq!(put.application, Example::application().id);
    }
}

#[test]
fn an_application_has_so_many_endpoints() {
    let mut example = example();
    for (max, expected) in [(2, ""), (1, "an application has at most 1 endpoints")] {
        example.settings.limits.endpoints_per_application_max = max;
        assert_eq!(outcome(&example.decide(create(whole()))), expected);
        assert_eq!(outcome(&example.decide(replace("new", whole()))), expected);
        let again = example.decide(replace("first", whole()));
        assert_eq!(outcome(&again), "", "it is there already");
    }
}

#[test]
fn problems_that_came_along_are_told_with_those_that_show_here() {
    let mut edit = whole();
    edit.problems
        .add(&["body", "timeoutSeconds"], "must be 1 to 30");
    edit.profile = Patch::Set("unknown".to_owned());
    let Err(Error::Invalid(problems)) = example().decide(create(edit)) else {
        panic!("it was taken");
    };
    let places = problems.iter().map(|one: &Invalid| one.location.join("."));
    let places: Vec<String> = places.collect();
    assert_eq!(places, ["body.timeoutSeconds", "body.profile"]);
}

#[test]
fn a_replacement_makes_what_its_path_names() {
    let example = example();
    let first = example.endpoint().id.to_string();
    let unknown = EndpointId([3; 20]).to_string();
    let with_id = || EndpointEdit {
        id_is_given: true,
        ..whole()
    };
    for (path, edit, expected) in [
        ("new", whole(), ""),
        ("first", whole(), ""),
        (first.as_str(), whole(), ""),
        ("first", with_id(), ""),
        (unknown.as_str(), whole(), "endpoint not found"),
        ("new", with_id(), "body.id: is set by the server"),
        ("no spaces", whole(), "path.endpoint_id: may contain only"),
    ] {
        let decided = example.decide(replace(path, edit));
        let found = outcome(&decided);
        assert!(found.starts_with(expected), "{path}: {found}");
        assert_eq!(found.is_empty(), expected.is_empty(), "{path}: {found}");
        match decided {
            Ok((_, Saved::New(made))) => {
                assert_eq!(made.endpoint.uid.as_deref(), Some("new"));
            }
            Ok((_, Saved::Old(replaced))) => {
                assert_eq!(replaced.endpoint.id, example.endpoint().id);
                let uid = replaced.endpoint.uid.as_deref();
                assert_eq!(uid, (path == "first").then_some("first"));
            }
            Err(_) => {}
        }
    }
}

#[test]
fn a_replacement_resets_what_the_contract_knows_and_leaves_the_rest() {
    let headers = BTreeMap::from([("X-One".to_owned(), "1".to_owned())]);
    let mut endpoint = Endpoint {
        description: "old".to_owned(),
        disabled: Some(Disabled::by_hand(NOW)),
        throttle_rate: Some(4),
        headers,
        profile: Some("ioffice".to_owned()),
        method: Some(Method::Get),
        timeout_seconds: Some(3),
        ..Example::new().endpoint()
    };
    let mut expected = endpoint.clone();
    expected.description = String::new();
    expected.throttle_rate = None;
    reset(&mut endpoint);
    assert_eq!(endpoint, expected);
}

#[test]
fn a_change_keeps_an_archived_type_and_takes_no_new_one() {
    let mut example = example();
    for (before, after, expected) in [
        (vec!["archived"], names(&["archived", "current"]), ""),
        (
            vec!["current"],
            names(&["archived"]),
            "body.eventTypes: the event type archived is archived",
        ),
        (vec!["archived"], Patch::Null, ""),
    ] {
        let before: Vec<String> = before.into_iter().map(str::to_owned).collect();
        let endpoint = Endpoint {
            event_types: Some(before.into()),
            ..example.endpoint()
        };
        let id = endpoint.id.to_string();
        example.happened(Change::PutEndpoint(endpoint));
        let change = ChangeEndpoint {
            place: place(&id),
            edit: EndpointEdit {
                event_types: after,
                ..edit(EditKind::Patch)
            },
        };
        assert_eq!(outcome(&example.decide(change)), expected);
    }
}

#[test]
fn headers_are_replaced_or_changed_and_checked() {
    let mut example = example();
    let endpoint = Endpoint {
        headers: BTreeMap::from([("X-One".to_owned(), "1".to_owned())]),
        ..example.endpoint()
    };
    let id = endpoint.id.to_string();
    example.happened(Change::PutEndpoint(endpoint));
    let header = |name: &str| BTreeMap::from([(name.to_owned(), "2".to_owned())]);
    let set = |name: &str| SetHeaders {
        place: place(&id),
        headers: header(name),
    };
    let (_, changed) = example.decide(set("X-Two")).unwrap();
    assert_eq!(changed.endpoint.headers, header("X-Two"));
    let refused = outcome(&example.decide(set("Host")));
    let expected = "body.headers.Host: is a header that the server sets itself";
    assert_eq!(refused, expected);
    let change = ChangeHeaders {
        place: place(&id),
        headers: BTreeMap::from([
            ("x-one".to_owned(), None),
            ("X-Two".to_owned(), Some("2".to_owned())),
        ]),
    };
    let (_, changed) = example.decide(change).unwrap();
    assert_eq!(changed.endpoint.headers, header("X-Two"));
}

#[test]
fn headers_change_by_name_whatever_its_case() {
    let mut headers = BTreeMap::from([
        ("X-One".to_owned(), "1".to_owned()),
        ("X-Two".to_owned(), "2".to_owned()),
        ("X-Three".to_owned(), "3".to_owned()),
    ]);
    let changes = serde_json::from_str(r#"{"x-one":"new","X-TWO":null}"#).unwrap();
    change_headers(&mut headers, changes);
    let left: Vec<_> = headers.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    assert_eq!(left, [("X-Three", "3"), ("x-one", "new")]);
}

#[test]
fn what_is_made_is_granted_to_a_webhook_user() {
    let user = |applications: &[ApplicationId]| Token {
        applications: Some(applications.iter().copied().collect()),
        ..Token::new(
            Example::ORGANISATION,
            Role::WebhookUser,
            "user".to_owned(),
            [9; 32],
            NOW,
        )
    };
    for (token, expected) in [
        (user(&[Example::application().id]), ""),
        // It sees nothing of the application.
        (user(&[]), "application not found"),
    ] {
        let mut example = example();
        example.happened(Change::PutToken(token.clone()));
        let caller = Example::caller(&token);
        let decided = example.decide_as(&caller, create(whole()));
        assert_eq!(outcome(&decided), expected);
        if let Ok((changes, made)) = decided {
            let [Change::PutEndpoint(_), Change::PutToken(granted)] = &changes[..] else {
                panic!("{changes:?}");
            };
            assert!(granted.grants.contains(&made.endpoint.id));
        }
    }
}

#[test]
fn the_organisations_own_endpoints_bring_their_application_along() {
    let example = Example::new();
    let own = |event_types| CreateEndpoint {
        owner: Owner::Organisation,
        edit: EndpointEdit {
            event_types,
            ..whole()
        },
        flags: FeatureFlags::All,
    };
    let (changes, made) = example.decide(own(names(&EVENT_TYPES[..1]))).unwrap();
    let [Change::PutApplication(application), Change::PutEndpoint(_)] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(application.id, made.endpoint.application);
    assert_eq!(made.endpoint.profile.as_deref(), Some(PROFILE));
    let refused = outcome(&example.decide(own(names(&["invoice.paid"]))));
    let expected = "body.eventTypes.0: invoice.paid is not one of";
    assert!(refused.starts_with(expected), "{refused}");
    let decided = example.decide_as(&example.publisher(), own(Patch::Absent));
    assert_eq!(outcome(&decided), "this token may not do that");
}

#[test]
fn a_challenge_is_asked_for_where_an_endpoint_is_enabled_and_not_verified() {
    let mut example = example();
    let due = Verification::due(NOW);
    for (verification, disabled, changes, expected) in [
        (None, false, 0, ""),
        (None, true, 0, ""),
        (Some(due.clone()), false, 1, ""),
        (
            Some(due),
            true,
            0,
            "the endpoint is disabled; enable it to have it challenged",
        ),
    ] {
        let is_verified = verification.is_none();
        let endpoint = Endpoint {
            verification,
            disabled: disabled.then(|| Disabled::by_hand(NOW)),
            ..example.endpoint()
        };
        let ask = AskForChallenge {
            owner: owner(),
            endpoint: endpoint.id.to_string(),
        };
        example.happened(Change::PutEndpoint(endpoint));
        let decided = example.decide(ask);
        assert_eq!(outcome(&decided), expected);
        if let Ok((made, asked)) = decided {
            assert_eq!((made.len(), asked.is_none()), (changes, is_verified));
        }
    }
}

#[test]
fn a_deletion_needs_an_endpoint() {
    let example = example();
    let delete = |owner: Owner, endpoint: &str| DeleteEndpoint {
        owner,
        endpoint: endpoint.to_owned(),
    };
    let elsewhere = Owner::Application("two".to_owned());
    for (owner, endpoint, expected) in [
        (owner(), "first", ""),
        (owner(), "second", "endpoint not found"),
        (elsewhere, "first", "application not found"),
        (Owner::Organisation, "first", "endpoint not found"),
    ] {
        let decided = example.decide(delete(owner, endpoint));
        assert_eq!(outcome(&decided), expected);
        if let Ok((changes, ())) = decided {
            assert!(matches!(changes[..], [Change::DeleteEndpoint(..)]));
        }
    }
}

#[test]
fn enabling_lifts_a_disabling_whatever_its_reason_and_sets_the_pace() {
    let disabled = |reason| Some(Disabled { at: NOW, reason });
    for (before, earlier) in [
        (disabled(DisabledReason::ByHand), None),
        (disabled(DisabledReason::Gone), None),
        (
            disabled(DisabledReason::Requested),
            CatchUp::at(Some(2), NOW),
        ),
        (disabled(DisabledReason::Failing), None),
        (None, CatchUp::at(Some(2), NOW)),
    ] {
        for rate in [None, Some(9)] {
            let mut example = Example::with([Change::PutApplication(Example::application())]);
            let endpoint = Endpoint {
                uid: Some("first".to_owned()),
                disabled: before,
                catch_up: earlier,
                held: Some(Held::by_hand(NOW)),
                ..example.endpoint()
            };
            example.happened(Change::PutEndpoint(endpoint.clone()));
            let place = place("first");
            let (changes, changed) = example.decide(EnableEndpoint { place, rate }).unwrap();
            let expected = Endpoint {
                disabled: None,
                catch_up: CatchUp::at(rate, NOW),
                ..endpoint
            };
            assert_eq!(changed.endpoint, expected, "a hold stays");
            assert!(matches!(&changes[..], [Change::PutEndpoint(put)] if *put == expected));
        }
    }
}
