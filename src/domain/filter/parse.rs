//! The text of a filter → its conditions, or all that is wrong with it.

use std::collections::BTreeSet;

use serde_json::value::RawValue;

use super::facts::NAMES;
use super::{
    Among, BYTES_MAX, CONDITIONS_MAX, Comparison, Condition, DEPTH_MAX, Fault, Field, Filter,
    Literal, Operand, Ordered, Test,
};
use crate::domain::decimal::Number;
use crate::domain::payload;
use crate::domain::tape::{Kind, Tape, Value};

/// The most faults that are told of one filter.
const FAULTS_MAX: usize = 20;

const OPERATORS: &str = "$eq, $neq, $gt, $gte, $lt, $lte, $in, $nin, $startsWith, $endsWith, \
                         $exist, $not, $and and $or";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Somebody enters it.
    New,
    /// A store has it.
    Kept,
}

pub fn filter(source: &str, limits: Limits) -> Result<Filter, Vec<Fault>> {
    let whole = |message: String| {
        vec![Fault {
            place: Vec::new(),
            message,
        }]
    };
    if limits == Limits::New && source.len() > BYTES_MAX {
        let message = format!(
            "has {} bytes; a filter has at most {BYTES_MAX}",
            source.len()
        );
        return Err(whole(message));
    }
    let json = serde_json::from_str::<&RawValue>(source);
    let json = json.map_err(|_| whole("must be a JSON object".to_owned()))?;
    if let Some(problem) = payload::problem(json.get()) {
        return Err(whole(problem));
    }
    let tape = Tape::of(json.get()).ok_or_else(|| whole("must be a JSON object".to_owned()))?;
    let mut parser = Parser {
        limits,
        conditions: 0,
        place: Vec::new(),
        faults: Vec::new(),
        reads_data: false,
    };
    let conditions = parser.condition(tape.value(json.get()), Scope::Message);
    if limits == Limits::New && parser.conditions > CONDITIONS_MAX {
        let message = format!(
            "has {} conditions; a filter has at most {CONDITIONS_MAX}",
            parser.conditions
        );
        return Err(whole(message));
    }
    match conditions.filter(|_| parser.faults.is_empty()) {
        Some(conditions) => Ok(Filter {
            source: json.get().into(),
            conditions,
            reads_data: parser.reads_data,
        }),
        None => Err(parser.faults),
    }
}

/// What a condition is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The message, whose parts have names of ours.
    Message,
    /// A value in it.
    Value,
}

struct Parser {
    limits: Limits,
    conditions: usize,
    /// Where it is, by names and places in lists.
    place: Vec<String>,
    faults: Vec<Fault>,
    reads_data: bool,
}

/// The parts of an object, by their kinds.
#[derive(Default)]
struct Parts {
    fields: Vec<Field>,
    tests: Vec<Operand<Test>>,
    logic: Vec<Condition>,
}

impl Parser {
    /// Notes a fault at the present place; always none.
    fn fault<T>(&mut self, message: impl Into<String>) -> Option<T> {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault {
                place: self.place.clone(),
                message: message.into(),
            });
        }
        None
    }

    fn at<T>(&mut self, name: &str, look: impl FnOnce(&mut Parser) -> T) -> T {
        self.place.push(name.to_owned());
        let result = look(self);
        self.place.pop();
        result
    }

    fn condition(&mut self, value: Value<'_>, scope: Scope) -> Option<Condition> {
        if self.limits == Limits::New && self.place.len() > DEPTH_MAX {
            return self.fault(format!("nests deeper than {DEPTH_MAX} levels"));
        }
        match (value.kind(), scope) {
            (Kind::Object, _) => self.object(value, scope),
            (_, Scope::Message) => self.fault("must be an object of conditions"),
            (Kind::List, Scope::Value) => {
                let items = self.each(value, |parser, item| parser.condition(item, scope));
                items.map(Condition::Contains)
            }
            _ => {
                self.conditions += 1;
                let literal = self.literal(value)?;
                Some(Condition::Is(operand(literal, value)))
            }
        }
    }

    /// Each item of a list; none where any has a fault.
    fn each<T>(
        &mut self,
        list: Value<'_>,
        mut look: impl FnMut(&mut Parser, Value<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = list.items().enumerate();
        let found = items.map(|(place, item)| self.at(&place.to_string(), |own| look(own, item)));
        // All are looked at, for all their faults.
        let found: Vec<Option<T>> = found.collect();
        found.into_iter().collect()
    }

    fn object(&mut self, object: Value<'_>, scope: Scope) -> Option<Condition> {
        let mut parts = Parts::default();
        let mut names = BTreeSet::new();
        for (name, value) in object.members() {
            let name = name.text().unwrap_or_default();
            self.at(&name, |parser| match names.insert(name.to_string()) {
                true => parser.member(&name, value, scope, &mut parts),
                false => drop(parser.fault::<()>("is there twice")),
            });
        }
        if !parts.tests.is_empty() && !parts.fields.is_empty() {
            let message =
                "has operators beside the names of fields; an operator belongs to one field";
            return self.fault(message);
        }
        let asks_absence = |one: &Operand<Test>| matches!(one.test, Test::Exists(false));
        if parts.tests.len() > 1 && parts.tests.iter().any(asks_absence) {
            let message = "has $exist: false beside other operators, which a field that is not there \
                           cannot fulfil";
            return self.fault(message);
        }
        let Parts {
            fields,
            tests,
            logic,
        } = parts;
        if scope == Scope::Message || !fields.is_empty() || (tests.is_empty() && logic.is_empty()) {
            return Some(Condition::Fields {
                fields,
                also: logic,
            });
        }
        let mut all: Vec<Condition> = tests.into_iter().map(Condition::Test).collect();
        all.extend(logic);
        match all.len() {
            1 => all.pop(),
            _ => Some(Condition::All(all)),
        }
    }

    fn member(&mut self, name: &str, value: Value<'_>, scope: Scope, parts: &mut Parts) {
        match (name, scope) {
            ("$and", _) => parts
                .logic
                .extend(self.list(value, scope).map(Condition::All)),
            ("$or", _) => parts
                .logic
                .extend(self.list(value, scope).map(Condition::Any)),
            ("$not", _) => {
                let one = self.condition(value, scope);
                parts.logic.extend(one.map(Box::new).map(Condition::Not));
            }
            (name, Scope::Message) if name.starts_with('$') => {
                let message = format!(
                    "cannot stand here: of a message as a whole a filter takes $and, $or and $not, \
                     and the names {}",
                    NAMES.join(", ")
                );
                self.fault::<()>(message);
            }
            (name, Scope::Value) if name.starts_with('$') => {
                self.conditions += 1;
                let test = self.test(name, value);
                parts.tests.extend(test.map(|test| operand(test, value)));
            }
            (name, Scope::Message) if !NAMES.contains(&name) => {
                let message = format!(
                    "is no part of a message; a filter takes {}, and $and, $or and $not. Fields of \
                     the payload belong into data",
                    NAMES.join(", ")
                );
                self.fault::<()>(message);
            }
            (name, scope) => {
                self.reads_data |= scope == Scope::Message && name == "data";
                let condition = self.condition(value, Scope::Value);
                parts.fields.extend(condition.map(|condition| Field {
                    name: name.into(),
                    takes_missing: condition.of_missing() == Some(true),
                    condition,
                }));
            }
        }
    }

    /// The conditions of `$and` and `$or`.
    fn list(&mut self, value: Value<'_>, scope: Scope) -> Option<Vec<Condition>> {
        if value.kind() != Kind::List || value.items().next().is_none() {
            return self.fault("must be a list of at least one condition");
        }
        self.each(value, |parser, item| parser.condition(item, scope))
    }

    fn test(&mut self, name: &str, value: Value<'_>) -> Option<Test> {
        match name {
            "$eq" => self.literal(value).map(Test::Equals),
            "$neq" => self.literal(value).map(Test::EqualsNot),
            "$gt" => self.order(Comparison::Greater, value),
            "$gte" => self.order(Comparison::GreaterOrEqual, value),
            "$lt" => self.order(Comparison::Less, value),
            "$lte" => self.order(Comparison::LessOrEqual, value),
            "$in" => self.among(value).map(Test::In),
            "$nin" => self.among(value).map(Test::NotIn),
            "$startsWith" => self.texts(value).map(Test::StartsWith),
            "$endsWith" => self.texts(value).map(Test::EndsWith),
            "$exist" => match value.kind() {
                Kind::True => Some(Test::Exists(true)),
                Kind::False => Some(Test::Exists(false)),
                kind => self.fault(format!("must be true or false, not {}", called(kind))),
            },
            _ => {
                let meant = match name {
                    "$exists" => " Did you mean $exist?",
                    "$ne" => " Did you mean $neq?",
                    _ => "",
                };
                self.fault(format!("is not an operator. There are {OPERATORS}.{meant}"))
            }
        }
    }

    fn order(&mut self, comparison: Comparison, value: Value<'_>) -> Option<Test> {
        let ordered = match self.scalar(value)? {
            Literal::Number(number) => Some(Ordered::Number(number)),
            Literal::Text(text) => Some(Ordered::Text(text)),
            _ => None,
        };
        match ordered {
            Some(ordered) => Some(Test::Order(comparison, ordered)),
            None => {
                let kind = called(value.kind());
                self.fault(format!("must be a number or a text, not {kind}"))
            }
        }
    }

    fn among(&mut self, value: Value<'_>) -> Option<Among> {
        match value.kind() {
            Kind::List => self.each(value, Parser::scalar).map(Among::List),
            _ => self.scalar(value).map(Among::One),
        }
    }

    fn texts(&mut self, value: Value<'_>) -> Option<Vec<Box<str>>> {
        match value.kind() {
            Kind::List => self.each(value, Parser::text),
            _ => self.text(value).map(|text| vec![text]),
        }
    }

    fn text(&mut self, value: Value<'_>) -> Option<Box<str>> {
        match value.text() {
            Some(text) => Some(text.into()),
            None => {
                let kind = called(value.kind());
                self.fault(format!("must be a text or a list of texts, not {kind}"))
            }
        }
    }

    fn scalar(&mut self, value: Value<'_>) -> Option<Literal> {
        match value.kind() {
            kind @ (Kind::List | Kind::Object) => self.fault(format!(
                "must be a text, a number, true, false or null, not {}",
                called(kind)
            )),
            _ => self.literal(value),
        }
    }

    fn literal(&mut self, value: Value<'_>) -> Option<Literal> {
        Some(match value.kind() {
            Kind::Null => Literal::Null,
            Kind::True => Literal::Bool(true),
            Kind::False => Literal::Bool(false),
            Kind::Number => match Number::parse(value.raw()) {
                Some(number) => Literal::Number(number),
                None => return self.fault("has an exponent beyond any number that is meant"),
            },
            Kind::Text | Kind::EscapedText => {
                Literal::Text(value.text().unwrap_or_default().into())
            }
            Kind::List => Literal::List(self.each(value, Parser::literal)?),
            Kind::Object => {
                let mut members: Vec<(Box<str>, Literal)> = Vec::new();
                let mut names = BTreeSet::new();
                for (name, value) in value.members() {
                    let name = name.text().unwrap_or_default();
                    let one = self.at(&name, |parser| match names.insert(name.to_string()) {
                        true => parser.literal(value),
                        false => parser.fault("is there twice"),
                    });
                    members.push((name.into(), one?));
                }
                Literal::Object(members)
            }
        })
    }
}

fn operand<T>(test: T, value: Value<'_>) -> Operand<T> {
    let place = value.place();
    Operand {
        test,
        // A tape's places are of this type.
        place: place.start as u32..place.end as u32,
    }
}

fn called(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::True => "true",
        Kind::False => "false",
        Kind::Number => "a number",
        Kind::Text | Kind::EscapedText => "a text",
        Kind::List => "a list",
        Kind::Object => "an object",
    }
}
