//! Hands a command to the writer, and makes an HTTP answer of what was decided.

use std::sync::Arc;

use super::Context;
use crate::error::Result;
use crate::rules::caller::Caller;
use crate::rules::{Command, Decided, View};
use crate::store::{Answered, Catalog, Once};

impl Context {
    /// Decides on the command where nothing races with it, and returns what was decided once it is on
    /// disk.
    pub async fn decide<C: Command>(&self, caller: Caller, command: C) -> Result<C::Answer> {
        let decide = self.decision(caller, command);
        self.store.change(caller, decide).await
    }

    /// The same for a request that may carry an idempotency key. The answer to one that does is kept
    /// with the change, so `shown` makes it on the writer's thread.
    pub async fn decide_once<C: Command>(
        &self,
        once: Option<Once>,
        caller: Caller,
        command: C,
        shown: impl FnOnce(C::Answer) -> Answered + Send + 'static,
    ) -> Result<Answered> {
        let Some(once) = once else {
            return self.decide(caller, command).await.map(shown);
        };
        let decide = self.decision(caller, command);
        let decide = move |catalog: &Catalog| {
            let (changes, answer) = decide(catalog)?;
            Ok((changes, shown(answer)))
        };
        self.store.change_once(caller, once, decide).await
    }

    fn decision<C: Command>(
        &self,
        caller: Caller,
        command: C,
    ) -> impl FnOnce(&Catalog) -> Decided<C::Answer> + Send + use<C> {
        let (settings, clock) = (Arc::clone(&self.config), self.store.clock().clone());
        move |catalog| {
            let view = View {
                catalog,
                settings: &settings,
                now: clock.now(),
                random: rand::random(),
            };
            command.decide(&caller, &view)
        }
    }
}
