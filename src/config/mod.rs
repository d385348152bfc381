//! The settings: built-in `config.toml` ← file ← environment ← flags, checked once, at start.
//!
//! The commented `config.toml` of the repository is compiled in and is the defaults, so what it
//! says is what happens; the type of each default there is the type a value must have. The command
//! line calls [`load`]; everything else is handed the finished [`Config`]. A setting that is
//! unknown, of the wrong type, out of range or contradictory stops the start, and the error names
//! every such setting as `section.key` with where it came from. What is loaded is valid: nobody
//! checks it again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Environment, File, FileFormat, FileSourceString, Source, Value, ValueKind};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::id::OrganisationId;
use crate::domain::jwt::{JwtSecret, SECRET_BYTES_GOOD, SECRET_BYTES_MIN};
use crate::domain::network;
use crate::domain::profile::Profile;
use crate::domain::retry::{RETRIES_MAX, RetrySchedule, WAIT_MAX, Waits};
use crate::domain::secret::SignatureType;
use crate::domain::url;
use crate::misfit;

mod checks;
mod origin;
mod profiles;
mod source_address;
mod values;

pub use origin::Loaded;
pub use source_address::SourceAddress;

use values::{
    check_kind, fit_kind, misfit, one_line, parse_kind, read_environment, read_toml, set, split,
    toml_source,
};

/// The commented file of the repository.
pub const DEFAULTS: &str = include_str!("../../config.toml");

/// Where a file is looked for when none is named; the first that exists is read.
const FILES: [&str; 2] = ["./config.toml", "/etc/postrider/config.toml"];

/// Settings that have no default. All of them are text.
const OPTIONAL: [&str; 7] = [
    "server.metrics_listen",
    "server.public_url",
    "auth.default_organisation",
    "auth.jwt_secret",
    "auth.jwt_secret_file",
    "delivery.extra_ca_file",
    "portal.logo_file",
];

const ENVIRONMENT_PREFIX: &str = "POSTRIDER";

const WAIT_MAX_SECONDS: u64 = WAIT_MAX.as_secs();

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub store: Store,
    pub auth: Auth,
    pub delivery: Delivery,
    pub limits: Limits,
    pub console: Console,
    pub portal: Portal,
    pub log: Log,
    /// By name, templates not yet compiled.
    #[serde(skip)]
    pub profiles: BTreeMap<String, Profile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: SocketAddr,
    /// Threads that parse requests.
    pub workers: usize,
    pub drain_seconds: u64,
    /// Without progress of an answer.
    pub answer_stall_seconds: u64,
    /// A second listener for `/metrics` without a credential.
    pub metrics_listen: Option<SocketAddr>,
    /// What the server is reached by from outside; `http://` and `listen` where not set.
    pub public_url: Option<String>,
    /// Which origins browsers let call the API: `*` is any.
    pub cors_origins: Vec<String>,
    /// Whose word counts for where a request comes from.
    #[serde(deserialize_with = "values::networks")]
    pub trusted_proxies: Vec<IpNet>,
    pub client_address_header: ClientAddressHeader,
}

/// Where trusted proxies write the address of their client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAddressHeader {
    #[serde(rename = "X-Forwarded-For")]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub path: PathBuf,
    pub cache_bytes: u64,
    pub retention_days: u32,
    pub min_free_bytes: u64,
    /// A slice of history is closed for writing at this age …
    pub slice_hours: u32,
    /// … or at this size, whichever comes first.
    pub slice_bytes: u64,
    /// How often the registrations are exported beside the database.
    pub export_minutes: u32,
    /// A commit that takes longer ends the process.
    pub commit_timeout_seconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The id of the default organisation, for a deployment that moves over; generated where empty.
    pub default_organisation: Option<String>,
    /// Signed tokens (JWT) are taken where there is one. It is not printed.
    #[serde(skip_serializing)]
    pub jwt_secret: Option<JwtSecret>,
    /// The same in a file; what is loaded holds it in `jwt_secret`.
    pub jwt_secret_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    #[serde(deserialize_with = "values::networks")]
    pub danger_allow_private_addresses: Vec<IpNet>,
    /// Never reached, whatever is allowed.
    #[serde(deserialize_with = "values::networks")]
    pub deny_addresses: Vec<IpNet>,
    pub https_only: bool,
    pub extra_ca_file: Option<PathBuf>,
    /// The profile of endpoints that name none.
    pub default_profile: String,
    /// The kind of secret that is made up for endpoints that come without one.
    pub default_signature_type: SignatureType,
    /// What an endpoint must do before messages go to it.
    pub verify_endpoints: VerifyEndpoints,
    pub retry_delays_seconds: Vec<u64>,
    pub jitter: f64,
    pub retry_after_max_seconds: u64,
    pub request_timeout_seconds: u64,
    pub connect_timeout_seconds: u64,
    /// Idle connections are closed after one to two times this.
    pub idle_connection_seconds: u64,
    pub dns_cache_seconds: u64,
    /// Asked in place of the system's servers, unless empty.
    pub dns_servers: Vec<DnsServer>,
    /// From which requests come, for the firewalls of receivers.
    pub source_addresses: Vec<SourceAddress>,
    /// Threads that send.
    pub workers: usize,
    pub in_flight_max: usize,
    pub in_flight_per_endpoint_max: usize,
    /// To one receiving host, whoever's endpoints are there.
    pub in_flight_per_host_max: usize,
    /// Sent with the outcome not yet durable, per endpoint.
    pub unrecorded_per_endpoint_max: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub payload_bytes: usize,
    /// Of one request that publishes many messages.
    pub batch_messages_max: usize,
    pub batch_bytes: usize,
    pub batch_deliveries_max: usize,
    pub url_bytes: usize,
    pub header_value_bytes: usize,
    pub headers_max: usize,
    pub endpoints_per_application_max: usize,
    pub channels_per_endpoint_max: usize,
    /// What endpoints may set in place of their profile's.
    pub endpoint_timeout_seconds_max: u32,
    pub endpoint_retries_max: u32,
    /// The whole length of a retry schedule.
    pub endpoint_retry_days_max: u32,
    pub answer_read_bytes: usize,
    pub answer_kept_bytes: usize,
    pub list_page_max: usize,
    /// Of the items of one page.
    pub page_bytes: usize,
    /// Of all answers that are being sent.
    pub answers_bytes: usize,
    /// Of those to one customer.
    pub answers_per_customer_bytes: usize,
    /// Requests a second, on average, of a customer and of a credential of the platform; 0 for no limit.
    pub requests_per_customer_second_max: u32,
    pub requests_per_platform_token_second_max: u32,
    /// How many seconds' worth may come at once.
    pub requests_burst_seconds: u32,
    /// Reads of history of one customer that are made at once, and that wait.
    pub reads_per_customer_max: usize,
    pub reads_waiting_per_customer_max: usize,
    pub read_wait_seconds: u64,
    /// Deliveries that wait to be sent, in all; above it publishing gets 429, as above the next two.
    pub waiting_max: u64,
    /// Deliveries that are held for disabled endpoints, in all.
    pub held_max: u64,
    /// Deliveries of one application that wait, held ones included.
    pub waiting_per_application_max: u64,
    /// Changes on their way to the disk; above it publishing gets 503.
    pub commit_queue_max: usize,
    pub connections_max: usize,
    /// Of one client; further ones are closed.
    pub connections_per_address_max: usize,
    /// Requests without a valid credential; above it they get 429, as above the next one.
    pub auth_failures_per_address_minute_max: u64,
    pub auth_failures_per_token_prefix_minute_max: u64,
    /// Browsers signed in to the console and the portal: with one credential, with one customer's links
    /// and keys, and in all. One more ends the one that was idle for the longest.
    pub sessions_per_credential_max: usize,
    pub sessions_per_customer_max: usize,
    pub sessions_max: usize,
    /// Sign-ins within a minute; above it they get 429.
    pub sign_ins_per_credential_minute_max: u64,
    pub sign_ins_per_customer_minute_max: u64,
}

/// The pages for those who operate the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// Which origins' pages may show it in a frame.
    pub frame_origins: Vec<String>,
}

/// The pages for the platform's customers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    /// What stands at the top of each page.
    pub name: String,
    /// A picture beside it.
    pub logo_file: Option<PathBuf>,
    /// `#rrggbb`.
    pub accent_color: String,
    /// Which origins' pages may show it in a frame.
    pub frame_origins: Vec<String>,
    /// Which profiles customers choose from; the default one where empty.
    pub profiles: Vec<String>,
    /// The longest life of an API key that is made through a link; none where 0.
    pub api_key_days_max: u32,
    /// Words on the pages in place of ours.
    pub labels: Labels,
}

/// What the pages call things that other systems have other words for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The place in the menu that leads to webhooks.
    pub menu: String,
    /// The button that adds a webhook.
    pub add_webhook: String,
    /// The field for the URL.
    pub url: String,
    /// The field for the secret.
    pub secret: String,
    /// The switch for all events.
    pub all_events: String,
    /// The switch for all entities.
    pub all_entities: String,
}

impl Labels {
    /// With the names of their settings.
    pub fn all(&self) -> [(&'static str, &str); 6] {
        [
            ("menu", &self.menu),
            ("add_webhook", &self.add_webhook),
            ("url", &self.url),
            ("secret", &self.secret),
            ("all_events", &self.all_events),
            ("all_entities", &self.all_entities),
        ]
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// As RUST_LOG: "info", "info,postrider::delivery=debug".
    pub level: String,
    /// Lines about failed attempts per endpoint and minute; the rest is counted in one line.
    pub failures_per_endpoint_minute_max: u32,
}

/// How endpoints show that their owners want the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyEndpoints {
    Off,
    /// They echo a challenge.
    Challenge,
}

/// A DNS server: an address, with a port where that is not 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsServer(pub SocketAddr);

impl TryFrom<String> for DnsServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = text.parse().ok();
        let alone = || Some(SocketAddr::new(text.parse().ok()?, 53));
        with_port.or_else(alone).map(DnsServer).ok_or_else(|| {
            format!("'{text}' is not the address of a DNS server, such as '10.0.0.53' or '10.0.0.53:5353'")
        })
    }
}

impl From<DnsServer> for String {
    fn from(server: DnsServer) -> String {
        server.0.to_string()
    }
}

/// What the command line says about the settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// Receivers on loopback are allowed.
    pub dev: bool,
}

/// Everything that is wrong with the settings; shown in one line.
#[derive(Debug)]
pub struct ConfigError {
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}

impl From<String> for ConfigError {
    fn from(problem: String) -> Self {
        ConfigError {
            problems: vec![problem],
        }
    }
}

/// The settings in effect: the defaults, changed by the file (`file`, or the first one found in
/// the usual places), by the environment and by the flags.
pub fn load(file: Option<&Path>, flags: Flags) -> Result<Config, ConfigError> {
    load_with_sources(file, flags).map(|loaded| loaded.config)
}

/// The same with where each setting comes from.
pub fn load_with_sources(file: Option<&Path>, flags: Flags) -> Result<Loaded, ConfigError> {
    let found = FILES.map(Path::new).into_iter().find(|path| path.exists());
    let path = file.or(found);
    let file = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Some((path.display().to_string(), text))
        }
        None => None,
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            // Others' variables need not be text; ours that are not fail as a value.
            name.to_uppercase()
                .starts_with(&format!("{ENVIRONMENT_PREFIX}__"))
                .then(|| (name, value.to_string_lossy().into_owned()))
        })
        .collect();
    let mut loaded = assemble(file, environment, flags)?;
    loaded.config.auth.read_jwt_secret()?;
    loaded.file = path.map(Path::to_owned);
    Ok(loaded)
}

/// [`load`] without the reading: `file` is a name and its text.
fn assemble(
    file: Option<(String, String)>,
    environment: HashMap<String, String>,
    flags: Flags,
) -> Result<Loaded, ConfigError> {
    let (default_settings, mut profiles) = split("the defaults", DEFAULTS)?;
    let defaults = read_toml("the defaults", &default_settings)?;
    let mut problems = Vec::new();
    let mut sources = BTreeMap::new();
    let mut layers = config::Config::builder().add_source(toml_source(&default_settings));
    let mut layer =
        |key: String, value: Value, source: &str| -> Result<Option<String>, ConfigError> {
            if let Some(rule) = misfit(&default_settings, &key, &value)? {
                return Ok(Some(format!("{key}: {rule} (from {source})")));
            }
            layers = set(std::mem::take(&mut layers), &key, value)?;
            sources.insert(key, source.to_owned());
            Ok(None)
        };

    if let Some((name, text)) = &file {
        let (settings, of_file) = split(name, text)?;
        profiles::merge(of_file, &mut profiles);
        for (key, value) in read_toml(name, &settings)? {
            match fit_kind(&key, value, name, &defaults, |value, like| {
                check_kind(value, like)
            }) {
                Ok((key, value)) => problems.extend(layer(key, value, name)?),
                Err(problem) => problems.push(problem),
            }
        }
    }
    for (key, value) in read_environment(environment)? {
        let name = format!(
            "{ENVIRONMENT_PREFIX}__{}",
            key.replace('.', "__").to_uppercase()
        );
        if value.kind == ValueKind::String(String::new()) && OPTIONAL.contains(&key.as_str()) {
            problems.extend(layer(key, Value::from(ValueKind::Nil), &name)?);
            continue;
        }
        match fit_kind(&key, value, &name, &defaults, |value, like| {
            parse_kind(value, like)
        }) {
            Ok((key, value)) => problems.extend(layer(key, value, &name)?),
            Err(problem) => problems.push(problem),
        }
    }
    let (profiles, wrong) = profiles::parse(profiles);
    problems.extend(wrong);
    let mut config: Config = layers
        .build()
        .and_then(|layers| layers.try_deserialize())
        .map_err(|error| one_line(&error.to_string()))?;
    config.profiles = profiles;
    config.fit_defaults(&mut sources);
    // Of what was wrong already there is only the default here, and nothing to say about it.
    let named = |problem: &str| problem.split(": ").next().unwrap_or_default().to_owned();
    let known: Vec<String> = problems.iter().map(|problem| named(problem)).collect();
    for problem in config.problems() {
        let key = named(&problem);
        match sources.get(&key) {
            _ if known.contains(&key) => {}
            Some(source) => problems.push(format!("{problem} (from {source})")),
            None => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    if flags.dev {
        config.allow_loopback_receivers();
    }
    Ok(Loaded {
        config,
        file: None,
        sources,
    })
}

/// Fits one of two settings to the other, of which the first must not be more than the second.
fn fit<T: Copy + PartialOrd + Default>(
    (lower_key, lower): (&str, &mut T),
    (upper_key, upper): (&str, &mut T),
    sources: &mut BTreeMap<String, String>,
) {
    // What is out of range by itself is not followed.
    if lower <= upper || *upper == T::default() {
        return;
    }
    let is_set = |key: &str| {
        sources
            .get(key)
            .is_some_and(|source| !source.starts_with(FITTED))
    };
    let (key, to) = match (is_set(lower_key), is_set(upper_key)) {
        (false, true) => {
            *lower = *upper;
            (lower_key, upper_key)
        }
        (true, false) => {
            *upper = *lower;
            (upper_key, lower_key)
        }
        _ => return,
    };
    sources.insert(key.to_owned(), format!("{FITTED}{to}"));
}

/// Where a setting is from that was left at its default, and follows another.
const FITTED: &str = "the default, to fit ";

/// What `--dev` allows.
pub fn loopback() -> [IpNet; 2] {
    ["127.0.0.0/8", "::1/128"].map(|text| text.parse().expect("a network"))
}

impl Config {
    /// What is taken and may be a mistake.
    pub fn warnings(&self) -> Vec<String> {
        let secret = self.auth.jwt_secret.as_ref();
        let is_short = secret.is_some_and(JwtSecret::is_short);
        let short = is_short.then(|| {
            format!(
                "auth.jwt_secret: has fewer than {SECRET_BYTES_GOOD} bytes, so that tokens can be \
                 forged by whoever has one and guesses long enough"
            )
        });
        short.into_iter().chain(self.void_limits()).collect()
    }

    /// The profile of an endpoint that names this one, or none; absent where it is not configured.
    pub fn profile(&self, name: Option<&str>) -> Option<&Profile> {
        self.profiles
            .get(name.unwrap_or(&self.delivery.default_profile))
    }

    /// The profiles that are offered for an endpoint: in the portal the operator's choice of them.
    pub fn offered_profiles(&self, in_portal: bool) -> Vec<String> {
        match (in_portal, self.portal.profiles.is_empty()) {
            (false, _) => self.profiles.keys().cloned().collect(),
            (true, false) => self.portal.profiles.clone(),
            (true, true) => vec![self.delivery.default_profile.clone()],
        }
    }

    /// Of two settings that bound each other, one that is left at its default follows the one that
    /// was set, so that only two that were set can contradict each other.
    fn fit_defaults(&mut self, sources: &mut BTreeMap<String, String>) {
        let Config {
            store,
            delivery,
            limits,
            ..
        } = self;
        let mut hours = store.retention_days.saturating_mul(24);
        fit(
            ("store.slice_hours", &mut store.slice_hours),
            ("store.retention_days", &mut hours),
            sources,
        );
        store.retention_days = hours.div_ceil(24);
        fit(
            (
                "delivery.connect_timeout_seconds",
                &mut delivery.connect_timeout_seconds,
            ),
            (
                "delivery.request_timeout_seconds",
                &mut delivery.request_timeout_seconds,
            ),
            sources,
        );
        fit(
            ("delivery.workers", &mut delivery.workers),
            ("delivery.in_flight_max", &mut delivery.in_flight_max),
            sources,
        );
        fit(
            (
                "delivery.in_flight_per_endpoint_max",
                &mut delivery.in_flight_per_endpoint_max,
            ),
            ("delivery.in_flight_max", &mut delivery.in_flight_max),
            sources,
        );
        fit(
            ("limits.answer_kept_bytes", &mut limits.answer_kept_bytes),
            ("limits.answer_read_bytes", &mut limits.answer_read_bytes),
            sources,
        );
        fit(
            (
                "limits.answers_per_customer_bytes",
                &mut limits.answers_per_customer_bytes,
            ),
            ("limits.answers_bytes", &mut limits.answers_bytes),
            sources,
        );
    }

    fn allow_loopback_receivers(&mut self) {
        let allowed = &mut self.delivery.danger_allow_private_addresses;
        for network in loopback() {
            if !allowed.contains(&network) {
                allowed.push(network);
            }
        }
    }
}

impl Server {
    /// Why links to the portal may lead nowhere; nothing where it is known what they begin with.
    pub fn link_problem(&self) -> Option<String> {
        self.public_url.is_none().then(|| {
            format!(
                "links to the portal begin with {}, which only this machine may reach: set \
                 server.public_url",
                self.public_url()
            )
        })
    }

    /// Where the server is reached from outside, without a slash at the end.
    pub fn public_url(&self) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", self.listen),
        }
    }
}

impl Auth {
    fn read_jwt_secret(&mut self) -> Result<(), ConfigError> {
        let Some(path) = &self.jwt_secret_file else {
            return Ok(());
        };
        let wrong = |what: &dyn fmt::Display| format!("auth.jwt_secret_file: {what}");
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(&format_args!("cannot read {}: {error}", path.display())))?;
        let secret = JwtSecret::from(text.trim_end_matches(['\r', '\n']).to_owned());
        if !secret.is_long_enough() {
            let rule = format!("the secret must have at least {SECRET_BYTES_MIN} bytes");
            return Err(wrong(&rule).into());
        }
        self.jwt_secret = Some(secret);
        Ok(())
    }
}

impl Delivery {
    /// When an endpoint that gets a URL now is challenged; absent where none is.
    pub fn challenge_at(&self, now: Timestamp) -> Option<Timestamp> {
        (self.verify_endpoints == VerifyEndpoints::Challenge).then_some(now)
    }

    pub fn retry_schedule(&self) -> RetrySchedule {
        RetrySchedule {
            waits: Waits::Listed(
                self.retry_delays_seconds
                    .iter()
                    .copied()
                    .map(Duration::from_secs)
                    .collect(),
            ),
            jitter: self.jitter,
        }
    }

    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_seconds)
    }
}

impl Config {
    /// The longest that an attempt may take by any of the settings.
    pub fn attempt_time_max(&self) -> Duration {
        let profiles = self.profiles.values().filter_map(|one| one.timeout_seconds);
        let longest = profiles.max().unwrap_or_default();
        let longest = longest.max(self.limits.endpoint_timeout_seconds_max);
        self.delivery
            .request_timeout()
            .max(Duration::from_secs(u64::from(longest)))
    }
}

#[cfg(test)]
mod tests;
