//! Checks a URL for an endpoint, as far as that is possible without asking the DNS.

use super::context::Context;
use crate::rules::target::{EndpointUrl, target};

/// Returns the URL without its credentials, and the credentials. The error is a sentence for the
/// caller.
pub fn check_url(text: &str, context: &Context) -> Result<EndpointUrl, String> {
    let target = target(text, context.config.limits.url_bytes)?;
    if context.config.delivery.https_only && target.url.scheme() != "https" {
        return Err("must be https".to_owned());
    }
    match (context.addresses)(&target.url) {
        Some(problem) => Err(problem),
        None => Ok(target),
    }
}
