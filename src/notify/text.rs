//! The words of mails about endpoints, for those who run the server and for its customers. Pure.
//!
//! URLs, descriptions, names and failures come from others, so each is cut and kept on its line: none can pretend to be
//! another part of a mail. URLs are shown whole, as the console and the portal show them to the same reader; an
//! endpoint's URL has no user name or password, and its headers are in no mail.

use std::fmt::Write;

use super::letter::Words;
use crate::clock::Timestamp;
use crate::domain::disabled::DisabledReason;
use crate::domain::notice::{Told, ToldKind};
use crate::domain::one_line::one_line;

/// Endpoints that one mail lists.
pub const LISTED_MAX: usize = 30;

/// Characters of something from outside.
const SHOWN_CHARS_MAX: usize = 500;
/// Characters of a name in a subject.
const SUBJECT_NAME_CHARS_MAX: usize = 100;

/// An endpoint and its news.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    pub url: &'a str,
    pub description: &'a str,
    /// The customer's name; none for the platform's own endpoints.
    pub application: Option<&'a str>,
    /// The endpoint's id.
    pub id: &'a str,
    /// Its page, if the server has an address that readers can reach.
    pub page: Option<&'a str>,
    /// Why it is disabled, where it is.
    pub disabled: Option<DisabledReason>,
    pub told: &'a Told,
}

/// Numbers of endpoints, by their news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub disabled: usize,
    pub failing: usize,
    /// They work, and lost deliveries.
    pub lost: usize,
    pub recovered: usize,
}

/// The reader of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Operator,
    Customer,
}

/// An endpoint's news in one word. The order is that of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Disabled,
    Failing,
    Lost,
    Recovered,
}

impl Topic {
    pub fn of(told: &Told) -> Topic {
        match told.kind {
            ToldKind::Recovered => Topic::Recovered,
            ToldKind::Failing if told.news.disabled => Topic::Disabled,
            ToldKind::Failing if told.failing_since.is_some() => Topic::Failing,
            ToldKind::Failing => Topic::Lost,
        }
    }
}

impl Counts {
    pub fn add(&mut self, topic: Topic) {
        let count = match topic {
            Topic::Disabled => &mut self.disabled,
            Topic::Failing => &mut self.failing,
            Topic::Lost => &mut self.lost,
            Topic::Recovered => &mut self.recovered,
        };
        *count += 1;
    }

    pub fn all(&self) -> usize {
        self.disabled + self.failing + self.lost + self.recovered
    }

    /// "2 endpoints were disabled, 300 fail, 1 is well again".
    fn sentence(&self) -> String {
        let parts = [
            (self.disabled, "was disabled", "were disabled"),
            (self.failing, "fails", "fail"),
            (self.lost, "lost deliveries", "lost deliveries"),
            (self.recovered, "is well again", "are well again"),
        ];
        let mut sentence = String::new();
        for (count, one, many) in parts.into_iter().filter(|(count, ..)| *count > 0) {
            let verb = if count == 1 { one } else { many };
            let _ = match (sentence.is_empty(), count) {
                (true, 1) => write!(sentence, "1 endpoint {verb}"),
                (true, _) => write!(sentence, "{count} endpoints {verb}"),
                (false, _) => write!(sentence, ", {count} {verb}"),
            };
        }
        sentence
    }
}

/// The words of a mail about endpoints, of which `items` are the first. `home` is the page where the reader finds
/// all of them.
pub fn words(
    prefix: &str,
    reader: Reader,
    counts: &Counts,
    items: &[Item<'_>],
    home: Option<&str>,
) -> Words {
    let subject = match items {
        [item] if counts.all() == 1 => subject_of_one(item),
        _ => counts.sentence(),
    };
    let mut body = String::new();
    if counts.all() > 1 {
        let all = counts.sentence();
        let _ = match counts.all() > items.len() {
            true => write!(body, "{all}. The first {}:\n\n", items.len()),
            false => write!(body, "{all}.\n\n"),
        };
    }
    for item in items {
        write_item(&mut body, reader, item);
        body.push('\n');
    }
    let more = counts.all().saturating_sub(items.len());
    if more > 0 {
        let _ = write!(body, "And {more} more.");
        if let Some(home) = home {
            let _ = write!(body, " All are on {home}");
        }
        body.push_str("\n\n");
    }
    body.push_str(match reader {
        Reader::Operator => {
            "-- \nYou get this mail because notify.to in the server's settings has your address.\n"
        }
        Reader::Customer => {
            "-- \nYou get this mail because your address is the contact for these webhooks.\n"
        }
    });
    Words {
        subject: prefixed(prefix, &subject),
        body,
    }
}

/// The words of a mail that shows that mails arrive.
pub fn test_words(prefix: &str) -> Words {
    Words {
        subject: prefixed(prefix, "Test mail"),
        body: "This mail shows that postrider can send mails. It will write to this address when endpoints fail, \
               when they are disabled, and when they are well again.\n"
            .to_owned(),
    }
}

/// The words of a mail with the code by which somebody shows that an address is theirs.
pub fn code_words(prefix: &str, application: &str, digits: &str) -> Words {
    let application = match one_line(application, 60).as_str() {
        "" => String::new(),
        name => format!(" of {name}"),
    };
    Words {
        subject: prefixed(prefix, &format!("Your code is {digits}")),
        body: format!(
            "The code is {digits}.\n\n\
             Enter it on the page Notifications to get mails at this address when webhooks{application} fail. It counts \
             for half an hour.\n\n\
             You did not ask for it? Then somebody entered your address by mistake: without the code nothing more is sent \
             to you.\n"
        ),
    }
}

fn prefixed(prefix: &str, subject: &str) -> String {
    format!("{prefix} {subject}").trim_start().to_owned()
}

fn subject_of_one(item: &Item<'_>) -> String {
    let name = match url::Url::parse(item.url) {
        Ok(url) => url.host_str().unwrap_or_default().to_owned(),
        Err(_) => item.id.to_owned(),
    };
    let name = one_line(&name, SUBJECT_NAME_CHARS_MAX);
    match Topic::of(item.told) {
        Topic::Disabled => format!("An endpoint was disabled: {name}"),
        Topic::Failing => format!("An endpoint fails: {name}"),
        Topic::Lost => format!("Deliveries failed for good: {name}"),
        Topic::Recovered => format!("An endpoint is well again: {name}"),
    }
}

fn write_item(body: &mut String, reader: Reader, item: &Item<'_>) {
    let Item { told, .. } = item;
    let topic = Topic::of(told);
    let _ = writeln!(body, "{}", one_line(item.url, SHOWN_CHARS_MAX));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(body, "  {name:<17} {value}");
    };
    if !item.description.trim().is_empty() {
        line("Description:", &one_line(item.description, SHOWN_CHARS_MAX));
    }
    match item.application {
        Some(name) => line("Application:", &one_line(name, SHOWN_CHARS_MAX)),
        None => line(
            "Application:",
            "none: it is one of the platform's own endpoints",
        ),
    }
    line("State:", &state(topic, item));
    if !told.news.failure.is_empty() {
        line(
            "Last failure:",
            &one_line(&told.news.failure, SHOWN_CHARS_MAX),
        );
    }
    if !told.news.event_type.is_empty() {
        line(
            "Event type:",
            &one_line(&told.news.event_type, SHOWN_CHARS_MAX),
        );
    }
    if told.news.exhausted > 0 {
        line("Failed for good:", &lost(item, reader));
    }
    if let Some(at) = told.disables_at.filter(|_| topic == Topic::Failing) {
        line(
            "Will be disabled:",
            &format!("{}, unless a delivery succeeds before", instant(at)),
        );
    }
    match item.page {
        Some(page) => line("Its page:", page),
        None => line("Id:", item.id),
    }
}

fn state(topic: Topic, item: &Item<'_>) -> String {
    let since = item.told.failing_since.map(instant);
    let since = since
        .map(|since| format!(" since {since}"))
        .unwrap_or_default();
    match topic {
        Topic::Disabled => {
            let reason = match item.disabled {
                Some(DisabledReason::Gone) => ": its receiver answered 410 Gone".to_owned(),
                Some(DisabledReason::Requested) => ": its receiver asked for it".to_owned(),
                Some(DisabledReason::Failing) => format!(": nothing but failures{since}"),
                Some(DisabledReason::ByHand | DisabledReason::Unknown) | None => String::new(),
            };
            format!("disabled{reason}; messages wait until it is enabled")
        }
        Topic::Failing => format!("fails{since}"),
        Topic::Lost => "works".to_owned(),
        Topic::Recovered => "well again: messages arrive".to_owned(),
    }
}

/// How many deliveries failed for good, and how to send them again.
fn lost(item: &Item<'_>, reader: Reader) -> String {
    let count = match item.told.news.exhausted {
        1 => "1 delivery".to_owned(),
        count => format!("{count} deliveries"),
    };
    match (item.page, reader) {
        (Some(page), _) => format!("{count}; send again at {page}/replay"),
        (None, Reader::Operator) => {
            format!("{count}; send again in the console, at 'Replay' of the endpoint")
        }
        (None, Reader::Customer) => {
            format!("{count}; send again in the portal, at 'Replay' of the endpoint")
        }
    }
}

/// `2026-01-31 08:15 UTC`.
fn instant(at: Timestamp) -> String {
    let text = at.to_string();
    let minute = text.split_once('T').zip(text.rsplit_once(':'));
    match minute {
        Some(((date, _), (until, _))) => format!("{date} {} UTC", &until[date.len() + 1..]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notice::News;

    const SINCE: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn failing() -> Told {
        Told {
            at: SINCE,
            kind: ToldKind::Failing,
            failing_since: Some(SINCE),
            disables_at: None,
            news: News {
                failure: "The receiver answered 500.".to_owned(),
                event_type: "invoice.paid".to_owned(),
                ..News::default()
            },
        }
    }

    fn item(told: &Told) -> Item<'_> {
        Item {
            url: "https://hooks.example.com/in?key=1",
            description: "",
            application: Some("Acme"),
            id: "ep_1",
            page: Some("https://p.example.com/console/app/app_1/endpoint/ep_1"),
            disabled: None,
            told,
        }
    }

    fn of_one(item: Item<'_>, reader: Reader) -> Words {
        let mut counts = Counts::default();
        counts.add(Topic::of(item.told));
        words("[postrider]", reader, &counts, &[item], None)
    }

    #[test]
    fn a_mail_about_one_endpoint_tells_all_that_a_person_needs() {
        let mut told = failing();
        told.news.exhausted = 3;
        told.disables_at = Some(SINCE + std::time::Duration::from_secs(5 * 86_400));
        let item = Item {
            description: "Orders of the shop",
            ..item(&told)
        };
        let words = of_one(item, Reader::Operator);
        assert_eq!(
            words.subject,
            "[postrider] An endpoint fails: hooks.example.com"
        );
        let expected = "\
https://hooks.example.com/in?key=1
  Description:      Orders of the shop
  Application:      Acme
  State:            fails since 2023-11-14 22:13 UTC
  Last failure:     The receiver answered 500.
  Event type:       invoice.paid
  Failed for good:  3 deliveries; send again at https://p.example.com/console/app/app_1/endpoint/ep_1/replay
  Will be disabled: 2023-11-19 22:13 UTC, unless a delivery succeeds before
  Its page:         https://p.example.com/console/app/app_1/endpoint/ep_1

-- 
You get this mail because notify.to in the server's settings has your address.
";
        assert_eq!(words.body, expected);
    }

    #[test]
    fn each_kind_of_news_has_its_words() {
        let disabled = Told {
            news: News {
                disabled: true,
                ..failing().news
            },
            disables_at: Some(SINCE),
            ..failing()
        };
        let gone = Told {
            failing_since: None,
            ..disabled.clone()
        };
        let lost = Told {
            failing_since: None,
            news: News {
                exhausted: 1,
                ..failing().news
            },
            ..failing()
        };
        let well = Told {
            kind: ToldKind::Recovered,
            failing_since: None,
            news: News::default(),
            ..failing()
        };
        use DisabledReason::{Failing, Gone, Requested};
        for (told, reason, subject, state, there, not_there) in [
            (
                failing(),
                None,
                "An endpoint fails: hooks.example.com",
                "fails since 2023-11-14 22:13 UTC",
                "Last failure:     The receiver answered 500.",
                "disabled",
            ),
            (
                disabled,
                Some(Failing),
                "An endpoint was disabled: hooks.example.com",
                "disabled: nothing but failures since 2023-11-14 22:13 UTC; messages wait until it is enabled",
                "Last failure:     The receiver answered 500.",
                "Will be disabled",
            ),
            (
                gone.clone(),
                Some(Gone),
                "An endpoint was disabled: hooks.example.com",
                "disabled: its receiver answered 410 Gone; messages wait until it is enabled",
                "Event type:       invoice.paid",
                "fails",
            ),
            (
                gone.clone(),
                Some(Requested),
                "An endpoint was disabled: hooks.example.com",
                "disabled: its receiver asked for it; messages wait until it is enabled",
                "Event type:       invoice.paid",
                "fails",
            ),
            (
                gone,
                None,
                "An endpoint was disabled: hooks.example.com",
                "disabled; messages wait until it is enabled",
                "Event type:       invoice.paid",
                "fails",
            ),
            (
                lost,
                None,
                "Deliveries failed for good: hooks.example.com",
                "works",
                "Failed for good:  1 delivery; send again at https://p.example.com/",
                "since",
            ),
            (
                well,
                None,
                "An endpoint is well again: hooks.example.com",
                "well again: messages arrive",
                "Application:      Acme",
                "Last failure",
            ),
        ] {
            let item = Item {
                disabled: reason,
                ..item(&told)
            };
            let words = of_one(item, Reader::Operator);
            assert_eq!(words.subject, format!("[postrider] {subject}"));
            let line = format!("  State:            {state}\n");
            assert!(words.body.contains(&line), "{}", words.body);
            assert!(words.body.contains(there), "{there}: {}", words.body);
            assert!(
                !words.body.contains(not_there),
                "{not_there}: {}",
                words.body
            );
        }
    }

    #[test]
    fn many_endpoints_are_counted_and_the_first_are_listed() {
        let told = failing();
        let items = [item(&told); LISTED_MAX];
        let counts = Counts {
            disabled: 1,
            failing: 297,
            lost: 0,
            recovered: 2,
        };
        let home = Some("https://p.example.com/console");
        let words = words("", Reader::Operator, &counts, &items, home);
        let sentence = "1 endpoint was disabled, 297 fail, 2 are well again";
        assert_eq!(words.subject, sentence);
        let start = format!("{sentence}. The first 30:\n\nhttps://hooks.example.com/in?key=1\n");
        assert!(words.body.starts_with(&start), "{}", words.body);
        assert_eq!(
            words.body.matches("https://hooks.example.com/in").count(),
            30
        );
        let end = "\nAnd 270 more. All are on https://p.example.com/console\n\n-- \n";
        assert!(words.body.contains(end), "{}", words.body);
        for (counts, expected) in [
            ((0, 2, 0, 0), "2 endpoints fail"),
            ((2, 0, 0, 1), "2 endpoints were disabled, 1 is well again"),
            ((0, 0, 1, 3), "1 endpoint lost deliveries, 3 are well again"),
            ((0, 0, 0, 2), "2 endpoints are well again"),
        ] {
            let (disabled, failing, lost, recovered) = counts;
            let counts = Counts {
                disabled,
                failing,
                lost,
                recovered,
            };
            assert_eq!(counts.sentence(), expected);
        }
    }

    #[test]
    fn a_customer_is_told_where_the_portal_has_it() {
        let mut told = failing();
        told.news.exhausted = 2;
        let without = Item {
            page: None,
            ..item(&told)
        };
        let words = of_one(without, Reader::Customer);
        let line = "Failed for good:  2 deliveries; send again in the portal";
        assert!(words.body.contains(line), "{}", words.body);
        assert!(
            words.body.contains("  Id:               ep_1\n"),
            "{}",
            words.body
        );
        assert!(
            words.body.contains("your address is the contact"),
            "{}",
            words.body
        );
        for word in ["console", "notify.", "settings"] {
            assert!(!words.body.contains(word), "{word}: {}", words.body);
        }
    }

    #[test]
    fn what_others_wrote_stays_on_its_line_and_is_one_line() {
        let long = format!("a\r\n\r\nState: fine\u{202e}\u{1b}[2J {}", "é".repeat(1000));
        let mut told = failing();
        told.news.failure = long.clone();
        told.news.event_type = long.clone();
        let url = format!("https://hooks.example.com/{}", "a".repeat(2000));
        let item = Item {
            url: &url,
            description: &long,
            application: Some(&long),
            ..item(&told)
        };
        let words = of_one(item, Reader::Operator);
        let lines = words
            .body
            .lines()
            .filter(|line| line.trim_start().starts_with("State: "));
        assert_eq!(lines.count(), 1, "{}", words.body);
        assert!(words.body.chars().count() < 3200, "{}", words.body.len());
        assert!(
            !words.body.contains(['\u{1b}', '\u{202e}', '\r']),
            "{}",
            words.body
        );
        assert_eq!(
            words
                .body
                .matches("  Description:      a State: fine [2J é")
                .count(),
            1
        );
        let strange = Item {
            url: "no URL\r\nBcc: x",
            ..item
        };
        let subject = of_one(strange, Reader::Operator).subject;
        assert_eq!(subject, "[postrider] An endpoint fails: ep_1");
    }

    #[test]
    fn an_instant_is_told_to_the_minute() {
        assert_eq!(instant(SINCE), "2023-11-14 22:13 UTC");
        assert_eq!(instant(Timestamp(0)), "1970-01-01 00:00 UTC");
    }
}
