//! Takes the caller from a request, and counts the request against the caller's share of the
//! server.
//!
//! A request without a valid credential ends with 401 before its body is read. What a caller may do is
//! decided in `rules::caller`.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use super::credential::{required, visit_used};
use crate::api::kit::context::{Context, context_of};
use crate::api::kit::error::Failure;
use crate::api::kit::fair::Holder;
use crate::error::Result;
use crate::rules::caller::{Caller, FeatureFlags};

impl Caller {
    /// Counts the caller's request; an error where there were too many.
    pub fn admitted(self, context: &Context) -> Result<Caller> {
        let holder = match self.is_customer() {
            true => Holder::Customer,
            false => Holder::Platform,
        };
        let now = context.store.clock().now();
        context.shares.admit(self.payer(), holder, now)?;
        Ok(self)
    }
}

impl FromRequest for Caller {
    type Error = Failure;
    type Future = Ready<Result<Caller, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = required(request).map(|proof| {
            let caller = Caller::of(&proof);
            match visit_used(request) {
                Some(key) => caller.by_visit(key),
                None => caller,
            }
        });
        // A handler takes its caller once, so that each request counts once.
        let admitted = caller.and_then(|caller| caller.admitted(context_of(request)));
        ready(admitted.map_err(Failure::Of))
    }
}

impl FromRequest for FeatureFlags {
    type Error = Failure;
    type Future = Ready<Result<FeatureFlags, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let flags = required(request).map(|proof| FeatureFlags::of(&proof));
        ready(flags.map_err(Failure::Of))
    }
}
