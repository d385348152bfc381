//! Protects an endpoint's secrets when a change makes its requests go to another origin.
//!
//! A password, a secret header and a secret that is sent as it is were given for one receiver. A
//! caller that is never shown them could otherwise change the URL and have them sent to a host of
//! its own. So owners and webhook admins keep them and are warned, and everybody else must enter
//! each again or clear it. The same rule holds where another profile begins to send the endpoint's
//! secret itself. Pure; every surface that changes endpoints uses it.

use url::Url;

use super::checks::Problems;
use crate::config::Config;
use crate::domain::endpoint::{Endpoint, is_sensitive};
use crate::domain::profile::Profile;

/// The error for a secret that has to be entered again.
pub const ENTER_AGAIN: &str = "was given for the former URL: enter it again, or clear it with null";

/// The secrets of an endpoint that a change would send to a receiver that they were not given for.
#[derive(Debug, Default, PartialEq)]
pub struct Carried {
    pub basic_auth: bool,
    /// The names of `headers` whose values are shown nowhere.
    pub headers: Vec<String>,
    pub auth_headers: Vec<String>,
    /// The signing secret, which the profile sends as it is.
    pub secret: bool,
}

/// Which of these secrets a change names itself.
#[derive(Clone, Copy, Debug)]
pub struct GivenSecrets {
    pub basic_auth: bool,
    pub headers: bool,
    pub auth_headers: bool,
    pub secret: bool,
}

impl Carried {
    /// Returns the secrets that are carried when the endpoint is given this URL and has this
    /// profile after the change.
    pub fn of(
        endpoint: &Endpoint,
        url: Option<&Url>,
        profile: Option<&Profile>,
        config: &Config,
    ) -> Carried {
        let moves = url.is_some_and(|url| is_other_origin(&endpoint.url, url));
        let sends = |profile: Option<&Profile>| profile.is_some_and(Profile::sends_secret);
        let sent_before = sends(config.profile(endpoint.profile.as_deref()));
        let secret = !endpoint.secrets.is_empty() && sends(profile) && (moves || !sent_before);
        if !moves {
            return Carried {
                secret,
                ..Carried::default()
            };
        }
        let hidden = |name: &&String| is_sensitive(name) && !endpoint.open_headers.contains(*name);
        Carried {
            basic_auth: endpoint.basic_auth.is_some(),
            headers: endpoint.headers.keys().filter(hidden).cloned().collect(),
            auth_headers: endpoint.auth_headers.keys().cloned().collect(),
            secret,
        }
    }

    /// Adds a problem for each that the change does not name.
    pub fn refuse(&self, problems: &mut Problems, given: GivenSecrets) {
        if self.basic_auth && !given.basic_auth {
            problems.add(&["body", "basicAuth"], ENTER_AGAIN);
        }
        for (field, names, is_given) in [
            ("headers", &self.headers, given.headers),
            ("authHeaders", &self.auth_headers, given.auth_headers),
        ] {
            for name in names.iter().filter(|_| !is_given) {
                problems.add(&["body", field, name], ENTER_AGAIN);
            }
        }
        if self.secret && !given.secret {
            let message =
                "would be sent to another receiver as it is: enter it again, or a new one";
            problems.add(&["body", "secret"], message);
        }
    }

    /// Removes them from the endpoint, so that none can be kept.
    pub fn forget(&self, endpoint: &mut Endpoint) {
        if self.basic_auth {
            endpoint.basic_auth = None;
        }
        endpoint
            .headers
            .retain(|name, _| !self.headers.contains(name));
        let auth_headers = &self.auth_headers;
        endpoint
            .auth_headers
            .retain(|name, _| !auth_headers.contains(name));
        if self.secret {
            endpoint.secrets.clear();
        }
    }

    /// Returns a sentence for each that is still as it was.
    pub fn warnings(&self, before: &Endpoint, after: &Endpoint) -> Vec<String> {
        let mut kept = Vec::new();
        if self.basic_auth && before.basic_auth == after.basic_auth {
            kept.push("basicAuth".to_owned());
        }
        let fields = [
            ("headers", &self.headers, &before.headers, &after.headers),
            (
                "authHeaders",
                &self.auth_headers,
                &before.auth_headers,
                &after.auth_headers,
            ),
        ];
        for (field, names, before, after) in fields {
            let same = names
                .iter()
                .filter(|name| before.get(*name) == after.get(*name));
            kept.extend(same.map(|name| format!("{field}.{name}")));
        }
        if self.secret && before.secrets == after.secrets {
            kept.push("secret".to_owned());
        }
        let warning = |what: String| {
            format!("{what} was given for another receiver and is sent to this one from now on")
        };
        kept.into_iter().map(warning).collect()
    }
}

/// Whether requests to the new URL go to another scheme, host or port than those to the old one. The
/// same host by https in place of http, both at their default ports, is no other origin.
fn is_other_origin(old: &str, new: &Url) -> bool {
    // A new endpoint has no URL yet, and nothing to carry.
    let Ok(old) = Url::parse(old) else {
        return false;
    };
    let is_upgrade = (old.scheme(), new.scheme()) == ("http", "https")
        && (old.port(), new.port()) == (None, None);
    let is_same_server = is_upgrade
        || (old.scheme(), old.port_or_known_default())
            == (new.scheme(), new.port_or_known_default());
    old.host() != new.host() || !is_same_server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port_and_https_may_come_for_http() {
        let old = "http://a.test/in?x=1";
        for (old, new, expected) in [
            (old, "http://a.test/other", false),
            (old, "http://a.test:80/", false),
            (old, "http://A.TEST/", false),
            (old, "https://a.test/", false),
            (old, "https://a.test:8443/", true),
            (old, "http://a.test:8080/", true),
            (old, "http://b.test/", true),
            (old, "https://a.test.evil.test/", true),
            ("http://a.test:8080/", "https://a.test/", true),
            ("https://a.test/", "http://a.test/", true),
            ("https://a.test/", "https://a.test:443/", false),
            ("", "http://a.test/", false),
        ] {
            let new = Url::parse(new).unwrap();
            assert_eq!(is_other_origin(old, &new), expected, "{old} {new}");
        }
    }
}
