//! How the values follow each other: the defaults, the file, the environment, the flags.
//!
//! The `config` crate reads each layer and puts one over the other. In between, each layer is
//! sifted: what keeps the rule of its setting goes on, with the file or the variable that it is from;
//! everything else is a problem.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use config::{Environment, File, FileFormat, FileSourceString, Map, Source, Value, ValueKind};
use ipnet::IpNet;

use super::setting::shown;
use super::{Config, ConfigError, DEFAULTS, Loaded, all, between, find, profiles};
use crate::misfit::misspelled;

/// Where a file is looked for when none is named; the first that exists is read.
const FILES: [&str; 2] = ["./config.toml", "/etc/postrider/config.toml"];

pub(super) const ENVIRONMENT_PREFIX: &str = "POSTRIDER";

/// Between a prefix, sections and names of variables.
const SEPARATOR: &str = "__";

/// What the command line says about the settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// Receivers on loopback are allowed.
    pub dev: bool,
}

/// Values by `section.name`.
pub(super) type Values = BTreeMap<String, Value>;

/// Returns the settings in effect: the defaults, changed by the file (`file`, or the first one found in
/// the usual places), by the environment and by the flags.
pub fn load(file: Option<&Path>, flags: Flags) -> Result<Config, ConfigError> {
    load_with_sources(file, flags).map(|loaded| loaded.config)
}

/// The same, with the source of each setting.
pub fn load_with_sources(file: Option<&Path>, flags: Flags) -> Result<Loaded, ConfigError> {
    let found = FILES.map(Path::new).into_iter().find(|path| path.exists());
    let path = file.or(found);
    // The crate would look for other endings where there is no such file, refuse a pipe, and name the
    // file by its way from the working directory.
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        let named = |text| (path.display().to_string(), text);
        text.map(named)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let file = path.map(read).transpose()?;
    let variables = std::env::vars_os();
    // The crate would repeat a value that is not UTF-8 in its error, and it may be a secret.
    let text = variables.filter_map(|(name, value)| {
        Some((
            name.into_string().ok()?,
            value.to_string_lossy().into_owned(),
        ))
    });
    let mut loaded = assemble(file, text.collect(), flags)?;
    if let Err(what) = loaded.config.auth.read_jwt_secret() {
        let mut problems = Problems::default();
        let origin = loaded.sources.get("auth.jwt_secret_file");
        problems.add("auth.jwt_secret_file", &what, origin.map(String::as_str));
        problems.into_result()?;
    }
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let credentials = credentials.as_deref().map(Path::new);
    if let Err((name, what)) = loaded.config.backup.read_key(credentials) {
        let mut problems = Problems::default();
        problems.add(name, &what, loaded.sources.get(name).map(String::as_str));
        problems.into_result()?;
    }
    if let Err(what) = loaded.config.notify.read_password() {
        let mut problems = Problems::default();
        let name = "notify.smtp_password_file";
        problems.add(name, &what, loaded.sources.get(name).map(String::as_str));
        problems.into_result()?;
    }
    loaded.file = path.map(Path::to_owned);
    Ok(loaded)
}

/// Does the same without the reading: `file` is a name and its text.
pub(super) fn assemble(
    file: Option<(String, String)>,
    environment: HashMap<String, String>,
    flags: Flags,
) -> Result<Loaded, ConfigError> {
    let mut problems = Problems::default();
    let mut layers = config::Config::builder().add_source(toml_source(DEFAULTS));
    if let Some((name, text)) = &file {
        layers = layers.add_source(sift(of_file(name, text)?, |_| name.clone(), &mut problems)?);
    }
    refuse_single_underscores(environment.keys(), &mut problems);
    let environment = of_environment(environment)?;
    layers = layers.add_source(sift(environment, variable, &mut problems)?);
    let followed = between::hold_bounds(flat(layers.build_cloned()?.collect()?), &mut problems);
    for (name, value) in followed {
        layers = layers.set_override(name, value)?;
    }
    let layers = layers.build()?;

    let (profiles, wrong) = profiles::parse(layers.get_table(profiles::SECTION)?);
    for (place, what) in wrong {
        // Besides the defaults, only a file has profiles.
        problems.add(&place, &what, file.as_ref().map(|(name, _)| name.as_str()));
    }
    let mut sources = flat(layers.collect()?)
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.origin()?.to_owned())))
        .collect();
    let mut config: Config = layers.try_deserialize()?;
    config.profiles = profiles;
    problems.add_contradictions(&config, &sources);
    problems.into_result()?;
    if flags.dev {
        allow_loopback_receivers(&mut config, &mut sources);
    }
    Ok(Loaded {
        config,
        file: None,
        sources,
    })
}

fn toml_source(text: &str) -> File<FileSourceString, FileFormat> {
    File::from_str(text, FileFormat::Toml)
}

fn of_file(name: &str, text: &str) -> Result<Map<String, Value>, ConfigError> {
    toml_source(text).collect().map_err(|error| {
        let error = one_line(&error.to_string());
        if error.starts_with("TOML parse error") {
            return format!("{name}: {error}").into();
        }
        // The crate reads numbers itself, and does not say where one is too large; the parser does.
        let place = text
            .parse::<toml::Table>()
            .err()
            .map(|error| error.to_string());
        let place = place.as_deref().and_then(|error| error.lines().next());
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        format!("{name}: {place}the number is too large").into()
    })
}

/// The values of the variables, each read as its setting's kind.
fn of_environment(variables: HashMap<String, String>) -> Result<Map<String, Value>, ConfigError> {
    let mut values = Environment::with_prefix(ENVIRONMENT_PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(variables))
        .collect()?;
    for (name, value) in &mut values {
        if let (Some(setting), ValueKind::String(text)) = (find(name), &value.kind) {
            value.kind = setting.read(text.clone());
        }
    }
    Ok(values)
}

/// Notes variables that name a setting but for an underscore: nobody would read them.
fn refuse_single_underscores<'a>(
    variables: impl Iterator<Item = &'a String>,
    problems: &mut Problems,
) {
    let single = |name: &str| name.replace(SEPARATOR, "_");
    for given in variables.filter(|given| given.starts_with(ENVIRONMENT_PREFIX)) {
        let misses = all()
            .map(|(name, _)| name)
            .find(|name| *given != variable(name) && single(given) == single(&variable(name)));
        if let Some(name) = misses {
            let what = format!(
                "is not read from {given}: its variable is {}",
                variable(&name)
            );
            problems.add(&name, &what, None);
        }
    }
}

/// The variable of a setting.
fn variable(name: &str) -> String {
    let name = name.replace('.', SEPARATOR).to_uppercase();
    format!("{ENVIRONMENT_PREFIX}{SEPARATOR}{name}")
}

/// Keeps the values of a layer that keep the rule of their setting, and notes the others.
///
/// The crate gives no origin to values from a text, and one to all variables together; and it lets one
/// value in the place of a section hide everything in there. So each value is judged by its name alone.
fn sift(
    layer: Map<String, Value>,
    origin: impl Fn(&str) -> String,
    problems: &mut Problems,
) -> Result<config::Config, ConfigError> {
    let mut kept = config::Config::builder();
    for (name, value) in flat(layer) {
        let origin = origin(&name);
        let problem = match (find(&name), &value.kind) {
            (Some(setting), _) => setting.problem(&value),
            (None, ValueKind::Table(_)) if name == profiles::SECTION => None,
            (None, kind) if name == profiles::SECTION => {
                Some(format!("must be a section, is {}", shown(kind)))
            }
            (None, _) => Some(unknown(&name)),
        };
        match problem {
            Some(what) => problems.add(&name, &what, Some(&origin)),
            None => kept = kept.set_override(name, Value::new(Some(&origin), value.kind))?,
        }
    }
    Ok(kept.build()?)
}

fn unknown(name: &str) -> String {
    let of_profile = name.strip_prefix(profiles::SECTION);
    if of_profile.is_some_and(|rest| rest.starts_with('.')) {
        return "profiles can only be set in a file".to_owned();
    }
    let known: Vec<String> = all().map(|(name, _)| name).collect();
    match misspelled(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("unknown setting; did you mean {meant}?"),
        None => "unknown setting".to_owned(),
    }
}

/// The values of all sections. The profiles stay whole: their names are the user's.
pub(super) fn flat(layer: Map<String, Value>) -> Values {
    let mut values = Values::new();
    for (name, value) in layer {
        flatten(name, value, &mut values);
    }
    values
}

fn flatten(name: String, value: Value, values: &mut Values) {
    match value.kind {
        ValueKind::Table(inner) if find(&name).is_none() && name != profiles::SECTION => {
            for (key, value) in inner {
                flatten(format!("{name}.{key}"), value, values);
            }
        }
        _ => drop(values.insert(name, value)),
    }
}

/// Adds the networks that `--dev` allows. A layer of their own would replace the list.
fn allow_loopback_receivers(config: &mut Config, sources: &mut BTreeMap<String, String>) {
    let allowed = &mut config.delivery.danger_allow_private_addresses;
    let missing = loopback().into_iter().filter(|one| !allowed.contains(one));
    let missing: Vec<IpNet> = missing.collect();
    if missing.is_empty() {
        return;
    }
    allowed.extend(missing);
    sources
        .entry("delivery.danger_allow_private_addresses".to_owned())
        .and_modify(|source| source.push_str(" and --dev"))
        .or_insert_with(|| "--dev".to_owned());
}

/// The networks that `--dev` allows.
pub fn loopback() -> [IpNet; 2] {
    ["127.0.0.0/8", "::1/128"].map(|text| text.parse().expect("a network"))
}

/// Everything that is wrong, each with the setting's name.
#[derive(Default)]
pub(super) struct Problems(Vec<(String, String)>);

impl Problems {
    pub fn add(&mut self, name: &str, what: &str, origin: Option<&str>) {
        let problem = match origin {
            Some(origin) => format!("{name}: {what} (from {origin})"),
            None => format!("{name}: {what}"),
        };
        self.0.push((name.to_owned(), problem));
    }

    /// Adds the contradictions between settings that have no problem by themselves: one that has is left at
    /// its default here, of which there is nothing to say.
    pub fn add_contradictions(&mut self, config: &Config, sources: &BTreeMap<String, String>) {
        for (between, what) in config.contradictions() {
            let is_told = self
                .0
                .iter()
                .any(|(name, _)| between.contains(&name.as_str()));
            if !is_told {
                let origin = sources.get(between[0]);
                self.add(between[0], &what, origin.map(String::as_str));
            }
        }
    }

    /// The error that names them all, if there are any.
    pub fn into_result(self) -> Result<(), ConfigError> {
        let problems: Vec<String> = self.0.into_iter().map(|(_, problem)| problem).collect();
        match problems.is_empty() {
            true => Ok(()),
            false => Err(ConfigError { problems }),
        }
    }
}

/// A TOML error shows the line it is about; where and what it is fits on one line.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(place), Some(what)) => format!("{place}: {what}"),
        (only, _) => only.unwrap_or_default().to_owned(),
    }
}

impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        one_line(&error.to_string()).into()
    }
}
