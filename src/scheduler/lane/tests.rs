//! One lane by itself, and every order of its events.

use super::*;
use crate::domain::attempt::Trigger;
use crate::domain::disabled::Disabled;
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId};
use crate::domain::message::Message;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Later than anything is due here.
const NOW: Timestamp = Timestamp(1 << 40);

const LIMITS: LaneLimits = LaneLimits {
    in_flight_max: 2,
    unrecorded_max: 3,
};

fn endpoint() -> Option<Arc<Endpoint>> {
    Some(Arc::new(Endpoint {
        url: "http://127.0.0.1/".to_owned(),
        ..Endpoint::new(
            EndpointId([1; 20]),
            OrganisationId([1; 20]),
            ApplicationId([1; 20]),
            1,
            Timestamp(0),
        )
    }))
}

fn entry(due: u64, message: u8) -> Entry {
    let key = DeliveryKey {
        lane: 1,
        due: Timestamp(due),
        message: MessageId([message; 20]),
    };
    Entry {
        delivery: Delivery {
            key,
            attempts: 0,
            trigger: Trigger::Scheduled,
        },
        message: None,
    }
}

#[test]
fn deliveries_leave_in_due_order_up_to_the_cap() {
    let mut lane = Lane::new(endpoint(), true, NOW);
    for (due, message) in [(30, 3), (10, 1), (20, 2)] {
        lane.stored(entry(due, message));
    }
    assert_eq!(
        lane.readiness(Timestamp(5), &LIMITS),
        Readiness::At(Timestamp(10))
    );
    let now = Timestamp(25);
    for expected in [10, 20] {
        assert_eq!(lane.readiness(now, &LIMITS), Readiness::Ready);
        assert_eq!(
            lane.take(NOW).unwrap().delivery.key.due,
            Timestamp(expected)
        );
    }
    assert_eq!(
        lane.readiness(Timestamp(99), &LIMITS),
        Readiness::Waiting,
        "two in flight"
    );
    lane.sent(false, true, &LIMITS);
    assert_eq!(lane.readiness(Timestamp(99), &LIMITS), Readiness::Ready);
    lane.take(NOW);
    lane.sent(false, true, &LIMITS);
    lane.sent(false, true, &LIMITS);
    lane.stored(entry(40, 4));
    assert_eq!(
        lane.readiness(Timestamp(99), &LIMITS),
        Readiness::Waiting,
        "3 unrecorded"
    );
    lane.recorded(&(Timestamp(10), MessageId([1; 20])));
    assert_eq!(lane.readiness(Timestamp(99), &LIMITS), Readiness::Ready);
}

#[test]
fn a_copy_of_a_deleted_payload_is_not_kept_nor_read() {
    let budget = super::super::budget::Budget::new(1 << 20);
    let with_message = |due, number| {
        let message = Message {
            id: MessageId([number; 20]),
            application: ApplicationId([1; 20]),
            event_type: String::new(),
            event_id: None,
            channels: Vec::new(),
            payload: Default::default(),
            is_raw: false,
            content_type: None,
            accepted_at: Timestamp(0),
            origin: Default::default(),
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
            endpoints_matched: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        };
        Entry {
            message: budget.keep(Arc::new(message)),
            ..entry(due, number)
        }
    };
    let mut lane = Lane::new(endpoint(), true, NOW);
    lane.stored(with_message(1, 1));
    lane.stored(with_message(2, 2));
    lane.look_again();
    assert!(lane.wants_read().is_some());
    lane.stored(with_message(3, 3));
    lane.expunged(MessageId([1; 20]));
    lane.expunged(MessageId([3; 20]));
    // Read before they were deleted.
    lane.read(vec![with_message(1, 1), with_message(2, 2)], true);
    for (number, kept) in [(1, false), (2, false), (3, false)] {
        let taken = lane.take(NOW).expect("three are there");
        assert_eq!(taken.delivery.key.message, MessageId([number; 20]));
        assert_eq!(taken.message.is_some(), kept, "{number}");
    }
    lane.stored(with_message(4, 4));
    lane.stored(with_message(5, 5));
    lane.expunged(MessageId([4; 20]));
    assert!(lane.take(NOW).expect("it is there").message.is_none());
    assert!(lane.take(NOW).expect("it is there").message.is_some());
}

#[test]
fn a_hanging_lane_keeps_one_slot_until_a_success() {
    let mut lane = Lane::new(endpoint(), true, NOW);
    (1..9).for_each(|message| lane.stored(entry(1, message)));
    let limits = LaneLimits {
        in_flight_max: 2,
        unrecorded_max: 99,
    };
    lane.take(NOW);
    lane.take(NOW);
    lane.sent(true, false, &LIMITS);
    assert_eq!(lane.readiness(Timestamp(9), &limits), Readiness::Waiting);
    lane.sent(true, false, &LIMITS);
    lane.take(NOW);
    assert_eq!(lane.readiness(Timestamp(9), &limits), Readiness::Waiting);
    lane.sent(false, true, &LIMITS);
    lane.take(NOW);
    assert_eq!(lane.readiness(Timestamp(9), &limits), Readiness::Ready);
}

#[test]
fn a_disabled_or_deleted_endpoint_gets_nothing() {
    let mut disabled = (*endpoint().unwrap()).clone();
    disabled.disabled = Some(Disabled::by_hand(Timestamp(0)));
    for endpoint in [None, Some(Arc::new(disabled))] {
        let mut lane = Lane::new(endpoint, true, NOW);
        lane.stored(entry(1, 1));
        assert_eq!(lane.readiness(Timestamp(9), &LIMITS), Readiness::Waiting);
        assert_eq!(lane.wants_read(), None);
    }
}

#[test]
fn what_is_given_back_during_a_read_does_not_bring_back_what_is_done() {
    let mut lane = Lane::new(endpoint(), true, NOW);
    lane.stored(entry(1, 1));
    lane.stored(entry(2, 2));
    lane.look_again();
    assert!(lane.wants_read().is_some());
    let unreadable = place(&lane.take(NOW).unwrap().delivery.key);
    let done = place(&lane.take(NOW).unwrap().delivery.key);
    lane.sent(false, true, &LIMITS);
    lane.recorded(&done);
    lane.given_back(&unreadable, Timestamp(0));
    // The store was read before all that.
    lane.read(vec![entry(1, 1), entry(2, 2)], true);
    let again = Timestamp(0) + TRY_AGAIN;
    let paused = Readiness::At(again);
    assert_eq!(lane.readiness(Timestamp(9), &LIMITS), paused);
    // So it is read once more, which finds the delivery that was given back, and waits.
    assert!(lane.wants_read().is_some());
    lane.read(vec![entry(1, 1)], true);
    assert_eq!(lane.readiness(Timestamp(9), &LIMITS), paused);
    assert_eq!(lane.readiness(again, &LIMITS), Readiness::Ready);
    assert_eq!(lane.take(NOW).unwrap().delivery.key.due, Timestamp(1));
}

/// A lane with a rate, of which a delivery was given back and read again.
fn paused(now: Timestamp) -> Lane {
    let mut lane = Lane::new(endpoint(), true, NOW);
    let rates = Rates {
        own: Some(1),
        ..Rates::default()
    };
    lane.rates_changed(rates, Timestamp(0));
    lane.stored(entry(1, 1));
    let taken = place(&lane.take(NOW).unwrap().delivery.key);
    lane.given_back(&taken, now);
    assert!(lane.wants_read().is_some());
    lane.read(vec![entry(1, 1)], true);
    lane
}

#[test]
fn a_clock_that_is_set_back_makes_no_pause_longer() {
    let now = Timestamp::from_seconds(1_700_000_000);
    let mut lane = paused(now);
    let earlier = Timestamp::from_seconds(1_600_000_000);
    let again = earlier + TRY_AGAIN;
    let readiness = lane.readiness(earlier, &LIMITS);
    assert_eq!(readiness, Readiness::At(again));
    // Looks in between do not postpone it.
    let between = earlier + TRY_AGAIN / 2;
    assert_eq!(lane.readiness(between, &LIMITS), Readiness::At(again));
    assert_ne!(lane.readiness(again, &LIMITS), Readiness::Waiting);
    assert!(lane.has_only_its_rate_to_wait_for(again));
}

#[test]
fn a_lane_that_has_to_read_after_a_rest_waits_for_nothing_else() {
    let mut lane = Lane::new(endpoint(), true, Timestamp(0));
    lane.stored(entry(100_000, 1));
    // Only where the clock was set back, a lane rests that knows some of its queue.
    lane.pause(Timestamp(0));
    lane.look_again();
    // It is not read yet, so only the store has it.
    lane.stored(entry(1, 2));
    let again = Timestamp(0) + TRY_AGAIN;
    assert_eq!(lane.readiness(Timestamp(1), &LIMITS), Readiness::At(again));
}

#[test]
fn a_lane_that_could_not_be_read_rests_though_there_are_news() {
    let mut lane = Lane::new(endpoint(), false, NOW);
    assert!(lane.wants_read().is_some());
    lane.read_failed();
    lane.pause(Timestamp(0));
    lane.stored(entry(1, 1));
    let again = Timestamp(0) + TRY_AGAIN;
    assert!(lane.is_paused(Timestamp(9)));
    assert_eq!(
        lane.readiness(Timestamp(9), &LIMITS),
        Readiness::At(again),
        "its alarm stays"
    );
    assert!(!lane.is_paused(again));
    assert!(lane.wants_read().is_some());
}

#[test]
fn a_lane_that_rests_says_until_when() {
    let again = Timestamp(9) + TRY_AGAIN;
    let mut unread = Lane::new(endpoint(), false, NOW);
    assert!(unread.wants_read().is_some());
    unread.read_failed();
    unread.pause(Timestamp(9));
    let mut given_back = Lane::new(endpoint(), true, NOW);
    given_back.stored(entry(1, 1));
    let taken = place(&given_back.take(NOW).unwrap().delivery.key);
    given_back.given_back(&taken, Timestamp(9));
    for mut lane in [unread, given_back] {
        let readiness = lane.readiness(Timestamp(9), &LIMITS);
        assert_eq!(readiness, Readiness::At(again));
        assert!(!lane.is_forgettable(again));
        assert!(lane.wants_read().is_some(), "it is read when that is over");
    }
}

#[test]
fn a_paused_lane_does_not_wait_for_its_rate() {
    let now = Timestamp::from_seconds(1_700_000_000);
    let mut lane = paused(now);
    assert!(!lane.has_only_its_rate_to_wait_for(now));
    assert!(lane.has_only_its_rate_to_wait_for(now + TRY_AGAIN));
    lane.rates_changed(Rates::default(), now);
    assert!(!lane.has_only_its_rate_to_wait_for(now + TRY_AGAIN));
}

/// Everything that can happen to a lane and its queue in the store, in any order.
#[derive(Clone, Debug)]
enum Step {
    Store { due: u64, told_late: bool },
    StartRead,
    FinishRead,
    Send,
    Record { retry: Option<u64> },
    GiveBack,
    Cancel,
    Tell,
    LookAgain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..50, any::<bool>()).prop_map(|(due, told_late)| Step::Store { due, told_late }),
        Just(Step::StartRead),
        Just(Step::FinishRead),
        Just(Step::Send),
        proptest::option::of(0u64..3).prop_map(|retry| Step::Record { retry }),
        Just(Step::GiveBack),
        Just(Step::Cancel),
        Just(Step::Tell),
        Just(Step::LookAgain),
    ]
}

proptest! {
    /// In any order of commits, reads and news of them, every stored delivery is sent and none is in
    /// flight twice.
    #[test]
    fn everything_stored_is_sent_once(steps in proptest::collection::vec(step(), 0..120)) {
        let limits = LaneLimits { in_flight_max: 1000, unrecorded_max: 1000 };
        let mut lane = Lane::new(endpoint(), false, NOW);
        let mut store: BTreeSet<Place> = BTreeSet::new();
        let mut news: Vec<Place> = Vec::new();
        let mut snapshot: Option<(Vec<Place>, bool)> = None;
        let mut flying: Vec<Place> = Vec::new();
        let mut stored = 0u8;
        let mut sent = 0;
        let as_entry = |at: Place| {
            let key = DeliveryKey { lane: 1, due: at.0, message: at.1 };
            let delivery = Delivery { key, attempts: 0, trigger: Trigger::Scheduled };
            Entry { delivery, message: None }
        };
        let mut settle = Vec::new();
        for _ in 0..400 {
            settle.extend([
                Step::Tell, Step::FinishRead, Step::StartRead, Step::FinishRead, Step::Send,
                Step::Record { retry: None },
            ]);
        }
        for step in steps.into_iter().chain(settle) {
            match step {
                Step::Store { due, told_late } => {
                    stored += 1;
                    let at = (Timestamp(due), MessageId([stored; 20]));
                    store.insert(at);
                    if told_late { news.push(at) } else {
                        news.drain(..).for_each(|at| lane.stored(as_entry(at)));
                        lane.stored(as_entry(at));
                    }
                }
                Step::LookAgain => lane.look_again(),
                Step::Tell => news.drain(..).for_each(|at| lane.stored(as_entry(at))),
                Step::StartRead => if let Some((behind, limit)) = lane.wants_read() {
                    let found: Vec<Place> = store.iter().copied()
                        .filter(|at| behind.is_none_or(|behind| *at > behind))
                        .take(limit).collect();
                    let whole = found.len() < limit;
                    snapshot = Some((found, whole));
                },
                Step::FinishRead => if let Some((found, whole)) = snapshot.take() {
                    lane.read(found.into_iter().map(as_entry).collect(), whole);
                },
                Step::Send => if lane.readiness(Timestamp(1000), &limits) == Readiness::Ready {
                    let at = place(&lane.take(NOW).unwrap().delivery.key);
                    prop_assert!(!flying.contains(&at), "in flight twice");
                    prop_assert!(store.contains(&at), "sent after it was done");
                    flying.push(at);
                    sent += 1;
                },
                Step::GiveBack => if let Some(at) = flying.pop() {
                    lane.given_back(&at, Timestamp(0));
                },
                Step::Record { retry } => if let Some(at) = flying.pop() {
                    // The committer tells of one batch before it begins the next, so news of
                    // a delivery come before its outcome can be durable.
                    news.drain(..).for_each(|at| lane.stored(as_entry(at)));
                    store.remove(&at);
                    lane.sent(false, true, &LIMITS);
                    lane.recorded(&at);
                    if let Some(due) = retry {
                        let again = (Timestamp(due + at.0.0), at.1);
                        store.insert(again);
                        lane.stored(as_entry(again));
                    }
                },
                Step::Cancel => {
                    // The store reports stored deliveries before canceled ones.
                    news.drain(..).for_each(|at| lane.stored(as_entry(at)));
                    let waiting = store.iter().copied().find(|at| !flying.contains(at));
                    if let Some(at) = waiting {
                        store.remove(&at);
                        lane.gone(at);
                    }
                }
            }
        }
        prop_assert!(store.is_empty(), "{} of {stored} left, {sent} sent", store.len());
    }
}
