//! The values of a file, of the environment and of the defaults, and of which kind each must be.

use serde::Deserializer;
use serde::de::Error as _;

use super::*;

pub(super) type Layers = config::ConfigBuilder<config::builder::DefaultState>;

pub(super) fn set(layers: Layers, key: &str, value: Value) -> Result<Layers, ConfigError> {
    layers
        .set_override(key, value)
        .map_err(|error| one_line(&error.to_string()).into())
}

pub(super) fn toml_source(text: &str) -> File<FileSourceString, FileFormat> {
    File::from_str(text, FileFormat::Toml)
}

/// A TOML text without its profiles, and those.
pub(super) fn split(name: &str, text: &str) -> Result<(String, toml::Table), ConfigError> {
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
pub(super) fn read_toml(name: &str, text: &str) -> Result<Vec<(String, Value)>, ConfigError> {
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
pub(super) const INNER_SECTIONS: [&str; 1] = ["portal.labels"];

pub(super) fn flatten(name: String, content: Value, values: &mut Vec<(String, Value)>) {
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
pub(super) fn read_environment(
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
pub(super) fn fit_kind(
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
pub(super) fn element_kind(defaults: &[Value]) -> ValueKind {
    match defaults.first() {
        Some(first) => first.kind.clone(),
        None => ValueKind::String(String::new()),
    }
}

/// A value from a file has its kind already; it must be the default's.
pub(super) fn check_kind(value: Value, like: &ValueKind) -> Result<Value, &'static str> {
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
pub(super) fn parse_kind(value: Value, like: &ValueKind) -> Result<Value, &'static str> {
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

pub(super) fn expected(kind: &ValueKind) -> &'static str {
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
pub(super) fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(place), Some(what)) => format!("{place}: {what}"),
        (only, _) => only.unwrap_or_default().to_owned(),
    }
}

/// Why a value of the right kind is still none of this setting's type: an address, a network, a
/// number that fits. Each is tried alone, so that all that are wrong are told.
pub(super) fn misfit(
    defaults: &str,
    key: &str,
    value: &Value,
) -> Result<Option<String>, ConfigError> {
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
        "delivery.source_addresses",
        "server.trusted_proxies",
    ];
    let rule = match (&value.kind, key) {
        (ValueKind::Array(items), "delivery.dns_servers") => {
            let wrong = texts_without(items, |text| DnsServer::try_from(text).is_ok());
            format!("must be addresses such as '10.0.0.53' or '10.0.0.53:5353', and has {wrong}")
        }
        (ValueKind::Array(items), _) if networks_of.contains(&key) => {
            let texts = items.iter().map(ToString::to_string);
            let wrong = texts.filter_map(|text| {
                let message = network::read(&text).err()?;
                Some(format!("'{text}' {message}"))
            });
            wrong.collect::<Vec<_>>().join("; ")
        }
        (ValueKind::String(_), "server.listen" | "server.metrics_listen") => {
            "must be an address and a port such as '127.0.0.1:8071'".to_owned()
        }
        _ => format!("{misfit:#}"),
    };
    Ok(Some(rule))
}

/// Reads a list of networks and addresses.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let each = texts.iter().map(|text| network::read(text));
    each.collect::<Result<_, _>>().map_err(D::Error::custom)
}

/// The elements of a list that do not fit, each in quotation marks.
pub(super) fn texts_without(items: &[Value], fits: impl Fn(String) -> bool) -> String {
    let texts = items.iter().map(ToString::to_string);
    let wrong = texts.filter(|text| !fits(text.clone()));
    let quoted: Vec<String> = wrong.map(|text| format!("'{text}'")).collect();
    quoted.join(", ")
}
