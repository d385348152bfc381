//! What it costs at most to hold a value against a schema, told before it is done.
//!
//! The evaluator applies schemas to parts of the value, some of them many times: schemas that try each other
//! grow with the depth of a value as powers do. So for each part of the value, from the outside in, this counts
//! how often each schema is applied to it, adding the counts of all that apply it. The price is the sum of count
//! times cost. The counting itself is part of the price, and ends as soon as the budget is spent.

use std::collections::BTreeMap;

use serde_json::Value;

use super::graph::{Edge, Graph, Mode, Node, values_within};

/// The count itself, for a schema and a value, and for the look at a member or an item.
const NANOS_PER_PAIR: u64 = 100;
const NANOS_PER_LOOK: u64 = 30;

/// To say where a value does not fit: for each keyword, and for each value within, which may be copied.
const NANOS_PER_ERROR: u64 = 2500;
const NANOS_PER_COPY: u64 = 350;

/// The longest way from the outermost schema on the whole value to one on a part of it, counted in schemas. Each
/// is a call within the other.
const CALLS_MAX: u32 = 600;

/// How a value is held against a schema.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// It is asked whether it fits.
    Fits,
    /// The places are looked for where it does not.
    Places,
}

/// The budget is spent, or the calls within calls are too many.
#[derive(Debug, PartialEq, Eq)]
pub struct TooCostly;

/// Returns the price in nanoseconds of an evaluation, or an error where it is above the budget.
pub fn price(
    graph: &Graph,
    value: &Value,
    purpose: Purpose,
    budget: u64,
) -> Result<u64, TooCostly> {
    let mut pricing = Pricing {
        nodes: &graph.nodes,
        left: budget,
    };
    let times = match purpose {
        Purpose::Fits => Times {
            asked: 1,
            errors: 0,
        },
        Purpose::Places => Times {
            asked: 0,
            errors: 1,
        },
    };
    pricing.visit(value, Applied::from([(graph.root, times)]), 0)?;
    Ok(budget - pricing.left)
}

/// How often a schema is applied to a value, for the answer alone and for the errors.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    asked: u64,
    errors: u64,
}

impl Times {
    fn add(&mut self, other: Times) {
        self.asked = self.asked.saturating_add(other.asked);
        self.errors = self.errors.saturating_add(other.errors);
    }

    /// How often a schema is applied that this one applies, where it does that so many times.
    fn through(self, mode: Mode, repeats: u64) -> Times {
        let (asked, errors) = match mode {
            Mode::Errors => (self.asked, self.errors),
            // Once for each, and the ones behind the first that fits again.
            Mode::Tried => (
                self.asked.saturating_add(self.errors.saturating_mul(2)),
                self.errors,
            ),
            Mode::Asked => (self.asked.saturating_add(self.errors), 0),
        };
        // What looks again only asks.
        let again = asked.saturating_add(errors).saturating_mul(repeats - 1);
        Times {
            asked: asked.saturating_add(again),
            errors,
        }
    }
}

/// The schemas that are applied to a value, in the order of the graph.
type Applied = BTreeMap<usize, Times>;

struct Pricing<'a> {
    nodes: &'a [Node],
    left: u64,
}

impl Pricing<'_> {
    fn spend(&mut self, nanos: u64) -> Result<(), TooCostly> {
        self.left = self.left.checked_sub(nanos).ok_or(TooCostly)?;
        Ok(())
    }

    fn visit(&mut self, value: &Value, applied: Applied, calls: u32) -> Result<(), TooCostly> {
        let all = self.in_place(value, applied)?;
        let chain = all.iter().map(|(number, _)| self.nodes[*number].chain);
        let calls = calls + 1 + chain.max().unwrap_or(0);
        if calls > CALLS_MAX {
            return Err(TooCostly);
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.spend(NANOS_PER_LOOK * all.len() as u64)?;
                    let mut below = Applied::new();
                    let mut names = Applied::new();
                    for (number, times) in &all {
                        let node = &self.nodes[*number];
                        match node.properties.get(name) {
                            Some(to) => add(&mut below, *to, *times),
                            None => apply(&mut below, &node.others, *times),
                        }
                        node.patterned
                            .iter()
                            .for_each(|to| add(&mut below, *to, *times));
                        node.names.iter().for_each(|to| {
                            add(&mut names, *to, times.through(Mode::Tried, 1));
                        });
                    }
                    if !names.is_empty() {
                        self.visit(&Value::String(name.clone()), names, calls)?;
                    }
                    if !below.is_empty() {
                        self.visit(member, below, calls)?;
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.spend(NANOS_PER_LOOK * all.len() as u64)?;
                    let mut below = Applied::new();
                    for (number, times) in &all {
                        let node = &self.nodes[*number];
                        if let Some(to) = node.first.get(index).copied().flatten() {
                            add(&mut below, to, *times);
                        }
                        apply(&mut below, &node.items, *times);
                    }
                    if !below.is_empty() {
                        self.visit(item, below, calls)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the schemas that are applied to this very value, and spends what their own keywords cost.
    fn in_place(
        &mut self,
        value: &Value,
        mut applied: Applied,
    ) -> Result<Vec<(usize, Times)>, TooCostly> {
        let mut all = Vec::with_capacity(applied.len());
        let mut within = None;
        while let Some((number, times)) = applied.pop_first() {
            let node = &self.nodes[number];
            let mut cost = own_cost(node, value);
            let counted = node.per_value > 0 || times.errors > 0;
            if counted && within.is_none() {
                let count = values_within(value);
                self.spend(count.saturating_mul(10))?;
                within = Some(count);
            }
            let within = within.unwrap_or(0);
            cost = cost.saturating_add(node.per_value.saturating_mul(within));
            let error = NANOS_PER_ERROR.saturating_add(NANOS_PER_COPY.saturating_mul(within));
            let errors = node
                .keywords
                .saturating_mul(error)
                .saturating_add(cost.saturating_mul(2));
            let errors = errors.saturating_mul(times.errors);
            let asked = cost.saturating_mul(times.asked);
            self.spend(NANOS_PER_PAIR.saturating_add(asked).saturating_add(errors))?;
            // Each schema of the chain is asked for what it looked at, and asks those below it.
            let repeats = match node.looks_again {
                true => u64::from(node.chain) + 1,
                false => 1,
            };
            for edge in &node.in_place {
                add(&mut applied, edge.to, times.through(edge.mode, repeats));
            }
            all.push((number, times));
        }
        Ok(all)
    }
}

fn apply(applied: &mut Applied, edges: &[Edge], times: Times) {
    for edge in edges {
        add(applied, edge.to, times.through(edge.mode, 1));
    }
}

fn add(applied: &mut Applied, to: usize, times: Times) {
    // `true` and `false` have no number.
    if to != usize::MAX {
        applied.entry(to).or_default().add(times);
    }
}

/// What a schema's own keywords cost at a value, in nanoseconds, without those for each value within.
fn own_cost(node: &Node, value: &Value) -> u64 {
    let (members, items, bytes, bytes_of_names) = match value {
        Value::Object(members) => {
            let names = match node.per_byte_of_names {
                0 => 0,
                _ => members.keys().map(String::len).sum(),
            };
            (members.len(), 0, 0, names)
        }
        Value::Array(items) => (0, items.len(), 0, 0),
        Value::String(text) => (0, 0, text.len(), 0),
        _ => (0, 0, 0, 0),
    };
    [
        (node.per_member, members),
        (node.per_item, items),
        (node.per_byte, bytes),
        (node.per_byte_of_names, bytes_of_names),
    ]
    .into_iter()
    .map(|(cost, count)| cost.saturating_mul(count as u64))
    .fold(node.per_visit, u64::saturating_add)
}
