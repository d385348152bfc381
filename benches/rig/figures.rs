//! The figures of a run, and the comparison of two binaries that ran in turns.

use std::fmt::Write;

use super::Latency;

/// How a figure is printed.
#[derive(Clone, Copy)]
pub struct Unit {
    name: &'static str,
    decimals: usize,
}

const fn unit(name: &'static str, decimals: usize) -> Unit {
    Unit { name, decimals }
}

pub const PER_SECOND: Unit = unit("/s", 0);
pub const MICROS: Unit = unit(" µs", 1);
pub const MILLIS: Unit = unit(" ms", 2);
pub const SECONDS: Unit = unit(" s", 2);
pub const MIB: Unit = unit(" MiB", 1);
pub const KIB: Unit = unit(" KiB", 2);
/// A plain number, such as calls for each message.
pub const COUNT: Unit = unit("", 2);

impl Unit {
    pub fn show(self, value: f64) -> String {
        format!("{value:.*}{}", self.decimals, self.name)
    }
}

/// The bound that a figure is held against on a machine with two cores.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Target {
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtLeast(bound) => value >= bound,
            Target::AtMost(bound) => value <= bound,
            Target::Below(bound) => value < bound,
        }
    }

    fn show(self, unit: Unit) -> String {
        match self {
            Target::AtLeast(bound) => format!("≥ {}", unit.show(bound)),
            Target::AtMost(bound) => format!("≤ {}", unit.show(bound)),
            Target::Below(bound) => format!("< {}", unit.show(bound)),
        }
    }
}

#[derive(Clone)]
struct Figure {
    name: String,
    value: f64,
    unit: Unit,
}

/// The figures of one run of a workload, printed as they come.
#[derive(Clone, Default)]
pub struct Figures {
    all: Vec<Figure>,
}

impl Figures {
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: Unit) {
        let name = name.into();
        super::line(&name, unit.show(value));
        self.keep(name, value, unit);
    }

    /// The same, held against a target.
    pub fn judge(&mut self, name: &str, value: f64, unit: Unit, target: Target) {
        let met = target.is_met(value);
        super::judged(name, unit.show(value), &target.show(unit), met);
        self.keep(name.to_owned(), value, unit);
    }

    /// Half of the samples and 99 of 100 took at most so long.
    pub fn latency(&mut self, name: &str, latency: Latency) {
        super::line(name, latency);
        let parts = [("p50", latency.p50), ("p99", latency.p99)];
        for (part, micros) in parts {
            self.keep(format!("{name}, {part}"), super::ms(micros), MILLIS);
        }
    }

    fn keep(&mut self, name: String, value: f64, unit: Unit) {
        self.all.push(Figure { name, value, unit });
    }

    fn value(&self, name: &str) -> Option<f64> {
        let found = self.all.iter().find(|figure| figure.name == name);
        found.map(|figure| figure.value)
    }
}

/// The turns of two binaries.
#[derive(Default)]
pub struct Turns {
    pub old: Vec<Figures>,
    pub new: Vec<Figures>,
}

impl Turns {
    /// A table: for each figure its values by turn, both medians and the ratio of the medians. A dash
    /// stands for a figure that a binary does not have, such as the time of a thread.
    pub fn table(&self) -> String {
        let mut names: Vec<(&str, Unit)> = Vec::new();
        for figure in self.new.iter().chain(&self.old).flat_map(|run| &run.all) {
            if !names.iter().any(|(name, _)| *name == figure.name) {
                names.push((&figure.name, figure.unit));
            }
        }
        let mut table = String::new();
        for (name, unit) in names {
            let [old, new] = [&self.old, &self.new].map(|runs| {
                let values = runs.iter().filter_map(|run| run.value(name));
                Vec::from_iter(values)
            });
            let medians = [&old, &new].map(|values| median(values));
            let ratio = match medians {
                [Some(old), Some(new)] if old != 0.0 => format!("{:.2}", new / old),
                _ => "-".to_owned(),
            };
            let shown = medians.map(|value| value.map_or("-".to_owned(), |one| unit.show(one)));
            let [old_median, new_median] = shown;
            let medians = format!("{old_median} -> {new_median}");
            let turns = format!("old {}; new {}", by_turn(&old, unit), by_turn(&new, unit));
            writeln!(table, "  {name:<44} {medians:<28} × {ratio:<8} {turns}")
                .expect("writing to a String succeeds");
        }
        table
    }
}

fn by_turn(values: &[f64], unit: Unit) -> String {
    let values = values
        .iter()
        .map(|value| format!("{value:.*}", unit.decimals));
    Vec::from_iter(values).join(" ")
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}
