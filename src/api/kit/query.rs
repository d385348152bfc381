//! Query strings, and the parameters that several lists have.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use actix_web::HttpRequest;
use serde_json::json;
use url::form_urlencoded;

use super::operation::Parameter;
use crate::clock::Timestamp;
use crate::domain::event_type::name_problem;
use crate::domain::id::{IDS_BEGIN, IDS_END};
use crate::rules::checks::{
    CHANNEL_NAME_MAX, EVENT_TYPE_NAME_MAX, NAME_PATTERN, Problems, TAG_MAX,
};

/// The longest text to search for: it is compared with everything in a list.
const SEARCH_BYTES_MAX: usize = 256;

/// Returns the parameters that [`Query::time_bounds`] reads.
pub fn time_parameters() -> [Parameter; 2] {
    let instant = || json!({ "type": "string", "format": "date-time" });
    [
        Parameter::query(
            "before",
            "Only what has an earlier time than this.",
            instant(),
        ),
        Parameter::query(
            "after",
            "Only what has this time or a later one.",
            instant(),
        ),
    ]
}

/// Returns the parameter that [`Query::event_types`] reads.
pub fn event_types_parameter() -> Parameter {
    Parameter::query(
        "event_types",
        "Only what is of one of these event types: given repeatedly, or once with commas.",
        json!({
            "type": "array",
            "items": {
                "type": "string",
                "minLength": 1,
                "maxLength": EVENT_TYPE_NAME_MAX,
                "pattern": NAME_PATTERN,
            },
        }),
    )
}

/// Returns the parameter that [`Query::channel`] reads.
pub fn channel_parameter() -> Parameter {
    Parameter::query(
        "channel",
        "Only what came in this channel.",
        json!({
            "type": "string",
            "minLength": 1,
            "maxLength": CHANNEL_NAME_MAX,
            "pattern": NAME_PATTERN,
        }),
    )
}

/// Returns the parameter that [`Query::search`] reads.
pub fn search_parameter(says: &'static str) -> Parameter {
    let schema = json!({ "type": "string", "maxLength": SEARCH_BYTES_MAX });
    Parameter::query("search", says, schema)
}

/// A text to search for, whatever its case. An id is compared as a whole, because a few letters
/// occur in some id by chance, and in the prefix of all.
pub struct Search {
    text: String,
    lower: String,
}

impl Search {
    fn new(text: &str) -> Search {
        Search {
            text: text.to_owned(),
            lower: text.to_lowercase(),
        }
    }

    /// Whether the text occurs in one of these.
    pub fn is_in<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let mut texts = texts.into_iter();
        texts.any(|text| text.to_lowercase().contains(&self.lower))
    }

    /// Whether the text is this id.
    pub fn is_id<T: FromStr + PartialEq>(&self, id: T) -> bool {
        self.text.parse().is_ok_and(|text: T| text == id)
    }
}

/// Returns the parameter that [`Query::tag`] reads.
pub fn tag_parameter() -> Parameter {
    Parameter::query(
        "tag",
        "Only what has this tag.",
        json!({
            "type": "string",
            "minLength": 1,
            "maxLength": TAG_MAX,
            "pattern": NAME_PATTERN,
        }),
    )
}

/// A query string, with its problems.
pub struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub problems: Problems,
}

impl<'a> Query<'a> {
    pub fn of(request: &'a HttpRequest) -> Query<'a> {
        Query::parse(request.query_string())
    }

    pub fn parse(text: &'a str) -> Query<'a> {
        Query {
            pairs: form_urlencoded::parse(text.as_bytes()).collect(),
            problems: Problems::default(),
        }
    }

    /// Returns the value of a parameter; an empty value counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_ref())
    }

    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        match self.get(name) {
            None => default,
            Some("true") => true,
            Some("false") => false,
            Some(_) => {
                self.problems.add(&["query", name], "must be true or false");
                default
            }
        }
    }

    /// Reads one of the given words, and returns its value.
    pub fn choice<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let given = self.get(name)?;
        let found = words.iter().find(|(word, _)| *word == given);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("must be one of {}", known.join(", "));
            self.problems.add(&["query", name], message);
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number within bounds.
    pub fn number(&mut self, name: &str, within: RangeInclusive<usize>) -> Option<usize> {
        let number = self.get(name)?.parse().ok();
        let number = number.filter(|number| within.contains(number));
        if number.is_none() {
            let (min, max) = within.into_inner();
            let message = format!("must be a number from {min} to {max}");
            self.problems.add(&["query", name], message);
        }
        number
    }

    /// Reads `search`: a text to search for.
    pub fn search(&mut self) -> Option<Search> {
        let text = self.get("search")?.to_owned();
        if text.len() > SEARCH_BYTES_MAX {
            let message = format!("must have at most {SEARCH_BYTES_MAX} bytes");
            self.problems.add(&["query", "search"], message);
            return None;
        }
        Some(Search::new(&text))
    }

    pub fn instant(&mut self, name: &str) -> Option<Timestamp> {
        self.parsed(name, str::parse)
    }

    fn parsed(
        &mut self,
        name: &str,
        parse: fn(&str) -> Result<Timestamp, String>,
    ) -> Option<Timestamp> {
        match parse(self.get(name)?) {
            Ok(instant) => Some(instant),
            Err(_) => {
                let message = "must be an RFC 3339 date and time, such as 2026-01-31T08:15:30Z";
                self.problems.add(&["query", name], message);
                None
            }
        }
    }

    /// Reads `event_types`, given repeatedly, with brackets, or with commas; all where absent.
    pub fn event_types(&mut self) -> Option<Vec<String>> {
        let is_ours = |key: &str| {
            key == "event_types" || (key.starts_with("event_types[") && key.ends_with(']'))
        };
        let names: Vec<String> = self
            .pairs
            .iter()
            .filter(|(key, _)| is_ours(key))
            .flat_map(|(_, value)| value.split(','))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        for name in &names {
            let problem = name_problem(name, EVENT_TYPE_NAME_MAX);
            self.problems.add_if(&["query", "event_types"], problem);
        }
        (!names.is_empty()).then_some(names)
    }

    pub fn channel(&mut self) -> Option<String> {
        let channel = self.get("channel")?.to_owned();
        let problem = name_problem(&channel, CHANNEL_NAME_MAX);
        self.problems.add_if(&["query", "channel"], problem);
        Some(channel)
    }

    pub fn tag(&mut self) -> Option<String> {
        let tag = self.get("tag")?.to_owned();
        let problem = name_problem(&tag, TAG_MAX);
        self.problems.add_if(&["query", "tag"], problem);
        Some(tag)
    }

    /// Reads `before` and `after`; with both, items between the two are listed. Times are shown in
    /// whole milliseconds, so a bound between two of them is the same as the later one.
    pub fn time_bounds(&mut self) -> (Option<Timestamp>, Option<Timestamp>) {
        let (before, after) = (
            self.parsed("before", Timestamp::not_before),
            self.parsed("after", Timestamp::not_before),
        );
        let within = |instant: Timestamp| instant.clamp(IDS_BEGIN, IDS_END);
        (before.map(within), after.map(within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_come_in_every_usual_spelling() {
        for text in [
            "event_types=a,b",
            "event_types=a&event_types=b",
            "event_types[]=a&event_types[]=b",
            "event_types[0]=a&event_types%5B1%5D=b",
        ] {
            let names = Query::parse(text).event_types();
            assert_eq!(names, Some(vec!["a".to_owned(), "b".to_owned()]), "{text}");
        }
        assert_eq!(Query::parse("event_types=").event_types(), None);
    }

    #[test]
    fn an_offset_in_an_instant_is_honoured() {
        let text = "after=2026-01-31T10%3A00%3A00%2B02%3A00";
        let (_, after) = Query::parse(text).time_bounds();
        assert_eq!(after, "2026-01-31T08:00:00Z".parse().ok());
    }

    #[test]
    fn a_bound_that_no_id_can_carry_is_the_nearest_one() {
        for (text, expected) in [
            ("before=1999-01-01T00:00:00Z", IDS_BEGIN),
            ("before=9999-01-01T00:00:00Z", IDS_END),
        ] {
            let (before, _) = Query::parse(text).time_bounds();
            assert_eq!(before, Some(expected), "{text}");
            let id = crate::domain::id::MessageId::first_at(expected);
            assert_eq!(id.time(), expected, "it does not wrap around");
        }
    }
}
