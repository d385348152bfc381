//! Why a message does not fulfil a filter, for people who write one.

use super::facts::{Facts, Seen};
use super::{Among, Comparison, Condition, Filter, Operand, Ordered, Test};
use crate::domain::cost::{Budget, TooCostly};
use crate::domain::tape::Kind;

/// The most reasons of one filter.
const REASONS_MAX: usize = 20;

/// The longest value that a reason repeats.
const VALUE_BYTES_MAX: usize = 1024;

/// The longest value that a sentence repeats.
const QUOTED_BYTES_MAX: usize = 80;

/// Something that a message does not fulfil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The names that lead to the value, with points between them; empty for the message itself.
    pub path: String,
    pub operator: &'static str,
    /// The JSON text of what the operator compares with, where it is not too long.
    pub expected: Option<String>,
    /// The JSON text of the value, where there is one and it is not too long.
    pub found: Option<String>,
    /// A sentence for people.
    pub message: String,
}

impl Filter {
    /// Why the message does not fulfil it; nothing where it does.
    pub fn explain(
        &self,
        facts: &Facts<'_>,
        budget: &mut Budget,
    ) -> Result<Vec<Reason>, TooCostly> {
        let mut search = Search {
            source: &self.source,
            budget,
            path: Vec::new(),
            reasons: Vec::new(),
        };
        search.look(&self.conditions, Seen::Message(facts))?;
        Ok(search.reasons)
    }
}

struct Search<'a> {
    source: &'a str,
    budget: &'a mut Budget,
    path: Vec<String>,
    reasons: Vec<Reason>,
}

/// A value, and the words for it.
struct Found {
    /// The JSON text of a value that is short enough.
    json: Option<String>,
    words: String,
}

impl Search<'_> {
    fn look(&mut self, condition: &Condition, seen: Seen<'_>) -> Result<(), TooCostly> {
        if condition.holds(seen, self.budget)? {
            return Ok(());
        }
        let found = Found::of(seen, self.budget)?;
        match condition {
            Condition::Is(Operand { place, .. }) => {
                let expected = self.quoted(place);
                let words = match seen.kind() {
                    Kind::List => format!("has no item {expected}"),
                    _ => format!("is {}, and must be {expected}", found.words),
                };
                self.note("$eq", Some(place), found.json, words);
            }
            Condition::Contains(all_of) => self.look_for_items(all_of, seen, found)?,
            Condition::Fields { fields, also } if seen.kind() == Kind::Object => {
                for field in fields {
                    self.path.push(field.name.to_string());
                    match seen.member(&field.name, self.budget)? {
                        Some(member) => self.look(&field.condition, member)?,
                        None if field.takes_missing => {}
                        None => self.note_missing(&field.condition),
                    }
                    self.path.pop();
                }
                for one in also {
                    self.look(one, seen)?;
                }
            }
            Condition::Fields { fields, .. } => {
                let names: Vec<&str> = fields.iter().map(|field| &*field.name).collect();
                let names = names.join(", ");
                let words = match seen.kind() {
                    Kind::List => format!("has no item that fulfils all conditions on {names}"),
                    _ => format!("is {}, and must be an object", found.words),
                };
                self.note("$and", None, found.json, words);
            }
            Condition::Test(Operand { test, place }) => {
                let expected = self.quoted(place);
                let words = match unfulfilled(test, seen.kind(), &expected) {
                    Needs::Value(must) => format!("is {}, and {must}", found.words),
                    Needs::Other(words) => words,
                };
                self.note(operator(test), Some(place), found.json, words);
            }
            Condition::All(all_of) => {
                for one in all_of {
                    self.look(one, seen)?;
                }
            }
            Condition::Any(any_of) => {
                let words = format!("fulfils none of the {} conditions of $or", any_of.len());
                self.note("$or", None, None, words);
                for one in any_of {
                    self.look(one, seen)?;
                }
            }
            Condition::Not(_) => {
                let words = "fulfils the condition of $not, and must not".to_owned();
                self.note("$not", None, found.json, words);
            }
        }
        Ok(())
    }

    /// The conditions that no item of a list fulfils.
    fn look_for_items(
        &mut self,
        all_of: &[Condition],
        seen: Seen<'_>,
        found: Found,
    ) -> Result<(), TooCostly> {
        if seen.kind() != Kind::List {
            let words = format!("is {}, and must be a list", found.words);
            self.note("$eq", None, found.json, words);
            return Ok(());
        }
        for (place, one) in all_of.iter().enumerate() {
            if seen.any_item(self.budget, |item, budget| one.holds(item, budget))? {
                continue;
            }
            match one {
                Condition::Is(Operand { place, .. }) => {
                    let words = format!("has no item {}", self.quoted(place));
                    self.note("$eq", Some(place), found.json.clone(), words);
                }
                _ => {
                    let words = format!(
                        "has no item that fulfils condition {} of the list",
                        place + 1
                    );
                    self.note("$eq", None, found.json.clone(), words);
                }
            }
        }
        Ok(())
    }

    /// A field that is not there.
    fn note_missing(&mut self, condition: &Condition) {
        let (operator, place) = match condition {
            Condition::Is(Operand { place, .. }) => ("$eq", Some(place)),
            Condition::Test(Operand { test, place }) => (operator(test), Some(place)),
            Condition::Contains(_) => ("$eq", None),
            Condition::Fields { .. } | Condition::All(_) => ("$and", None),
            Condition::Any(_) => ("$or", None),
            Condition::Not(_) => ("$not", None),
        };
        self.note(operator, place, None, "is not there".to_owned());
    }

    fn note(
        &mut self,
        operator: &'static str,
        place: Option<&std::ops::Range<u32>>,
        found: Option<String>,
        words: String,
    ) {
        if self.reasons.len() == REASONS_MAX {
            return;
        }
        let path = self.path.join(".");
        let subject = if path.is_empty() {
            "the message"
        } else {
            &path
        };
        let message = format!("{subject} {words}");
        let expected = place.map(|place| self.operand(place).to_owned());
        self.reasons.push(Reason {
            operator,
            expected: expected.filter(|text| text.len() <= VALUE_BYTES_MAX),
            found,
            message,
            path,
        });
    }

    fn operand(&self, place: &std::ops::Range<u32>) -> &str {
        let text = self.source.get(place.start as usize..place.end as usize);
        text.unwrap_or_default()
    }

    fn quoted(&self, place: &std::ops::Range<u32>) -> String {
        match self.operand(place) {
            text if text.len() <= QUOTED_BYTES_MAX => text.to_owned(),
            _ => "what the filter says".to_owned(),
        }
    }
}

impl Found {
    fn of(seen: Seen<'_>, budget: &mut Budget) -> Result<Found, TooCostly> {
        let json = match seen {
            Seen::Json(value) => value.json().to_owned(),
            Seen::Text(text) => serde_json::Value::from(text).to_string(),
            Seen::Texts(texts) => serde_json::Value::from(texts).to_string(),
            Seen::Pairs(pairs) => serde_json::to_string(pairs).unwrap_or_default(),
            Seen::Message(_) => String::new(),
        };
        budget.spend(json.len() / 4)?;
        let words = match seen.kind() {
            Kind::List => "a list".to_owned(),
            Kind::Object => "an object".to_owned(),
            _ if json.len() <= QUOTED_BYTES_MAX => json.clone(),
            Kind::Number => "a number".to_owned(),
            _ => format!("a text of {} bytes", json.len()),
        };
        let is_shown = !json.is_empty() && json.len() <= VALUE_BYTES_MAX;
        Ok(Found {
            json: is_shown.then_some(json),
            words,
        })
    }
}

/// How the words for an operator go on.
enum Needs {
    /// After the value.
    Value(String),
    /// By themselves.
    Other(String),
}

fn unfulfilled(test: &Test, kind: Kind, expected: &str) -> Needs {
    let is_text = matches!(kind, Kind::Text | Kind::EscapedText);
    let one_of = |texts: &[Box<str>]| if texts.len() == 1 { "" } else { "one of " };
    Needs::Value(match test {
        Test::Exists(_) => return Needs::Other("is there, and must not be".to_owned()),
        Test::Equals(_) => format!("must be {expected}"),
        Test::EqualsNot(_) => "must not be".to_owned(),
        Test::Order(comparison, with) => {
            let words = match comparison {
                Comparison::Greater => "more than",
                Comparison::GreaterOrEqual => "at least",
                Comparison::Less => "less than",
                Comparison::LessOrEqual => "at most",
            };
            let needed = match with {
                Ordered::Number(_) if kind != Kind::Number => "a number of ",
                Ordered::Text(_) if !is_text => "a text of ",
                _ => "",
            };
            format!("must be {needed}{words} {expected}")
        }
        Test::In(Among::List(_)) if kind == Kind::List => {
            return Needs::Other(
                "is a list, and $in with a list takes a single value; $or with the same list asks \
                 for one of its items"
                    .to_owned(),
            );
        }
        Test::In(Among::List(_)) => format!("must be one of {expected}"),
        Test::In(Among::One(_)) => format!("must contain {expected}"),
        Test::NotIn(Among::List(_)) => format!("must be a single value other than {expected}"),
        Test::NotIn(Among::One(_)) => format!("must be a text or a list without {expected}"),
        Test::StartsWith(texts) => format!(
            "must be a text that begins with {}{expected}",
            one_of(texts)
        ),
        Test::EndsWith(texts) => {
            format!("must be a text that ends with {}{expected}", one_of(texts))
        }
    })
}

fn operator(test: &Test) -> &'static str {
    match test {
        Test::Exists(_) => "$exist",
        Test::Equals(_) => "$eq",
        Test::EqualsNot(_) => "$neq",
        Test::Order(Comparison::Greater, _) => "$gt",
        Test::Order(Comparison::GreaterOrEqual, _) => "$gte",
        Test::Order(Comparison::Less, _) => "$lt",
        Test::Order(Comparison::LessOrEqual, _) => "$lte",
        Test::In(_) => "$in",
        Test::NotIn(_) => "$nin",
        Test::StartsWith(_) => "$startsWith",
        Test::EndsWith(_) => "$endsWith",
    }
}
