//! Decisions about registrations: whether the caller may, the name is free, there is room, and what the
//! thing becomes; and which endpoints a message is for.
//!
//! A [`Command`] is a caller's wish as plain data. Every command goes through [`decide`], which
//! looks at the registrations and returns the changes to commit and an answer, or an error that
//! says why nothing changes. That happens on the writer's thread, where nothing races with it.
//! Before that, `api` checks a body's values by themselves; after it, `api` makes an HTTP answer of
//! the command's answer. An [`OwnCommand`] is the server's own, without a caller.
//!
//! Everything here is pure: no HTTP, nothing that waits, no disk. The [`View`] holds everything
//! that varies: registrations, settings, the time, and the randomness of secrets. Only ids are
//! drawn here. The room imports `catalog`, `domain`, `clock`, `config` and `error`; a test
//! checks that. So each decision can be tested by a table of catalogs and commands.

pub mod announced;
pub mod applications;
pub mod caller;
pub mod challenges;
pub mod checks;
pub mod command;
pub mod contacts;
pub mod decision;
pub mod endpoint_checks;
pub mod endpoint_edit;
pub mod endpoints;
pub mod event_types;
pub mod holds;
pub mod jobs;
pub mod keys;
pub mod links;
pub mod matching;
pub mod message_headers;
pub mod narrowing;
pub mod ocrolus;
pub mod origin;
pub mod ovation;
pub mod patch;
pub mod payer;
pub mod permits;
pub mod rotation;
pub mod schema;
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

use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Result;
use caller::Caller;
use command::{AnyCommand, AnyOwnCommand};

/// The data that a decision is made on.
pub struct View<'a> {
    pub catalog: &'a Catalog,
    pub settings: &'a Config,
    pub now: Timestamp,
    /// The randomness from which a new secret is generated.
    pub random: [u8; 32],
}

/// The changes to commit, and the caller's answer once they are on disk.
pub type Decided<T> = Result<(Vec<Change>, T)>;

/// A caller's wish to change registrations. Each command is listed in [`command`].
pub trait Command: Into<AnyCommand> + Serialize + DeserializeOwned + Send + 'static {
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Self::Answer>;
}

/// A change of registrations by the server itself: its jobs, its challenges and its housekeeping.
/// Each is listed in [`command`], too.
pub trait OwnCommand: Into<AnyOwnCommand> + Serialize + DeserializeOwned + Send + 'static {
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    fn decide(self, catalog: &Catalog, now: Timestamp) -> Decided<Self::Answer>;
}

/// Decides on a caller's command if the caller's credential is still valid: a request is let in
/// when its head arrives, and its body may take a while.
pub fn decide<C: Command>(command: C, caller: &Caller, view: &View<'_>) -> Decided<C::Answer> {
    caller.still_holds(view.catalog, view.now)?;
    command.decide(caller, view)
}

/// The thing that a command made, or found because it existed already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Saved<T> {
    New(T),
    Old(T),
}
