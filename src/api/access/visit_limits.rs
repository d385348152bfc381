//! Limits of sign-ins: each sign-in is a change on the disk, so only so many are accepted within a
//! minute. `rules::visit_limits` limits the number of visits.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::api::kit::minute;
use crate::clock::Timestamp;
use crate::config::LimitsSection;
use crate::error::{Error, Result};
use crate::lock::locked;
use crate::rules::payer::Payer;

/// Sign-ins that succeeded in the minute that is running.
#[derive(Default)]
pub struct SignIns(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    since: Timestamp,
    /// By the SHA-256 of the credential. A customer's limit bounds their number.
    of_credential: HashMap<[u8; 32], u64>,
    of_payer: HashMap<Payer, u64>,
}

impl SignIns {
    /// Counts a sign-in with a valid credential; an error where there were too many of them.
    pub fn admit(
        &self,
        credential: [u8; 32],
        payer: Payer,
        limits: &LimitsSection,
        now: Timestamp,
    ) -> Result<()> {
        let mut counts = locked(self.0.lock());
        if minute::is_over(counts.since, now) {
            *counts = Counts {
                since: now,
                ..Counts::default()
            };
        }
        for (count, max, whose, setting) in [
            (
                counts.of_payer.get(&payer),
                limits.sign_ins_per_customer_minute_max,
                "this customer's links and keys, or this credential,",
                "limits.sign_ins_per_customer_minute_max",
            ),
            (
                counts.of_credential.get(&credential),
                limits.sign_ins_per_credential_minute_max,
                "this credential",
                "limits.sign_ins_per_credential_minute_max",
            ),
        ] {
            if count.is_some_and(|count| *count >= max) {
                return Err(Error::TooManyNow {
                    reason: format!(
                        "{whose} signed in {max} times within a minute, which is the limit ({setting})"
                    ),
                    retry_after_seconds: minute::seconds_left(counts.since, now),
                });
            }
        }
        *counts.of_payer.entry(payer).or_default() += 1;
        *counts.of_credential.entry(credential).or_default() += 1;
        Ok(())
    }
}
