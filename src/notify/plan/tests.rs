use std::time::Duration;

use super::*;
use crate::catalog::Change;
use crate::domain::application::Application;
use crate::domain::disabled::{Disabled, DisabledReason};
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId};
use crate::domain::notice::{News, ToldKind};
use crate::rules::endpoint_checks::blank;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const ORGANISATION: OrganisationId = OrganisationId([1; 20]);

/// Applications `a`, `b` and so on, each with endpoints whose lanes are given.
fn catalog(applications: &[&[u64]]) -> Catalog {
    let mut changes = Vec::new();
    for (number, lanes) in applications.iter().enumerate() {
        let application = Application {
            id: ApplicationId([number as u8 + 2; 20]),
            name: String::from(char::from(b'a' + number as u8)),
            ..Application::operational(ORGANISATION, NOW)
        };
        changes.push(Change::PutApplication(application.clone()));
        for lane in *lanes {
            let mut id = [0; 20];
            id[12..].copy_from_slice(&lane.to_be_bytes());
            changes.push(Change::PutEndpoint(Endpoint {
                id: EndpointId(id),
                url: format!("https://lane-{lane}.example/"),
                ..blank(&application, *lane, NOW)
            }));
        }
    }
    Catalog::of(changes)
}

fn failing(lane: u64) -> (u64, Told) {
    let told = Told {
        at: NOW + Duration::from_secs(lane),
        kind: ToldKind::Failing,
        failing_since: Some(NOW),
        disables_at: None,
        news: News {
            failure: "The receiver answered 500.".to_owned(),
            ..News::default()
        },
    };
    (lane, told)
}

fn style() -> Style {
    Style {
        prefix: String::new(),
        public_url: Some("https://p.example.com".to_owned()),
    }
}

/// Customers by the names of applications: `a` and `b` have one each, the others none.
fn of_a_and_b(catalog: &Catalog, endpoint: &Endpoint) -> Option<EmailAddress> {
    let entry = catalog.application_by_id(endpoint.application)?;
    let name = entry.application.name.as_str();
    let text = ["a", "b"]
        .contains(&name)
        .then(|| format!("{name}@example.com"))?;
    EmailAddress::parse(&text).ok()
}

fn plan(catalog: &Catalog, told: Vec<(u64, Told)>, known: &[Key], put_off: &[&str]) -> Plan {
    let (entries, gone) = entries(catalog, told, of_a_and_b);
    let known = known.iter().copied().collect();
    let is_put_off = |one: &EmailAddress| put_off.contains(&one.as_str());
    Plan::new(entries, gone, &known, is_put_off, &style())
}

fn lanes(keys: &[Key]) -> Vec<u64> {
    keys.iter().map(|(lane, _)| *lane).collect()
}

#[test]
fn the_operator_gets_one_mail_about_all_and_each_customer_one_about_its_own() {
    let catalog = catalog(&[&[1, 2], &[3], &[4]]);
    let plan = plan(&catalog, [1, 2, 3, 4, 9].map(failing).into(), &[], &[]);
    let operator = plan.operator.expect("there is news");
    assert_eq!(operator.words.subject, "4 endpoints fail");
    assert_eq!(lanes(&operator.covers), [1, 2, 3, 4]);
    let [(first, of_a), (second, of_b)] = &plan.customers[..] else {
        panic!("{} customers", plan.customers.len());
    };
    assert_eq!(
        (first.as_str(), second.as_str()),
        ("a@example.com", "b@example.com")
    );
    assert_eq!(
        (lanes(&of_a.covers), lanes(&of_b.covers)),
        (vec![1, 2], vec![3])
    );
    for lane in 1..=4 {
        let url = format!("https://lane-{lane}.example/");
        assert!(
            operator.words.body.contains(&url),
            "{}",
            operator.words.body
        );
        assert_eq!(
            of_a.words.body.contains(&url),
            lane <= 2,
            "{}",
            of_a.words.body
        );
        assert_eq!(
            of_b.words.body.contains(&url),
            lane == 3,
            "{}",
            of_b.words.body
        );
    }
    assert!(
        operator
            .words
            .body
            .contains("https://p.example.com/console/app/app_")
    );
    assert!(
        of_a.words
            .body
            .contains("https://p.example.com/portal/app_")
    );
    assert!(!of_a.words.body.contains("console"), "{}", of_a.words.body);
    assert_eq!(
        plan.for_customers.len(),
        3,
        "lane 4 has no customer to write to"
    );
    assert_eq!(lanes(&plan.over), [9], "its endpoint was deleted");
    assert!(!plan.has_more);
}

#[test]
fn the_operator_hears_once_of_what_customers_wait_for() {
    let catalog = catalog(&[&[1], &[2]]);
    let known = [(1, NOW + Duration::from_secs(1)), (2, NOW)];
    let put_off = ["b@example.com"];
    let plan = plan(&catalog, [1, 2].map(failing).into(), &known, &put_off);
    let operator = plan.operator.expect("lane 2 has a newer message");
    assert_eq!(lanes(&operator.covers), [2]);
    let [(customer, mail)] = &plan.customers[..] else {
        panic!("{} customers", plan.customers.len());
    };
    assert_eq!(
        (customer.as_str(), lanes(&mail.covers)),
        ("a@example.com", vec![1])
    );
    assert_eq!(
        plan.for_customers.len(),
        2,
        "the message of who is put off is not over"
    );
}

#[test]
fn the_worst_is_listed_first_and_of_many_the_first_alone() {
    let all = Vec::from_iter(1..=300);
    let catalog = catalog(&[&[], &[], &all]);
    let mut told = Vec::from_iter(all.iter().map(|lane| failing(*lane)));
    told[6].1.kind = ToldKind::Recovered;
    told[7].1.news.exhausted = 5;
    told[8].1.news.disabled = true;
    let plan = plan(&catalog, told, &[], &[]);
    let mail = plan.operator.expect("there is news");
    let subject = "1 endpoint was disabled, 298 fail, 1 is well again";
    assert_eq!(mail.words.subject, subject);
    assert_eq!(lanes(&mail.covers)[..3], [9, 8, 1]);
    assert_eq!(lanes(&mail.covers)[299], 7);
    let listed = mail
        .words
        .body
        .lines()
        .filter(|line| line.starts_with("https://lane-"));
    assert_eq!(listed.count(), LISTED_MAX);
    assert!(
        mail.words
            .body
            .contains("And 270 more. All are on https://p.example.com/console\n")
    );
    assert!(plan.customers.is_empty() && plan.for_customers.is_empty());
}

#[test]
fn why_an_endpoint_was_disabled_is_its_record_that_says_it() {
    let mut catalog = catalog(&[&[], &[], &[1]]);
    let endpoint = Endpoint {
        disabled: Some(Disabled {
            at: NOW,
            reason: DisabledReason::Gone,
        }),
        ..(**catalog.endpoint_by_number(1).expect("it is there")).clone()
    };
    catalog.apply(Change::PutEndpoint(endpoint));
    let (lane, mut told) = failing(1);
    told.news.disabled = true;
    let plan = plan(&catalog, vec![(lane, told)], &[], &[]);
    let body = plan.operator.expect("there is news").words.body;
    assert!(
        body.contains("disabled: its receiver answered 410 Gone;"),
        "{body}"
    );
}

#[test]
fn a_round_has_mails_for_so_many_customers_and_the_longest_waiting_first() {
    let count = CUSTOMERS_MAX as u64 + 20;
    let lanes_of_a = Vec::from_iter(1..=count);
    let catalog = catalog(&[&lanes_of_a]);
    // Each endpoint is another customer's.
    let of_lane = |_: &Catalog, endpoint: &Endpoint| {
        let number = count - endpoint.number;
        EmailAddress::parse(&format!("{number:03}@example.com")).ok()
    };
    let told = lanes_of_a.iter().map(|lane| failing(*lane)).collect();
    let (entries, gone) = entries(&catalog, told, of_lane);
    let plan = Plan::new(entries, gone, &HashSet::new(), |_| false, &style());
    assert!(plan.has_more);
    assert_eq!(plan.customers.len(), CUSTOMERS_MAX);
    let first = plan.customers.iter().map(|(_, mail)| mail.covers[0].0);
    assert_eq!(
        Vec::from_iter(first),
        Vec::from_iter(1..=CUSTOMERS_MAX as u64)
    );
    assert_eq!(plan.for_customers.len(), count as usize);
}

#[test]
fn the_platforms_own_endpoints_are_the_operators_alone() {
    let application = Application::operational(ORGANISATION, NOW);
    let endpoint = Endpoint {
        id: EndpointId([1; 20]),
        url: "https://platform.example/".to_owned(),
        ..blank(&application, 1, NOW)
    };
    let catalog = Catalog::of([
        Change::PutApplication(application),
        Change::PutEndpoint(endpoint.clone()),
    ]);
    assert_eq!(customer(&catalog, &endpoint), None);
    let plan = plan(&catalog, vec![failing(1)], &[], &[]);
    let body = plan.operator.expect("there is news").words.body;
    assert!(
        body.contains("none: it is one of the platform's own endpoints"),
        "{body}"
    );
    assert!(!body.contains("/console/app/"), "{body}");
}

#[test]
fn a_message_that_everybody_has_is_over_with() {
    let catalog = catalog(&[&[1], &[], &[2]]);
    let known = [1, 2].map(|lane| (lane, NOW + Duration::from_secs(lane)));
    let plan = plan(&catalog, [1, 2].map(failing).into(), &known, &[]);
    assert!(plan.operator.is_none());
    assert_eq!(
        lanes(&plan.over),
        [2],
        "a customer is still to get the other one"
    );
}
