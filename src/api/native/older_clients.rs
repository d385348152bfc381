//! Clients that take a success for a failure unless its status is the one that they know.
//!
//! Svix's SDKs for Python before 1.56 raise an error for every other status. Where they know
//! another one than ours, they get theirs, because the request has succeeded.

use actix_web::HttpRequest;
use actix_web::http::header::USER_AGENT;

/// Whether the request comes from such a client.
pub fn is_strict(request: &HttpRequest) -> bool {
    let agent = request.headers().get(USER_AGENT);
    agent.is_some_and(|agent| agent.to_str().is_ok_and(is_strict_agent))
}

/// Their user agent is `svix-libs/1.24.0/python`, with nothing after it.
fn is_strict_agent(agent: &str) -> bool {
    let version = agent
        .strip_prefix("svix-libs/")
        .and_then(|rest| rest.strip_suffix("/python"));
    let Some(version) = version else { return false };
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (1, 56),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_older_python_sdks_are_strict() {
        for (agent, strict) in [
            ("svix-libs/0.85.1/python", true),
            ("svix-libs/1.24.0/python", true),
            ("svix-libs/1.45.1/python", true),
            ("svix-libs/1.56.0/python", false),
            ("svix-libs/2.9.1/python python/3.11.7 Linux/x86_64", false),
            ("svix-libs/1.24.0/javascript", false),
            ("svix-libs/1/python", false),
            ("svix-libs/one.two/python", false),
            ("", false),
        ] {
            assert_eq!(is_strict_agent(agent), strict, "{agent}");
        }
    }
}
