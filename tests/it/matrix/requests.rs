//! Requests that differ only in what they name, and what is left of their answers once that is taken
//! out.

use super::document::Operation;
use super::world::{Things, kind};
use crate::support::Answer;

/// A request of an operation.
#[derive(Clone)]
pub struct Call<'a> {
    pub operation: &'a Operation,
    pub path: String,
    pub body: Option<String>,
    pub idempotency_key: Option<&'static str>,
    /// What it names.
    pub names: Vec<String>,
}

impl Call<'_> {
    /// What it says of itself in a fault.
    pub fn shown(&self) -> String {
        let Call {
            operation,
            path,
            body,
            ..
        } = self;
        let body = body.as_deref().unwrap_or_default();
        format!("{} {path} {body}", operation.method)
    }

    pub fn says(&self, text: &str) -> bool {
        let in_body = self.body.as_deref().is_some_and(|body| body.contains(text));
        in_body || self.path.contains(text)
    }
}

/// What the parts of a path are: those of `own`, but for what `others` says in its place.
pub fn with_path<'a>(operation: &'a Operation, own: &Things, others: &[Option<&str>]) -> Call<'a> {
    let mut path = operation.path.clone();
    let mut names = Vec::new();
    for (index, part) in operation.parts.iter().enumerate() {
        let other = others.get(index).copied().flatten();
        let name = other.unwrap_or_else(|| &own[kind(&operation.path, part)][0]);
        path = path.replacen(&format!("{{{part}}}"), name, 1);
        names.push(name.to_owned());
    }
    Call {
        operation,
        path,
        body: None,
        idempotency_key: None,
        names,
    }
}

/// A path's parts, where something is named that is not one's own, and how: by which of its names.
pub struct Variant {
    /// Which parts are another's.
    parts: Vec<bool>,
    name: usize,
}

impl Variant {
    /// All of an operation, for what there is of another's: each part alone, and each with all
    /// behind it.
    pub fn all(operation: &Operation, own: &Things, foreign: &Things) -> Vec<Variant> {
        let kinds: Vec<_> = operation
            .parts
            .iter()
            .map(|part| kind(&operation.path, part))
            .collect();
        let is_foreign = |kind: &str| {
            let theirs = foreign.get(kind);
            theirs.is_some_and(|theirs| theirs[0] != own[kind][0])
        };
        let mut all = Vec::new();
        for (index, first) in kinds.iter().enumerate() {
            if !is_foreign(first) {
                continue;
            }
            let alone: Vec<bool> = (0..kinds.len()).map(|other| other == index).collect();
            let behind = kinds.iter().enumerate();
            let behind: Vec<bool> = behind
                .map(|(other, kind)| other >= index && is_foreign(kind))
                .collect();
            for name in 0..foreign[first].len() {
                all.push(Variant {
                    parts: behind.clone(),
                    name,
                });
            }
            if alone != behind {
                all.push(Variant {
                    parts: alone,
                    name: 0,
                });
            }
        }
        all
    }

    /// Whether what stands last is not one's own, and is named by something that a caller may choose.
    pub fn names_by_choice(&self, operation: &Operation) -> bool {
        let last = operation
            .parts
            .last()
            .map(|part| kind(&operation.path, part));
        self.parts.last() == Some(&true) && (self.name > 0 || last == Some("event type"))
    }

    /// The request with these things in the places of what is not one's own.
    pub fn call<'a>(&self, operation: &'a Operation, own: &Things, things: &Things) -> Call<'a> {
        let parts = operation.parts.iter().zip(&self.parts);
        let mut first = true;
        let others: Vec<Option<&str>> = parts
            .map(|(part, is_foreign)| {
                let names = is_foreign.then(|| &things[kind(&operation.path, part)])?;
                let name = if std::mem::take(&mut first) {
                    self.name
                } else {
                    0
                };
                Some(names[name].as_str())
            })
            .collect();
        with_path(operation, own, &others)
    }
}

/// What tells an answer from another one, whatever the requests named: status, headers and body
/// without the names, new ids, and what differs by the hour or by the length of a name.
pub fn told(answer: &Answer, call: &Call<'_>) -> String {
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "content-length"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort_unstable();
    let mut text = answer.text.clone();
    // The longest first: one may be part of another.
    let mut names: Vec<&String> = call.names.iter().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        // A number stands for itself only as the whole of a text.
        text = match name.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.replace(&format!("\"{name}\""), "\"NAMED\""),
            false => text.replace(name.as_str(), "NAMED"),
        };
    }
    format!("{} {headers:?} {}", answer.status, without_new(&text))
}

/// The text without ids, numbers, secrets and credentials that the server made up.
fn without_new(text: &str) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-+/".contains(character);
    let mut rest = text;
    let mut shown = String::new();
    while !rest.is_empty() {
        let length = rest
            .find(|character| !is_part(character))
            .unwrap_or(rest.len());
        let (word, behind) = rest.split_at(length);
        let is_id = word.split_once('_').is_some_and(|(_, id)| id.len() == 27);
        let is_number = shown.ends_with("\"id\":") && !word.is_empty();
        let is_secret = word.starts_with("pr_") || word.starts_with("whsec_");
        shown.push_str(match is_id || is_number || is_secret {
            true => "NEW",
            false => word,
        });
        let next = behind.chars().next().map_or(0, char::len_utf8);
        shown.push_str(&behind[..next]);
        rest = &behind[next..];
    }
    shown
}
