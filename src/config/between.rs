//! The rules between settings: which must not be more than another one, which contradict each other,
//! and which limits have no effect.

use std::collections::BTreeMap;
use std::path::Path;

use config::Value;

use super::layers::{Problems, Values};
use super::{Config, VerifyEndpoints, notify};
use crate::backup::place::Place;

/// A setting that must not be more than another one, or than some times that.
struct Bound {
    lower: &'static str,
    upper: &'static str,
    times: u64,
}

const BOUNDS: &[Bound] = &[
    // Hours and days.
    bound("store.slice_hours", "store.retention_days", 24),
    bound(
        "delivery.connect_timeout_seconds",
        "delivery.request_timeout_seconds",
        1,
    ),
    bound(
        "delivery.breaker.probe_first_seconds",
        "delivery.breaker.probe_max_seconds",
        1,
    ),
    bound("delivery.workers", "delivery.in_flight_max", 1),
    bound(
        "delivery.in_flight_per_endpoint_max",
        "delivery.in_flight_max",
        1,
    ),
    bound("limits.answer_kept_bytes", "limits.answer_read_bytes", 1),
    bound(
        "limits.answers_per_customer_bytes",
        "limits.answers_bytes",
        1,
    ),
];

const fn bound(lower: &'static str, upper: &'static str, times: u64) -> Bound {
    Bound {
        lower,
        upper,
        times,
    }
}

/// Settings that contradict each other.
struct Contradiction {
    /// The one that is named, and the others.
    between: &'static [&'static str],
    /// Says how the named one breaks the rule.
    problem: fn(&Config) -> Option<String>,
}

const CONTRADICTIONS: &[Contradiction] = &[
    Contradiction {
        between: &["server.metrics_listen", "server.listen"],
        problem: |Config { server, .. }| {
            let is_same = server.metrics_listen == Some(server.listen);
            (is_same && server.listen.port() != 0)
                .then(|| format!("must differ from server.listen, is {} too", server.listen))
        },
    },
    Contradiction {
        between: &["auth.jwt_secret_file", "auth.jwt_secret"],
        problem: |Config { auth, .. }| {
            let are_both = auth.jwt_secret.is_some() && auth.jwt_secret_file.is_some();
            are_both.then(|| "only one of this and auth.jwt_secret can be set".to_owned())
        },
    },
    Contradiction {
        between: &["backup.key_file", "backup.key"],
        problem: |Config { backup, .. }| {
            let are_both = backup.key.is_some() && backup.key_file.is_some();
            are_both.then(|| "only one of this and backup.key can be set".to_owned())
        },
    },
    Contradiction {
        between: &["backup.to", "store.path"],
        problem: |Config { backup, store, .. }| {
            let to = backup.to.as_deref().and_then(Place::parse);
            let is_within = match to {
                Some(Place::Folder(folder)) => {
                    let absolute = |path: &Path| std::path::absolute(path).ok();
                    let (folder, store) = (absolute(&folder), absolute(&store.path));
                    folder
                        .zip(store)
                        .is_some_and(|(folder, store)| folder.starts_with(store))
                }
                _ => false,
            };
            is_within.then(|| {
                "must be outside store.path: with that disk the copy would be lost, too".to_owned()
            })
        },
    },
    Contradiction {
        between: &["delivery.default_profile"],
        problem: |config| {
            let names = std::slice::from_ref(&config.delivery.default_profile);
            config.unknown_profiles("must be the name of a profile, is", names)
        },
    },
    Contradiction {
        between: &["portal.profiles"],
        problem: |config| {
            config.unknown_profiles(
                "must be names of profiles, and has",
                &config.portal.profiles,
            )
        },
    },
    Contradiction {
        between: &["notify.smtp_password_file", "notify.smtp_password"],
        problem: |Config { notify, .. }| {
            let are_both = notify.smtp_password.is_some() && notify.smtp_password_file.is_some();
            are_both.then(|| "only one of this and notify.smtp_password can be set".to_owned())
        },
    },
    Contradiction {
        between: &[
            "notify.smtp_password",
            "notify.smtp_username",
            "notify.smtp_tls",
            "notify.smtp_host",
        ],
        problem: notify::password_contradiction,
    },
    Contradiction {
        between: &["notify.from", "notify.smtp_host"],
        problem: |Config { notify, .. }| {
            let is_missing = notify.is_on() && notify.from.is_empty();
            is_missing.then(|| "must be set where notify.smtp_host is".to_owned())
        },
    },
    Contradiction {
        between: &["notify.to", "notify.smtp_host"],
        problem: |Config { notify, .. }| match notify.to.len() {
            0 if notify.is_on() => {
                Some("must name at least one address where notify.smtp_host is set".to_owned())
            }
            count if count > notify::TO_MAX => Some(format!(
                "must have at most {} addresses, has {count}",
                notify::TO_MAX
            )),
            _ => None,
        },
    },
    Contradiction {
        between: &["limits.answer_kept_bytes", "delivery.verify_endpoints"],
        problem: |config| {
            let kept = config.limits.answer_kept_bytes;
            let are_challenged = config.delivery.verify_endpoints == VerifyEndpoints::Challenge;
            (are_challenged && kept < ECHO_BYTES_MIN).then(|| {
                format!(
                    "must be at least {ECHO_BYTES_MIN} where delivery.verify_endpoints is \
                     \"challenge\", is {kept}"
                )
            })
        },
    },
];

/// The space for the echo of a challenge, with room for white space around it: of an answer to a
/// challenge no more is kept than of any other.
const ECHO_BYTES_MIN: usize = 256;

/// A limit, and the one that is met first where it is less, so that the limit has no effect. Of several, it is
/// their sum.
const VOID_ABOVE: &[(&str, &[&str])] = &[
    (
        "delivery.in_flight_per_host_max",
        &["delivery.in_flight_max"],
    ),
    (
        "delivery.in_flight_per_endpoint_max",
        &["delivery.in_flight_per_host_max"],
    ),
    (
        "limits.waiting_per_application_max",
        &["limits.waiting_max", "limits.held_max"],
    ),
    (
        "limits.connections_per_address_max",
        &["limits.connections_max"],
    ),
    (
        "limits.sessions_per_credential_max",
        &["limits.sessions_per_customer_max"],
    ),
    (
        "limits.sessions_per_credential_max",
        &["limits.sessions_max"],
    ),
    ("limits.sessions_per_customer_max", &["limits.sessions_max"]),
    (
        "limits.sign_ins_per_credential_minute_max",
        &["limits.sign_ins_per_customer_minute_max"],
    ),
];

/// Holds each bound. Of its two settings, one that is left at its default follows the one that was set, so
/// that only two that were set can contradict each other. Returns those that follow.
pub(super) fn hold_bounds(
    mut values: Values,
    problems: &mut Problems,
) -> BTreeMap<&'static str, Value> {
    let mut followed = BTreeMap::new();
    for Bound {
        lower,
        upper,
        times,
    } in BOUNDS
    {
        let least = number(&values, lower);
        let most = number(&values, upper).saturating_mul(*times);
        if least <= most {
            continue;
        }
        let is_set = |name: &str| values[name].origin().is_some() && !followed.contains_key(name);
        let (follows, to, with) = match (is_set(lower), is_set(upper)) {
            (false, true) => (*lower, *upper, most),
            (true, false) => (*upper, *lower, least.div_ceil(*times)),
            _ => {
                let of = match times {
                    1 => format!("{upper} ({most})"),
                    _ => format!("{times} times {upper} ({most})"),
                };
                let what = format!("must not be more than {of}, is {least}");
                problems.add(lower, &what, values[*lower].origin());
                continue;
            }
        };
        let origin = format!("the default, to fit {to}");
        let value = Value::new(Some(&origin), with);
        values.insert(follows.to_owned(), value.clone());
        followed.insert(follows, value);
    }
    followed
}

fn number(values: &Values, name: &str) -> u64 {
    let value = values[name].clone();
    value.into_uint().expect("its rule asks for a whole number")
}

impl Config {
    /// The contradictions, each with the settings that it is between, of which the first is the one to name.
    pub(super) fn contradictions(
        &self,
    ) -> impl Iterator<Item = (&'static [&'static str], String)> + '_ {
        let problems = CONTRADICTIONS.iter();
        problems.filter_map(|one| Some((one.between, (one.problem)(self)?)))
    }

    fn unknown_profiles(&self, must: &str, names: &[String]) -> Option<String> {
        let unknown = names
            .iter()
            .filter(|name| !self.profiles.contains_key(*name));
        let shown: Vec<String> = unknown.map(|name| format!("{name:?}")).collect();
        (!shown.is_empty()).then(|| format!("{must} {}", shown.join(", ")))
    }

    /// Each limit that another one, which is met first, leaves without effect.
    pub(super) fn void_limits(&self) -> Vec<String> {
        let tree = self.tree();
        let number = |name: &&str| {
            let value = name
                .split_once('.')
                .and_then(|(section, name)| tree[section][name].as_u64());
            value.expect("it is a number of the settings")
        };
        let void = VOID_ABOVE.iter().filter_map(|(name, others)| {
            let one = number(name);
            let other = others.iter().map(number).fold(0, u64::saturating_add);
            let together = if others.len() > 1 { " together" } else { "" };
            (one > other).then(|| {
                let others = others.join(" and ");
                format!(
                    "{name}: limits nothing, as {one} is more than {others}{together} ({other})"
                )
            })
        });
        void.collect()
    }
}
