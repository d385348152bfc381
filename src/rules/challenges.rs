//! The result of a challenge, for an endpoint whose URL must be verified.

use serde::{Deserialize, Serialize};

use super::{Decided, OwnCommand};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;

/// The lane's endpoint, if it is not verified yet.
pub fn unverified(catalog: &Catalog, lane: u64) -> Option<&Endpoint> {
    let endpoint = catalog.endpoint_by_number(lane)?;
    endpoint.verification.is_some().then_some(&**endpoint)
}

/// Records the result of a challenge. A result for a former URL, or for an endpoint that was
/// deleted, changes nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepChallenge {
    pub lane: u64,
    /// The URL that the challenge was sent to.
    pub url: String,
    pub sent_at: Timestamp,
    /// The problem of the answer, as a sentence; absent where the endpoint is verified.
    pub problem: Option<String>,
}

impl OwnCommand for KeepChallenge {
    type Answer = ();

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<()> {
        let current = unverified(catalog, self.lane).filter(|current| current.url == self.url);
        let Some(mut endpoint) = current.cloned() else {
            return Ok((Vec::new(), ()));
        };
        match (self.problem, &mut endpoint.verification) {
            (Some(problem), Some(verification)) => verification.failed(self.sent_at, problem),
            (_, verification) => *verification = None,
        }
        Ok((vec![Change::PutEndpoint(endpoint)], ()))
    }
}

/// Releases the deliveries that are held for endpoints that are not verified, because verification
/// was turned off.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseUnverified {
    pub lanes: Vec<u64>,
}

impl OwnCommand for ReleaseUnverified {
    /// The number of endpoints that were not verified.
    type Answer = usize;

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<usize> {
        let endpoints = self
            .lanes
            .iter()
            .filter_map(|lane| unverified(catalog, *lane));
        let changes = endpoints.map(|endpoint| {
            Change::PutEndpoint(Endpoint {
                verification: None,
                ..endpoint.clone()
            })
        });
        let changes: Vec<Change> = changes.collect();
        let count = changes.len();
        Ok((changes, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verification::Verification;
    use crate::rules::tests::{Example, NOW};

    const URL: &str = "https://example.com/in";

    /// An endpoint with the number 7, as it is with a challenge due, or verified.
    fn example(verification: Option<Verification>) -> Example {
        let endpoint = Endpoint {
            verification,
            ..Example::new().endpoint()
        };
        Example::with([
            Change::PutApplication(Example::application()),
            Change::PutEndpoint(endpoint),
        ])
    }

    fn put(changes: &[Change]) -> &Option<Verification> {
        match changes {
            [Change::PutEndpoint(endpoint)] => &endpoint.verification,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_challenge_counts_for_the_url_that_it_was_sent_to_and_while_one_is_due() {
        let due = Some(Verification::due(NOW));
        for (verification, lane, url, counts) in [
            (&due, 7, URL, true),
            (&due, 7, "https://example.com/elsewhere", false),
            (&due, 8, URL, false),
            (&None, 7, URL, false),
        ] {
            let example = example(verification.clone());
            for problem in [None, Some("it was not echoed".to_owned())] {
                let keep = KeepChallenge {
                    lane,
                    url: url.to_owned(),
                    sent_at: NOW,
                    problem: problem.clone(),
                };
                let (changes, ()) = keep.decide(&example.catalog, NOW).unwrap();
                if !counts {
                    assert!(changes.is_empty(), "{lane} {url}: {changes:?}");
                    continue;
                }
                let kept = put(&changes).as_ref();
                assert_eq!(kept.and_then(|kept| kept.last_error.clone()), problem);
                assert_eq!(kept.map(|kept| kept.attempts), problem.map(|_| 1));
            }
        }
    }

    #[test]
    fn only_what_is_held_is_let_go() {
        let release = || ReleaseUnverified { lanes: vec![6, 7] };
        for (verification, expected) in [(Some(Verification::due(NOW)), 1), (None, 0)] {
            let example = example(verification);
            let (changes, count) = release().decide(&example.catalog, NOW).unwrap();
            assert_eq!((changes.len(), count), (expected, expected));
            assert!(changes.is_empty() || put(&changes).is_none());
        }
    }
}
