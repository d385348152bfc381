//! The machine's own addresses, and private ones that endpoints may reach.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{self, Config, Flags};
use crate::delivery::address::OwnAddresses;
use crate::watched::Thread;

/// How often the machine's own addresses are looked up.
const OWN_ADDRESSES_EVERY: Duration = Duration::from_secs(30);

/// Looks up the machine's own addresses. A failure is logged, and the addresses from before still count.
pub fn find_own(own: &OwnAddresses) -> Result<(), String> {
    own.find().inspect_err(|problem| log::warn!("{problem}"))
}

/// Looks them up again and again. A panic ends one look only.
pub async fn keep_finding(own: OwnAddresses, clock: Clock, main: Arc<Thread>) {
    loop {
        clock.sleep(OWN_ADDRESSES_EVERY).await;
        let own = own.clone();
        // Interfaces are read from the kernel, which may take its time.
        let found = tokio::task::spawn_blocking(move || find_own(&own)).await;
        if let Err(problem) = found.unwrap_or_else(|panic| Err(panic.to_string())) {
            main.note_error(problem);
        }
    }
}

/// Warns of the private addresses that endpoints may reach. Those of `--dev` have a warning of their
/// own.
pub fn warn_of_private_receivers(config: &Config, flags: Flags) {
    if flags.dev {
        log::warn!(
            "DEVELOPMENT MODE (--dev): endpoints may reach this machine's loopback addresses, and \
             with them every service on it. Never run like this where others register endpoints."
        );
    }
    let allowed = &config.delivery.danger_allow_private_addresses;
    let configured: Vec<String> = allowed
        .iter()
        .filter(|network| !(flags.dev && config::loopback().contains(network)))
        .map(ToString::to_string)
        .collect();
    if !configured.is_empty() {
        log::warn!(
            "endpoints may reach private addresses: {}",
            configured.join(", ")
        );
    }
}
