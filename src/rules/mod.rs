//! Decisions about registrations: whether the caller may, the name is free, there is room, and what the
//! thing becomes; and which endpoints a message is for.
//!
//! A [`Command`] says what a caller wants, as plain data. [`decide`], which every command goes through,
//! looks at the registrations and returns the changes to commit and an answer, or an error that says why
//! nothing changes. That happens on the writer's thread, where nothing races with it; `api` checks a
//! body's values by themselves before that, and makes an HTTP answer of the command's answer after it. An
//! [`OwnCommand`] is the server's own, which nobody asks for.
//!
//! Everything here is pure: no HTTP, nothing that waits, no disk. What varies comes in with the
//! [`View`]: registrations, settings, the time, and chance for secrets. Ids alone are drawn here. The
//! room imports `domain`, `clock`, `config`, `error` and of the store the catalog, which a test holds it
//! to, so that each decision can be tested by a table of catalogs and commands.

pub mod applications;
pub mod caller;
pub mod challenges;
pub mod checks;
pub mod command;
pub mod decision;
pub mod endpoint_checks;
pub mod endpoint_edit;
pub mod endpoints;
pub mod event_types;
pub mod jobs;
pub mod keys;
pub mod links;
pub mod matching;
pub mod narrowing;
pub mod ocrolus;
pub mod origin;
pub mod ovation;
pub mod patch;
pub mod payer;
pub mod permits;
pub mod rotation;
pub mod scopes;
pub mod target;
pub mod tokens;
pub mod upkeep;
pub mod visit_limits;
pub mod visits;

#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Result;
use crate::store::catalog::{Catalog, Change};
use caller::Caller;
use command::{AnyCommand, AnyOwnCommand};

/// What a decision is made on.
pub struct View<'a> {
    pub catalog: &'a Catalog,
    pub settings: &'a Config,
    pub now: Timestamp,
    /// A secret that is made up is made of this.
    pub random: [u8; 32],
}

/// The changes to commit, and what the caller is told once they are on disk.
pub type Decided<T> = Result<(Vec<Change>, T)>;

/// What a caller wants of the registrations. Each is listed in [`command`].
pub trait Command: Into<AnyCommand> + Serialize + DeserializeOwned + Send + 'static {
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Self::Answer>;
}

/// What the server itself wants of the registrations: its jobs, its challenges and its housekeeping. Each
/// is listed in [`command`], too.
pub trait OwnCommand: Into<AnyOwnCommand> + Serialize + DeserializeOwned + Send + 'static {
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    fn decide(self, catalog: &Catalog, now: Timestamp) -> Decided<Self::Answer>;
}

/// Decides on a caller's command, should the caller's credential still be good: a request is let in when its head
/// arrives, and its body may take a while.
pub fn decide<C: Command>(command: C, caller: &Caller, view: &View<'_>) -> Decided<C::Answer> {
    caller.still_holds(view.catalog, view.now)?;
    command.decide(caller, view)
}

/// A thing that was made or found by a command which does either.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Saved<T> {
    New(T),
    Old(T),
}
