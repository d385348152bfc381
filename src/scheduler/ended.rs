//! The search for deliveries whose whole schedule ended while the breaker of their lane was open.
//!
//! Such a delivery fails without a further request: its receiver would not have taken it either. The loader searches
//! the lane's queue in the store, a page at a time, because what waits behind a breaker may be far more than a lane
//! holds in memory.

use std::sync::Arc;
use std::time::Duration;

use super::gate::{Reached, Searched};
use super::lane::{ENDED_MAX, Place, place};
use crate::clock::Timestamp;
use crate::domain::id::ApplicationId;
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::domain::retry::RetrySchedule;
use crate::error::Result;
use crate::store::Store;

/// Deliveries that one page looks at: others' reads come in between.
const PAGE: usize = 2000;

/// A page of a search that is to be read.
#[derive(Debug)]
pub struct Search {
    pub lane: u64,
    pub application: ApplicationId,
    pub from: Reached,
    /// When the breaker opened. Time before that counts for nothing: a delivery may have waited for another reason.
    pub since: Timestamp,
}

/// A delivery whose schedule has ended, with its message where that can be read.
pub type Ended = (Delivery, Option<Arc<Message>>);

/// Reads a page. Blocks on the disk.
pub fn search(
    store: &Store,
    search: &Search,
    schedule: &RetrySchedule,
) -> Result<(Vec<Ended>, Searched)> {
    let lane = search.lane;
    let behind = search
        .from
        .behind
        .map(|(due, message)| DeliveryKey { lane, due, message });
    let page = store.waiting(lane, behind, PAGE)?;
    let is_whole = page.len() < PAGE;
    let now = store.clock().now();
    let lengths = schedule.lengths_after();
    let end_of = |delivery: &Delivery| end_of(delivery, &lengths, search.since);
    let (ended, searched) = sift(page, is_whole, search.from.next_end, end_of, now);
    let with_message = |delivery: Delivery| {
        let message = store.message(search.application, delivery.key.message);
        (delivery, message.unwrap_or_default())
    };
    Ok((ended.into_iter().map(with_message).collect(), searched))
}

/// The deliveries of a page that have ended, at most [`ENDED_MAX`], and how far the search came with them.
pub fn sift(
    page: Vec<Delivery>,
    is_whole: bool,
    mut next_end: Option<Timestamp>,
    end_of: impl Fn(&Delivery) -> Timestamp,
    now: Timestamp,
) -> (Vec<Delivery>, Searched) {
    let mut ended = Vec::new();
    let mut reached: Option<Place> = None;
    for delivery in page {
        if ended.len() == ENDED_MAX {
            let behind = reached;
            return (ended, Searched::UpTo(Reached { behind, next_end }));
        }
        reached = Some(place(&delivery.key));
        let end = end_of(&delivery);
        if end <= now {
            ended.push(delivery);
        } else {
            next_end = Some(next_end.map_or(end, |before| before.min(end)));
        }
    }
    let searched = match is_whole {
        true => Searched::All(next_end),
        false => Searched::UpTo(Reached {
            behind: reached,
            next_end,
        }),
    };
    (ended, searched)
}

/// When the last attempt of a delivery would be due behind a breaker that opened at `since`; `lengths` are those of its
/// schedule.
pub fn end_of(delivery: &Delivery, lengths: &[Duration], since: Timestamp) -> Timestamp {
    let left = lengths.get(delivery.attempts as usize);
    delivery.key.due.max(since) + left.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attempt::Trigger;
    use crate::domain::id::MessageId;
    use crate::domain::retry::Waits;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn schedule() -> RetrySchedule {
        let waits = [10, 100].map(Duration::from_secs);
        RetrySchedule {
            waits: Waits::Listed(waits.to_vec()),
            jitter: 0.2,
        }
    }

    fn delivery(due_seconds_ago: u64, attempts: u32) -> Delivery {
        Delivery {
            key: DeliveryKey {
                lane: 1,
                due: Timestamp(NOW.0 - 1000 * due_seconds_ago),
                message: MessageId([attempts as u8; 20]),
            },
            attempts,
            trigger: Trigger::Scheduled,
        }
    }

    fn sifted(
        page: Vec<Delivery>,
        is_whole: bool,
        next_end: Option<Timestamp>,
    ) -> (Vec<Delivery>, Searched) {
        let lengths = schedule().lengths_after();
        let end_of = |delivery: &Delivery| end_of(delivery, &lengths, Timestamp(0));
        sift(page, is_whole, next_end, end_of, NOW)
    }

    #[test]
    fn time_before_the_breaker_opened_counts_for_nothing() {
        let lengths = schedule().lengths_after();
        let since = Timestamp(NOW.0 - 5_000);
        // It was held, or its lane had a rate.
        let old = delivery(900, 0);
        let end = since + Duration::from_secs(110);
        assert_eq!(end_of(&old, &lengths, since), end);
        let later = delivery(2, 1);
        assert_eq!(
            end_of(&later, &lengths, since),
            later.key.due + Duration::from_secs(100)
        );
    }

    #[test]
    fn a_delivery_has_ended_when_its_last_attempt_would_have_been_due() {
        for (due_seconds_ago, attempts, has_ended) in [
            (109, 0, false),
            (110, 0, true),
            (99, 1, false),
            (100, 1, true),
            (0, 2, true),
            // More attempts than the schedule has, by a resend or another schedule.
            (0, 3, true),
        ] {
            let page = vec![delivery(due_seconds_ago, attempts)];
            let (ended, searched) = sifted(page, true, None);
            assert_eq!(
                ended.len(),
                usize::from(has_ended),
                "{due_seconds_ago} {attempts}"
            );
            assert_eq!(searched == Searched::All(None), has_ended);
        }
    }

    #[test]
    fn a_search_goes_on_where_a_page_ends_or_enough_have_ended() {
        let fresh = delivery(50, 0);
        let end = fresh.key.due + Duration::from_secs(110);
        let (ended, searched) = sifted(vec![fresh], false, None);
        let behind = Some((Timestamp(NOW.0 - 50_000), MessageId([0; 20])));
        let next_end = Some(end);
        assert!(ended.is_empty());
        assert_eq!(searched, Searched::UpTo(Reached { behind, next_end }));

        let many = (0..ENDED_MAX as u64 + 1).map(|ago| delivery(1000 - ago, 0));
        let (ended, searched) = sifted(many.collect(), true, next_end);
        assert_eq!(ended.len(), ENDED_MAX);
        let behind = ended.last().map(|last| place(&last.key));
        assert_eq!(searched, Searched::UpTo(Reached { behind, next_end }));
    }
}
