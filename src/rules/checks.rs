//! The checks that several kinds of bodies share, and the list of problems that they fill.
//!
//! Pure. A caller is told all problems of a body at once, not one at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::patch::Patch;
pub use crate::domain::event_type::NAME_MAX as EVENT_TYPE_NAME_MAX;
use crate::domain::event_type::name_problem;
use crate::domain::id::uid_problem;
use crate::domain::wildcard;
use crate::error::{Error, Invalid, Result};

/// The longest name of a channel.
pub const CHANNEL_NAME_MAX: usize = 128;

/// The longest tag of a message. Tags follow the rule for names of channels.
pub const TAG_MAX: usize = CHANNEL_NAME_MAX;

pub const TAGS_PER_MESSAGE_MAX: usize = 10;

/// Names of applications and tokens.
pub const NAME_BYTES_MAX: usize = 1024;

pub const DESCRIPTION_BYTES_MAX: usize = 8 * 1024;

/// All keys and values of one thing's metadata together: they are in memory while the server runs.
const METADATA_BYTES_MAX: usize = 4 * 1024;

/// An endpoint that wants more event types than this wants all.
pub const EVENT_TYPES_PER_ENDPOINT_MAX: usize = 1000;

/// Names of event types and channels, and callers' own ids: letters, digits, and these.
pub const NAME_PATTERN: &str = r"^[a-zA-Z0-9\-_.]+$";

/// The same for a list of event types, where `*` stands for a whole segment, and `**` at the end for one or more.
pub const WANTED_PATTERN: &str = r"^(([a-zA-Z0-9\-_]*|\*)\.)*([a-zA-Z0-9\-_]*|\*|\*\*)$";

/// The most problems that are reported of one request: its sender does not need thousands.
pub const PROBLEMS_MAX: usize = 50;

/// The problems of a request that were found so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problems(Vec<Invalid>);

impl Problems {
    /// Adds a problem. `place` is the path to the value: `["body", "headers", "X-One"]`.
    pub fn add(&mut self, place: &[&str], message: impl Into<String>) {
        self.note(place, message.into(), "value_error");
    }

    pub fn add_if(&mut self, place: &[&str], message: Option<impl Into<String>>) {
        if let Some(message) = message {
            self.add(place, message);
        }
    }

    /// Adds the problem of a value that asks for something which postrider does not offer.
    pub fn not_offered(&mut self, place: &[&str], message: impl Into<String>) {
        self.note(place, message.into(), "not_offered");
    }

    pub fn missing(&mut self, place: &[&str]) {
        self.note(place, "is required".to_owned(), "missing");
    }

    fn note(&mut self, place: &[&str], message: String, kind: &'static str) {
        if self.0.len() == PROBLEMS_MAX {
            return;
        }
        self.0.push(Invalid {
            location: place.iter().map(|part| (*part).to_owned()).collect(),
            message,
            kind: kind.into(),
        });
    }

    /// Returns an error with all problems, if there are any.
    pub fn done(self) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Error::Invalid(self.0)),
        }
    }
}

/// Returns the error for one value that is missing.
pub fn missing(place: &[&str]) -> Error {
    let mut problems = Problems::default();
    problems.missing(place);
    Error::Invalid(problems.0)
}

/// Returns the error for one value that breaks a rule.
pub fn wrong(place: &[&str], message: impl Into<String>) -> Error {
    let mut problems = Problems::default();
    problems.add(place, message);
    Error::Invalid(problems.0)
}

/// Refuses a body with an id where something is made: the server gives it another one.
pub fn refuse_given_id(is_given: bool, place: &[&str]) -> Result<()> {
    let message = "is set by the server and cannot be sent; your own id is the uid";
    match is_given {
        true => Err(wrong(place, message)),
        false => Ok(()),
    }
}

/// Checks a name for people: it is not empty, not too long, and has no control characters.
pub fn check_name(problems: &mut Problems, place: &[&str], name: &str) {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        problems.add(place, format!("must have 1 to {NAME_BYTES_MAX} bytes"));
    }
    check_text(problems, place, name);
}

pub fn check_description(problems: &mut Problems, place: &[&str], description: &str) {
    if description.len() > DESCRIPTION_BYTES_MAX {
        let message = format!("must have at most {DESCRIPTION_BYTES_MAX} bytes");
        problems.add(place, message);
    }
    check_text(problems, place, description);
}

fn check_text(problems: &mut Problems, place: &[&str], text: &str) {
    let is_text = |character: char| !character.is_control() || "\t\r\n".contains(character);
    if !text.chars().all(is_text) {
        problems.add(place, "may not contain control characters");
    }
}

/// Checks a caller's own id. It must not look like one of the server's ids, which begin with
/// `prefix`.
pub fn check_uid(problems: &mut Problems, place: &[&str], uid: &str, prefix: &str) {
    problems.add_if(place, uid_problem(uid, prefix));
}

pub fn check_metadata(
    problems: &mut Problems,
    place: &[&str],
    metadata: &BTreeMap<String, String>,
) {
    let bytes: usize = metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > METADATA_BYTES_MAX {
        let message = format!("keys and values may have {METADATA_BYTES_MAX} bytes in all");
        problems.add(place, message);
    }
}

/// Returns the rate that a body asks for, by its name `throttleRate` or by the older one,
/// `rateLimit`; `place` is the place of the object with both.
pub fn checked_throttle_rate(
    problems: &mut Problems,
    place: &[&str],
    rate: Patch<u16>,
    older: Patch<u16>,
) -> Patch<u16> {
    let mut wrong = |field: &str, message: &str| {
        let place: Vec<&str> = place.iter().copied().chain([field]).collect();
        problems.add(&place, message);
    };
    for (field, value) in [("throttleRate", &rate), ("rateLimit", &older)] {
        if *value == Patch::Set(0) {
            wrong(field, "must be at least 1, or null for no throttle");
        }
    }
    if rate == Patch::Absent {
        return older;
    }
    if older != Patch::Absent && older != rate {
        wrong(
            "rateLimit",
            "is the older name of throttleRate, which has another value; give one of them",
        );
    }
    rate
}

/// Checks a list of event types that may have wildcards.
pub fn check_event_type_names(problems: &mut Problems, place: &[&str], names: &[String]) {
    check_list(
        problems,
        place,
        names,
        EVENT_TYPES_PER_ENDPOINT_MAX,
        |name| wildcard::problem(name, EVENT_TYPE_NAME_MAX),
    );
}

pub fn check_channels(
    problems: &mut Problems,
    place: &[&str],
    channels: &[String],
    count_max: usize,
) {
    check_names(problems, place, channels, (count_max, CHANNEL_NAME_MAX));
}

pub fn check_tags(problems: &mut Problems, place: &[&str], tags: &[String]) {
    check_names(problems, place, tags, (TAGS_PER_MESSAGE_MAX, TAG_MAX));
}

fn check_names(
    problems: &mut Problems,
    place: &[&str],
    names: &[String],
    (count_max, bytes_max): (usize, usize),
) {
    check_list(problems, place, names, count_max, |name| {
        name_problem(name, bytes_max)
    });
}

fn check_list(
    problems: &mut Problems,
    place: &[&str],
    names: &[String],
    count_max: usize,
    problem: impl Fn(&str) -> Option<String>,
) {
    if names.is_empty() || names.len() > count_max {
        let message = format!("must have 1 to {count_max} items, or be null");
        problems.add(place, message);
        return;
    }
    for (index, name) in names.iter().enumerate() {
        let index = index.to_string();
        let place: Vec<&str> = place.iter().copied().chain([index.as_str()]).collect();
        problems.add_if(&place, problem(name));
    }
}

/// The names in the order given, each once.
pub fn without_repeats(names: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(names.len());
    let mut seen = std::collections::HashSet::with_capacity(names.len());
    for name in names {
        if seen.insert(name.clone()) {
            kept.push(name);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(problems: Problems) -> Vec<String> {
        match problems.done() {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(all)) => all.iter().map(|one| one.location.join(".")).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut problems = Problems::default();
        check_name(&mut problems, &["body", "name"], "");
        check_uid(&mut problems, &["body", "uid"], "no spaces", "app_");
        checked_throttle_rate(&mut problems, &["body"], Patch::Set(0), Patch::Absent);
        check_description(&mut problems, &["body", "description"], "bell \u{7}");
        problems.missing(&["body", "url"]);
        assert_eq!(
            places(problems),
            [
                "body.name",
                "body.uid",
                "body.throttleRate",
                "body.description",
                "body.url"
            ]
        );
    }

    #[test]
    fn a_rate_goes_by_either_name() {
        use Patch::{Absent, Null, Set};
        for (rate, older, expected, wrong) in [
            (Absent, Absent, Absent, vec![]),
            (Set(3), Absent, Set(3), vec![]),
            (Absent, Set(3), Set(3), vec![]),
            (Absent, Null, Null, vec![]),
            (Set(3), Set(3), Set(3), vec![]),
            (Set(3), Set(4), Set(3), vec!["body.rateLimit"]),
            (Null, Set(4), Null, vec!["body.rateLimit"]),
            (Absent, Set(0), Set(0), vec!["body.rateLimit"]),
        ] {
            let mut problems = Problems::default();
            let found = checked_throttle_rate(&mut problems, &["body"], rate, older);
            assert_eq!(
                (found, places(problems)),
                (
                    expected,
                    wrong.iter().map(|place| (*place).to_owned()).collect()
                )
            );
        }
    }

    #[test]
    fn good_values_pass() {
        let mut problems = Problems::default();
        check_name(&mut problems, &["body", "name"], "Größe \u{1f600}");
        check_uid(&mut problems, &["body", "uid"], "customer-7", "app_");
        check_description(&mut problems, &["body", "description"], "two\nlines");
        check_channels(&mut problems, &["body", "channels"], &["a.b".to_owned()], 5);
        assert!(problems.done().is_ok());
    }

    #[test]
    fn lists_of_names_have_a_length_and_an_alphabet() {
        let names = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
        for (given, expected) in [
            (names(0), vec!["body.channels"]),
            (names(5), vec![]),
            (names(6), vec!["body.channels"]),
            (
                vec!["ok".to_owned(), "not ok".to_owned()],
                vec!["body.channels.1"],
            ),
            (vec!["x".repeat(129)], vec!["body.channels.0"]),
        ] {
            let mut problems = Problems::default();
            check_channels(&mut problems, &["body", "channels"], &given, 5);
            assert_eq!(places(problems), expected, "{given:?}");
        }
    }

    #[test]
    fn metadata_has_a_size() {
        let mut problems = Problems::default();
        let mut metadata = BTreeMap::from([("k".to_owned(), "v".repeat(METADATA_BYTES_MAX - 1))]);
        check_metadata(&mut problems, &["body", "metadata"], &metadata);
        assert!(problems.done().is_ok());
        metadata.insert("more".to_owned(), String::new());
        let mut problems = Problems::default();
        check_metadata(&mut problems, &["body", "metadata"], &metadata);
        assert!(problems.done().is_err());
    }

    #[test]
    fn repeats_go_and_order_stays() {
        let given = ["b", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(without_repeats(given), ["b", "a"]);
    }
}
