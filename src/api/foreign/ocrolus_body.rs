//! Bodies of Ocrolus's surface: settings of an endpoint, and a new secret.
//!
//! Each is a form or JSON with the same names. Values are checked by themselves here, and against
//! the catalog where nothing races with the change. Nothing here may be printed: there are
//! passwords and secrets in it.

use actix_web::HttpRequest;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::kit::context::Context;
use crate::api::kit::endpoint_url::check_url;
use crate::api::kit::extract::{Body, Patch};
use crate::api::kit::form::Form;
use crate::domain::endpoint::BasicAuth;
use crate::error::Result;
use crate::rules::checks::{Problems, check_event_type_names, without_repeats};
use crate::rules::ocrolus::AccountSettings;

const SECRET_CHARACTERS: std::ops::RangeInclusive<usize> = 16..=128;

/// The names of a form with settings.
const SETTINGS: [&str; 5] = [
    "webhook_endpoint",
    "event",
    "events",
    "username",
    "password",
];

/// The longest user name, and the longest password: both together fit a header's value, encoded.
const CREDENTIAL_BYTES_MAX: usize = 1024;

/// The settings of an account's endpoint in a body.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(
    rename = "OcrolusSettingsIn",
    description = "An absent field stays as it is."
)]
pub struct SettingsIn {
    /// Where messages are sent; needed the first time. It enables a disabled endpoint.
    #[schemars(extend("format" = "uri"))]
    webhook_endpoint: Option<String>,
    /// Names of event types. An empty list deletes the endpoint.
    event: Option<Names>,
    /// The same as `event`, by the name that answers use; only one of the two can be given.
    events: Option<Names>,
    /// The user name for Basic authentication, without a colon. An empty one removes the
    /// credentials.
    #[schemars(length(max = CREDENTIAL_BYTES_MAX))]
    username: Option<String>,
    /// The password for Basic authentication. It is never shown again.
    #[schemars(length(max = CREDENTIAL_BYTES_MAX))]
    password: Option<String>,
}

/// A text with commas between the names, or a list of them.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(
    untagged,
    expecting = "must be a text with commas between the names, or a list of names"
)]
enum Names {
    Text(String),
    List(Vec<String>),
}

impl Names {
    fn into_list(self) -> Vec<String> {
        match self {
            Names::List(names) => names,
            Names::Text(text) if text.trim().is_empty() => Vec::new(),
            Names::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        }
    }
}

impl SettingsIn {
    pub async fn of(
        request: &HttpRequest,
        body: &Body,
        problems: &mut Problems,
    ) -> Result<SettingsIn> {
        let Some(mut form) = Form::of(request, body).await? else {
            return body.json_of_others();
        };
        let names = |values: Vec<String>| {
            let names = values
                .into_iter()
                .map(|value| Names::Text(value).into_list());
            Names::List(names.flatten().collect())
        };
        let mut given = |name: &str| {
            let values = form.take_all(name);
            (!values.is_empty()).then(|| names(values))
        };
        let settings = SettingsIn {
            event: given("event"),
            events: given("events"),
            webhook_endpoint: form.take(problems, "webhook_endpoint"),
            username: form.take(problems, "username"),
            password: form.take(problems, "password"),
        };
        form.refuse_misspelled(problems, &SETTINGS);
        Ok(settings)
    }

    /// Returns the values that are valid by themselves, and adds the problems of the others.
    pub fn checked(self, context: &Context, problems: &mut Problems) -> AccountSettings {
        if self.event.is_some() && self.events.is_some() {
            problems.add(
                &["body", "events"],
                "is the same as event; give one of them",
            );
        }
        let events = self.event.or(self.events);
        let events = events.map(|names| without_repeats(names.into_list()));
        if let Some(names) = events.as_ref().filter(|names| !names.is_empty()) {
            check_event_type_names(problems, &["body", "event"], names);
        }
        let url_given = self.webhook_endpoint.is_some();
        let target = self.webhook_endpoint.and_then(|url| {
            check_url(&url, context)
                .map_err(|message| problems.add(&["body", "webhook_endpoint"], message))
                .ok()
        });
        AccountSettings {
            url_given,
            target,
            events,
            credentials: check_credentials(self.username, self.password, problems),
        }
    }
}

/// Empty fields remove the credentials: a form has them where its user wants none.
fn check_credentials(
    username: Option<String>,
    password: Option<String>,
    problems: &mut Problems,
) -> Patch<BasicAuth> {
    if username.is_none() && password.is_none() {
        return Patch::Absent;
    }
    let (username, password) = (username.unwrap_or_default(), password.unwrap_or_default());
    for (field, text) in [("username", &username), ("password", &password)] {
        if text.len() > CREDENTIAL_BYTES_MAX {
            let message = format!("must have at most {CREDENTIAL_BYTES_MAX} bytes");
            problems.add(&["body", field], message);
        }
        if text.chars().any(char::is_control) {
            problems.add(&["body", field], "may not contain control characters");
        }
    }
    if username.contains(':') {
        let message = "may not contain a colon, which Basic auth cannot carry";
        problems.add(&["body", "username"], message);
    }
    match (username.is_empty(), password.is_empty()) {
        (true, true) => Patch::Null,
        (true, false) => {
            problems.add(&["body", "username"], "is required with a password");
            Patch::Absent
        }
        (false, _) => Patch::Set(BasicAuth { username, password }),
    }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["secret_key"]))]
pub struct OcrolusRotateIn {
    /// The secret that signs requests from now on.
    #[schemars(with = "String", length(min = *SECRET_CHARACTERS.start(), max = *SECRET_CHARACTERS.end()))]
    secret_key: Option<String>,
}

impl OcrolusRotateIn {
    pub async fn of(
        request: &HttpRequest,
        body: &Body,
        problems: &mut Problems,
    ) -> Result<OcrolusRotateIn> {
        match Form::of(request, body).await? {
            None => body.json_of_others(),
            Some(mut form) => {
                let secret_key = form.take(problems, "secret_key");
                form.refuse_misspelled(problems, &["secret_key"]);
                Ok(OcrolusRotateIn { secret_key })
            }
        }
    }

    /// The secret's text.
    pub fn checked(self, mut problems: Problems) -> Result<String> {
        let secret = self.secret_key.unwrap_or_default();
        let (least, most) = SECRET_CHARACTERS.into_inner();
        if !SECRET_CHARACTERS.contains(&secret.chars().count()) {
            let message = format!("must have {least} to {most} characters");
            problems.add(&["body", "secret_key"], message);
        }
        problems.done()?;
        Ok(secret)
    }
}
