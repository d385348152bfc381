//! Rates: the messages a second of an endpoint, or of all endpoints of an application together.
//!
//! Pure: time is an argument. A lane asks when it may send and reports each attempt; retries and
//! resends count too, since the receiver sees them. A full bucket is a second's worth, so any second
//! sees at most twice the rate and the long run at most the rate.
//! An application's bucket is shared by lanes of all workers. A lane that must wait for it is
//! promised a turn, one at a time and behind all others that wait: a sibling with a backlog gets
//! every other turn at most. Lanes without a rate have nothing of this and take no lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::endpoint::CatchUp;
use crate::domain::id::{ApplicationId, MessageId};
use crate::lock::locked;

/// The units that one message takes out of a bucket. A bucket gains as many units in a millisecond as
/// its rate has messages a second, so nothing is ever rounded.
const MESSAGE: i64 = 1000;

/// The messages that may be sent now, by a rate and by the messages sent before.
#[derive(Debug)]
struct Bucket {
    /// Messages a second.
    rate: i64,
    level: i64,
    /// The instant of that level.
    at: Timestamp,
}

impl Bucket {
    fn new(rate: u16, empty_at: Timestamp) -> Bucket {
        Bucket {
            rate: i64::from(rate).max(1),
            level: 0,
            at: empty_at,
        }
    }

    /// Changes the rate; messages sent under the old one still count.
    fn set_rate(&mut self, rate: u16, now: Timestamp) {
        self.refill(now);
        self.rate = i64::from(rate).max(1);
        self.level = self.level.min(self.full());
    }

    /// A second's worth.
    fn full(&self) -> i64 {
        self.rate * MESSAGE
    }

    /// A clock that was set back gains nothing, and time goes on from there.
    fn refill(&mut self, now: Timestamp) {
        let elapsed = i64::try_from(now.since(self.at).as_millis()).unwrap_or(i64::MAX);
        let gained = self.rate.saturating_mul(elapsed);
        self.level = self.level.saturating_add(gained).min(self.full());
        self.at = now;
    }

    /// When the bucket has enough for this many messages, if none is sent before.
    fn has_at(&self, messages: i64) -> Timestamp {
        let missing = (messages * MESSAGE - self.level).max(0);
        let milliseconds = missing.unsigned_abs().div_ceil(self.rate.unsigned_abs());
        self.at + Duration::from_millis(milliseconds)
    }

    fn take(&mut self) {
        self.level -= MESSAGE;
    }

    fn is_full(&self, now: Timestamp) -> bool {
        self.has_at(self.rate) <= now
    }
}

/// A promise that a lane may send from then on.
#[derive(Clone, Copy, Debug)]
struct Promise {
    at: Timestamp,
    round: u64,
}

/// An application's bucket.
#[derive(Debug)]
pub struct SharedBucket(Mutex<Promises>);

#[derive(Debug)]
struct Promises {
    bucket: Bucket,
    /// Turns that were promised in this round, and neither used nor given back.
    promised: i64,
    /// Turns of an earlier round are void: the rate was changed since, or the clock set back.
    round: u64,
}

impl Promises {
    fn look(&mut self, now: Timestamp) {
        if now < self.bucket.at {
            self.begin_round();
        }
        self.bucket.refill(now);
    }

    fn begin_round(&mut self) {
        self.round += 1;
        self.promised = 0;
    }

    fn end(&mut self, turn: Promise) {
        if turn.round == self.round {
            self.promised -= 1;
        }
    }
}

impl SharedBucket {
    fn promises(&self) -> MutexGuard<'_, Promises> {
        locked(self.0.lock())
    }

    fn set_rate(&self, rate: u16, now: Timestamp) {
        let mut promises = self.promises();
        if promises.bucket.rate != i64::from(rate) {
            promises.begin_round();
            promises.bucket.set_rate(rate, now);
        }
    }

    /// The lane's turn that it holds, or a new one behind all others.
    fn turn(&self, held: Option<Promise>, now: Timestamp) -> Promise {
        let mut promises = self.promises();
        promises.look(now);
        if let Some(held) = held
            && held.round == promises.round
        {
            // A turn never lies behind all turns that are promised now, even where others were given
            // back before it. Turns that were not used in time may come together: then the bucket decides.
            let last = promises.bucket.has_at(promises.promised);
            let at = held.at.min(last).max(promises.bucket.has_at(1));
            return Promise { at, ..held };
        }
        promises.promised += 1;
        Promise {
            at: promises.bucket.has_at(promises.promised),
            round: promises.round,
        }
    }

    /// Where two workers find the last message's worth at the same instant, both send and the bucket
    /// owes one: the next lane waits for it.
    fn spend(&self, held: Option<Promise>) {
        let mut promises = self.promises();
        promises.bucket.take();
        if let Some(held) = held {
            promises.end(held);
        }
    }

    fn give_back(&self, held: Promise) {
        self.promises().end(held);
    }

    fn is_full(&self, now: Timestamp) -> bool {
        self.promises().bucket.is_full(now)
    }
}

/// A lane's part in its application's bucket.
#[derive(Debug)]
struct Share {
    bucket: Arc<SharedBucket>,
    rate: u16,
    turn: Option<Promise>,
}

impl Share {
    fn step_back(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.bucket.give_back(turn);
        }
    }
}

/// A lane that is no more does not keep others from its turn.
impl Drop for Share {
    fn drop(&mut self) {
        self.step_back();
    }
}

/// The throttle of one lane.
#[derive(Debug, Default)]
pub struct Throttle {
    own: Option<Bucket>,
    share: Option<Share>,
}

/// The rates of a lane as they are registered.
#[derive(Debug, Default)]
pub struct Rates {
    pub own: Option<u16>,
    pub application: Option<(u16, Arc<SharedBucket>)>,
    /// When the process began to send. Messages sent before are not known, so a bucket begins empty at
    /// this time.
    pub since: Timestamp,
}

impl Throttle {
    /// The throttle of a lane from now on; messages that it has sent so far stay counted.
    pub fn changed(
        old: Option<Box<Throttle>>,
        rates: Rates,
        now: Timestamp,
    ) -> Option<Box<Throttle>> {
        if rates.own.is_none() && rates.application.is_none() {
            return None;
        }
        let mut throttle = old.unwrap_or_default();
        throttle.own = rates.own.map(|rate| match throttle.own.take() {
            Some(mut bucket) => {
                bucket.set_rate(rate, now);
                bucket
            }
            None => Bucket::new(rate, rates.since),
        });
        throttle.share = rates
            .application
            .map(|(rate, bucket)| match throttle.share.take() {
                Some(mut share) if Arc::ptr_eq(&share.bucket, &bucket) => {
                    share.rate = rate;
                    share
                }
                _ => Share {
                    bucket,
                    rate,
                    turn: None,
                },
            });
        Some(throttle)
    }

    /// When a lane that has something to send may send it; for a lane that must wait for its
    /// application this holds its turn.
    pub fn free_at(&mut self, now: Timestamp) -> Timestamp {
        if let Some(own) = &mut self.own {
            own.refill(now);
            let free_at = own.has_at(1);
            if free_at > now {
                // Its siblings need not wait for a turn that it cannot use yet.
                self.step_back();
                return free_at;
            }
        }
        let Some(share) = &mut self.share else {
            return now;
        };
        let turn = share.bucket.turn(share.turn, now);
        share.turn = Some(turn);
        turn.at
    }

    /// The lane has nothing to send for now.
    pub fn step_back(&mut self) {
        if let Some(share) = &mut self.share {
            share.step_back();
        }
    }

    /// The lane sends a message now. Ask `free_at` first.
    pub fn take(&mut self) {
        if let Some(own) = &mut self.own {
            own.take();
        }
        if let Some(share) = &mut self.share {
            share.bucket.spend(share.turn.take());
        }
    }

    /// Messages that may go out within a second or so.
    pub fn a_seconds_worth(&self) -> usize {
        let own = self.own.as_ref().map(|bucket| bucket.rate as usize);
        let shared = self.share.as_ref().map(|share| usize::from(share.rate));
        own.unwrap_or(usize::MAX).min(shared.unwrap_or(usize::MAX))
    }

    /// No message of the lane counts any more. Its application's bucket is kept apart.
    pub fn is_forgettable(&self, now: Timestamp) -> bool {
        self.own.as_ref().is_none_or(|own| own.is_full(now))
    }
}

/// The pace of a lane's backlog: what was published before a release is sent at most at its rate.
#[derive(Debug)]
pub struct CatchingUp {
    catch_up: CatchUp,
    bucket: Bucket,
}

impl CatchingUp {
    /// The pace from now on; what was sent at the same one so far stays counted.
    pub fn changed(
        old: Option<Box<CatchingUp>>,
        catch_up: Option<CatchUp>,
        now: Timestamp,
    ) -> Option<Box<CatchingUp>> {
        let catch_up = catch_up?;
        let same = old.filter(|old| old.catch_up == catch_up);
        same.or_else(|| {
            // From the release on, however late the lane hears of it.
            let bucket = Bucket::new(catch_up.rate, catch_up.published_before.min(now));
            Some(Box::new(CatchingUp { catch_up, bucket }))
        })
    }

    fn has(&self, message: MessageId) -> bool {
        message.time() < self.catch_up.published_before
    }

    /// When this message may be sent, where it is of the backlog.
    pub fn free_at(&mut self, message: MessageId, now: Timestamp) -> Option<Timestamp> {
        let is_paced = self.has(message);
        is_paced.then(|| {
            self.bucket.refill(now);
            self.bucket.has_at(1)
        })
    }

    /// The lane sends this message now.
    pub fn take(&mut self, message: MessageId) {
        if self.has(message) {
            self.bucket.take();
        }
    }
}

/// The buckets of applications that have a rate.
pub struct Applications {
    since: Timestamp,
    buckets: Mutex<HashMap<ApplicationId, Arc<SharedBucket>>>,
}

impl Applications {
    pub fn new(since: Timestamp) -> Applications {
        Applications {
            since,
            buckets: Mutex::default(),
        }
    }

    /// The rates of a lane, by its endpoint's rate and its application's.
    pub fn rates(
        &self,
        own: Option<u16>,
        application: ApplicationId,
        rate: Option<u16>,
        now: Timestamp,
    ) -> Rates {
        Rates {
            own,
            application: rate.map(|rate| (rate, self.bucket(application, rate, now))),
            since: self.since,
        }
    }

    fn bucket(&self, application: ApplicationId, rate: u16, now: Timestamp) -> Arc<SharedBucket> {
        let mut buckets = locked(self.buckets.lock());
        let new = || {
            let bucket = Bucket::new(rate, self.since);
            Arc::new(SharedBucket(Mutex::new(Promises {
                bucket,
                promised: 0,
                round: 0,
            })))
        };
        let bucket = buckets.entry(application).or_insert_with(new);
        bucket.set_rate(rate, now);
        bucket.clone()
    }

    /// Forgets the buckets that no lane has a part in and that are full, as new ones are.
    pub fn forget_idle(&self, now: Timestamp) {
        let mut buckets = locked(self.buckets.lock());
        buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const APPLICATION: ApplicationId = ApplicationId([1; 20]);
    /// A second after the start.
    const BEGIN: Timestamp = Timestamp(1_000);

    fn throttle(rates: Rates) -> Throttle {
        *Throttle::changed(None, rates, BEGIN).expect("there is a rate")
    }

    fn own(rate: u16) -> Throttle {
        throttle(Rates {
            own: Some(rate),
            ..Rates::default()
        })
    }

    fn siblings(count: usize, rate: u16) -> (Applications, Vec<Throttle>) {
        let applications = Applications::new(Timestamp(0));
        let one = |_| throttle(applications.rates(None, APPLICATION, Some(rate), BEGIN));
        let lanes = (0..count).map(one).collect();
        (applications, lanes)
    }

    fn changed(throttle: Throttle, rates: Rates, now: Timestamp) -> Option<Box<Throttle>> {
        Throttle::changed(Some(Box::new(throttle)), rates, now)
    }

    /// Sends all that may be sent at `now`.
    fn send_all(throttle: &mut Throttle, now: Timestamp) -> u64 {
        let mut sent = 0;
        while throttle.free_at(now) <= now {
            throttle.take();
            sent += 1;
        }
        sent
    }

    #[test]
    fn a_burst_is_a_seconds_worth_and_then_the_rate_holds() {
        for (rate, first_ms, in_ten_seconds) in [
            (1, 1_000, 11),
            (3, 334, 33),
            (10, 100, 110),
            (1_000, 1, 11_000),
            (65_535, 1, 720_885),
        ] {
            let mut lane = own(rate);
            let mut sent = send_all(&mut lane, BEGIN);
            assert_eq!(sent, u64::from(rate), "{rate}: the burst");
            assert_eq!(lane.free_at(BEGIN), Timestamp(BEGIN.0 + first_ms), "{rate}");
            let end = BEGIN + Duration::from_secs(10);
            let mut now = BEGIN;
            while now < end {
                now = lane.free_at(now).min(end);
                sent += send_all(&mut lane, now);
            }
            assert_eq!(sent, in_ten_seconds, "{rate}: to the message");
        }
    }

    #[test]
    fn nothing_is_left_of_the_second_before_the_start() {
        let rates = Rates {
            own: Some(10),
            since: BEGIN,
            ..Rates::default()
        };
        let mut lane = throttle(rates);
        assert_eq!(send_all(&mut lane, BEGIN), 0);
        assert_eq!(send_all(&mut lane, BEGIN + Duration::from_millis(500)), 5);
    }

    #[test]
    fn a_change_of_the_rate_keeps_what_was_sent() {
        let rates = |rate| Rates {
            own: Some(rate),
            ..Rates::default()
        };
        let mut lane = own(10);
        assert_eq!(send_all(&mut lane, BEGIN), 10);
        let mut faster = *changed(lane, rates(100), BEGIN).unwrap();
        assert_eq!(send_all(&mut faster, BEGIN), 0);
        let later = BEGIN + Duration::from_millis(500);
        faster.free_at(later);
        let mut slower = *changed(faster, rates(2), later).unwrap();
        assert_eq!(
            send_all(&mut slower, later),
            2,
            "no more than its own burst"
        );
        assert!(changed(slower, Rates::default(), later).is_none());
    }

    #[test]
    fn a_lane_is_forgettable_once_its_burst_is_whole_again() {
        let mut lane = own(10);
        assert!(lane.is_forgettable(BEGIN));
        assert_eq!(send_all(&mut lane, BEGIN), 10);
        assert!(!lane.is_forgettable(BEGIN + Duration::from_millis(999)));
        assert!(lane.is_forgettable(BEGIN + Duration::from_millis(1_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_neither_stops_a_lane_nor_gives_it_more() {
        let long_ago = Timestamp(10);
        let (_applications, mut lanes) = siblings(2, 10);
        lanes.push(own(10));
        for lane in &mut lanes[1..] {
            assert_eq!(send_all(lane, BEGIN), 10);
            lane.free_at(BEGIN);
        }
        lanes[0].free_at(BEGIN);
        for lane in &mut lanes {
            let free_at = lane.free_at(long_ago);
            assert!(free_at > long_ago, "its burst is spent");
            assert!(free_at <= Timestamp(long_ago.0 + 200));
        }
    }

    #[test]
    fn siblings_take_turns_whatever_each_has_waiting() {
        let (_applications, mut lanes) = siblings(3, 10);
        assert_eq!(send_all(&mut lanes[0], BEGIN), 10);
        let mut sent = [0; 3];
        let mut now = BEGIN;
        for _ in 0..30 {
            // The first is asked first, and as often as it likes.
            let free_at: Vec<_> = lanes.iter_mut().map(|lane| lane.free_at(now)).collect();
            now = *free_at.iter().min().unwrap();
            for (place, lane) in lanes.iter_mut().enumerate() {
                sent[place] += send_all(lane, now);
            }
        }
        assert_eq!(sent, [10, 10, 10]);
        assert_eq!(now, BEGIN + Duration::from_secs(3));
    }

    #[test]
    fn a_turn_that_is_not_used_goes_to_others() {
        let (_applications, mut lanes) = siblings(3, 1);
        assert_eq!(send_all(&mut lanes[0], BEGIN), 1);
        let mut last = lanes.pop().unwrap();
        assert_eq!(lanes[0].free_at(BEGIN), Timestamp(2_000));
        assert_eq!(lanes[1].free_at(BEGIN), Timestamp(3_000));
        lanes[0].step_back();
        assert_eq!(last.free_at(BEGIN), Timestamp(3_000));
        drop(lanes);
        assert_eq!(last.free_at(BEGIN), Timestamp(2_000), "nobody else waits");
    }

    #[test]
    fn a_new_rate_of_the_application_makes_all_turns_anew() {
        let (applications, mut lanes) = siblings(2, 1);
        assert_eq!(send_all(&mut lanes[0], BEGIN), 1);
        for lane in &mut lanes {
            lane.free_at(BEGIN);
        }
        for lane in lanes {
            let rates = applications.rates(None, APPLICATION, Some(1_000), BEGIN);
            let mut lane = changed(lane, rates, BEGIN).unwrap();
            assert!(lane.free_at(BEGIN) <= Timestamp(BEGIN.0 + 2));
        }
        applications.forget_idle(BEGIN);
        assert_eq!(applications.buckets.lock().unwrap().len(), 1, "not full");
        applications.forget_idle(Timestamp(9_000));
        assert!(applications.buckets.lock().unwrap().is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Advance { ms: u64 },
        SetBack { ms: u64 },
        Send { lane: usize, count: usize },
        GiveWay { lane: usize },
        Renew { lane: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        let lane = 0..4usize;
        prop_oneof![
            4 => (0u64..700).prop_map(|ms| Step::Advance { ms }),
            1 => (0u64..50).prop_map(|ms| Step::SetBack { ms }),
            6 => (lane.clone(), 1..40usize).prop_map(|(lane, count)| Step::Send { lane, count }),
            1 => lane.clone().prop_map(|lane| Step::GiveWay { lane }),
            1 => lane.prop_map(|lane| Step::Renew { lane }),
        ]
    }

    /// The receivers' clock runs on while ours is set back.
    fn within_bounds(sent: &[u64], rate: u16) -> Result<(), TestCaseError> {
        let rate = u64::from(rate);
        for (place, begin) in sent.iter().enumerate() {
            let window = sent[place..].iter().take_while(|at| **at < begin + 1_000);
            prop_assert!(window.count() as u64 <= 2 * rate, "a second from {begin}");
            let long = sent.last().unwrap_or(begin) - begin;
            let count = (sent.len() - place) as u64;
            prop_assert!(count * 1_000 <= rate * (1_000 + long), "in the long run");
        }
        Ok(())
    }

    proptest! {
        /// Lanes ask and step back in any order, lanes come and go, and the clock is corrected: any second
        /// sees at most twice the rate, and any longer time the rate and a burst.
        #[test]
        fn no_sequence_beats_the_rates(
            steps in proptest::collection::vec(step(), 1..200),
            rate in 1u16..30,
            own in proptest::option::of(1u16..20),
        ) {
            let applications = Applications::new(Timestamp(0));
            let rates = |now| applications.rates(own, APPLICATION, Some(rate), now);
            let (mut now, mut true_time) = (Timestamp(100), 100);
            let mut lanes: Vec<_> = (0..4).map(|_| throttle(rates(BEGIN))).collect();
            let mut sent = vec![Vec::new(); 4];
            let mut all = Vec::new();
            for step in steps {
                match step {
                    Step::Advance { ms } => {
                        now = now + Duration::from_millis(ms);
                        true_time += ms;
                    }
                    Step::SetBack { ms } => now = Timestamp(now.0.saturating_sub(ms)),
                    Step::GiveWay { lane } => lanes[lane].step_back(),
                    Step::Renew { lane } => if lanes[lane].is_forgettable(now) {
                        lanes[lane] = throttle(rates(now));
                        applications.forget_idle(now);
                    },
                    Step::Send { lane, count } => for _ in 0..count {
                        if lanes[lane].free_at(now) > now {
                            break;
                        }
                        lanes[lane].take();
                        sent[lane].push(true_time);
                        all.push(true_time);
                    },
                }
            }
            within_bounds(&all, rate)?;
            for sent in sent {
                within_bounds(&sent, own.unwrap_or(u16::MAX))?;
            }
        }

        /// No turn lies further off than all promised before it, and every lane that waits gets its turn.
        #[test]
        fn everybody_who_waits_is_served_in_time(
            rate in 1u16..200,
            lanes in 1usize..20,
            asks in proptest::collection::vec((0usize..20, 0u64..100), 0..100),
        ) {
            let (_applications, mut lanes) = siblings(lanes, rate);
            let mut now = BEGIN;
            for (lane, ms) in asks {
                now = now + Duration::from_millis(ms);
                let count = lanes.len();
                let lane = &mut lanes[lane % count];
                send_all(lane, now);
                let longest = (count as u64 * 1_000).div_ceil(u64::from(rate)) + 1;
                prop_assert!(lane.free_at(now) <= now + Duration::from_millis(longest));
            }
        }
    }
}
