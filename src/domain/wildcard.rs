//! Lists of event types as endpoints choose them: names, some of them with wildcards.
//!
//! A name's segments are what stands between its dots. `*` stands for exactly one whole segment, anywhere;
//! `**` stands for one or more, and is the last. So `invoice.**` takes `invoice.paid` and
//! `invoice.item.added`, and not `invoice`.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::event_type::is_in_names;

/// One whole segment.
const ONE: &str = "*";

/// One or more segments, at the end.
const MORE: &str = "**";

/// The event type of a message, as an endpoint's list is asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageType<'a> {
    pub name: &'a str,
    /// No wildcard takes it, only its name and a list that is absent: it has feature flags, so that not every
    /// customer may know of it.
    pub is_flagged: bool,
}

impl<'a> MessageType<'a> {
    /// An event type that wildcards take, too.
    pub fn open(name: &'a str) -> MessageType<'a> {
        MessageType {
            name,
            is_flagged: false,
        }
    }
}

/// The event types that an endpoint wants, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct EventTypes {
    names: Vec<String>,
    /// The places of those with wildcards, so that a list without any costs nothing more.
    wildcards: Vec<usize>,
}

impl EventTypes {
    pub fn takes(&self, event_type: MessageType<'_>) -> bool {
        if self.names.iter().any(|name| name == event_type.name) {
            return true;
        }
        let mut wildcards = self.wildcards.iter().map(|place| &self.names[*place]);
        !event_type.is_flagged && wildcards.any(|wanted| takes(wanted, event_type.name))
    }
}

impl From<Vec<String>> for EventTypes {
    fn from(names: Vec<String>) -> EventTypes {
        let places = names.iter().enumerate();
        let wildcards = places.filter(|(_, name)| is_wildcard(name));
        EventTypes {
            wildcards: wildcards.map(|(place, _)| place).collect(),
            names,
        }
    }
}

impl From<EventTypes> for Vec<String> {
    fn from(event_types: EventTypes) -> Vec<String> {
        event_types.names
    }
}

impl Deref for EventTypes {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.names
    }
}

impl<'a> IntoIterator for &'a EventTypes {
    type Item = &'a String;
    type IntoIter = std::slice::Iter<'a, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.names.iter()
    }
}

/// Whether one of a list is more than a name.
pub fn is_wildcard(wanted: &str) -> bool {
    wanted.contains('*')
}

/// Whether one of a list, a name or a wildcard, takes this name.
pub fn takes(wanted: &str, name: &str) -> bool {
    let (mut wanted, mut segments) = (wanted.split('.'), name.split('.'));
    loop {
        match (wanted.next(), segments.next()) {
            (None, None) => return true,
            (Some(MORE), Some(_)) => return true,
            (Some(ONE), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// The rule for one of a list: 1 to `max` characters of a name, with wildcards for whole segments.
pub fn problem(wanted: &str, max: usize) -> Option<String> {
    if wanted.is_empty() || wanted.len() > max {
        return Some(format!("must have 1 to {max} characters"));
    }
    let count = wanted.split('.').count();
    for (index, segment) in wanted.split('.').enumerate() {
        match segment {
            ONE => {}
            MORE if index + 1 == count => {}
            MORE => return Some("may have ** only at its end".to_owned()),
            partly if partly.contains('*') => {
                let message = format!(
                    "has * beside other characters, in {partly}: it stands for a whole segment between dots, \
                     as in invoice.*"
                );
                return Some(message);
            }
            name if !name.bytes().all(is_in_names) => {
                let message =
                    "may contain only letters, digits, '-', '_', '.', and '*' for a whole segment";
                return Some(message.to_owned());
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_one_segment_and_two_at_the_end_are_more() {
        for (wanted, taken, not_taken) in [
            (
                "invoice.paid",
                vec!["invoice.paid"],
                vec!["invoice", "invoice.paid.late", "Invoice.paid"],
            ),
            ("*", vec!["invoice", "a-b_c"], vec!["invoice.paid"]),
            (
                "invoice.*",
                vec!["invoice.paid", "invoice."],
                vec!["invoice", "invoice.item.added", "xinvoice.paid"],
            ),
            (
                "*.paid",
                vec!["invoice.paid", ".paid"],
                vec!["paid", "a.invoice.paid"],
            ),
            (
                "invoice.*.added",
                vec!["invoice.item.added"],
                vec!["invoice.added", "invoice.item.more.added"],
            ),
            ("*.*", vec!["a.b"], vec!["a", "a.b.c"]),
            ("**", vec!["a", "a.b", "a.b.c"], vec![]),
            (
                "invoice.**",
                vec!["invoice.paid", "invoice.item.added"],
                vec!["invoice", "invoices.paid"],
            ),
            (
                "*.item.**",
                vec!["a.item.b", "a.item.b.c"],
                vec!["a.item", "a.b.item.c"],
            ),
        ] {
            for name in taken {
                assert!(takes(wanted, name), "{wanted} {name}");
            }
            for name in not_taken {
                assert!(!takes(wanted, name), "{wanted} {name}");
            }
        }
    }

    #[test]
    fn wildcards_stand_for_whole_segments() {
        for (wanted, expected) in [
            ("a.b", None),
            ("*", None),
            ("**", None),
            ("*.a.*.**", None),
            ("", Some("must have 1 to 20 characters")),
            (
                "a.very.long.name.of.a.type",
                Some("must have 1 to 20 characters"),
            ),
            ("inv*", Some("in inv*:")),
            ("a.*b.c", Some("in *b:")),
            ("***", Some("in ***:")),
            ("a.***", Some("in ***:")),
            ("**.a", Some("only at its end")),
            ("**.**", Some("only at its end")),
            ("a.**.b", Some("only at its end")),
            ("a b", Some("may contain only")),
            ("é", Some("may contain only")),
            ("a.?", Some("may contain only")),
        ] {
            let found = problem(wanted, 20);
            match expected {
                None => assert_eq!(found, None, "{wanted}"),
                Some(text) => assert!(found.is_some_and(|found| found.contains(text)), "{wanted}"),
            }
        }
    }

    #[test]
    fn a_flagged_type_is_taken_by_its_name_alone() {
        let of = |names: &[&str]| {
            EventTypes::from(
                names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let flagged = MessageType {
            name: "a.b",
            is_flagged: true,
        };
        assert!(of(&["a.*"]).takes(MessageType::open("a.b")));
        assert!(!of(&["a.*", "**"]).takes(flagged));
        assert!(of(&["a.*", "a.b"]).takes(flagged));
    }

    #[test]
    fn a_list_is_written_as_its_names() {
        let list: EventTypes = serde_json::from_str(r#"["b.*","a"]"#).unwrap();
        assert_eq!(serde_json::to_string(&list).unwrap(), r#"["b.*","a"]"#);
        assert!(list.takes(MessageType::open("b.c")) && !list.takes(MessageType::open("b.*.c")));
    }

    /// The rule as a regular expression.
    fn model(wanted: &str) -> regex::Regex {
        let segments = wanted.split('.').map(|segment| match segment {
            "*" => "[^.]*".to_owned(),
            "**" => ".*".to_owned(),
            name => regex::escape(name),
        });
        let segments: Vec<String> = segments.collect();
        regex::Regex::new(&format!("^{}$", segments.join(r"\."))).unwrap()
    }

    proptest! {
        #[test]
        fn wildcards_take_what_a_regular_expression_takes(
            wanted in r"(\*|a|ab|b|)(\.(\*|a|ab|b|)){0,4}(\.\*\*)?",
            name in r"(a|ab|b|)(\.(a|ab|b|)){0,5}",
        ) {
            prop_assume!(!wanted.is_empty() && !name.is_empty());
            prop_assert_eq!(problem(&wanted, 256), None);
            prop_assert_eq!(takes(&wanted, &name), model(&wanted).is_match(&name));
            let list = EventTypes::from(vec!["c".to_owned(), wanted.clone()]);
            prop_assert_eq!(list.takes(MessageType::open(&name)), model(&wanted).is_match(&name));
        }

        #[test]
        fn any_text_is_taken_or_refused_by_the_rule(wanted in r"[a*.\- é]{0,12}") {
            let rule = regex::Regex::new(r"^(([a-zA-Z0-9\-_]*|\*)\.)*([a-zA-Z0-9\-_]*|\*|\*\*)$").unwrap();
            let expected = !wanted.is_empty() && rule.is_match(&wanted);
            prop_assert_eq!(problem(&wanted, 256).is_none(), expected);
        }
    }
}
