//! Headers of single messages: those that a publisher sets, among the ones that the operator allows.
//!
//! A message is kept and shown with its headers, so none of them may be a secret; and it goes to many
//! endpoints, so none may be one by which a receiver knows the sender.

use std::collections::BTreeMap;

use super::checks::Problems;
use super::target::header_problems;
use crate::config::Config;
use crate::domain::header::never_of_a_message;

/// All names and values together: they are in memory for as long as the message waits.
const BYTES_MAX: usize = 8 * 1024;

/// The operator's rules.
#[derive(Clone, Copy)]
pub struct HeaderRules<'a> {
    /// Names that messages may have, whatever their case.
    pub allowed: &'a [String],
    pub count_max: usize,
    pub value_bytes_max: usize,
}

impl HeaderRules<'_> {
    pub fn of(config: &Config) -> HeaderRules<'_> {
        HeaderRules {
            allowed: &config.delivery.message_headers,
            count_max: config.limits.headers_max,
            value_bytes_max: config.limits.header_value_bytes,
        }
    }

    /// Adds the headers at this place of a body to those of the message; those that it may not have are
    /// problems.
    pub fn take(
        &self,
        problems: &mut Problems,
        place: &[&str],
        given: BTreeMap<String, String>,
        headers: &mut BTreeMap<String, String>,
    ) {
        let is_taken = |name: &str| headers.keys().any(|one| one.eq_ignore_ascii_case(name));
        let never = |name: &str| {
            let never = never_of_a_message(&name.to_ascii_lowercase());
            never.or_else(|| is_taken(name).then_some("is given twice"))
        };
        let found = header_problems(&given, self.value_bytes_max, never);
        for (name, problem) in &found {
            let place: Vec<&str> = place.iter().copied().chain([name.as_str()]).collect();
            problems.add(&place, problem);
        }
        let is_allowed = |name: &str| {
            self.allowed
                .iter()
                .any(|one| one.eq_ignore_ascii_case(name))
        };
        for name in given.keys() {
            if is_allowed(name) || found.iter().any(|(one, _)| one == name) {
                continue;
            }
            let place: Vec<&str> = place.iter().copied().chain([name.as_str()]).collect();
            problems.not_offered(&place, self.not_allowed());
        }
        headers.extend(given);
        let bytes = |(name, value): (&String, &String)| name.len() + value.len();
        if headers.len() > self.count_max {
            let message = format!(
                "may have at most {} headers (limits.headers_max)",
                self.count_max
            );
            problems.add(place, message);
        } else if headers.iter().map(bytes).sum::<usize>() > BYTES_MAX {
            problems.add(
                place,
                format!("names and values may have {BYTES_MAX} bytes in all"),
            );
        }
    }

    fn not_allowed(&self) -> String {
        match self.allowed {
            [] => "is not a header that messages may have: the operator allows none \
                   (delivery.message_headers)"
                .to_owned(),
            allowed => format!(
                "is not a header that messages may have; the operator allows {} \
                 (delivery.message_headers)",
                allowed.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_message_has_headers_that_are_allowed_and_no_secret() {
        let allowed = ["Traceparent".to_owned(), "x-request-id".to_owned()];
        let rules = HeaderRules {
            allowed: &allowed,
            count_max: 2,
            value_bytes_max: 100,
        };
        for (name, value, expected) in [
            ("traceparent", "00-1", None),
            ("X-Request-Id", "", None),
            (
                "x-other",
                "1",
                Some("the operator allows Traceparent, x-request-id"),
            ),
            ("Host", "a", Some("is a header that the server sets itself")),
            (
                "webhook-id",
                "a",
                Some("is a header that the server sets itself"),
            ),
            ("User-Agent", "a", Some("belongs to the request")),
            ("Authorization", "a", Some("may be a secret")),
            ("Cookie", "a", Some("may be a secret")),
            ("X-Api-Key", "a", Some("may be a secret")),
            ("no name", "a", Some("is not a header name")),
            ("traceparent", "a\nb", Some("visible ASCII")),
            ("X-TAKEN", "a", Some("is given twice")),
        ] {
            let mut problems = Problems::default();
            let mut headers = BTreeMap::from([("x-taken".to_owned(), "1".to_owned())]);
            let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            rules.take(&mut problems, &["body", "headers"], given, &mut headers);
            match (problems.done(), expected) {
                (Ok(()), None) => assert_eq!(headers[name], value),
                (Err(Error::Invalid(all)), Some(part)) => {
                    assert_eq!(all.len(), 1, "{name}: {all:?}");
                    assert_eq!(all[0].location, ["body", "headers", name]);
                    assert!(all[0].message.contains(part), "{name}: {}", all[0].message);
                }
                (result, _) => panic!("{name}: {result:?}"),
            }
        }
        let many = ["traceparent", "x-request-id"].map(|name| (name.to_owned(), String::new()));
        let mut headers = BTreeMap::from([("x-taken".to_owned(), "1".to_owned())]);
        let mut problems = Problems::default();
        rules.take(
            &mut problems,
            &["body", "headers"],
            many.into(),
            &mut headers,
        );
        assert!(problems.done().is_err());
    }
}
