//! A message as filters see it. The payload is looked into once for all filters, and only if one asks.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Literal;
use crate::clock::Timestamp;
use crate::domain::cost::{Budget, TooCostly};
use crate::domain::decimal::Number;
use crate::domain::message::Message;
use crate::domain::payload;
use crate::domain::tape::{Kind, Tape, Value};

/// The names that a filter may ask for.
pub const NAMES: [&str; 8] = [
    "id",
    "topic",
    "eventType",
    "time",
    "metadata",
    "data",
    "tags",
    "channels",
];

/// A look at an item or at a member, which may be the first look at its memory.
const ITEM_STEPS: usize = 5;
const MEMBER_STEPS: usize = 8;

/// The parts of a message that a filter can ask for.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    pub event_type: &'a str,
    /// The publisher's own id: that of the message itself is not known before its commit.
    pub event_id: Option<&'a str>,
    pub channels: &'a [String],
    pub tags: &'a [String],
    pub metadata: &'a BTreeMap<String, String>,
    pub accepted_at: Timestamp,
    /// The payload's text; one that was published as raw may be no JSON.
    pub payload: &'a str,
    pub is_raw: bool,
}

impl<'a> Parts<'a> {
    pub fn of(message: &'a Message) -> Parts<'a> {
        Parts {
            event_type: &message.event_type,
            event_id: message.event_id.as_deref(),
            channels: &message.channels,
            tags: &message.tags,
            metadata: &message.metadata,
            accepted_at: message.accepted_at,
            payload: std::str::from_utf8(&message.payload).unwrap_or_default(),
            is_raw: message.is_raw,
        }
    }
}

/// A message that filters are asked about: its parts, and what they had to be taken apart for.
pub struct Facts<'a> {
    parts: Parts<'a>,
    time: OnceCell<String>,
    data: OnceCell<Option<Tape>>,
}

impl<'a> Facts<'a> {
    pub fn new(parts: Parts<'a>) -> Facts<'a> {
        Facts {
            parts,
            time: OnceCell::new(),
            data: OnceCell::new(),
        }
    }

    pub fn parts(&self) -> &Parts<'a> {
        &self.parts
    }

    /// The payload's value; none where it is not JSON.
    fn data(&self, budget: &mut Budget) -> Result<Option<Seen<'_>>, TooCostly> {
        if self.data.get().is_none() {
            let bytes = self.parts.payload.len();
            budget.spend(match self.parts.is_raw {
                // It has to be found to be JSON, too.
                true => 2 * bytes,
                false => bytes / 2,
            })?;
        }
        let data = self.data.get_or_init(|| {
            let is_json =
                !self.parts.is_raw || payload::json(self.parts.payload.as_bytes()).is_some();
            is_json.then(|| Tape::of(self.parts.payload)).flatten()
        });
        let value = data.as_ref().map(|data| data.value(self.parts.payload));
        Ok(value.map(Seen::Json))
    }

    /// In whole seconds, so that texts of this form sort as the times do.
    fn time(&self) -> &str {
        self.time.get_or_init(|| {
            let text = Timestamp(self.parts.accepted_at.0 / 1000 * 1000).to_string();
            text.replace(".000Z", "Z")
        })
    }

    fn member(&self, name: &str, budget: &mut Budget) -> Result<Option<Seen<'_>>, TooCostly> {
        let parts = &self.parts;
        Ok(match name {
            "id" => parts.event_id.map(Seen::Text),
            "topic" | "eventType" => Some(Seen::Text(parts.event_type)),
            "time" => Some(Seen::Text(self.time())),
            "metadata" => Some(Seen::Pairs(parts.metadata)),
            "data" => self.data(budget)?,
            "tags" => Some(Seen::Texts(parts.tags)),
            "channels" => Some(Seen::Texts(parts.channels)),
            _ => None,
        })
    }
}

/// A value in a message.
#[derive(Clone, Copy)]
pub enum Seen<'a> {
    Message(&'a Facts<'a>),
    Text(&'a str),
    Texts(&'a [String]),
    Pairs(&'a BTreeMap<String, String>),
    Json(Value<'a>),
}

impl<'a> Seen<'a> {
    pub fn kind(self) -> Kind {
        match self {
            Seen::Message(_) | Seen::Pairs(_) => Kind::Object,
            Seen::Text(_) => Kind::Text,
            Seen::Texts(_) => Kind::List,
            Seen::Json(value) => value.kind(),
        }
    }

    /// The text of a string. One with escapes is made anew, so that costs more.
    pub fn text(self, budget: &mut Budget) -> Result<Option<Cow<'a, str>>, TooCostly> {
        match self {
            Seen::Text(text) => {
                budget.spend(text.len() / 32)?;
                Ok(Some(Cow::Borrowed(text)))
            }
            Seen::Json(value) => {
                spend_on_text(value, budget)?;
                Ok(value.text())
            }
            Seen::Message(_) | Seen::Texts(_) | Seen::Pairs(_) => Ok(None),
        }
    }

    pub fn is_text(self, wanted: &str, budget: &mut Budget) -> Result<bool, TooCostly> {
        match self {
            Seen::Text(text) => {
                budget.spend(text.len() / 32)?;
                Ok(text == wanted)
            }
            Seen::Json(value) => is_text(value, wanted, budget),
            Seen::Message(_) | Seen::Texts(_) | Seen::Pairs(_) => Ok(false),
        }
    }

    /// How it compares with a number; none where it is no number.
    pub fn order(
        self,
        number: &Number,
        budget: &mut Budget,
    ) -> Result<Option<Ordering>, TooCostly> {
        match self {
            Seen::Json(value) if value.kind() == Kind::Number => {
                budget.spend(4 + value.raw().len())?;
                Ok(Some(number.order_of(value.raw())))
            }
            _ => Ok(None),
        }
    }

    /// The items of a list.
    pub fn items(self) -> Box<dyn Iterator<Item = Seen<'a>> + 'a> {
        match self {
            Seen::Texts(texts) => Box::new(texts.iter().map(|text| Seen::Text(text))),
            Seen::Json(value) => Box::new(value.items().map(Seen::Json)),
            Seen::Message(_) | Seen::Text(_) | Seen::Pairs(_) => Box::new(std::iter::empty()),
        }
    }

    /// Whether an item of the list is as it is wanted.
    pub fn any_item(
        self,
        budget: &mut Budget,
        is_wanted: impl Fn(Seen<'a>, &mut Budget) -> Result<bool, TooCostly>,
    ) -> Result<bool, TooCostly> {
        match self {
            Seen::Texts(texts) => {
                for text in texts {
                    budget.spend(ITEM_STEPS)?;
                    if is_wanted(Seen::Text(text), budget)? {
                        return Ok(true);
                    }
                }
            }
            Seen::Json(value) => {
                for item in value.items() {
                    budget.spend(ITEM_STEPS)?;
                    if is_wanted(Seen::Json(item), budget)? {
                        return Ok(true);
                    }
                }
            }
            Seen::Message(_) | Seen::Text(_) | Seen::Pairs(_) => {}
        }
        Ok(false)
    }

    /// An object's member of this name; of several the last, as most parsers have it.
    pub fn member(self, name: &str, budget: &mut Budget) -> Result<Option<Seen<'a>>, TooCostly> {
        match self {
            Seen::Message(facts) => facts.member(name, budget),
            Seen::Pairs(pairs) => {
                // A search in a tree compares a few names.
                budget.spend(8 + name.len() / 4)?;
                Ok(pairs.get(name).map(|text| Seen::Text(text)))
            }
            Seen::Json(value) => {
                let mut found = None;
                for (one, value) in value.members() {
                    budget.spend(MEMBER_STEPS)?;
                    if is_text(one, name, budget)? {
                        found = Some(Seen::Json(value));
                    }
                }
                Ok(found)
            }
            Seen::Text(_) | Seen::Texts(_) => Ok(None),
        }
    }

    /// Whether each member's name is one of these.
    pub fn has_no_other_members(
        self,
        names: &[(Box<str>, Literal)],
        budget: &mut Budget,
    ) -> Result<bool, TooCostly> {
        let is_known = |is_it: &mut dyn FnMut(&str, &mut Budget) -> Result<bool, TooCostly>,
                        budget: &mut Budget| {
            for (name, _) in names {
                if is_it(name, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        match self {
            Seen::Json(value) => {
                for (one, _) in value.members() {
                    budget.spend(MEMBER_STEPS)?;
                    if !is_known(&mut |name, budget| is_text(one, name, budget), budget)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Seen::Pairs(pairs) => {
                budget.spend(names.len())?;
                Ok(pairs.len() == names.len())
            }
            Seen::Message(_) | Seen::Text(_) | Seen::Texts(_) => Ok(false),
        }
    }
}

/// Whether a value of the payload is this text. Texts of different lengths differ at once.
fn is_text(value: Value<'_>, wanted: &str, budget: &mut Budget) -> Result<bool, TooCostly> {
    let raw = value.raw();
    match value.kind() {
        Kind::Text if raw.len() == wanted.len() => {
            budget.spend(1 + raw.len() / 32)?;
            Ok(raw == wanted)
        }
        // An escape takes 6 bytes for one, at most.
        Kind::EscapedText if raw.len() > wanted.len() && raw.len() <= 6 * wanted.len() => {
            spend_on_text(value, budget)?;
            Ok(value.is_text(wanted))
        }
        _ => {
            budget.spend(1)?;
            Ok(false)
        }
    }
}

fn spend_on_text(value: Value<'_>, budget: &mut Budget) -> Result<(), TooCostly> {
    let bytes = value.raw().len();
    match value.kind() {
        Kind::Text => budget.spend(bytes / 32),
        // Memory is made for it.
        Kind::EscapedText => budget.spend(40 + bytes),
        _ => Ok(()),
    }
}
