//! Decisions: the work that the store's writer runs. Each has a command and everything else that
//! the command is decided by, except for the registrations.
//!
//! There are two kinds. A caller's command is decided only while the caller's credential is valid:
//! a request is let in when its head arrives, and its body, a read or the writer's queue may take a
//! while. The server's own commands come from its jobs, its challenges and its housekeeping, and
//! need no permission.

use std::sync::Arc;

use super::caller::Caller;
use super::{Command, Decided, OwnCommand, View, decide};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::config::Config;

/// A command that the writer can decide on.
pub trait Decision: Send + 'static {
    type Answer: Send + 'static;

    fn decide(self, catalog: &Catalog, now: Timestamp) -> Decided<Self::Answer>;
}

/// A caller's command.
pub struct Asked<C> {
    pub caller: Caller,
    pub command: C,
    pub settings: Arc<Config>,
    /// The randomness from which a new secret is generated.
    pub random: [u8; 32],
}

impl<C: Command> Decision for Asked<C> {
    type Answer = C::Answer;

    fn decide(self, catalog: &Catalog, now: Timestamp) -> Decided<C::Answer> {
        let view = View {
            catalog,
            settings: &self.settings,
            now,
            random: self.random,
        };
        decide(self.command, &self.caller, &view)
    }
}

/// A command of the server itself.
pub struct Itself<C>(pub C);

impl<C: OwnCommand> Decision for Itself<C> {
    type Answer = C::Answer;

    fn decide(self, catalog: &Catalog, now: Timestamp) -> Decided<C::Answer> {
        self.0.decide(catalog, now)
    }
}

/// A change as a test plans it.
#[cfg(test)]
pub struct Planned<F>(pub F);

#[cfg(test)]
impl<F, T> Decision for Planned<F>
where
    F: FnOnce(&Catalog) -> Decided<T> + Send + 'static,
    T: Send + 'static,
{
    type Answer = T;

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<T> {
        (self.0)(catalog)
    }
}
