//! A JSON schema as a graph: which of its schemas is applied to which part of a value by which other.
//!
//! The evaluator has no budget of its own, so the price of a payload is estimated before it is evaluated
//! (`price`), and this graph is all that the estimate needs. It holds each schema of the document once, with its
//! keywords' costs; a reference is an edge. Everything that would make an evaluation endless or its price
//! unknown is a problem with a place: references to elsewhere, schemas that apply themselves to the same value, and
//! patterns without a bound.

use std::collections::{BTreeMap, HashMap};

use regex_syntax::hir::{Hir, HirKind, Look};
use serde_json::{Map, Value};

use super::NANOS_PER_VISIT;

/// The most schemas within one schema, each property's included.
pub const SCHEMAS_MAX: usize = 2000;

/// The most positions of one pattern: what a repetition is spelled out to, `[a-z]{3}` has 3.
const POSITIONS_MAX: u64 = 1000;

/// The same of all patterns together.
const POSITIONS_IN_ALL_MAX: u64 = 10_000;

/// What a pattern costs for each byte of a text: a step in a table where the matcher is in few positions at once, as
/// with most ids and dates; else its positions one by one.
const NANOS_PER_BYTE: u64 = 10;
const NANOS_PER_POSITION: u64 = 60;
const TABLE_WIDTH_MAX: u64 = 4;
const TABLE_POSITIONS_MAX: u64 = 200;

/// The longest chain of schemas that apply each other to the same value.
const CHAIN_MAX: u32 = 64;

/// The most ways through the schemas on the same value from those that look for what is left over
/// (`unevaluatedProperties`): the evaluator keeps each way.
const WAYS_MAX: u64 = 2000;

/// A problem with the path to it.
pub type Problem = (Vec<String>, String);

/// How a schema is applied when the places of errors are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its errors are errors.
    Errors,
    /// It is first asked whether the value fits; its errors are looked for where none fits.
    Tried,
    /// It is only asked.
    Asked,
}

/// One schema applies another.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    pub to: usize,
    pub mode: Mode,
}

/// A schema, with all that it applies and what its own keywords cost in nanoseconds.
#[derive(Debug, Default)]
pub struct Node {
    /// Applied to the same value.
    pub in_place: Vec<Edge>,
    /// Applied to a member by its name.
    pub properties: HashMap<String, usize>,
    /// Taken to be applied to each member, whether its name fits or not.
    pub patterned: Vec<usize>,
    /// Applied to members that `properties` does not name.
    pub others: Vec<Edge>,
    /// Applied to the names of members.
    pub names: Vec<usize>,
    /// Applied to an item by its place, and to those behind.
    pub first: Vec<Option<usize>>,
    pub items: Vec<Edge>,
    /// A keyword looks for what the schemas on the same value have not looked at, and asks them again for it.
    pub looks_again: bool,
    pub keywords: u64,
    pub per_visit: u64,
    pub per_byte: u64,
    pub per_member: u64,
    pub per_byte_of_names: u64,
    pub per_item: u64,
    /// For each value within the value.
    pub per_value: u64,
    /// The longest chain of `in_place` from here.
    pub chain: u32,
}

/// The graph. Edges on the same value lead to higher numbers only; the first node is at `root`.
#[derive(Debug)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub root: usize,
}

impl Graph {
    pub fn of(schema: &Value) -> Result<Graph, Vec<Problem>> {
        let mut reader = Reader::default();
        reader.schema(schema, &mut Vec::new());
        if reader.nodes.len() > SCHEMAS_MAX {
            let message = format!("has more than {SCHEMAS_MAX} schemas within it");
            return Err(vec![(Vec::new(), message)]);
        }
        reader.link();
        match reader.problems.is_empty() {
            true => reader.sorted(),
            false => Err(reader.problems),
        }
    }
}

/// A reference whose target is not known yet.
struct Reference {
    from: usize,
    text: String,
    place: Vec<String>,
}

#[derive(Default)]
struct Reader {
    nodes: Vec<Node>,
    places: Vec<Vec<String>>,
    /// By JSON pointers.
    by_pointer: HashMap<String, Option<usize>>,
    by_anchor: HashMap<String, usize>,
    references: Vec<Reference>,
    positions: u64,
    problems: Vec<Problem>,
}

impl Reader {
    fn wrong(&mut self, place: &[String], keyword: &str, message: impl Into<String>) {
        let place = place.iter().cloned().chain([keyword.to_owned()]);
        self.problems.push((place.collect(), message.into()));
    }

    /// Reads a schema; returns its number, or nothing for `true`, `false` and what is no schema.
    fn schema(&mut self, schema: &Value, place: &mut Vec<String>) -> Option<usize> {
        let keywords = schema.as_object();
        let number = keywords.map(|_| self.nodes.len());
        self.by_pointer.insert(pointer(place), number);
        if self.nodes.len() > SCHEMAS_MAX {
            return None;
        }
        let (keywords, number) = (keywords?, number?);
        self.nodes.push(Node::default());
        self.places.push(place.clone());
        let mut node = Node {
            keywords: keywords.len() as u64,
            per_visit: NANOS_PER_VISIT + 10 * keywords.len() as u64,
            ..Node::default()
        };
        for (keyword, value) in keywords {
            place.push(keyword.clone());
            self.applicator(&mut node, keyword, value, place);
            place.pop();
            self.assertion(&mut node, keyword, value, place, number);
        }
        self.nodes[number] = node;
        Some(number)
    }

    /// A keyword with schemas in it.
    fn applicator(
        &mut self,
        node: &mut Node,
        keyword: &str,
        value: &Value,
        place: &mut Vec<String>,
    ) {
        let mode = match keyword {
            "anyOf" | "oneOf" => Mode::Tried,
            "not" | "if" | "contains" => Mode::Asked,
            _ => Mode::Errors,
        };
        match keyword {
            "allOf" | "anyOf" | "oneOf" => {
                let schemas = self.listed(value, place).into_iter().flatten();
                node.in_place.extend(schemas.map(|to| Edge { to, mode }));
            }
            "not" | "if" | "then" | "else" => {
                let schema = self.schema(value, place);
                node.in_place.extend(schema.map(|to| Edge { to, mode }));
            }
            "dependentSchemas" | "dependencies" => {
                node.per_visit += 30 * size(value);
                let schemas = self.named(value, place).into_values().flatten();
                node.in_place.extend(schemas.map(|to| Edge { to, mode }));
            }
            "properties" => {
                node.per_visit += 40 * size(value);
                node.per_member += 20;
                let schemas = self.named(value, place).into_iter();
                // A member that is named is no other, also where its schema is `true`.
                node.properties = schemas
                    .map(|(name, to)| (name, to.unwrap_or(usize::MAX)))
                    .collect();
            }
            "patternProperties" => {
                for pattern in value.as_object().into_iter().flat_map(Map::keys) {
                    node.per_member += 100;
                    node.per_byte_of_names += self.pattern(pattern, place, pattern);
                }
                let schemas = self.named(value, place).into_values().flatten();
                node.patterned.extend(schemas);
            }
            "additionalProperties" | "unevaluatedProperties" => {
                node.per_member += 60;
                node.looks_again |= keyword == "unevaluatedProperties";
                let schema = self.schema(value, place);
                node.others.extend(schema.map(|to| Edge { to, mode }));
            }
            "propertyNames" => {
                node.per_member += 100;
                node.names.extend(self.schema(value, place));
            }
            "prefixItems" => node.first.extend(self.listed(value, place)),
            "items" if value.is_array() => node.first.extend(self.listed(value, place)),
            "items" | "additionalItems" | "unevaluatedItems" | "contains" => {
                node.per_item += 20;
                node.looks_again |= keyword == "unevaluatedItems";
                let schema = self.schema(value, place);
                node.items.extend(schema.map(|to| Edge { to, mode }));
            }
            "$defs" | "definitions" => drop(self.named(value, place)),
            "contentSchema" => drop(self.schema(value, place)),
            _ => {}
        }
    }

    fn listed(&mut self, schemas: &Value, place: &mut Vec<String>) -> Vec<Option<usize>> {
        let schemas = schemas.as_array().into_iter().flatten().enumerate();
        schemas
            .map(|(index, schema)| {
                place.push(index.to_string());
                let number = self.schema(schema, place);
                place.pop();
                number
            })
            .collect()
    }

    fn named(
        &mut self,
        schemas: &Value,
        place: &mut Vec<String>,
    ) -> BTreeMap<String, Option<usize>> {
        let schemas = schemas.as_object().into_iter().flatten();
        // In older drafts a dependency may be a list of names.
        let schemas = schemas.filter(|(_, schema)| schema.is_object() || schema.is_boolean());
        schemas
            .map(|(name, schema)| {
                place.push(name.clone());
                let number = self.schema(schema, place);
                place.pop();
                (name.clone(), number)
            })
            .collect()
    }

    /// A keyword without schemas in it: references, and what costs something.
    fn assertion(
        &mut self,
        node: &mut Node,
        keyword: &str,
        value: &Value,
        place: &[String],
        number: usize,
    ) {
        match (keyword, value) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(text)) => {
                let place = place.iter().cloned().chain([keyword.to_owned()]);
                self.references.push(Reference {
                    from: number,
                    text: text.clone(),
                    place: place.collect(),
                });
            }
            ("$anchor" | "$dynamicAnchor", Value::String(name)) => {
                let before = self.by_anchor.insert(name.clone(), number);
                if before.is_some_and(|before| before != number) {
                    self.wrong(place, keyword, "is the anchor of another schema, too");
                }
            }
            // References below it would be relative to it.
            ("$id" | "id", Value::String(_)) if !place.is_empty() => {
                self.wrong(place, keyword, "may stand only at the top of the schema");
            }
            ("pattern", Value::String(pattern)) => {
                node.per_visit += 100;
                node.per_byte += self.pattern(pattern, place, keyword);
            }
            ("minLength" | "maxLength", _) => node.per_byte += 1,
            ("contentEncoding" | "contentMediaType", _) => node.per_byte += 30,
            ("multipleOf", _) => node.per_visit += 3000,
            ("uniqueItems", Value::Bool(true)) => node.per_value += 200,
            ("required", _) => node.per_visit += 30 * size(value),
            // These are looked up.
            ("enum", Value::Array(options))
                if options.iter().all(Value::is_string) || options.iter().all(Value::is_i64) =>
            {
                node.per_visit += 200;
            }
            ("dependentRequired" | "dependencies" | "enum" | "const", _) => {
                node.per_visit += 20 * values_within(value);
            }
            _ => {}
        }
    }

    /// Returns what matching a pattern costs for each byte, or notes why it has no bound.
    fn pattern(&mut self, pattern: &str, place: &[String], keyword: &str) -> u64 {
        const UNCLEAR: &str = "is not a regular expression that can be matched in linear time: it may have neither \
                               look-around nor back-references";
        let translated = jsonschema_regex::to_rust_regex(pattern);
        let hir = translated.map(|pattern| regex_syntax::Parser::new().parse(&pattern));
        let Ok(Ok(hir)) = hir else {
            self.wrong(place, keyword, UNCLEAR);
            return 0;
        };
        let positions = positions_of(&hir);
        self.positions = self.positions.saturating_add(positions);
        if positions > POSITIONS_MAX {
            let message = format!(
                "has a pattern of {positions} positions with its repetitions spelled out, and at most \
                 {POSITIONS_MAX} are allowed: use maxLength for a length"
            );
            self.wrong(place, keyword, message);
        } else if self.positions > POSITIONS_IN_ALL_MAX {
            let message = format!(
                "is one pattern too many: all have at most {POSITIONS_IN_ALL_MAX} positions"
            );
            self.wrong(place, keyword, message);
        }
        let anchored = hir.properties().look_set_prefix().contains(Look::Start);
        let width = match anchored {
            true => width_of(&hir),
            false => positions,
        };
        match width <= TABLE_WIDTH_MAX && positions <= TABLE_POSITIONS_MAX {
            true => NANOS_PER_BYTE,
            false => NANOS_PER_POSITION.saturating_mul(width),
        }
    }

    /// Follows the references.
    fn link(&mut self) {
        for reference in std::mem::take(&mut self.references) {
            let fragment = reference.text.strip_prefix('#');
            let decoded =
                fragment.map(|text| percent_encoding::percent_decode_str(text).decode_utf8_lossy());
            let target = match decoded.as_deref() {
                None => {
                    let message = "refers to another document; put what it refers to into $defs";
                    self.problems.push((reference.place, message.to_owned()));
                    continue;
                }
                Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
                    self.by_pointer.get(pointer).copied()
                }
                Some(anchor) => self.by_anchor.get(anchor).map(|number| Some(*number)),
            };
            match target {
                Some(Some(to)) => self.nodes[reference.from].in_place.push(Edge {
                    to,
                    mode: Mode::Errors,
                }),
                Some(None) => {}
                None => {
                    let message = "refers to something that is not a schema within this schema; put it into $defs";
                    self.problems.push((reference.place, message.to_owned()));
                }
            }
        }
    }

    /// Returns the graph, its nodes in an order that edges on the same value follow.
    fn sorted(mut self) -> Result<Graph, Vec<Problem>> {
        let mut sorting = Sorting {
            nodes: &self.nodes,
            marks: vec![Mark::New; self.nodes.len()],
            finished: Vec::with_capacity(self.nodes.len()),
            chains: vec![0; self.nodes.len()],
            ways: vec![1; self.nodes.len()],
        };
        for start in 0..self.nodes.len() {
            if let Err(within) = sorting.visit(start) {
                let place = self.places[within].clone();
                let message = format!(
                    "is a schema that applies itself to the same value, or more than {CHAIN_MAX} others in a row"
                );
                return Err(vec![(place, message)]);
            }
        }
        let Sorting {
            finished,
            chains,
            ways,
            ..
        } = sorting;
        let looking = (0..self.nodes.len()).filter(|number| self.nodes[*number].looks_again);
        let mut in_all: u64 = 0;
        for number in looking {
            in_all = in_all.saturating_add(ways[number]);
            if in_all > WAYS_MAX {
                let message = "has unevaluatedProperties or unevaluatedItems with too many schemas beside them: use \
                               additionalProperties or additionalItems";
                return Err(vec![(self.places[number].clone(), message.to_owned())]);
            }
        }
        let mut rank = vec![0; self.nodes.len()];
        for (place, number) in finished.iter().rev().enumerate() {
            rank[*number] = place;
        }
        let to = |number: usize| rank.get(number).copied().unwrap_or(usize::MAX);
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for number in finished.iter().rev() {
            let mut node = std::mem::take(&mut self.nodes[*number]);
            node.chain = chains[*number];
            let edges = node
                .in_place
                .iter_mut()
                .chain(&mut node.others)
                .chain(&mut node.items);
            edges.for_each(|edge| edge.to = to(edge.to));
            let numbers = node.patterned.iter_mut().chain(&mut node.names);
            let numbers = numbers.chain(node.first.iter_mut().flatten());
            numbers
                .chain(node.properties.values_mut())
                .for_each(|one| *one = to(*one));
            nodes.push(node);
        }
        let root = rank.first().copied();
        match root {
            Some(root) => Ok(Graph { nodes, root }),
            // `true` or `false`.
            None => Ok(Graph {
                nodes: vec![Node::default()],
                root: 0,
            }),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// A search in depth along the edges on the same value.
struct Sorting<'a> {
    nodes: &'a [Node],
    marks: Vec<Mark>,
    finished: Vec<usize>,
    chains: Vec<u32>,
    /// How many ways lead through the schemas on the same value.
    ways: Vec<u64>,
}

impl Sorting<'_> {
    /// Returns the length of the chain from here, or the node where it has no end.
    fn visit(&mut self, start: usize) -> Result<(), usize> {
        // On the heap: a chain that is too long is found before it is refused.
        let mut open = vec![(start, 0)];
        if self.marks[start] != Mark::New {
            return Ok(());
        }
        self.marks[start] = Mark::Open;
        while let Some((number, next)) = open.last_mut() {
            let number = *number;
            let Some(edge) = self.nodes[number].in_place.get(*next) else {
                let below = self.nodes[number].in_place.iter();
                let longest = below.map(|edge| self.chains[edge.to] + 1).max();
                self.chains[number] = longest.unwrap_or(0);
                let ways = self.nodes[number]
                    .in_place
                    .iter()
                    .map(|edge| self.ways[edge.to]);
                self.ways[number] = ways.fold(1, u64::saturating_add);
                if self.chains[number] > CHAIN_MAX {
                    return Err(number);
                }
                self.marks[number] = Mark::Done;
                self.finished.push(number);
                open.pop();
                continue;
            };
            *next += 1;
            match self.marks[edge.to] {
                Mark::Open => return Err(edge.to),
                Mark::Done => {}
                Mark::New => {
                    self.marks[edge.to] = Mark::Open;
                    open.push((edge.to, 0));
                }
            }
        }
        Ok(())
    }
}

fn pointer(place: &[String]) -> String {
    let parts = place
        .iter()
        .map(|part| part.replace('~', "~0").replace('/', "~1"));
    parts.map(|part| format!("/{part}")).collect()
}

/// How many members or items a value has.
fn size(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.len() as u64,
        Value::Object(members) => members.len() as u64,
        _ => 1,
    }
}

/// How many values a value consists of; long texts count as several.
pub fn values_within(value: &Value) -> u64 {
    let below: u64 = match value {
        Value::Array(items) => items.iter().map(values_within).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| 1 + name.len() as u64 / 64 + values_within(member))
            .sum(),
        Value::String(text) => text.len() as u64 / 64,
        _ => 0,
    };
    1 + below
}

/// The positions of a pattern: how many characters and classes it has once its repetitions are spelled out. A
/// matcher is in at most so many of them at once.
fn positions_of(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(_) => 1,
        HirKind::Capture(capture) => positions_of(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1));
            positions_of(&repetition.sub).saturating_mul(u64::from(times.max(1)))
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            let parts = parts.iter().map(positions_of);
            parts.fold(0, u64::saturating_add)
        }
    }
}

/// How many positions a matcher may be in at once that begins at the start of the text alone: few as long as
/// all ways through the pattern are equally long, as those of dates and ids are.
fn width_of(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) | HirKind::Class(_) => 1,
        HirKind::Capture(capture) => width_of(&capture.sub),
        HirKind::Repetition(repetition) => match repetition.sub.kind() {
            HirKind::Class(_) => 2,
            _ if length_of(&repetition.sub).is_some() => {
                width_of(&repetition.sub).saturating_mul(2)
            }
            _ => positions_of(hir),
        },
        HirKind::Alternation(parts) => parts.iter().map(width_of).fold(0, u64::saturating_add),
        HirKind::Concat(parts) => {
            let equally_long = parts
                .iter()
                .take_while(|part| length_of(part).is_some())
                .count();
            let widest = parts.iter().take(equally_long + 1).map(width_of).max();
            // Behind it the matcher can have begun anywhere.
            let behind = parts.iter().skip(equally_long + 1).map(positions_of);
            behind.fold(widest.unwrap_or(1), u64::saturating_add)
        }
    }
}

/// The length that all ways through a pattern have, in positions, if they have the same.
fn length_of(hir: &Hir) -> Option<u64> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(0),
        HirKind::Literal(literal) => Some(literal.0.len() as u64),
        HirKind::Class(_) => Some(1),
        HirKind::Capture(capture) => length_of(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.filter(|max| *max == repetition.min)?;
            length_of(&repetition.sub)?.checked_mul(u64::from(times))
        }
        HirKind::Concat(parts) => parts
            .iter()
            .map(length_of)
            .try_fold(0, |sum: u64, part| sum.checked_add(part?)),
        HirKind::Alternation(parts) => {
            let mut lengths = parts.iter().map(length_of);
            let first = lengths.next()??;
            lengths.all(|one| one == Some(first)).then_some(first)
        }
    }
}
