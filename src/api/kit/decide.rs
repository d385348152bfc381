//! Hands a command to the writer, and makes an HTTP answer of the decision.

use std::sync::Arc;

use actix_web::http::StatusCode;

use super::context::Context;
use crate::error::Result;
use crate::rules::caller::Caller;
use crate::rules::decision::Asked;
use crate::rules::{Command, Saved};
use crate::store::{Answered, Once};

/// Shows what a command made (201) or found (200).
pub fn saved<T>(saved: Saved<T>, shown: impl FnOnce(StatusCode, &T) -> Answered) -> Answered {
    match saved {
        Saved::New(made) => shown(StatusCode::CREATED, &made),
        Saved::Old(found) => shown(StatusCode::OK, &found),
    }
}

impl Context {
    /// Decides on the command where nothing races with it, and returns the decision once it is on
    /// disk.
    pub async fn decide<C: Command>(&self, caller: Caller, command: C) -> Result<C::Answer> {
        self.store.change(self.asked(caller, command)).await
    }

    /// Like [`Context::decide`], for a request that may have an idempotency key. The answer to one
    /// with a key is stored with the change, so `shown` makes it on the writer's thread.
    pub async fn decide_once<C: Command>(
        &self,
        once: Option<Once>,
        caller: Caller,
        command: C,
        shown: impl FnOnce(C::Answer) -> Answered + Send + 'static,
    ) -> Result<Answered> {
        let asked = self.asked(caller, command);
        match once {
            Some(once) => self.store.change_once(asked, once, shown).await,
            None => self.store.change(asked).await.map(shown),
        }
    }

    fn asked<C: Command>(&self, caller: Caller, command: C) -> Asked<C> {
        Asked {
            caller,
            command,
            settings: Arc::clone(&self.config),
            random: rand::random(),
        }
    }
}
