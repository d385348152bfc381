//! A retry schedule as the API spells it, in bodies and in answers.
//!
//! `domain::retry` has the rules for schedules; here are the names in the API, and the operator's
//! limits for the schedules of endpoints. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::domain::retry::{RetryRule, RetrySchedule, Waits};
use crate::rules::checks::Problems;

/// When failed attempts are repeated: either `delaysSeconds`, or the other fields, which describe
/// growing waits. An answer's schedule can be sent back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Retry {
    /// The waits before each retry, one after the other; as many retries as there are waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    delays_seconds: Option<Vec<u64>>,
    /// The wait before the first retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seconds: Option<u64>,
    /// How many times longer each wait is than the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    /// The longest wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay_seconds: Option<u64>,
    /// The age of a message at which it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    give_up_after_seconds: Option<u64>,
    /// Each wait is longer or shorter by up to this part of it, at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<f64>,
}

/// The keys of [`RetryRule`] and what they are called here.
const NAMES: [(&str, &str); 6] = [
    ("delays_seconds", "delaysSeconds"),
    ("first_seconds", "firstSeconds"),
    ("factor", "factor"),
    ("max_delay_seconds", "maxDelaySeconds"),
    ("give_up_after_seconds", "giveUpAfterSeconds"),
    ("jitter", "jitter"),
];

impl From<&RetrySchedule> for Retry {
    fn from(schedule: &RetrySchedule) -> Retry {
        let jitter = Some(schedule.jitter);
        match &schedule.waits {
            Waits::Listed(waits) => Retry {
                delays_seconds: Some(waits.iter().map(|wait| wait.as_secs()).collect()),
                jitter,
                ..Retry::default()
            },
            Waits::Growing {
                first,
                factor,
                max,
                give_up_after,
            } => Retry {
                delays_seconds: None,
                first_seconds: Some(first.as_secs()),
                factor: Some(*factor),
                max_delay_seconds: Some(max.as_secs()),
                give_up_after_seconds: Some(give_up_after.as_secs()),
                jitter,
            },
        }
    }
}

impl Retry {
    /// The schedule for an endpoint, or its problems at `body.retry`.
    pub fn schedule(self, problems: &mut Problems, config: &Config) -> Option<RetrySchedule> {
        let rule = RetryRule {
            delays_seconds: self.delays_seconds,
            first_seconds: self.first_seconds,
            factor: self.factor,
            max_delay_seconds: self.max_delay_seconds,
            give_up_after_seconds: self.give_up_after_seconds,
            jitter: self.jitter,
        };
        let schedule = match rule.schedule(config.delivery.jitter) {
            Ok(schedule) => schedule,
            Err(wrong) => {
                for (key, message) in wrong {
                    problems.add(
                        &["body", "retry", &in_our_names(key)],
                        in_our_names(&message),
                    );
                }
                return None;
            }
        };
        // The list makes a schedule too long, or the age at which it ends.
        let place = match &schedule.waits {
            Waits::Listed(_) => ["body", "retry", "delaysSeconds"],
            Waits::Growing { .. } => ["body", "retry", "giveUpAfterSeconds"],
        };
        let retries_max = config.limits.endpoint_retries_max;
        if schedule.retries() > retries_max {
            let message = format!(
                "may allow at most {retries_max} retries (limits.endpoint_retries_max), and \
                 allows {}",
                schedule.retries()
            );
            problems.add(&place, message);
        }
        let days_max = config.limits.endpoint_retry_days_max;
        if schedule.length().as_secs() > u64::from(days_max) * 24 * 3600 {
            let message = format!(
                "may last at most {days_max} days in all (limits.endpoint_retry_days_max), and \
                 lasts {} seconds",
                schedule.length().as_secs()
            );
            problems.add(&place, message);
        }
        Some(schedule)
    }
}

fn in_our_names(text: &str) -> String {
    NAMES.iter().fold(text.to_owned(), |text, (theirs, ours)| {
        text.replace(theirs, ours)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, load};
    use crate::error::Error;
    use serde_json::{Value, json};

    fn config() -> Config {
        load(Some("config.toml".as_ref()), Flags::default()).expect("the defaults are valid")
    }

    fn schedule(body: Value, config: &Config) -> Result<RetrySchedule, Vec<(String, String)>> {
        let retry: Retry = serde_json::from_value(body).expect("it has the right types");
        let mut problems = Problems::default();
        let schedule = retry.schedule(&mut problems, config);
        match problems.done() {
            Ok(()) => Ok(schedule.expect("without a problem there is a schedule")),
            Err(Error::Invalid(all)) => Err(all
                .into_iter()
                .map(|one| (one.location.join("."), one.message))
                .collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_shown_is_taken_and_says_the_same() {
        for (body, shown) in [
            (
                json!({ "delaysSeconds": [64, 729] }),
                json!({ "delaysSeconds": [64, 729], "jitter": 0.2 }),
            ),
            (
                json!({ "delaysSeconds": [], "jitter": 0 }),
                json!({ "delaysSeconds": [], "jitter": 0.0 }),
            ),
            (
                json!({ "firstSeconds": 5, "giveUpAfterSeconds": 300 }),
                json!({ "firstSeconds": 5, "factor": 2.0, "maxDelaySeconds": 3600,
                    "giveUpAfterSeconds": 300, "jitter": 0.2 }),
            ),
        ] {
            let first = schedule(body.clone(), &config()).expect("it is good");
            let out = serde_json::to_value(Retry::from(&first)).expect("plain values");
            assert_eq!(out, shown, "{body}");
            assert_eq!(schedule(out, &config()), Ok(first), "{body}");
        }
    }

    #[test]
    fn bad_schedules_and_those_beyond_the_bounds_are_named_as_the_api_spells_them() {
        let mut config = config();
        config.limits.endpoint_retries_max = 3;
        config.limits.endpoint_retry_days_max = 1;
        for (body, places, part) in [
            (
                json!({}),
                vec!["firstSeconds", "giveUpAfterSeconds"],
                "delaysSeconds",
            ),
            (
                json!({ "delaysSeconds": [1], "firstSeconds": 1, "jitter": 2 }),
                vec!["jitter", "firstSeconds"],
                "0 to 1",
            ),
            (
                json!({ "delaysSeconds": [0] }),
                vec!["delaysSeconds"],
                "1 second",
            ),
            (
                json!({ "delaysSeconds": [1, 1, 1, 1] }),
                vec!["delaysSeconds"],
                "limits.endpoint_retries_max",
            ),
            (
                json!({ "delaysSeconds": [1, 86_400] }),
                vec!["delaysSeconds"],
                "limits.endpoint_retry_days_max",
            ),
            (
                json!({ "firstSeconds": 10, "factor": 1, "giveUpAfterSeconds": 40 }),
                vec!["giveUpAfterSeconds"],
                "limits.endpoint_retries_max",
            ),
            (
                json!({ "firstSeconds": 86_400, "maxDelaySeconds": 86_400,
                    "giveUpAfterSeconds": 172_800, "factor": 1 }),
                vec!["giveUpAfterSeconds"],
                "limits.endpoint_retry_days_max",
            ),
        ] {
            let problems = schedule(body.clone(), &config).expect_err("it is bad");
            let found: Vec<&str> = problems
                .iter()
                .map(|(place, _)| place.strip_prefix("body.retry.").expect("the field"))
                .collect();
            assert_eq!(found, places, "{body}");
            assert!(problems[0].1.contains(part), "{body}: {problems:?}");
        }
        for at_the_bound in [
            json!({ "delaysSeconds": [1, 1, 86_398] }),
            json!({ "firstSeconds": 10, "factor": 1, "giveUpAfterSeconds": 39 }),
        ] {
            assert!(
                schedule(at_the_bound.clone(), &config).is_ok(),
                "{at_the_bound}"
            );
        }
    }
}
