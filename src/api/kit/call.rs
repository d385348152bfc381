//! The frame of a handler: a request with its caller, and the ways in which handlers end.
//!
//! A handler takes a [`Call`], and a [`Body`] where there may be one. It checks the caller's
//! permission, then the query and the body, and ends with a command or a read. A request without a
//! valid credential reaches no handler that takes a call.

use std::future::{Ready, ready};
use std::sync::RwLockReadGuard;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};

use super::context::{Context, context_of};
use super::error::Failure;
use super::extract::{Body, no_content, once, path_part, reading, respond};
use super::query::Query;
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::rules::Command;
use crate::rules::caller::Caller;
use crate::store::{Answered, Once};

/// The answer to a request.
pub type Reply = Result<HttpResponse, Failure>;

/// A request with its caller.
pub struct Call {
    pub request: HttpRequest,
    pub caller: Caller,
    pub context: web::Data<Context>,
}

impl FromRequest for Call {
    type Error = Failure;
    type Future = Ready<Result<Call, Failure>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::from_request(request, payload).into_inner();
        ready(caller.map(|caller| Call {
            request: request.clone(),
            caller,
            context: context_of(request).clone(),
        }))
    }
}

impl Call {
    /// A named part of the path, as given.
    pub fn path(&self, part: &str) -> &str {
        path_part(&self.request, part)
    }

    pub fn query(&self) -> Query<'_> {
        Query::of(&self.request)
    }

    /// The registrations as they are now. Whoever changes them waits until the guard is dropped.
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.context.store.catalog()
    }

    pub fn now(&self) -> Timestamp {
        self.context.store.clock().now()
    }

    /// Returns the caller's wish that this request happens once, if it has an `idempotency-key`.
    pub fn once(&self, body: &Body) -> Result<Option<Once>> {
        once(&self.request, &self.caller, body)
    }

    /// Has the command decided on where nothing races with it.
    pub async fn decide<C: Command>(&self, command: C) -> Result<C::Answer> {
        self.context.decide(self.caller, command).await
    }

    /// Like [`Call::decide`]; the answer says that the change is done.
    pub async fn done<C: Command>(&self, command: C) -> Reply {
        self.decide(command).await?;
        Ok(no_content())
    }

    /// Like [`Call::decide`]; `shown` makes the answer.
    pub async fn show<C: Command>(
        &self,
        command: C,
        shown: impl FnOnce(C::Answer) -> Answered,
    ) -> Reply {
        Ok(respond(shown(self.decide(command).await?)))
    }

    /// Like [`Call::show`], for an operation that honours an idempotency key: a repeated request
    /// gets the same answer, and decides nothing.
    pub async fn show_once<C: Command>(
        &self,
        once: Option<Once>,
        command: C,
        shown: impl FnOnce(C::Answer) -> Answered + Send + 'static,
    ) -> Reply {
        let context = &self.context;
        let answered = context.decide_once(once, self.caller, command, shown);
        Ok(respond(answered.await?))
    }

    /// Runs a read of history in the caller's turn, on a thread that may block.
    pub async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        reading(&self.context, &self.caller, read).await
    }

    /// Runs a read of history like [`Call::reading`]; its result is the answer.
    pub async fn read(&self, read: impl FnOnce() -> Result<Answered> + Send + 'static) -> Reply {
        Ok(respond(self.reading(read).await?))
    }
}
