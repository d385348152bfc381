//! The profiles among the settings: read, and printed again.
//!
//! Unlike other settings they have names of their own and nest, so they have a type that judges them
//! in place of a table of rules, and cannot be given in the environment. A user's are merged over
//! the built-in ones by the `config` crate: tables merge, lists are replaced.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};

use crate::domain::profile::{Profile, is_name};
use crate::misfit::{self, Step};

pub const SECTION: &str = "profiles";

/// The profiles by name, and everything that is wrong with them by itself: the place, and the reason.
pub fn parse(tables: Map<String, Value>) -> (BTreeMap<String, Profile>, Vec<(String, String)>) {
    let mut profiles = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, table) in tables.into_iter().collect::<BTreeMap<_, _>>() {
        let place = format!("{SECTION}.{name}");
        if !is_name(&name) {
            let rule = "a profile's name has 1 to 64 of a-z, 0-9, '-' and '_'";
            problems.push((place, rule.to_owned()));
            continue;
        }
        let mut misfits = Vec::new();
        let profile = read(table, &mut misfits);
        // The crate's tables have no order.
        misfits.sort();
        let wrong = profile.problems();
        // A key that was wrong has its problem, and so has what depends on it.
        let told = |place: &str| misfits.iter().any(|(key, _)| key.starts_with(place));
        let follows = |reason: &str| misfits.iter().any(|(key, _)| reason.contains(key.as_str()));
        let wrong: Vec<(String, String)> = wrong
            .into_iter()
            .map(|(key, reason)| (key.to_string(), reason.to_string()))
            .filter(|(key, reason)| !told(key) && !follows(reason))
            .collect();
        let all = misfits.into_iter().chain(wrong);
        problems.extend(all.map(|(key, reason)| match key.is_empty() {
            true => (place.clone(), reason),
            false => (format!("{place}.{key}"), reason),
        }));
        profiles.insert(name, profile);
    }
    (profiles, problems)
}

/// A profile without what is not of its type, which is noted.
fn read(mut profile: Value, misfits: &mut Vec<(String, String)>) -> Profile {
    loop {
        let misfit = match misfit::read(profile.clone()) {
            Ok(profile) => return profile,
            Err(misfit) => misfit,
        };
        let place = misfit.place();
        misfits.push((misfit::path(place), format!("{misfit:#}")));
        // Within a list the places of the others would move, so it goes as a whole.
        let list = place.iter().position(|step| matches!(step, Step::Index(_)));
        let whole = match list {
            Some(index) => &place[..index],
            None => place,
        };
        if !remove(&mut profile, whole) {
            return Profile::default();
        }
    }
}

fn remove(from: &mut Value, place: &[Step]) -> bool {
    match (place, &mut from.kind) {
        ([Step::Key(key)], ValueKind::Table(table)) => table.remove(key).is_some(),
        ([Step::Key(key), rest @ ..], ValueKind::Table(table)) => {
            table.get_mut(key).is_some_and(|value| remove(value, rest))
        }
        _ => false,
    }
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
        let file = |text| config::File::from_str(text, config::FileFormat::Toml);
        let layers = config::Config::builder().add_source(file(crate::config::DEFAULTS));
        let layers = layers.add_source(file(text)).build().unwrap();
        match parse(layers.get_table(SECTION).unwrap()) {
            (profiles, problems) if problems.is_empty() => Ok(profiles),
            (_, problems) => Err(problems
                .into_iter()
                .map(|(place, reason)| format!("{place}: {reason}"))
                .collect()),
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
                "profiles.okhi.timeuot: there is no such setting here",
            ),
            (
                "[profiles.okhi]\ntimeout_seconds = 'long'\n",
                "profiles.okhi.timeout_seconds: must be a whole number from 0 to 4294967295, not \"long\"",
            ),
            (
                "[profiles.okhi]\ntimeout_seconds = -1\n",
                "profiles.okhi.timeout_seconds: must be a whole number from 0 to 4294967295, not -1",
            ),
            (
                "[[profiles.a.signatures]]\nheader = 'x'\nalgorithm = 'md5'\n",
                "profiles.a.signatures[0].algorithm: must be one of ",
            ),
            (
                "[[profiles.a.signatures]]\nalgorithm = 'static'\n",
                "profiles.a.signatures[0].header: is required",
            ),
            (
                "[profiles.a.success]\nstatus = ['20x']\n",
                "profiles.a.success.status: \"20x\" is not a status",
            ),
            (
                "[profiles.a.success]\nbody = 'OK'\n",
                "profiles.a.success.body: needs success.status",
            ),
            ("[profiles.'A b']\n", "profiles.A b: a profile's name"),
            (
                "[profiles]\na = 1\n",
                "profiles.a: must be a table, not a number",
            ),
        ] {
            let problems = parsed(text).unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].starts_with(expected),
                "{text}: {problems:?}"
            );
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_profile_is_told_at_once() {
        let problems = parsed(
            "[profiles.okhi]\ntimeout_seconds = 'long'\nmethods = 'POST'\ntimeuot = 1\n\
             [profiles.okhi.retry]\nfirst_seconds = 0\nfactor = 'two'\n\
             [profiles.standard]\ntimeout_seconds = true\n",
        );
        let mut places: Vec<String> = problems
            .unwrap_err()
            .iter()
            .map(|problem| problem.split(": ").next().unwrap().to_owned())
            .collect();
        places.sort();
        assert_eq!(
            places,
            [
                "profiles.okhi.methods",
                "profiles.okhi.retry.factor",
                "profiles.okhi.retry.first_seconds",
                "profiles.okhi.timeout_seconds",
                "profiles.okhi.timeuot",
                "profiles.standard.timeout_seconds",
            ]
        );
    }

    #[test]
    fn what_is_printed_reads_back() {
        let profiles = parsed("").unwrap();
        assert_eq!(parsed(&print(&profiles)).unwrap(), profiles);
    }
}
