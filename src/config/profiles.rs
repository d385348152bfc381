//! The profiles among the settings: read from TOML, a user's merged over the built-in ones, and
//! printed again.
//!
//! Unlike other settings they have names of their own and nest, so they are kept apart from the
//! first to the last step, and cannot be given in the environment.

use std::collections::BTreeMap;

use serde_path_to_error::Segment;
use toml::{Table, Value};

use crate::domain::profile::{Profile, is_name};

pub const SECTION: &str = "profiles";

/// Takes the profiles out of a file's tables; the error names what is none.
pub fn take_out(file: &mut Table) -> Result<Table, String> {
    match file.remove(SECTION) {
        None => Ok(Table::new()),
        Some(Value::Table(profiles)) => Ok(profiles),
        Some(_) => Err(format!("{SECTION}: must be a section")),
    }
}

/// Tables merge, anything else is replaced.
pub fn merge(over: Table, into: &mut Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(above, below),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// The profiles by name, and everything that is wrong with them by itself.
pub fn parse(tables: Table) -> (BTreeMap<String, Profile>, Vec<String>) {
    let mut profiles = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, table) in tables {
        if !is_name(&name) {
            problems.push(format!(
                "{SECTION}.{name}: a profile's name has 1 to 64 of a-z, 0-9, '-' and '_'"
            ));
            continue;
        }
        match serde_path_to_error::deserialize::<_, Profile>(table) {
            Ok(profile) => {
                let wrong = profile.problems();
                problems.extend(
                    wrong
                        .into_iter()
                        .map(|(key, reason)| format!("{SECTION}.{name}.{key}: {reason}")),
                );
                profiles.insert(name, profile);
            }
            Err(error) => {
                let place: String = error
                    .path()
                    .iter()
                    .map(|segment| match segment {
                        Segment::Map { key } => format!(".{key}"),
                        Segment::Seq { index } => format!(".{index}"),
                        Segment::Enum { variant } => format!(".{variant}"),
                        Segment::Unknown => String::new(),
                    })
                    .collect();
                let reason = error.inner().to_string();
                let reason = reason.lines().next().unwrap_or_default().to_owned();
                problems.push(format!("{SECTION}.{name}{place}: {reason}"));
            }
        }
    }
    (profiles, problems)
}

/// The profiles as a file has them.
pub fn print(profiles: &BTreeMap<String, Profile>) -> String {
    let all = BTreeMap::from([(SECTION, profiles)]);
    toml::to_string(&all).expect("profiles are tables of plain values")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<BTreeMap<String, Profile>, Vec<String>> {
        let mut file: Table = crate::config::DEFAULTS.parse().unwrap();
        let mut profiles = take_out(&mut file).unwrap();
        let mut over: Table = text.parse().unwrap();
        merge(take_out(&mut over).unwrap(), &mut profiles);
        match parse(profiles) {
            (profiles, problems) if problems.is_empty() => Ok(profiles),
            (_, problems) => Err(problems),
        }
    }

    #[test]
    fn a_users_tables_merge_and_arrays_replace() {
        let profiles = parsed(
            "[profiles.okhi.retry]\nfirst_seconds = 1\n\
             [profiles.ioffice]\nmethods = ['GET']\n\
             [profiles.mine]\ntimeout_seconds = 3\n",
        )
        .unwrap();
        let okhi = profiles["okhi"].retry.as_ref().unwrap();
        assert_eq!((okhi.first_seconds, okhi.factor), (Some(1), Some(2.0)));
        assert_eq!(profiles["ioffice"].methods.len(), 1);
        assert_eq!(profiles["ioffice"].signatures.len(), 1);
        assert_eq!(profiles["mine"].timeout_seconds, Some(3));
    }

    #[test]
    fn what_is_wrong_is_named_with_profile_and_key() {
        for (text, expected) in [
            (
                "[profiles.okhi]\ntimeuot = 1\n",
                "profiles.okhi.timeuot: unknown field `timeuot`",
            ),
            (
                "[profiles.okhi]\ntimeout_seconds = 'long'\n",
                "profiles.okhi.timeout_seconds: invalid type",
            ),
            (
                "[profiles.okhi]\ntimeout_seconds = -1\n",
                "profiles.okhi.timeout_seconds: invalid value",
            ),
            (
                "[[profiles.a.signatures]]\nheader = 'x'\nalgorithm = 'md5'\n",
                "profiles.a.signatures.0.algorithm",
            ),
            (
                "[[profiles.a.signatures]]\nalgorithm = 'static'\n",
                "profiles.a.signatures.0: missing field `header`",
            ),
            (
                "[profiles.a.success]\nstatus = ['20x']\n",
                "profiles.a.success.status: \"20x\" is no status",
            ),
            (
                "[profiles.a.success]\nbody = 'OK'\n",
                "profiles.a.success.body: needs success.status",
            ),
            ("[profiles.'A b']\n", "profiles.A b: a profile's name"),
            ("[profiles]\na = 1\n", "profiles.a: invalid type"),
        ] {
            let problems = parsed(text).unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].starts_with(expected),
                "{text}: {problems:?}"
            );
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        let profiles = parsed("").unwrap();
        assert_eq!(parsed(&print(&profiles)).unwrap(), profiles);
    }
}
