//! Which messages an endpoint wants, by what they are and by what is in them.
//!
//! The form is that of Outpost's destination filters, and docs/filters.md says what each operator
//! means. A filter is kept as its owner wrote it, and compiled when it is read. `parse` makes
//! conditions of the text, `explain` says why a message does not fulfil them. Pure: the same filter
//! and the same message have the same result, and the same cost ([`Budget`]).

mod explain;
mod facts;
mod parse;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::cost::{Budget, TooCostly};
use super::decimal::Number;
use super::tape::Kind;
pub use explain::Reason;
use facts::Seen;
pub use facts::{Facts, Parts};

/// The longest text of a filter: it is in memory for as long as its endpoint is there.
pub const BYTES_MAX: usize = 16 * 1024;

/// The most plain values and operators of a filter; a list of `$in` is one. People who write more want
/// another event type.
pub const CONDITIONS_MAX: usize = 200;

/// How deep a filter nests at most, which bounds the recursion here.
pub const DEPTH_MAX: usize = 32;

/// A filter, as its owner wrote it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter {
    source: Box<str>,
    conditions: Condition,
    reads_data: bool,
}

/// Something that is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The names that lead there from the filter itself.
    pub place: Vec<String>,
    pub message: String,
}

/// What a value has to be.
#[derive(Clone)]
enum Condition {
    /// This value, or a list that has it.
    Is(Operand<Literal>),
    /// A list in which each of these is fulfilled by an item.
    Contains(Vec<Condition>),
    /// An object whose fields fulfil these, or a list with such an object.
    Fields {
        fields: Vec<Field>,
        /// For the same object: those of `$and`, `$or` and `$not`.
        also: Vec<Condition>,
    },
    Test(Operand<Test>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

#[derive(Clone)]
struct Field {
    name: Box<str>,
    condition: Condition,
    /// Whether a field that is not there fulfils it.
    takes_missing: bool,
}

/// A part of a condition, with the place in the source of what it compares with.
#[derive(Clone)]
struct Operand<T> {
    test: T,
    place: Range<u32>,
}

/// An operator with its operand.
#[derive(Clone)]
enum Test {
    Exists(bool),
    Equals(Literal),
    EqualsNot(Literal),
    Order(Comparison, Ordered),
    In(Among),
    NotIn(Among),
    StartsWith(Vec<Box<str>>),
    EndsWith(Vec<Box<str>>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone)]
enum Ordered {
    Number(Number),
    Text(Box<str>),
}

/// The operand of `$in` and `$nin`.
#[derive(Clone)]
enum Among {
    /// The value is one of these.
    List(Vec<Literal>),
    /// The value is a text or a list that contains this one.
    One(Literal),
}

/// A value in a filter.
#[derive(Clone)]
enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
    List(Vec<Literal>),
    /// No name comes twice.
    Object(Vec<(Box<str>, Literal)>),
}

impl Filter {
    /// The filter in a JSON text, or all that is wrong with it; none where it is an empty object,
    /// which all messages fulfil.
    pub fn parse(source: &str) -> Result<Option<Filter>, Vec<Fault>> {
        let filter = parse::filter(source, parse::Limits::New)?;
        Ok(Some(filter).filter(|filter| !filter.is_empty()))
    }

    /// A filter of a store. It was parsed once, maybe within other limits.
    pub fn read(source: &str) -> Result<Filter, Vec<Fault>> {
        parse::filter(source, parse::Limits::Kept)
    }

    /// The JSON text.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn is_empty(&self) -> bool {
        matches!(&self.conditions, Condition::Fields { fields, also } if fields.is_empty() && also.is_empty())
    }

    /// Whether it asks for the payload.
    pub fn reads_data(&self) -> bool {
        self.reads_data
    }

    /// Whether a message fulfils it. An error where this costs more than the budget has.
    pub fn matches(&self, facts: &Facts<'_>, budget: &mut Budget) -> Result<bool, TooCostly> {
        self.conditions.holds(Seen::Message(facts), budget)
    }
}

impl Condition {
    fn holds(&self, seen: Seen<'_>, budget: &mut Budget) -> Result<bool, TooCostly> {
        budget.spend(1)?;
        match self {
            Condition::Is(Operand { test: literal, .. }) => match seen.kind() {
                Kind::List => seen.any_item(budget, |item, budget| self.holds(item, budget)),
                _ => literal.equals(seen, budget),
            },
            Condition::Contains(wanted) => {
                let contains = |one: &Condition, budget: &mut Budget| {
                    seen.any_item(budget, |item, budget| one.holds(item, budget))
                };
                Ok(seen.kind() == Kind::List && all(wanted, budget, contains)?)
            }
            Condition::Fields { fields, also } => match seen.kind() {
                Kind::Object => Ok(
                    all(fields, budget, |field, budget| field.holds(seen, budget))?
                        && all(also, budget, |one, budget| one.holds(seen, budget))?,
                ),
                Kind::List => seen.any_item(budget, |item, budget| self.holds(item, budget)),
                _ => Ok(false),
            },
            Condition::Test(operand) => operand.test.holds(seen, budget),
            Condition::All(all_of) => all(all_of, budget, |one, budget| one.holds(seen, budget)),
            Condition::Any(any_of) => {
                for one in any_of {
                    if one.holds(seen, budget)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Not(one) => Ok(!one.holds(seen, budget)?),
        }
    }

    /// Whether a field that is not there fulfils it; none where that cannot be said of a missing value.
    /// Only `$exist` asks whether it is there.
    fn of_missing(&self) -> Option<bool> {
        match self {
            Condition::Test(Operand {
                test: Test::Exists(wanted),
                ..
            }) => Some(!wanted),
            Condition::Is(_)
            | Condition::Contains(_)
            | Condition::Fields { .. }
            | Condition::Test(_) => None,
            Condition::All(all_of) => {
                let each = Vec::from_iter(all_of.iter().map(Condition::of_missing));
                match each.contains(&Some(false)) {
                    true => Some(false),
                    false => each.iter().all(Option::is_some).then_some(true),
                }
            }
            Condition::Any(any_of) => {
                let each = Vec::from_iter(any_of.iter().map(Condition::of_missing));
                match each.contains(&Some(true)) {
                    true => Some(true),
                    false => each.iter().all(Option::is_some).then_some(false),
                }
            }
            Condition::Not(one) => one.of_missing().map(|fulfils| !fulfils),
        }
    }
}

fn all<T>(
    parts: &[T],
    budget: &mut Budget,
    holds: impl Fn(&T, &mut Budget) -> Result<bool, TooCostly>,
) -> Result<bool, TooCostly> {
    for part in parts {
        if !holds(part, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Field {
    fn holds(&self, object: Seen<'_>, budget: &mut Budget) -> Result<bool, TooCostly> {
        match object.member(&self.name, budget)? {
            Some(member) => self.condition.holds(member, budget),
            None => Ok(self.takes_missing),
        }
    }
}

impl Test {
    fn holds(&self, seen: Seen<'_>, budget: &mut Budget) -> Result<bool, TooCostly> {
        match self {
            Test::Exists(wanted) => Ok(*wanted),
            Test::Equals(literal) => literal.equals(seen, budget),
            Test::EqualsNot(literal) => Ok(!literal.equals(seen, budget)?),
            Test::Order(comparison, Ordered::Number(number)) => {
                let order = seen.order(number, budget)?;
                Ok(order.is_some_and(|order| comparison.takes(order)))
            }
            Test::Order(comparison, Ordered::Text(text)) => {
                let seen = seen.text(budget)?;
                Ok(seen.is_some_and(|seen| comparison.takes((*seen).cmp(&**text))))
            }
            Test::In(among) => Ok(among.has(seen, budget)? == Some(true)),
            Test::NotIn(among) => Ok(among.has(seen, budget)? == Some(false)),
            Test::StartsWith(texts) => {
                let seen = text_for(texts, seen, budget)?;
                let begins = |seen: &str| texts.iter().any(|text| seen.starts_with(&**text));
                Ok(seen.is_some_and(|seen| begins(&seen)))
            }
            Test::EndsWith(texts) => {
                let seen = text_for(texts, seen, budget)?;
                let ends = |seen: &str| texts.iter().any(|text| seen.ends_with(&**text));
                Ok(seen.is_some_and(|seen| ends(&seen)))
            }
        }
    }
}

/// The text of a string that is compared with the beginnings or ends of these.
fn text_for<'a>(
    texts: &[Box<str>],
    seen: Seen<'a>,
    budget: &mut Budget,
) -> Result<Option<Cow<'a, str>>, TooCostly> {
    // All of them together are no longer than a filter.
    budget.spend(3 * texts.len() + BYTES_MAX / 64)?;
    seen.text(budget)
}

impl Comparison {
    fn takes(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
        }
    }
}

impl Among {
    /// Whether the value is in it, or has it; none where the value is of a type that neither can be.
    fn has(&self, seen: Seen<'_>, budget: &mut Budget) -> Result<Option<bool>, TooCostly> {
        match self {
            Among::List(literals) => {
                if matches!(seen.kind(), Kind::List | Kind::Object) {
                    return Ok(None);
                }
                for literal in literals {
                    budget.spend(1)?;
                    if literal.equals(seen, budget)? {
                        return Ok(Some(true));
                    }
                }
                Ok(Some(false))
            }
            Among::One(literal) => match (literal, seen.kind()) {
                (_, Kind::List) => seen
                    .any_item(budget, |item, budget| {
                        budget.spend(1)?;
                        literal.equals(item, budget)
                    })
                    .map(Some),
                (Literal::Text(part), Kind::Text | Kind::EscapedText) => {
                    let text = seen.text(budget)?.unwrap_or_default();
                    // A search for a text that repeats itself looks at each byte several times.
                    budget.spend(2 * text.len())?;
                    Ok(Some(text.contains(&**part)))
                }
                _ => Ok(None),
            },
        }
    }
}

impl Literal {
    /// Whether a value is the same: of the same type, and numbers by what they are worth.
    fn equals(&self, seen: Seen<'_>, budget: &mut Budget) -> Result<bool, TooCostly> {
        Ok(match (self, seen.kind()) {
            (Literal::Null, Kind::Null) => true,
            (Literal::Bool(wanted), Kind::True) => *wanted,
            (Literal::Bool(wanted), Kind::False) => !*wanted,
            (Literal::Number(number), Kind::Number) => seen
                .order(number, budget)?
                .is_some_and(|order| order.is_eq()),
            (Literal::Text(wanted), Kind::Text | Kind::EscapedText) => {
                seen.is_text(wanted, budget)?
            }
            (Literal::List(wanted), Kind::List) => {
                budget.spend(10)?;
                let mut items = seen.items();
                for one in wanted {
                    budget.spend(5)?;
                    match items.next() {
                        Some(item) if one.equals(item, budget)? => {}
                        _ => return Ok(false),
                    }
                }
                items.next().is_none()
            }
            (Literal::Object(wanted), Kind::Object) => {
                for (name, one) in wanted {
                    match seen.member(name, budget)? {
                        Some(member) if one.equals(member, budget)? => {}
                        _ => return Ok(false),
                    }
                }
                seen.has_no_other_members(wanted, budget)?
            }
            _ => false,
        })
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.source == other.source
    }
}

impl TryFrom<String> for Filter {
    type Error = String;

    fn try_from(source: String) -> Result<Filter, String> {
        Filter::read(&source).map_err(|_| "a filter that cannot be read".to_owned())
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> String {
        filter.source.into()
    }
}

/// Prints nothing of it: a customer's values stand in it.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter(…)")
    }
}

#[cfg(test)]
mod tests;
