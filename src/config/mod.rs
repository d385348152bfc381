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
use crate::domain::network::canonical;
use crate::domain::profile::Profile;
use crate::domain::retry::{RETRIES_MAX, RetrySchedule, WAIT_MAX, Waits};
use crate::domain::secret::SignatureType;
use crate::domain::url;
use crate::misfit;

mod origin;
mod profiles;
mod source_address;

pub use origin::Loaded;
pub use source_address::SourceAddress;

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
    pub danger_allow_private_addresses: Vec<IpNet>,
    /// Never reached, whatever is allowed.
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

/// Why a value of the right kind is still none of this setting's type: an address, a network, a
/// number that fits. Each is tried alone, so that all that are wrong are told.
fn misfit(defaults: &str, key: &str, value: &Value) -> Result<Option<String>, ConfigError> {
    let builder = config::Config::builder().add_source(toml_source(defaults));
    let alone = set(builder, key, value.clone())?
        .build()
        .map_err(|error| one_line(&error.to_string()))?;
    let Err(misfit) = misfit::read::<Config>(alone) else {
        return Ok(None);
    };
    let networks_of = [
        "delivery.danger_allow_private_addresses",
        "delivery.deny_addresses",
        "server.trusted_proxies",
    ];
    let rule = match (&value.kind, key) {
        (ValueKind::Array(items), "delivery.dns_servers") => {
            let wrong = texts_without(items, |text| DnsServer::try_from(text).is_ok());
            format!("must be addresses such as '10.0.0.53' or '10.0.0.53:5353', and has {wrong}")
        }
        (ValueKind::Array(items), "delivery.source_addresses") => {
            let wrong = texts_without(items, |text| SourceAddress::try_from(text).is_ok());
            format!(
                "must be addresses such as '203.0.113.7' and networks such as '203.0.113.0/28', \
                 and has {wrong}"
            )
        }
        (ValueKind::Array(items), _) if networks_of.contains(&key) => {
            let wrong = texts_without(items, |text| text.parse::<IpNet>().is_ok());
            format!("must be networks such as '10.0.0.0/8', and has {wrong}")
        }
        (ValueKind::String(_), "server.listen" | "server.metrics_listen") => {
            "must be an address and a port such as '127.0.0.1:8071'".to_owned()
        }
        _ => format!("{misfit:#}"),
    };
    Ok(Some(rule))
}

/// The elements of a list that do not fit, each in quotation marks.
fn texts_without(items: &[Value], fits: impl Fn(String) -> bool) -> String {
    let texts = items.iter().map(ToString::to_string);
    let wrong = texts.filter(|text| !fits(text.clone()));
    let quoted: Vec<String> = wrong.map(|text| format!("'{text}'")).collect();
    quoted.join(", ")
}

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
        short.into_iter().collect()
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

    /// What the types cannot say: ranges, and settings that contradict each other.
    fn problems(&self) -> Vec<String> {
        let Config {
            server,
            store,
            auth,
            delivery,
            limits,
            console,
            portal,
            log,
            profiles,
        } = self;
        const MIB: u64 = 1 << 20;
        let mut problems = Vec::new();
        let mut check = |holds: bool, name: &str, rule: &str| {
            if !holds {
                problems.push(format!("{name}: {rule}"));
            }
        };

        check(
            (1..=256).contains(&server.workers),
            "server.workers",
            "must be 1 to 256",
        );
        check(
            (1..=3600).contains(&server.answer_stall_seconds),
            "server.answer_stall_seconds",
            "must be 1 to 3600",
        );
        check(
            server.drain_seconds <= 3600,
            "server.drain_seconds",
            "must be at most 3600",
        );
        check(
            server.listen.port() == 0 || server.metrics_listen != Some(server.listen),
            "server.metrics_listen",
            "must differ from server.listen",
        );
        check(
            server.public_url.as_deref().is_none_or(is_base_url),
            "server.public_url",
            "must be an http or https URL without user name, query and fragment",
        );
        check(
            server.cors_origins.iter().all(|origin| is_origin(origin)),
            "server.cors_origins",
            "must be '*' or origins such as 'https://example.com', without a slash at the end",
        );
        check(
            server
                .trusted_proxies
                .iter()
                .all(|one| canonical(*one).prefix_len() > 0),
            "server.trusted_proxies",
            "must be the networks of your proxies: one that holds every address makes every client a proxy",
        );

        check(
            !store.path.as_os_str().is_empty(),
            "store.path",
            "must not be empty",
        );
        check(
            store.cache_bytes >= MIB,
            "store.cache_bytes",
            "must be at least 1048576",
        );
        check(
            (1..=36_500).contains(&store.retention_days),
            "store.retention_days",
            "must be 1 to 36500",
        );
        check(
            store.slice_hours >= 1,
            "store.slice_hours",
            "must be at least 1",
        );
        check(
            u64::from(store.slice_hours) <= u64::from(store.retention_days) * 24,
            "store.slice_hours",
            "must not be longer than store.retention_days",
        );
        check(
            store.slice_bytes >= MIB,
            "store.slice_bytes",
            "must be at least 1048576",
        );
        check(
            store.export_minutes >= 1,
            "store.export_minutes",
            "must be at least 1",
        );
        check(
            (1..=3600).contains(&store.commit_timeout_seconds),
            "store.commit_timeout_seconds",
            "must be 1 to 3600",
        );

        check(
            auth.default_organisation
                .as_ref()
                .is_none_or(|id| id.parse::<OrganisationId>().is_ok()),
            "auth.default_organisation",
            "must be an organisation's id: 'org_' and 27 letters and digits",
        );
        check(
            auth.jwt_secret
                .as_ref()
                .is_none_or(JwtSecret::is_long_enough),
            "auth.jwt_secret",
            &format!("must have at least {SECRET_BYTES_MIN} bytes"),
        );
        check(
            auth.jwt_secret.is_none() || auth.jwt_secret_file.is_none(),
            "auth.jwt_secret_file",
            "only one of this and auth.jwt_secret can be set",
        );

        check(
            profiles.contains_key(&delivery.default_profile),
            "delivery.default_profile",
            "must be the name of a profile",
        );
        check(
            delivery.retry_delays_seconds.len() <= 100
                && delivery
                    .retry_delays_seconds
                    .iter()
                    .all(|delay| (1..=WAIT_MAX_SECONDS).contains(delay)),
            "delivery.retry_delays_seconds",
            "must be at most 100 waits of 1 second to 366 days",
        );
        check(
            (0.0..=1.0).contains(&delivery.jitter),
            "delivery.jitter",
            "must be 0 to 1",
        );
        check(
            delivery.retry_after_max_seconds <= WAIT_MAX_SECONDS,
            "delivery.retry_after_max_seconds",
            "must be at most 366 days",
        );
        check(
            (1..=3600).contains(&delivery.request_timeout_seconds),
            "delivery.request_timeout_seconds",
            "must be 1 to 3600",
        );
        check(
            delivery.connect_timeout_seconds >= 1,
            "delivery.connect_timeout_seconds",
            "must be at least 1",
        );
        check(
            delivery.connect_timeout_seconds <= delivery.request_timeout_seconds,
            "delivery.connect_timeout_seconds",
            "must not be longer than delivery.request_timeout_seconds",
        );
        check(
            (1..=86_400).contains(&delivery.idle_connection_seconds),
            "delivery.idle_connection_seconds",
            "must be 1 to 86400",
        );
        check(
            delivery.dns_cache_seconds <= 86_400,
            "delivery.dns_cache_seconds",
            "must be at most 86400",
        );
        check(
            (1..=64).contains(&delivery.workers),
            "delivery.workers",
            "must be 1 to 64",
        );
        check(
            (1..=1_000_000).contains(&delivery.in_flight_max),
            "delivery.in_flight_max",
            "must be 1 to 1000000",
        );
        check(
            delivery.in_flight_max >= delivery.workers,
            "delivery.in_flight_max",
            "must be at least delivery.workers",
        );
        check(
            delivery.in_flight_per_endpoint_max >= 1,
            "delivery.in_flight_per_endpoint_max",
            "must be at least 1",
        );
        check(
            delivery.in_flight_per_endpoint_max <= delivery.in_flight_max,
            "delivery.in_flight_per_endpoint_max",
            "must not be more than delivery.in_flight_max",
        );
        check(
            delivery.in_flight_per_host_max >= 1,
            "delivery.in_flight_per_host_max",
            "must be at least 1",
        );
        check(
            delivery.unrecorded_per_endpoint_max >= 1,
            "delivery.unrecorded_per_endpoint_max",
            "must be at least 1",
        );

        for (name, value) in [
            ("limits.payload_bytes", limits.payload_bytes),
            ("limits.answer_read_bytes", limits.answer_read_bytes),
        ] {
            // They are held in memory whole, one for each request under way.
            check(
                (2..=64 << 20).contains(&value),
                name,
                "must be 2 to 67108864 (64 MiB)",
            );
        }
        // The answer to a batch is kept in one record, and may repeat what came in.
        check(
            (2..=32 << 20).contains(&limits.batch_bytes),
            "limits.batch_bytes",
            "must be 2 to 33554432 (32 MiB)",
        );
        check(
            (1..=10_000).contains(&limits.batch_messages_max),
            "limits.batch_messages_max",
            "must be 1 to 10000",
        );
        check(
            (1..=100_000).contains(&limits.batch_deliveries_max),
            "limits.batch_deliveries_max",
            "must be 1 to 100000",
        );
        check(
            limits.answer_kept_bytes <= limits.answer_read_bytes,
            "limits.answer_kept_bytes",
            "must not be more than limits.answer_read_bytes",
        );
        check(
            limits.answers_per_customer_bytes <= limits.answers_bytes,
            "limits.answers_per_customer_bytes",
            "must not be more than limits.answers_bytes",
        );
        for (name, value) in [
            (
                "limits.requests_per_customer_second_max",
                limits.requests_per_customer_second_max,
            ),
            (
                "limits.requests_per_platform_token_second_max",
                limits.requests_per_platform_token_second_max,
            ),
        ] {
            check(
                value <= 1_000_000,
                name,
                "must be 1 to 1000000, or 0 for no limit",
            );
        }
        check(
            (1..=60).contains(&limits.requests_burst_seconds),
            "limits.requests_burst_seconds",
            "must be 1 to 60",
        );
        // There are twice as many threads for reads.
        check(
            (1..=64).contains(&limits.reads_per_customer_max),
            "limits.reads_per_customer_max",
            "must be 1 to 64",
        );
        check(
            (1..=10_000).contains(&limits.reads_waiting_per_customer_max),
            "limits.reads_waiting_per_customer_max",
            "must be 1 to 10000",
        );
        check(
            (1..=300).contains(&limits.read_wait_seconds),
            "limits.read_wait_seconds",
            "must be 1 to 300",
        );
        check(
            (16..=65_536).contains(&limits.url_bytes),
            "limits.url_bytes",
            "must be 16 to 65536",
        );
        check(
            (1..=65_536).contains(&limits.header_value_bytes),
            "limits.header_value_bytes",
            "must be 1 to 65536",
        );
        check(
            limits.headers_max <= 1000,
            "limits.headers_max",
            "must be at most 1000",
        );
        check(
            (1..=10_000).contains(&limits.list_page_max),
            "limits.list_page_max",
            "must be 1 to 10000",
        );
        check(
            (1..=3600).contains(&limits.endpoint_timeout_seconds_max),
            "limits.endpoint_timeout_seconds_max",
            "must be 1 to 3600",
        );
        check(
            limits.endpoint_retries_max <= RETRIES_MAX,
            "limits.endpoint_retries_max",
            "must be at most 1000",
        );
        check(
            (1..=366).contains(&limits.endpoint_retry_days_max),
            "limits.endpoint_retry_days_max",
            "must be 1 to 366",
        );
        for (name, value) in [
            (
                "limits.endpoints_per_application_max",
                limits.endpoints_per_application_max as u64,
            ),
            (
                "limits.channels_per_endpoint_max",
                limits.channels_per_endpoint_max as u64,
            ),
            ("limits.page_bytes", limits.page_bytes as u64),
            ("limits.answers_bytes", limits.answers_bytes as u64),
            (
                "limits.answers_per_customer_bytes",
                limits.answers_per_customer_bytes as u64,
            ),
            ("limits.waiting_max", limits.waiting_max),
            ("limits.held_max", limits.held_max),
            (
                "limits.waiting_per_application_max",
                limits.waiting_per_application_max,
            ),
            ("limits.commit_queue_max", limits.commit_queue_max as u64),
            ("limits.connections_max", limits.connections_max as u64),
            (
                "limits.connections_per_address_max",
                limits.connections_per_address_max as u64,
            ),
            (
                "limits.auth_failures_per_address_minute_max",
                limits.auth_failures_per_address_minute_max,
            ),
            (
                "limits.auth_failures_per_token_prefix_minute_max",
                limits.auth_failures_per_token_prefix_minute_max,
            ),
            (
                "limits.sessions_per_credential_max",
                limits.sessions_per_credential_max as u64,
            ),
            (
                "limits.sessions_per_customer_max",
                limits.sessions_per_customer_max as u64,
            ),
            ("limits.sessions_max", limits.sessions_max as u64),
            (
                "limits.sign_ins_per_credential_minute_max",
                limits.sign_ins_per_credential_minute_max,
            ),
            (
                "limits.sign_ins_per_customer_minute_max",
                limits.sign_ins_per_customer_minute_max,
            ),
        ] {
            check(value >= 1, name, "must be at least 1");
        }

        for (name, origins) in [
            ("console.frame_origins", &console.frame_origins),
            ("portal.frame_origins", &portal.frame_origins),
        ] {
            check(
                origins.iter().all(|one| one != "*" && is_origin(one)),
                name,
                "must be origins such as 'https://example.com', without a slash at the end",
            );
        }
        check(
            (1..=60).contains(&portal.name.chars().count())
                && !portal.name.chars().any(char::is_control),
            "portal.name",
            "must have 1 to 60 characters",
        );
        check(
            is_color(&portal.accent_color),
            "portal.accent_color",
            "must be a colour such as '#3949c6'",
        );
        check(
            portal.api_key_days_max <= 36_500,
            "portal.api_key_days_max",
            "must be 0 to 36500",
        );
        for (name, label) in portal.labels.all() {
            check(
                (1..=60).contains(&label.chars().count()) && !label.chars().any(char::is_control),
                &format!("portal.labels.{name}"),
                "must have 1 to 60 characters",
            );
        }
        for name in &portal.profiles {
            check(
                profiles.contains_key(name),
                "portal.profiles",
                &format!("there is no profile '{name}'"),
            );
        }

        check(
            log.level.split(',').all(is_log_directive),
            "log.level",
            "must be error, warn, info, debug, trace or off, with 'target=level' for parts",
        );
        problems
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

/// `*`, or `https://host:port`: what browsers send as `Origin`.
fn is_origin(text: &str) -> bool {
    text == "*" || url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

/// `#rrggbb`.
fn is_color(text: &str) -> bool {
    let digits = text.strip_prefix('#');
    digits.is_some_and(|digits| {
        digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn is_base_url(text: &str) -> bool {
    url::parse(text).is_ok_and(|url| {
        let is_anybodys = url.username().is_empty() && url.password().is_none();
        is_anybodys && url.query().is_none() && url.fragment().is_none()
    })
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

/// A level, or `target=level`. A target alone would be taken too, and a slip of the level's name
/// is a target that logs nothing, so it is refused here.
fn is_log_directive(text: &str) -> bool {
    let level = text.rsplit_once('=').map_or(text, |(_, level)| level);
    level.trim().parse::<log::LevelFilter>().is_ok()
}

type Layers = config::ConfigBuilder<config::builder::DefaultState>;

fn set(layers: Layers, key: &str, value: Value) -> Result<Layers, ConfigError> {
    layers
        .set_override(key, value)
        .map_err(|error| one_line(&error.to_string()).into())
}

fn toml_source(text: &str) -> File<FileSourceString, FileFormat> {
    File::from_str(text, FileFormat::Toml)
}

/// A TOML text without its profiles, and those.
fn split(name: &str, text: &str) -> Result<(String, toml::Table), ConfigError> {
    let named = |error: &str| format!("{name}: {}", one_line(error));
    let mut table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| named(&error.to_string()))?;
    let profiles =
        profiles::take_out(&mut table).map_err(|error| format!("{error} (from {name})"))?;
    Ok((table.to_string(), profiles))
}

/// The values of a TOML text by `section.key`, sorted, so that problems come in a steady order. A
/// section that is no table stands under its own name.
fn read_toml(name: &str, text: &str) -> Result<Vec<(String, Value)>, ConfigError> {
    let tree = toml_source(text)
        .collect()
        .map_err(|error| format!("{name}: {}", one_line(&error.to_string())))?;
    let mut values = Vec::new();
    for (section, content) in tree {
        flatten(section, content, &mut values);
    }
    values.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(values)
}

/// Sections within sections.
const INNER_SECTIONS: [&str; 1] = ["portal.labels"];

fn flatten(name: String, content: Value, values: &mut Vec<(String, Value)>) {
    match content.kind {
        ValueKind::Table(settings)
            if !name.contains('.') || INNER_SECTIONS.contains(&name.as_str()) =>
        {
            for (key, value) in settings {
                flatten(format!("{name}.{key}"), value, values);
            }
        }
        _ => values.push((name, content)),
    }
}

/// The values of `POSTRIDER__SECTION__KEY` variables by `section.key`, all as text, sorted.
fn read_environment(
    variables: HashMap<String, String>,
) -> Result<Vec<(String, Value)>, ConfigError> {
    let mut values: Vec<(String, Value)> = Environment::with_prefix(ENVIRONMENT_PREFIX)
        .prefix_separator("__")
        .separator("__")
        .source(Some(variables.into_iter().collect()))
        .collect()
        .map_err(|error| one_line(&error.to_string()))?
        .into_iter()
        .collect();
    values.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(values)
}

/// Finds the default that `key` replaces and lets `convert` bring the value to its kind. The error
/// names the key and where it came from.
fn fit_kind(
    key: &str,
    value: Value,
    source: &str,
    defaults: &[(String, Value)],
    convert: impl Fn(Value, &ValueKind) -> Result<Value, &'static str>,
) -> Result<(String, Value), String> {
    let text = ValueKind::String(String::new());
    let like = match defaults.iter().find(|(known, _)| known == key) {
        Some((_, default)) => &default.kind,
        None if OPTIONAL.contains(&key) => &text,
        None => return Err(format!("{key}: unknown setting (from {source})")),
    };
    convert(value, like)
        .map(|value| (key.to_owned(), value))
        .map_err(|rule| format!("{key}: {rule} (from {source})"))
}

/// What the elements of a list are: those of the default, or text where that is empty.
fn element_kind(defaults: &[Value]) -> ValueKind {
    match defaults.first() {
        Some(first) => first.kind.clone(),
        None => ValueKind::String(String::new()),
    }
}

/// A value from a file has its kind already; it must be the default's.
fn check_kind(value: Value, like: &ValueKind) -> Result<Value, &'static str> {
    match (&value.kind, like) {
        (ValueKind::I64(number), ValueKind::I64(_)) if *number < 0 => Err("must not be negative"),
        (ValueKind::I64(_), ValueKind::I64(_))
        | (ValueKind::Float(_) | ValueKind::I64(_), ValueKind::Float(_))
        | (ValueKind::Boolean(_), ValueKind::Boolean(_))
        | (ValueKind::String(_), ValueKind::String(_)) => Ok(value),
        (ValueKind::Array(items), ValueKind::Array(defaults)) => {
            let like = element_kind(defaults);
            for item in items {
                check_kind(item.clone(), &like)?;
            }
            Ok(value)
        }
        _ => Err(expected(like)),
    }
}

/// A value from the environment is text; it is read as the default's kind.
fn parse_kind(value: Value, like: &ValueKind) -> Result<Value, &'static str> {
    let ValueKind::String(text) = value.kind else {
        return Err("must be text");
    };
    let kind = match like {
        ValueKind::String(_) => ValueKind::String(text),
        ValueKind::Boolean(_) => match text.trim() {
            "true" => ValueKind::Boolean(true),
            "false" => ValueKind::Boolean(false),
            _ => return Err(expected(like)),
        },
        ValueKind::I64(_) => {
            let number: u64 = text.trim().parse().map_err(|_| expected(like))?;
            ValueKind::U64(number)
        }
        ValueKind::Float(_) => ValueKind::Float(text.trim().parse().map_err(|_| expected(like))?),
        ValueKind::Array(_) if text.trim().is_empty() => ValueKind::Array(Vec::new()),
        ValueKind::Array(defaults) => {
            let element = element_kind(defaults);
            let items: Result<Vec<Value>, _> = text
                .split(',')
                .map(|item| parse_kind(Value::from(item.trim()), &element))
                .collect();
            ValueKind::Array(items.map_err(|_| expected(like))?)
        }
        _ => return Err("cannot be given in the environment"),
    };
    Ok(Value::from(kind))
}

fn expected(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Boolean(_) => "must be true or false",
        ValueKind::Float(_) => "must be a number",
        ValueKind::I64(_) => "must be a whole number, not negative",
        ValueKind::String(_) => "must be text",
        ValueKind::Array(items) => match element_kind(items) {
            ValueKind::I64(_) => "must be a list of whole numbers",
            _ => "must be a list of texts",
        },
        _ => "must be a section",
    }
}

/// A TOML error shows the line it is about; what fits on one line is where and what.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(place), Some(what)) => format!("{place}: {what}"),
        (only, _) => only.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assembled(
        file: Option<(String, String)>,
        environment: HashMap<String, String>,
        flags: Flags,
    ) -> Result<Config, ConfigError> {
        assemble(file, environment, flags).map(|loaded| loaded.config)
    }

    fn printed(text: &str, all: bool) -> String {
        let file = ("mine.toml".to_owned(), text.to_owned());
        let loaded = assemble(Some(file), HashMap::new(), Flags::default());
        loaded.unwrap().to_toml(all)
    }

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let file = ("mine.toml".to_owned(), text.to_owned());
        assembled(Some(file), HashMap::new(), Flags::default())
    }

    fn from_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        assembled(None, variables, Flags::default())
    }

    fn defaults() -> Config {
        assembled(None, HashMap::new(), Flags::default()).expect("the defaults are valid")
    }

    #[test]
    fn the_defaults_are_what_others_rely_on() {
        let config = defaults();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8071");
        assert_eq!(config.server.drain_seconds, 10);
        assert_eq!(config.server.metrics_listen, None);
        assert_eq!(config.store.path, Path::new("./data"));
        assert_eq!(config.store.retention_days, 30);
        assert!(config.delivery.danger_allow_private_addresses.is_empty());
        assert_eq!(
            config.delivery.retry_delays_seconds,
            [5, 300, 1800, 7200, 18000, 36000, 36000]
        );
        assert_eq!(config.delivery.jitter, 0.2);
        assert_eq!(config.limits.payload_bytes, 1 << 20);
        assert_eq!(config.limits.waiting_max, 5_000_000);
        let settings = crate::store::Settings::from_config(&config);
        assert_eq!(settings.retention, Duration::from_secs(30 * 86_400));
        assert_eq!(settings.export_every, Duration::from_secs(900));
    }

    #[test]
    fn the_optional_settings_stand_commented_out_in_the_defaults() {
        for name in OPTIONAL {
            let (section, key) = name.split_once('.').expect("section.key");
            let section = DEFAULTS
                .split("\n[")
                .find(|text| text.starts_with(&format!("{section}]")))
                .unwrap_or_else(|| panic!("no section {section}"));
            let example = section
                .lines()
                .find(|line| line.starts_with(&format!("#{key} = ")))
                .unwrap_or_else(|| panic!("{name} is not shown"));
            let file = format!("[{}\n{}\n", section.lines().next().unwrap(), &example[1..]);
            from_file(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let config = from_file(
            "[delivery]\nretry_delays_seconds = [1, 2]\njitter = 1\n[server]\ndrain_seconds = 3\n",
        )
        .unwrap();
        assert_eq!(config.delivery.retry_delays_seconds, [1, 2]);
        assert_eq!(config.delivery.jitter, 1.0);
        assert_eq!(config.server.drain_seconds, 3);
        assert_eq!(config.server.workers, defaults().server.workers);
    }

    #[test]
    fn the_environment_wins_over_the_file_and_is_read_as_the_settings_type() {
        let file = "[store]\nretention_days = 7\npath = '/srv/a'\n".to_owned();
        let variables = [
            ("POSTRIDER__STORE__PATH", "123"),
            ("POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS", "1, 20,300"),
            (
                "POSTRIDER__DELIVERY__DANGER_ALLOW_PRIVATE_ADDRESSES",
                "10.0.0.0/8,fd00::/8",
            ),
            ("POSTRIDER__DELIVERY__HTTPS_ONLY", "true"),
            ("POSTRIDER__DELIVERY__JITTER", "0"),
            ("POSTRIDER__SERVER__METRICS_LISTEN", "127.0.0.1:9"),
            ("POSTRIDER_TOKEN", "of the command line, not a setting"),
        ];
        let variables = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let config = assembled(
            Some(("mine.toml".to_owned(), file)),
            variables,
            Flags::default(),
        )
        .unwrap();
        assert_eq!(config.store.path, Path::new("123"));
        assert_eq!(config.store.retention_days, 7);
        assert_eq!(config.delivery.retry_delays_seconds, [1, 20, 300]);
        assert_eq!(config.delivery.danger_allow_private_addresses.len(), 2);
        assert!(config.delivery.https_only);
        assert_eq!(config.delivery.jitter, 0.0);
        assert_eq!(
            config.server.metrics_listen,
            Some(([127, 0, 0, 1], 9).into())
        );
    }

    #[test]
    fn an_empty_variable_empties_a_list_and_unsets_an_option() {
        let file = "[server]\nmetrics_listen = '127.0.0.1:9'\n".to_owned();
        let variables = [
            ("POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS", ""),
            ("POSTRIDER__SERVER__METRICS_LISTEN", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = assembled(
            Some(("mine.toml".to_owned(), file)),
            variables.into(),
            Flags::default(),
        )
        .unwrap();
        assert!(config.delivery.retry_delays_seconds.is_empty());
        assert_eq!(config.server.metrics_listen, None);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_source() {
        for (file, expected) in [
            (
                "[server]\nlitsen = '[::1]:1'\n",
                "server.litsen: unknown setting (from mine.toml)",
            ),
            (
                "[sever]\nlisten = '[::1]:1'\n",
                "sever.listen: unknown setting (from mine.toml)",
            ),
            ("listen = 1\n", "listen: unknown setting (from mine.toml)"),
            ("server = 1\n", "server: unknown setting (from mine.toml)"),
            (
                "[server]\nworkers = '2'\n",
                "server.workers: must be a whole number, not negative (from mine.toml)",
            ),
            (
                "[server]\nworkers = -2\n",
                "server.workers: must not be negative (from mine.toml)",
            ),
            (
                "[delivery]\nhttps_only = 1\n",
                "delivery.https_only: must be true or false (from mine.toml)",
            ),
            (
                "[delivery]\nretry_delays_seconds = 5\n",
                "delivery.retry_delays_seconds: must be a list of whole numbers (from mine.toml)",
            ),
            (
                "[server.listen]\nport = 1\n",
                "server.listen: must be text (from mine.toml)",
            ),
            (
                "[server]\nworkers = 1\ndrain = \n",
                "mine.toml: TOML parse error at line 3, column 9",
            ),
        ] {
            let problem = from_file(file).unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{file}: {problem}");
            assert!(!problem.contains('\n'), "{problem}");
        }
        for (variable, value, expected) in [
            (
                "POSTRIDER__SERVER__LITSEN",
                "x",
                "server.litsen: unknown setting (from POSTRIDER__SERVER__LITSEN)",
            ),
            (
                "POSTRIDER__SERVER",
                "x",
                "server: unknown setting (from POSTRIDER__SERVER)",
            ),
            (
                "POSTRIDER__SERVER__WORKERS",
                "two",
                "server.workers: must be a whole number, not negative (from POSTRIDER__SERVER__WORKERS)",
            ),
            (
                "POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS",
                "1,,2",
                "delivery.retry_delays_seconds: must be a list of whole numbers (from POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS)",
            ),
        ] {
            let problem = from_environment(&[(variable, value)]).unwrap_err();
            assert_eq!(problem.to_string(), expected);
        }
    }

    #[test]
    fn all_unknown_settings_and_wrong_types_are_named_at_once() {
        let error = from_file("[server]\na = 1\nworkers = true\n[log]\nb = 2\n").unwrap_err();
        assert_eq!(error.problems.len(), 3, "{error}");
    }

    #[test]
    fn values_that_do_not_parse_are_named() {
        for (file, name) in [
            ("[server]\nlisten = 'localhost'\n", "server.listen"),
            (
                "[delivery]\ndanger_allow_private_addresses = ['10.0.0.0/33']\n",
                "delivery.danger_allow_private_addresses",
            ),
            (
                "[store]\nretention_days = 5_000_000_000\n",
                "store.retention_days",
            ),
        ] {
            let problem = from_file(file).unwrap_err().to_string();
            assert!(problem.contains(name), "{file}: {problem}");
            assert!(!problem.contains('\n'), "{problem}");
        }
    }

    #[test]
    fn values_out_of_range_and_contradictions_are_named() {
        for (section, setting, name) in [
            ("server", "workers = 0", "server.workers"),
            (
                "server",
                "metrics_listen = '127.0.0.1:8071'",
                "server.metrics_listen",
            ),
            ("store", "path = ''", "store.path"),
            ("store", "cache_bytes = 0", "store.cache_bytes"),
            ("store", "retention_days = 0", "store.retention_days"),
            (
                "store",
                "slice_hours = 721\nretention_days = 30",
                "store.slice_hours",
            ),
            ("store", "slice_hours = 900_000", "store.retention_days"),
            ("store", "slice_bytes = 1", "store.slice_bytes"),
            ("store", "export_minutes = 0", "store.export_minutes"),
            (
                "store",
                "commit_timeout_seconds = 0",
                "store.commit_timeout_seconds",
            ),
            (
                "auth",
                "default_organisation = 'mine'",
                "auth.default_organisation",
            ),
            ("auth", "jwt_secret = 'short'", "auth.jwt_secret"),
            (
                "auth",
                "jwt_secret = '8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W'\njwt_secret_file = '/x'",
                "auth.jwt_secret_file",
            ),
            ("server", "public_url = 'hooks'", "server.public_url"),
            (
                "server",
                "public_url = 'https://a{b}.test'",
                "server.public_url",
            ),
            (
                "server",
                "public_url = 'https://a:b@c.test'",
                "server.public_url",
            ),
            (
                "console",
                "frame_origins = ['https://a;b.test']",
                "console.frame_origins",
            ),
            ("console", "frame_origins = ['*']", "console.frame_origins"),
            (
                "portal",
                "frame_origins = ['https://a.example/']",
                "portal.frame_origins",
            ),
            ("portal", "name = ''", "portal.name"),
            ("portal", "accent_color = 'blue'", "portal.accent_color"),
            ("portal", "profiles = ['nothing']", "portal.profiles"),
            (
                "portal",
                "api_key_days_max = 40000",
                "portal.api_key_days_max",
            ),
            ("portal.labels", "menu = ''", "portal.labels.menu"),
            ("portal.labels", "nothing = 'x'", "portal.labels.nothing"),
            (
                "server",
                "cors_origins = ['https://example.com/']",
                "server.cors_origins",
            ),
            (
                "server",
                "trusted_proxies = ['0.0.0.0/0']",
                "server.trusted_proxies",
            ),
            (
                "server",
                "trusted_proxies = ['::ffff:0:0/96']",
                "server.trusted_proxies",
            ),
            (
                "server",
                "client_address_header = 'X-Real-IP'",
                "server.client_address_header",
            ),
            (
                "delivery",
                "default_profile = 'Standard'",
                "delivery.default_profile",
            ),
            (
                "delivery",
                "retry_delays_seconds = [5, 0]",
                "delivery.retry_delays_seconds",
            ),
            ("delivery", "jitter = 1.1", "delivery.jitter"),
            ("delivery", "jitter = -0.1", "delivery.jitter"),
            ("delivery", "jitter = nan", "delivery.jitter"),
            (
                "delivery",
                "request_timeout_seconds = 0",
                "delivery.request_timeout_seconds",
            ),
            (
                "delivery",
                "connect_timeout_seconds = 16\nrequest_timeout_seconds = 15",
                "delivery.connect_timeout_seconds",
            ),
            ("delivery", "workers = 0", "delivery.workers"),
            (
                "delivery",
                "in_flight_max = 63\nin_flight_per_endpoint_max = 64",
                "delivery.in_flight_per_endpoint_max",
            ),
            (
                "delivery",
                "in_flight_per_endpoint_max = 0",
                "delivery.in_flight_per_endpoint_max",
            ),
            (
                "delivery",
                "source_addresses = ['203.0.113.7', '203.0.113.7/8']",
                "delivery.source_addresses",
            ),
            (
                "delivery",
                "in_flight_per_host_max = 0",
                "delivery.in_flight_per_host_max",
            ),
            (
                "delivery",
                "unrecorded_per_endpoint_max = 0",
                "delivery.unrecorded_per_endpoint_max",
            ),
            ("limits", "payload_bytes = 0", "limits.payload_bytes"),
            (
                "limits",
                "answer_kept_bytes = 65537\nanswer_read_bytes = 65536",
                "limits.answer_kept_bytes",
            ),
            ("limits", "batch_bytes = 1", "limits.batch_bytes"),
            (
                "limits",
                "batch_messages_max = 0",
                "limits.batch_messages_max",
            ),
            (
                "limits",
                "batch_deliveries_max = 100001",
                "limits.batch_deliveries_max",
            ),
            ("limits", "list_page_max = 0", "limits.list_page_max"),
            (
                "limits",
                "endpoint_timeout_seconds_max = 0",
                "limits.endpoint_timeout_seconds_max",
            ),
            (
                "limits",
                "endpoint_timeout_seconds_max = 3601",
                "limits.endpoint_timeout_seconds_max",
            ),
            (
                "limits",
                "endpoint_retries_max = 1001",
                "limits.endpoint_retries_max",
            ),
            (
                "limits",
                "endpoint_retry_days_max = 0",
                "limits.endpoint_retry_days_max",
            ),
            (
                "limits",
                "endpoint_retry_days_max = 367",
                "limits.endpoint_retry_days_max",
            ),
            ("limits", "waiting_max = 0", "limits.waiting_max"),
            ("limits", "page_bytes = 0", "limits.page_bytes"),
            ("limits", "answers_bytes = 0", "limits.answers_bytes"),
            (
                "limits",
                "answers_per_customer_bytes = 0",
                "limits.answers_per_customer_bytes",
            ),
            (
                "limits",
                "requests_per_customer_second_max = 1_000_001",
                "limits.requests_per_customer_second_max",
            ),
            (
                "limits",
                "requests_per_platform_token_second_max = 1_000_001",
                "limits.requests_per_platform_token_second_max",
            ),
            (
                "limits",
                "requests_burst_seconds = 0",
                "limits.requests_burst_seconds",
            ),
            (
                "limits",
                "reads_per_customer_max = 0",
                "limits.reads_per_customer_max",
            ),
            (
                "limits",
                "reads_waiting_per_customer_max = 0",
                "limits.reads_waiting_per_customer_max",
            ),
            (
                "limits",
                "read_wait_seconds = 0",
                "limits.read_wait_seconds",
            ),
            (
                "server",
                "answer_stall_seconds = 0",
                "server.answer_stall_seconds",
            ),
            ("limits", "held_max = 0", "limits.held_max"),
            (
                "limits",
                "waiting_per_application_max = 0",
                "limits.waiting_per_application_max",
            ),
            ("limits", "commit_queue_max = 0", "limits.commit_queue_max"),
            ("limits", "connections_max = 0", "limits.connections_max"),
            (
                "limits",
                "connections_per_address_max = 0",
                "limits.connections_per_address_max",
            ),
            (
                "limits",
                "auth_failures_per_address_minute_max = 0",
                "limits.auth_failures_per_address_minute_max",
            ),
            (
                "limits",
                "auth_failures_per_token_prefix_minute_max = 0",
                "limits.auth_failures_per_token_prefix_minute_max",
            ),
            (
                "limits",
                "sessions_per_credential_max = 0",
                "limits.sessions_per_credential_max",
            ),
            (
                "limits",
                "sessions_per_customer_max = 0",
                "limits.sessions_per_customer_max",
            ),
            ("limits", "sessions_max = 0", "limits.sessions_max"),
            (
                "limits",
                "sign_ins_per_credential_minute_max = 0",
                "limits.sign_ins_per_credential_minute_max",
            ),
            (
                "limits",
                "sign_ins_per_customer_minute_max = 0",
                "limits.sign_ins_per_customer_minute_max",
            ),
            ("log", "level = 'inof'", "log.level"),
            (
                "log",
                "level = 'info,postrider::delivery=loud'",
                "log.level",
            ),
        ] {
            let error = from_file(&format!("[{section}]\n{setting}\n")).unwrap_err();
            assert!(
                error
                    .problems
                    .iter()
                    .any(|problem| problem.starts_with(&format!("{name}: "))),
                "{setting}: {error}"
            );
        }
        let both = from_file("[server]\nworkers = 0\n[delivery]\njitter = 2\n").unwrap_err();
        assert_eq!(both.problems.len(), 2, "{both}");
    }

    /// Sets one of two settings that bound each other, and says what becomes of the other.
    #[test]
    fn what_was_left_at_its_default_follows_what_was_set() {
        for (set, follows) in [
            (
                "delivery.request_timeout_seconds = 3",
                "delivery.connect_timeout_seconds = 3",
            ),
            (
                "delivery.connect_timeout_seconds = 20",
                "delivery.request_timeout_seconds = 20",
            ),
            (
                "delivery.in_flight_max = 10",
                "delivery.in_flight_per_endpoint_max = 10",
            ),
            (
                "delivery.in_flight_per_endpoint_max = 5000",
                "delivery.in_flight_max = 5000",
            ),
            (
                "limits.answer_read_bytes = 4096",
                "limits.answer_kept_bytes = 4096",
            ),
            (
                "limits.answer_kept_bytes = 100000",
                "limits.answer_read_bytes = 100000",
            ),
            (
                "limits.answers_bytes = 1000000",
                "limits.answers_per_customer_bytes = 1000000",
            ),
            (
                "limits.answers_per_customer_bytes = 300000000",
                "limits.answers_bytes = 300000000",
            ),
            ("store.slice_hours = 721", "store.retention_days = 31"),
        ] {
            let (key, value) = follows.split_once(" = ").unwrap();
            let (section, name) = key.split_once('.').unwrap();
            let config = from_file(&format!("{set}\n")).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(config.tree()[section][name].to_string(), value, "{set}");
            let (set_key, _) = set.split_once(" = ").unwrap();
            let line = format!("{name} = {value} # from the default, to fit {set_key}\n");
            let printed = printed(&format!("{set}\n"), false);
            assert!(printed.contains(&line), "{printed}");
            let error = from_file(&format!("{set}\n{key} = {}\n", before(key))).unwrap_err();
            assert_eq!(error.problems.len(), 1, "{set}: {error}");
        }
        let three = from_environment(&[("POSTRIDER__DELIVERY__REQUEST_TIMEOUT_SECONDS", "3")]);
        assert_eq!(three.unwrap().delivery.connect_timeout_seconds, 3);
    }

    /// The default of a setting.
    fn before(key: &str) -> serde_json::Value {
        let (section, name) = key.split_once('.').unwrap();
        defaults().tree()[section][name].clone()
    }

    /// No setting that is at an end of its range contradicts what the others are by default.
    #[test]
    fn each_setting_alone_can_have_the_least_and_the_most_that_it_may() {
        use crate::delivery::{Settings, address::OwnAddresses};
        let mut tried = 0;
        for (section, settings) in defaults().tree() {
            for (name, value) in settings.as_object().into_iter().flatten() {
                if !value.is_u64() {
                    continue;
                }
                let with = |value: u64| from_file(&format!("[{section}]\n{name} = {value}\n"));
                let least = (0..=17).chain([1 << 20]).find(|value| with(*value).is_ok());
                let most = (0..45).rev().map(|bits| 1 << bits);
                let most = most.chain([0]).find(|value| with(*value).is_ok());
                for value in [least, most] {
                    let value = value.unwrap_or_else(|| panic!("{section}.{name} has no range"));
                    let sending =
                        Settings::from_config(&with(value).unwrap(), &OwnAddresses::default());
                    assert!(
                        sending.is_ok(),
                        "{section}.{name} = {value}: {}",
                        sending.err().unwrap()
                    );
                    tried += 1;
                }
            }
        }
        assert!(tried > 60, "{tried}");
    }

    #[test]
    fn dev_allows_loopback_and_nothing_else() {
        let config = assembled(None, HashMap::new(), Flags { dev: true }).unwrap();
        let allowed: Vec<String> = config
            .delivery
            .danger_allow_private_addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(allowed, ["127.0.0.0/8", "::1/128"]);
    }

    #[test]
    fn the_jwt_secret_can_stand_in_a_file_and_is_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jwt.secret");
        let loaded = |secret: &str| {
            std::fs::write(&path, secret).unwrap();
            let file = format!("[auth]\njwt_secret_file = '{}'\n", path.display());
            let mut config = from_file(&file).unwrap();
            config.auth.read_jwt_secret().map(|()| config)
        };
        let config = loaded("8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W\n").unwrap();
        assert!(config.auth.jwt_secret.is_some());
        let printable = Loaded {
            config: config.clone(),
            file: None,
            sources: BTreeMap::new(),
        };
        for printed in [printable.to_toml(true), format!("{config:?}")] {
            assert!(!printed.contains("8Kjz"), "{printed}");
        }
        let short = loaded("short\n").unwrap_err().to_string();
        assert!(short.starts_with("auth.jwt_secret_file: "), "{short}");
        let missing = from_file("[auth]\njwt_secret_file = '/nowhere'\n").unwrap();
        let missing = missing.clone().auth.read_jwt_secret().unwrap_err();
        assert!(missing.to_string().contains("/nowhere"), "{missing}");
    }

    #[test]
    fn the_printed_settings_read_back_as_themselves() {
        let file = "[store]\npath = 'a \"b\"\\c'\n[delivery]\ndanger_allow_private_addresses = ['10.0.0.0/8']\nextra_ca_file = '/é'\n[profiles.mine]\nmethods = ['PUT']\n";
        let config = from_file(file).unwrap();
        for all in [true, false] {
            let printed = printed(file, all);
            let again = from_file(&printed).unwrap();
            assert_eq!(again.tree(), config.tree(), "{printed}");
            assert_eq!(again.profiles, config.profiles, "{printed}");
            assert_eq!(printed.contains("[server]\n"), all, "{printed}");
            assert_eq!(printed.contains("[profiles.okhi"), all, "{printed}");
            let line = "danger_allow_private_addresses = [\"10.0.0.0/8\"] # from mine.toml\n";
            assert!(printed.contains(line), "{printed}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_in_plain_words() {
        let error = from_file(
            "[server]\nworkers = true\nlisten = 'here'\n\
             [store]\nretention_days = 0\nslice_hours = 5_000_000_000\n\
             [delivery]\ndanger_allow_private_addresses = ['10.0.0.0/33', '10.0.0.0/8', 'lan']\n\
             deny_addresses = ['lan', '1.1.1.1']\ndns_servers = ['1.1.1.1', 'dns', '[::1]:x']\n\
             jitter = 2\n[profiles.mine]\nmethods = ['GO']\n",
        );
        let problems = error.unwrap_err().problems;
        for expected in [
            "server.workers: must be a whole number, not negative (from mine.toml)",
            "server.listen: must be an address and a port such as '127.0.0.1:8071' (from mine.toml)",
            "store.slice_hours: must be a whole number from 0 to 4294967295, not 5000000000 (from mine.toml)",
            "delivery.danger_allow_private_addresses: must be networks such as '10.0.0.0/8', and has '10.0.0.0/33', 'lan' (from mine.toml)",
            "delivery.deny_addresses: must be networks such as '10.0.0.0/8', and has 'lan', '1.1.1.1' (from mine.toml)",
            "delivery.dns_servers: must be addresses such as '10.0.0.53' or '10.0.0.53:5353', and has 'dns', '[::1]:x' (from mine.toml)",
            "store.retention_days: must be 1 to 36500 (from mine.toml)",
            "delivery.jitter: must be 0 to 1 (from mine.toml)",
        ] {
            assert!(
                problems.iter().any(|one| one == expected),
                "{expected}: {problems:#?}"
            );
        }
        assert!(
            problems
                .iter()
                .any(|one| one.starts_with("profiles.mine.methods"))
        );
        assert_eq!(problems.len(), 9, "{problems:#?}");
    }

    #[test]
    fn a_wrong_type_of_any_setting_is_told_with_setting_file_and_expectation() {
        let (settings, _) = split("the defaults", DEFAULTS).unwrap();
        let defaults = read_toml("the defaults", &settings).unwrap();
        let mut sections: BTreeMap<String, String> = BTreeMap::new();
        let optional = OPTIONAL.iter().map(|key| ((*key).to_owned(), "7"));
        let known = defaults.iter().map(|(key, value)| {
            let wrong = match value.kind {
                ValueKind::String(_) => "7",
                _ => "'abc'",
            };
            (key.clone(), wrong)
        });
        let all: BTreeMap<String, &str> = optional.chain(known).collect();
        for (key, wrong) in &all {
            let (section, name) = key.rsplit_once('.').unwrap();
            *sections.entry(section.to_owned()).or_default() += &format!("{name} = {wrong}\n");
        }
        let sections = sections.iter();
        let file: String = sections
            .map(|(name, settings)| format!("[{name}]\n{settings}"))
            .collect();
        let problems = from_file(&file).unwrap_err().problems;
        for key in all.keys() {
            let told = problems.iter().any(|one| {
                one.starts_with(&format!("{key}: must be ")) && one.contains("mine.toml")
            });
            assert!(told, "{key}: {problems:#?}");
        }
        for leak in [
            "u16",
            "u32",
            "u64",
            "usize",
            "invalid type",
            "struct",
            "enum ",
            "variant",
            "serde",
        ] {
            assert!(!problems.join(" ").contains(leak), "{leak}: {problems:#?}");
        }
    }

    #[test]
    fn a_reload_takes_what_it_can_and_names_the_rest() {
        let old = defaults();
        let read = from_file(
            "[server]\nworkers = 3\n[log]\nlevel = 'warn'\n[auth]\njwt_secret = '8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W'\n[profiles.mine]\n",
        )
        .unwrap();
        let (next, waiting) = old.reloaded(&read).unwrap();
        assert_eq!(waiting, ["server.workers", "auth.jwt_secret"]);
        assert_eq!((next.server.workers, next.log.level.as_str()), (2, "warn"));
        assert!(next.profiles.contains_key("mine") && next.auth.jwt_secret.is_none());
        // It would be taken at a start, with the setting that needs one.
        let mut read = from_file("[delivery]\ndefault_profile = 'github'\n").unwrap();
        read.profiles.remove("standard");
        let refused = old.reloaded(&read).unwrap_err().to_string();
        assert!(
            refused.starts_with("delivery.default_profile: "),
            "{refused}"
        );
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_told() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(
            &path,
            "[auth]\njwt_secret = '8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W'\n",
        )
        .unwrap();
        for (mode, warnings) in [(0o644, 1), (0o640, 0)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = load_with_sources(Some(&path), Flags::default()).unwrap();
            assert_eq!(loaded.warnings().len(), warnings, "{mode:o}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "(\\[(server|store|delivery|log)\\]\n)?([a-z_]{1,8} = [-0-9a-z'\\[\\],.]{0,9}\n){0,3}") {
            let _ = from_file(&text);
        }

        #[test]
        fn any_schedule_passes_through_the_environment(delays in proptest::collection::vec(1..=WAIT_MAX_SECONDS, 0..20)) {
            let text = delays.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
            let config = from_environment(&[("POSTRIDER__DELIVERY__RETRY_DELAYS_SECONDS", &text)]).unwrap();
            prop_assert_eq!(config.delivery.retry_delays_seconds, delays);
        }
    }
}
