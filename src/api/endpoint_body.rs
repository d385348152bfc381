//! An endpoint as the bodies of the native API spell it: what comes in, and what is shown.
//!
//! A body is checked for itself first ([`EndpointIn::checked`]), then applied to what there is
//! where nothing races with it. Credentials never come back: userinfo in a URL becomes Basic
//! authentication, and secrets and headers have paths of their own.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Context;
use super::endpoint_rules::{check_headers, check_url};
use super::extract::{Patch, answered, text};
use super::rules::{
    Problems, check_channels, check_description, check_event_type_names, check_metadata,
    check_throttle_rate, check_uid, without_repeats,
};
use super::target::Target;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::EndpointId;
use crate::domain::secret::{Secret, SecretForm};
use crate::error::Result;
use crate::store::Answered;

/// A body of create, replace and patch: the difference is in what absent and null mean.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointIn {
    uid: Patch<String>,
    url: Patch<String>,
    description: Patch<String>,
    disabled: Patch<bool>,
    event_types: Patch<Vec<String>>,
    /// The older name of `eventTypes`; where both are given, that one counts.
    filter_types: Patch<Vec<String>>,
    channels: Patch<Vec<String>>,
    metadata: Patch<BTreeMap<String, String>>,
    throttle_rate: Patch<u16>,
    secret: Patch<String>,
    headers: Patch<BTreeMap<String, String>>,
}

/// A body whose values are right for themselves.
pub struct Checked {
    pub uid: Patch<String>,
    url: Option<Target>,
    description: Patch<String>,
    disabled: Patch<bool>,
    event_types: Patch<Vec<String>>,
    channels: Patch<Vec<String>>,
    metadata: Patch<BTreeMap<String, String>>,
    throttle_rate: Patch<u16>,
    pub secret: Option<Secret>,
    headers: Patch<BTreeMap<String, String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Create or replace: null is as good as absent, and a URL is needed.
    Whole,
    /// Null clears, and some fields cannot be cleared.
    Patch,
}

impl EndpointIn {
    pub fn checked(self, kind: Kind, context: &Context) -> Result<Checked> {
        let limits = &context.config.limits;
        let mut problems = Problems::default();
        let event_types = match self.event_types {
            Patch::Absent => self.filter_types,
            given => given,
        };
        if kind == Kind::Patch {
            for (field, is_null) in [
                ("url", self.url == Patch::Null),
                ("description", self.description == Patch::Null),
                ("disabled", self.disabled == Patch::Null),
                ("metadata", self.metadata == Patch::Null),
            ] {
                if is_null {
                    problems.add(&["body", field], "may not be null");
                }
            }
        } else if self.url.as_set().is_none() {
            problems.missing(&["body", "url"]);
        }
        if let Patch::Set(uid) = &self.uid {
            check_uid(&mut problems, &["body", "uid"], uid, EndpointId::PREFIX);
        }
        if let Patch::Set(description) = &self.description {
            check_description(&mut problems, &["body", "description"], description);
        }
        let event_types = event_types.map(without_repeats);
        if let Patch::Set(names) = &event_types {
            check_event_type_names(&mut problems, &["body", "eventTypes"], names);
        }
        let channels = self.channels.map(without_repeats);
        if let Patch::Set(channels) = &channels {
            let max = limits.channels_per_endpoint_max;
            check_channels(&mut problems, &["body", "channels"], channels, max);
        }
        if let Patch::Set(metadata) = &self.metadata {
            check_metadata(&mut problems, &["body", "metadata"], metadata);
        }
        if let Patch::Set(rate) = self.throttle_rate {
            check_throttle_rate(&mut problems, &["body", "throttleRate"], rate);
        }
        if let Patch::Set(headers) = &self.headers {
            check_headers(&mut problems, headers, limits);
        }
        let url = self.url.into_set().and_then(|url| {
            check_url(&url, context)
                .map_err(|message| problems.add(&["body", "url"], message))
                .ok()
        });
        let secret = self.secret.into_set().and_then(|secret| {
            Secret::parse(&secret, SecretForm::StandardWebhooks)
                .map_err(|message| problems.add(&["body", "secret"], message))
                .ok()
        });
        problems.done()?;
        Ok(Checked {
            uid: self.uid,
            url,
            description: self.description,
            disabled: self.disabled,
            event_types,
            channels,
            metadata: self.metadata,
            throttle_rate: self.throttle_rate,
            secret,
            headers: self.headers,
        })
    }
}

impl Checked {
    /// Changes what the body names.
    pub fn apply_to(self, endpoint: &mut Endpoint) {
        if let Some(target) = self.url {
            target.apply_to(endpoint);
        }
        self.uid.apply_to_optional(&mut endpoint.uid);
        self.description.apply_to(&mut endpoint.description);
        self.disabled.apply_to(&mut endpoint.disabled);
        self.event_types
            .apply_to_optional(&mut endpoint.event_types);
        self.channels.apply_to_optional(&mut endpoint.channels);
        self.metadata.apply_to(&mut endpoint.metadata);
        self.throttle_rate
            .apply_to_optional(&mut endpoint.throttle_rate);
        self.headers.apply_to(&mut endpoint.headers);
    }
}

/// What a replacement resets before it is applied: what the contract knows. Credentials and
/// headers are left, because a client that does not know them would not send them.
pub fn reset(endpoint: &mut Endpoint) {
    endpoint.uid = None;
    endpoint.description = String::new();
    endpoint.disabled = false;
    endpoint.event_types = None;
    endpoint.channels = None;
    endpoint.metadata = BTreeMap::new();
    endpoint.throttle_rate = None;
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointOut<'a> {
    #[serde(serialize_with = "text")]
    id: EndpointId,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    url: &'a str,
    description: &'a str,
    disabled: bool,
    event_types: Option<&'a [String]>,
    filter_types: Option<&'a [String]>,
    channels: Option<&'a [String]>,
    metadata: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_rate: Option<u16>,
    /// Always 1: what older client libraries need to read the answer.
    version: u8,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "text")]
    updated_at: Timestamp,
}

impl<'a> From<&'a Endpoint> for EndpointOut<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        EndpointOut {
            id: endpoint.id,
            uid: endpoint.uid.as_deref(),
            url: &endpoint.url,
            description: &endpoint.description,
            disabled: endpoint.disabled,
            event_types: endpoint.event_types.as_deref(),
            filter_types: endpoint.event_types.as_deref(),
            channels: endpoint.channels.as_deref(),
            metadata: &endpoint.metadata,
            throttle_rate: endpoint.throttle_rate,
            version: 1,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

pub fn shown(status: StatusCode, endpoint: &Endpoint) -> Answered {
    answered(status, &EndpointOut::from(endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::endpoint_rules::blank;
    use crate::api::target::target;
    use crate::domain::application::Application;
    use crate::domain::id::{ApplicationId, OrganisationId};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn endpoint() -> Endpoint {
        let application = Application {
            id: ApplicationId::at(NOW),
            organisation: OrganisationId([1; 20]),
            uid: None,
            name: "One".to_owned(),
            metadata: BTreeMap::new(),
            throttle_rate: None,
            created_at: NOW,
            updated_at: NOW,
        };
        blank(&application, 7, None, NOW)
    }

    #[test]
    fn an_endpoint_is_shown_without_anything_secret() {
        let mut endpoint = endpoint();
        target("https://zoe:s3cret@example.com/in", 2048)
            .unwrap()
            .apply_to(&mut endpoint);
        endpoint.event_types = Some(vec!["a".to_owned()]);
        let answer = shown(StatusCode::OK, &endpoint);
        let text = String::from_utf8(answer.body).unwrap();
        for hidden in ["s3cret", "zoe", "whsec_"] {
            assert!(!text.contains(hidden), "{text}");
        }
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["url"], "https://example.com/in");
        assert_eq!(body["eventTypes"], serde_json::json!(["a"]));
        assert_eq!(body["filterTypes"], serde_json::json!(["a"]));
        assert_eq!(body["channels"], serde_json::Value::Null);
    }

    #[test]
    fn a_replacement_resets_what_it_does_not_name_and_leaves_credentials() {
        let mut endpoint = endpoint();
        endpoint.description = "old".to_owned();
        endpoint.disabled = true;
        endpoint.throttle_rate = Some(4);
        endpoint.headers = BTreeMap::from([("X-One".to_owned(), "1".to_owned())]);
        let number = endpoint.number;
        let secrets = endpoint.secrets.clone();
        reset(&mut endpoint);
        assert_eq!(
            (endpoint.disabled, endpoint.throttle_rate, endpoint.number),
            (false, None, number)
        );
        assert_eq!(endpoint.headers.len(), 1);
        assert_eq!(endpoint.secrets, secrets);
    }
}
