//! The rule of one setting. A table beside each section's fields has a line a setting: its name and
//! its [`Rule`].
//!
//! A rule judges a value as the `config` crate read it, before it becomes a field. So all wrong
//! values are found at once, and each still has the file or the variable that it is from.

use std::ops::RangeInclusive;

use config::{Value, ValueKind};
use ipnet::IpNet;
use serde::de::value::Error as NoReason;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, IntoDeserializer};

use crate::domain::network;

/// A line of a table.
pub(super) struct Setting {
    pub name: &'static str,
    /// It has no default, and an empty variable unsets it.
    pub is_optional: bool,
    pub rule: Rule,
}

/// The values that a setting may have.
pub(super) enum Rule {
    Flag,
    Whole(Bounds),
    Number {
        least: f64,
        most: f64,
    },
    Text(Text),
    /// Text that no message repeats.
    Secret {
        /// Says how a text breaks the rule.
        problem: fn(&str) -> Option<String>,
    },
    Wholes {
        count_max: usize,
        each: Bounds,
    },
    Texts(Text),
    Networks {
        /// Why a network of all addresses is refused.
        not_all: Option<&'static str>,
    },
}

#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub least: u64,
    pub most: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Text {
    pub holds: fn(&str) -> bool,
    /// The sentence for a text of which that does not hold.
    pub must: &'static str,
}

/// The largest whole number of TOML, for settings without a bound of their own.
pub(super) const ANY: u64 = i64::MAX as u64;

/// The largest number that a field of 32 bits holds.
pub(super) const ANY_U32: u64 = u32::MAX as u64;

pub(super) const MIB: u64 = 1 << 20;

pub(super) const DAY_SECONDS: u64 = 86_400;

/// Characters of a wrong text that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

pub(super) const fn setting(name: &'static str, rule: Rule) -> Setting {
    Setting {
        name,
        is_optional: false,
        rule,
    }
}

pub(super) const fn optional(name: &'static str, rule: Rule) -> Setting {
    Setting {
        name,
        is_optional: true,
        rule,
    }
}

pub(super) const fn whole(bounds: RangeInclusive<u64>) -> Rule {
    Rule::Whole(Bounds::from(bounds))
}

pub(super) const fn wholes(count_max: usize, each: RangeInclusive<u64>) -> Rule {
    Rule::Wholes {
        count_max,
        each: Bounds::from(each),
    }
}

pub(super) const fn text(holds: fn(&str) -> bool, must: &'static str) -> Rule {
    Rule::Text(Text { holds, must })
}

/// A list of texts, of which each must hold.
pub(super) const fn texts(holds: fn(&str) -> bool, must: &'static str) -> Rule {
    Rule::Texts(Text { holds, must })
}

/// Text that nothing is asked of here: the rules between settings, or the place where it is used, judge it.
pub(super) const fn any_text() -> Rule {
    text(|_| true, "")
}

/// Whether a text is a `T`, for rules of addresses and of words.
pub(super) fn reads<T: DeserializeOwned>(text: &str) -> bool {
    let text: serde::de::value::StrDeserializer<'_, NoReason> = text.into_deserializer();
    T::deserialize(text).is_ok()
}

/// Whether a text fits on a page as a name or a label.
pub(super) fn is_label(text: &str) -> bool {
    (1..=60).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Reads a list of networks and addresses.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let each = texts.iter().map(|text| network::read(text));
    each.collect::<Result<_, _>>().map_err(D::Error::custom)
}

impl Setting {
    /// Says how a value breaks the rule: the bound, and the value. Nothing where it keeps it.
    pub fn problem(&self, value: &Value) -> Option<String> {
        match &value.kind {
            ValueKind::Nil if self.is_optional => None,
            kind => self.rule.problem(self.name, kind),
        }
    }

    /// The value of a variable, which is text. Text that is not of the setting's kind stays text, which
    /// its rule then refuses.
    ///
    /// The crate's `try_parsing`, which its lists need, guesses the kind from the text alone: the
    /// secret `0123` would become the number 123, and a path `true` a truth value.
    pub fn read(&self, text: String) -> ValueKind {
        match &self.rule {
            _ if self.is_optional && text.is_empty() => ValueKind::Nil,
            Rule::Text(_) | Rule::Secret { .. } => ValueKind::String(text),
            Rule::Flag => text.trim().parse().map_or(text.into(), ValueKind::Boolean),
            Rule::Whole(_) => read_whole(&text),
            Rule::Number { .. } => text.trim().parse().map_or(text.into(), ValueKind::Float),
            Rule::Wholes { .. } => read_list(&text, read_whole),
            Rule::Texts(_) | Rule::Networks { .. } => read_list(&text, |item| item.into()),
        }
    }
}

fn read_whole(text: &str) -> ValueKind {
    text.trim().parse().map_or(text.into(), ValueKind::I64)
}

fn read_list(text: &str, read: fn(&str) -> ValueKind) -> ValueKind {
    let items = text.split(',').map(|item| read(item.trim()).into());
    match text.trim().is_empty() {
        true => ValueKind::Array(Vec::new()),
        false => ValueKind::Array(items.collect()),
    }
}

impl Rule {
    fn problem(&self, name: &str, value: &ValueKind) -> Option<String> {
        let must = match (self, value) {
            (Rule::Flag, ValueKind::Boolean(_)) => return None,
            (Rule::Flag, _) => "must be true or false".to_owned(),
            (Rule::Whole(bounds), ValueKind::I64(number)) if bounds.hold(*number) => return None,
            (Rule::Whole(bounds), ValueKind::I64(_)) => format!("must be {}", bounds.of(name)),
            (Rule::Whole(bounds), _) => format!("must be a whole number, {}", bounds.of(name)),
            (Rule::Number { least, most }, _) => {
                let number = match value {
                    ValueKind::Float(number) => Some(*number),
                    ValueKind::I64(number) => Some(*number as f64),
                    _ => None,
                };
                match number {
                    Some(number) if (*least..=*most).contains(&number) => return None,
                    Some(number) => return Some(format!("must be {least} to {most}, is {number}")),
                    None => format!("must be a number, {least} to {most}"),
                }
            }
            (Rule::Text(rule), ValueKind::String(text)) if (rule.holds)(text) => return None,
            (Rule::Text(rule), ValueKind::String(_)) => rule.must.to_owned(),
            (Rule::Text(_), _) => "must be text".to_owned(),
            (Rule::Secret { problem }, ValueKind::String(text)) => return problem(text),
            (Rule::Secret { .. }, _) => return Some("must be text".to_owned()),
            (Rule::Wholes { .. } | Rule::Texts(_) | Rule::Networks { .. }, _) => match value {
                ValueKind::Array(items) => return self.problem_of_items(name, items),
                _ => self.list(name),
            },
        };
        Some(format!("{must}, is {}", shown(value)))
    }

    /// The sentence for a value that is not such a list.
    fn list(&self, name: &str) -> String {
        match self {
            Rule::Wholes { count_max, each } => format!(
                "must be a list of at most {count_max} whole numbers, each {}",
                each.of(name)
            ),
            _ => "must be a list of texts".to_owned(),
        }
    }

    fn problem_of_items(&self, name: &str, items: &[Value]) -> Option<String> {
        if let Rule::Wholes { count_max, each } = self {
            let wrong = wrong(items, |item| match item {
                ValueKind::I64(number) => each.hold(*number),
                _ => false,
            });
            let has = match items.len() > *count_max {
                true => Some(format!("{} of them", items.len())),
                false => wrong,
            };
            return has.map(|has| format!("{}, and has {has}", self.list(name)));
        }
        if let Some(has) = wrong(items, |item| matches!(item, ValueKind::String(_))) {
            return Some(format!("{}, and has {has}", self.list(name)));
        }
        match self {
            Rule::Texts(Text { holds, must }) => {
                let wrong = wrong(items, |item| holds(&item.to_string()));
                wrong.map(|has| format!("{must}, and has {has}"))
            }
            Rule::Networks { not_all } => {
                let each = items.iter().map(ToString::to_string);
                let problems = each.filter_map(|text| problem_of_network(&text, *not_all));
                let problems: Vec<String> = problems.collect();
                (!problems.is_empty()).then(|| problems.join("; "))
            }
            _ => None,
        }
    }
}

fn problem_of_network(text: &str, not_all: Option<&str>) -> Option<String> {
    match (network::read(text), not_all) {
        (Err(must), _) => Some(format!("'{text}' {must}")),
        (Ok(network), Some(reason)) if network.prefix_len() == 0 => {
            Some(format!("'{text}' must not hold every address: {reason}"))
        }
        (Ok(_), _) => None,
    }
}

/// The items that do not fit, as a message shows them. Nothing where all do.
fn wrong(items: &[Value], fits: impl Fn(&ValueKind) -> bool) -> Option<String> {
    let wrong = items.iter().filter(|item| !fits(&item.kind));
    let shown: Vec<String> = wrong.map(|item| shown(&item.kind)).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// A value as a message shows it.
pub(super) fn shown(value: &ValueKind) -> String {
    match value {
        // A URL with a name and a password in it is refused, and is not to be in a log.
        ValueKind::String(text) if text.contains('@') && text.contains("://") => {
            "a URL with '@', which is not shown".to_owned()
        }
        ValueKind::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            format!("{start:?}…")
        }
        ValueKind::String(text) => format!("{text:?}"),
        // 2.0, where a whole number is asked for.
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a section".to_owned(),
        other => other.to_string(),
    }
}

impl Bounds {
    const fn from(range: RangeInclusive<u64>) -> Bounds {
        Bounds {
            least: *range.start(),
            most: *range.end(),
        }
    }

    fn hold(self, number: i64) -> bool {
        u64::try_from(number).is_ok_and(|number| (self.least..=self.most).contains(&number))
    }

    /// The bounds of this setting in words. Its name has the unit; large numbers are told in a larger one, too.
    fn of(self, name: &str) -> String {
        let Bounds { least, most } = self;
        let larger = |bound: u64| match bound {
            0 => String::new(),
            _ if name.ends_with("_bytes") && bound.is_multiple_of(MIB) => {
                format!(" ({} MiB)", bound / MIB)
            }
            DAY_SECONDS if name.ends_with("_seconds") => " (1 day)".to_owned(),
            _ if name.ends_with("_seconds") && bound.is_multiple_of(DAY_SECONDS) => {
                format!(" ({} days)", bound / DAY_SECONDS)
            }
            _ => String::new(),
        };
        match most {
            ANY => format!("at least {least}{}", larger(least)),
            _ => format!("{least} to {most}{}", larger(most)),
        }
    }
}
