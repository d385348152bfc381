//! Reading: messages and attempts from their slices, waiting deliveries from the live database.
//!
//! Everything here blocks on the disk. A list walks the slices in its direction and looks at a
//! bounded number of records a call, so a filter that matches nothing costs a bounded time and
//! tells where to read on.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::engine::{Engine, Values};
use super::layout::{self, MessageMeta, RecordError};
use super::{EventKeys, Inner, Store, Stretch, Window};
use crate::clock::Timestamp;
use crate::domain::attempt::Attempt;
use crate::domain::id::{ApplicationId, AttemptId, ID_TIME_STEP_MS, IDS_END, MessageId};
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::domain::payload::PayloadBytes;
use crate::error::Result;

/// Records that one call looks at before it returns what it has.
const LOOKED_AT_MAX: usize = 10_000;
/// Further values of a long record that are walked over one by one; of more the walk begins anew behind
/// them, which costs as much as a few.
const WALKED_OVER_MAX: usize = 8;
/// And how many messages where each may need some reads more to tell whether it is wanted.
const MESSAGES_MAX: usize = 500;

/// A message as far as it was read.
pub(super) struct Seen {
    pub message: Arc<Message>,
    /// With its payload.
    is_whole: bool,
}

impl Inner {
    /// An open slice; nothing where there is none of this number.
    pub(super) fn slice(&self, number: u32) -> Result<Option<Arc<Engine>>, RecordError> {
        if !self.slices.contains(number) {
            return Ok(None);
        }
        match self.slices.get(number) {
            // It was dropped meanwhile.
            Err(_) if !self.slices.contains(number) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }

    /// The slices that hold what belongs to something of this time, oldest first: they are opened one by
    /// one, as they are asked for.
    pub(super) fn slices_since(
        &self,
        time: Timestamp,
    ) -> impl DoubleEndedIterator<Item = Result<Arc<Engine>, RecordError>> {
        let oldest = self.slices.at(time).unwrap_or_default();
        let slices = self.slices.list().into_iter().map(|(number, _)| number);
        let slices = slices.filter(move |number| *number >= oldest);
        slices.filter_map(|number| self.slice(number).transpose())
    }

    pub(super) fn slice_at(&self, time: Timestamp) -> Result<Option<Arc<Engine>>, RecordError> {
        match self.slices.at(time) {
            Some(number) => self.slice(number),
            None => Ok(None),
        }
    }

    pub(super) fn message(
        &self,
        application: ApplicationId,
        id: MessageId,
    ) -> Result<Option<Arc<Message>>> {
        let Some(engine) = self.slice_at(id.time())? else {
            return Ok(None);
        };
        let key = layout::message_key(application, id);
        let record = layout::get::<MessageMeta>(&engine, &key)?;
        Ok(record.and_then(|record| self.to_message(application, id, record)))
    }

    /// Nothing where the record's commit never happened.
    pub(super) fn to_message(
        &self,
        application: ApplicationId,
        id: MessageId,
        record: layout::Record<MessageMeta>,
    ) -> Option<Arc<Message>> {
        let meta = record.meta.clone();
        self.message_of(application, id, meta, || record.into_payload())
    }

    fn message_of(
        &self,
        application: ApplicationId,
        id: MessageId,
        meta: MessageMeta,
        payload: impl FnOnce() -> PayloadBytes,
    ) -> Option<Arc<Message>> {
        self.happened(meta.commit).then(|| {
            Arc::new(Message {
                id,
                application,
                event_type: meta.event_type,
                event_id: meta.event_id,
                channels: meta.channels,
                payload: payload(),
                is_raw: meta.is_raw,
                content_type: meta.content_type,
                accepted_at: meta.accepted_at,
                origin: meta.origin,
                tags: meta.tags,
                deliver_at: meta.deliver_at,
                expires_at: meta.expires_at,
                expunged: meta.expunged,
                endpoints_matched: meta.endpoints_matched,
            })
        })
    }

    /// A message by the first value of its record: a list that does not want it, or does not show its
    /// payload, reads no more of it.
    pub(super) fn see(
        &self,
        engine: &Engine,
        application: ApplicationId,
        key: &[u8],
        first: &super::engine::Bytes,
    ) -> Result<Option<Seen>> {
        let id = MessageId(layout::last_id(key));
        if let Some(meta) = layout::at_a_glance::<MessageMeta>(key, first) {
            let message = self.message_of(application, id, meta, PayloadBytes::default);
            return Ok(message.map(|message| Seen {
                message,
                is_whole: false,
            }));
        }
        let record = layout::read::<MessageMeta>(engine, key, first)?;
        let message = self.to_message(application, id, record);
        Ok(message.map(|message| Seen {
            message,
            is_whole: true,
        }))
    }

    /// The message with its payload or without.
    pub(super) fn show(
        &self,
        engine: &Engine,
        key: &[u8],
        first: &super::engine::Bytes,
        seen: Seen,
        payloads: bool,
    ) -> Result<Option<Arc<Message>>> {
        let Seen { message, is_whole } = seen;
        if !payloads {
            return Ok(Some(message.without_payload()));
        }
        if is_whole {
            return Ok(Some(message));
        }
        let record = layout::read::<MessageMeta>(engine, key, first)?;
        Ok(self.to_message(message.application, message.id, record))
    }

    /// Whether an attempt for this message at one of these lanes is in the log, or waits there to
    /// be the first. A resend to a lane that it never was for shows once it is attempted.
    fn was_sent_to(&self, message: &Message, lanes: &[u64], looked_at: &mut usize) -> Result<bool> {
        // The queue first: a delivery leaves it with the commit that logs its attempt.
        for lane in lanes {
            *looked_at += 1;
            let first = DeliveryKey {
                lane: *lane,
                due: message.first_due(),
                message: message.id,
            };
            if self.live.contains(&layout::waiting_key(&first))? {
                return Ok(true);
            }
            if self.waits_before_its_time(message.id, *lane)? {
                return Ok(true);
            }
        }
        let prefix = layout::attempts_of_message_prefix(message.id);
        for engine in self.slices_since(message.id.time()) {
            *looked_at += 1;
            for item in engine?.prefix(&prefix) {
                *looked_at += 1;
                let (key, value) = item?;
                let (place, _) = layout::decode::<layout::AttemptPlace>(&key, &value)?;
                if lanes.contains(&place.lane) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn attempts_of_message(
        &self,
        message: MessageId,
        window: &Window<AttemptId>,
        keep: &mut dyn FnMut(&Attempt) -> bool,
    ) -> Result<Stretch<Attempt, AttemptId>> {
        let prefix = layout::attempts_of_message_prefix(message);
        let within = Walk::of_attempts(self, window);
        // No attempt is older than its message.
        let oldest = self.slices.at(message.time()).unwrap_or_default();
        within.run(self, &prefix, oldest, |engine, key, _, cost| {
            let id = AttemptId(layout::last_id(key));
            let place = layout::get::<layout::AttemptPlace>(engine, key)?;
            let Some(place) = place else {
                return Ok((id, None));
            };
            let key = layout::attempt_key(place.meta.lane, id);
            let attempt = layout::get::<Attempt>(engine, &key)?.map(|record| record.meta);
            let is_wanted =
                |attempt: &Attempt| window.includes(attempt.started_at) && keep(attempt);
            let attempt = attempt.filter(is_wanted);
            cost.bytes += attempt.as_ref().map_or(0, Attempt::bytes);
            Ok((id, attempt))
        })
    }
}

impl Store {
    /// Blocks on the disk.
    pub fn message(
        &self,
        application: ApplicationId,
        id: MessageId,
    ) -> Result<Option<Arc<Message>>> {
        self.inner.message(application, id)
    }

    /// The same without its payload, which is not read where it is long. Blocks on the disk.
    pub fn message_without_payload(
        &self,
        application: ApplicationId,
        id: MessageId,
    ) -> Result<Option<Arc<Message>>> {
        let Some(engine) = self.inner.slice_at(id.time())? else {
            return Ok(None);
        };
        let key = layout::message_key(application, id);
        let Some(first) = engine.get(&key)? else {
            return Ok(None);
        };
        let seen = self.inner.see(&engine, application, &key, &first)?;
        Ok(seen.map(|seen| seen.message.without_payload()))
    }

    /// The newest message of the application with this `eventId`. Blocks on the disk.
    pub fn message_by_event_id(
        &self,
        application: ApplicationId,
        event_id: &str,
    ) -> Result<Option<Arc<Message>>> {
        let organisation = match self.catalog().application_by_id(application) {
            Some(entry) => entry.application.organisation,
            None => return Ok(None),
        };
        let event = EventKeys::new(organisation, application, event_id);
        for (number, _) in self.inner.slices.list().into_iter().rev() {
            let Some(engine) = self.inner.slice_with(number, &event.hashes)? else {
                continue;
            };
            if let Some(found) = self.inner.event_id_in(&engine, &event)? {
                return self.inner.message(application, found);
            }
        }
        Ok(None)
    }

    /// Whether one of these lanes has had an attempt for this message, or has its first waiting.
    /// Blocks on the disk.
    pub fn was_sent_to(&self, message: &Message, lanes: &[u64]) -> Result<bool> {
        self.inner.was_sent_to(message, lanes, &mut 0)
    }

    /// Messages of an application that `keep` wants; where `lanes` are given, of those that were
    /// sent to one of them; with their payloads or without. Blocks on the disk.
    pub fn messages(
        &self,
        application: ApplicationId,
        lanes: Option<&[u64]>,
        window: &Window<MessageId>,
        payloads: bool,
        keep: &mut dyn FnMut(&Message) -> bool,
    ) -> Result<Stretch<Arc<Message>, MessageId>> {
        let prefix = layout::messages_prefix(application);
        let within = Walk::of_messages(window);
        within.run(&self.inner, &prefix, 0, |engine, key, first, cost| {
            let id = MessageId(layout::last_id(key));
            let seen = self.inner.see(engine, application, key, first)?;
            let mut is_wanted =
                |message: &Message| window.includes(message.accepted_at) && keep(message);
            let Some(seen) = seen.filter(|seen| is_wanted(&seen.message)) else {
                return Ok((id, None));
            };
            let sent = match lanes {
                Some(lanes) => {
                    let looked_at = &mut cost.looked_at;
                    self.inner.was_sent_to(&seen.message, lanes, looked_at)?
                }
                None => true,
            };
            if !sent {
                return Ok((id, None));
            }
            let message = self.inner.show(engine, key, first, seen, payloads)?;
            cost.bytes += message.as_ref().map_or(0, |message| message.payload.len());
            Ok((id, message))
        })
    }

    /// Shows messages of an application until the window's limit of them was wanted, and tells
    /// where to go on; none is kept. Blocks on the disk.
    pub(super) fn each_message(
        &self,
        application: ApplicationId,
        window: &Window<MessageId>,
        visit: &mut dyn FnMut(&Message) -> Result<bool>,
    ) -> Result<Stretch<(), MessageId>> {
        let prefix = layout::messages_prefix(application);
        let within = Walk::of_messages(window);
        within.run(&self.inner, &prefix, 0, |engine, key, first, cost| {
            cost.looked_at += LOOKED_AT_MAX / MESSAGES_MAX - 1;
            let id = MessageId(layout::last_id(key));
            let record = layout::read::<MessageMeta>(engine, key, first)?;
            let wanted = match self.inner.to_message(application, id, record) {
                Some(message) if window.includes(message.accepted_at) => visit(&message)?,
                _ => false,
            };
            Ok((id, wanted.then_some(())))
        })
    }

    /// Blocks on the disk.
    pub fn attempt(&self, message: MessageId, id: AttemptId) -> Result<Option<Attempt>> {
        let Some(engine) = self.inner.slice_at(id.time())? else {
            return Ok(None);
        };
        let key = layout::attempt_of_message_key(message, id);
        let Some(place) = layout::get::<layout::AttemptPlace>(&engine, &key)? else {
            return Ok(None);
        };
        let key = layout::attempt_key(place.meta.lane, id);
        Ok(layout::get::<Attempt>(&engine, &key)?.map(|record| record.meta))
    }

    /// Attempts at an endpoint that `keep` wants. Blocks on the disk.
    pub fn attempts_of_endpoint(
        &self,
        lane: u64,
        window: &Window<AttemptId>,
        keep: &mut dyn FnMut(&Attempt) -> bool,
    ) -> Result<Stretch<Attempt, AttemptId>> {
        let prefix = layout::attempts_prefix(lane);
        let within = Walk::of_attempts(&self.inner, window);
        within.run(&self.inner, &prefix, 0, |engine, key, first, cost| {
            let id = AttemptId(layout::last_id(key));
            let attempt = layout::read::<Attempt>(engine, key, first)?.meta;
            let attempt = Some(attempt)
                .filter(|attempt| window.includes(attempt.started_at) && keep(attempt));
            cost.bytes += attempt.as_ref().map_or(0, Attempt::bytes);
            Ok((id, attempt))
        })
    }

    /// Attempts for a message that `keep` wants. Blocks on the disk.
    pub fn attempts_of_message(
        &self,
        message: MessageId,
        window: &Window<AttemptId>,
        keep: &mut dyn FnMut(&Attempt) -> bool,
    ) -> Result<Stretch<Attempt, AttemptId>> {
        self.inner.attempts_of_message(message, window, keep)
    }

    /// The first deliveries of a lane behind `after`, in due order, due or not; none that is not
    /// durable yet. Fewer than `limit` are all there are. A damaged one is told and left out: it holds
    /// up no other. Blocks on the disk.
    pub fn waiting(
        &self,
        lane: u64,
        after: Option<DeliveryKey>,
        limit: usize,
    ) -> Result<Vec<Delivery>> {
        let from = match after {
            Some(after) => Bound::Excluded(layout::waiting_key(&after)),
            None => Bound::Included(layout::lane_prefix(lane)),
        };
        let to = Bound::Excluded(layout::lane_prefix(lane + 1));
        let mut deliveries = Vec::new();
        let mut records = self.inner.live.range(from, to);
        while deliveries.len() < limit
            && let Some(item) = records.next()
        {
            let (bytes, value) = item?;
            let Some(key) = layout::parse_waiting_key(&bytes) else {
                continue;
            };
            match layout::delivery(&bytes, &value) {
                Ok(delivery) => deliveries.push(delivery),
                Err(damage @ RecordError::Damaged { .. }) => self.note_damaged(&key, &damage),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(deliveries)
    }

    fn note_damaged(&self, waiting: &DeliveryKey, damage: &RecordError) {
        let DeliveryKey { lane, message, .. } = *waiting;
        if self.note_unreadable(lane, Some(message), &damage.to_string()) {
            log::error!("{message} waits in lane {lane}, is left out and not delivered: {damage}");
        }
    }

    /// The lanes in which something waits, and when the first of it is or was due. A look at each of
    /// them: blocks on the disk.
    pub fn lane_heads(&self) -> Result<Vec<(u64, Timestamp)>> {
        let to = Bound::Excluded(vec![layout::WAITING + 1]);
        let mut from = Bound::Included(layout::lane_prefix(0));
        let mut heads = Vec::new();
        loop {
            // Let go for each, so that the committer never waits for all.
            let head = self.inner.live.range(from, to.clone()).next();
            let Some((key, _)) = head.transpose()? else {
                return Ok(heads);
            };
            from = match layout::parse_waiting_key(&key) {
                Some(head) => {
                    heads.push((head.lane, head.due));
                    Bound::Included(layout::lane_prefix(head.lane + 1))
                }
                // Damage, which hides nothing behind it.
                None => Bound::Excluded(key.to_vec()),
            };
        }
    }

    /// The first lane above `after` in which something waits. Blocks on the disk.
    pub fn next_lane(&self, after: Option<u64>) -> Result<Option<u64>> {
        let from = layout::lane_prefix(after.map_or(0, |lane| lane + 1));
        let to = Bound::Excluded(vec![layout::WAITING + 1]);
        match self.inner.live.range(Bound::Included(from), to).next() {
            None => Ok(None),
            Some(item) => {
                let damaged = RecordError::Damaged {
                    kind: layout::WAITING,
                    why: "its key is not one of a delivery",
                };
                let key = layout::parse_waiting_key(&item?.0).ok_or(damaged)?;
                Ok(Some(key.lane))
            }
        }
    }
}

/// What a list has cost so far.
#[derive(Default)]
pub(super) struct Cost {
    /// Places that were read.
    pub looked_at: usize,
    /// Of the items that are wanted, roughly.
    pub bytes: usize,
}

/// A list's way through the slices.
pub(super) struct Walk<'a, Id> {
    window: &'a Window<Id>,
    bytes: fn(&Id) -> [u8; 20],
    time: fn(&Id) -> Timestamp,
    first_at: fn(Timestamp) -> Id,
    /// Ids that may be in the window: at least this one …
    from: Option<[u8; 20]>,
    /// … and below this one, …
    to: Option<[u8; 20]>,
    /// … which is the first of this time.
    latest: Option<Timestamp>,
}

impl<'a> Walk<'a, MessageId> {
    pub(super) fn of_messages(window: &'a Window<MessageId>) -> Self {
        Walk::new(window, MessageId::first_at, |id| id.0, |id| id.time())
            .until_after(Duration::ZERO)
    }
}

impl<'a> Walk<'a, AttemptId> {
    /// An attempt shows when it was started, and its id tells when it was recorded.
    fn of_attempts(inner: &Inner, window: &'a Window<AttemptId>) -> Self {
        let recorded_after = inner.settings.attempt_recorded_after;
        Walk::new(window, AttemptId::first_at, |id| id.0, |id| id.time())
            .until_after(recorded_after)
    }
}

impl<'a, Id: Copy> Walk<'a, Id> {
    fn new(
        window: &'a Window<Id>,
        first_at: fn(Timestamp) -> Id,
        bytes: fn(&Id) -> [u8; 20],
        time: fn(&Id) -> Timestamp,
    ) -> Self {
        Walk {
            window,
            bytes,
            time,
            first_at,
            // An id's time is rounded down, and never lies before the time that is shown.
            from: window.after.map(|after| bytes(&first_at(after))),
            to: None,
            latest: None,
        }
    }

    /// Ends the walk at ids whose times lie this much, and a step, behind the window. Who looks at
    /// the records leaves out those that are beside it.
    fn until_after(mut self, longest: Duration) -> Self {
        self.latest = self.window.before.map(|before| {
            let latest = before + longest + Duration::from_millis(ID_TIME_STEP_MS);
            latest.min(IDS_END)
        });
        self.to = self
            .latest
            .map(|latest| (self.bytes)(&(self.first_at)(latest)));
        self
    }

    /// Reads on until the window's limit is reached; `look` gives each record's id, and its item
    /// where it is wanted, and counts its bytes and what else it looks at to tell.
    pub(super) fn run<T>(
        &self,
        inner: &Inner,
        prefix: &[u8],
        oldest_slice: u32,
        mut look: impl FnMut(
            &Engine,
            &[u8],
            &super::engine::Bytes,
            &mut Cost,
        ) -> Result<(Id, Option<T>)>,
    ) -> Result<Stretch<T, Id>> {
        let mut items = Vec::new();
        let mut cost = Cost::default();
        let mut last = None;
        for number in self.slices(inner, oldest_slice) {
            let Some(engine) = inner.slice(number)? else {
                continue;
            };
            let (from, to) = self.bounds(prefix);
            let mut range = engine.range(from.clone(), to.clone());
            let newest_first = self.window.newest_first;
            let next = |range: &mut super::engine::Range| match newest_first {
                true => range.next_back(),
                false => range.next(),
            };
            while let Some(item) = next(&mut range) {
                let (key, value) = item?;
                if layout::is_chunk(&key) {
                    let (record, number) = layout::record_of_chunk(&key);
                    if newest_first && number > WALKED_OVER_MAX {
                        let record = Bound::Included(record.to_vec());
                        range = engine.range(from.clone(), record);
                    } else if !newest_first && number == WALKED_OVER_MAX {
                        let behind = Bound::Excluded(layout::behind_record(record));
                        range = engine.range(behind, to.clone());
                    }
                    continue;
                }
                let is_long = cost.bytes >= self.window.bytes && !items.is_empty();
                let is_full = items.len() == self.window.limit || is_long;
                if is_full || cost.looked_at >= LOOKED_AT_MAX {
                    return Ok(Stretch { items, next: last });
                }
                cost.looked_at += 1;
                let (id, wanted) = look(&engine, &key, &value, &mut cost)?;
                last = Some(id);
                items.extend(wanted);
            }
        }
        Ok(Stretch { items, next: None })
    }

    /// The numbers of the slices that can hold something of the window, in reading order.
    fn slices(&self, inner: &Inner, oldest: u32) -> Vec<u32> {
        let behind = self.window.behind.as_ref().map(self.time);
        let (mut first, mut last) = (oldest, u32::MAX);
        let at = |time: Timestamp| inner.slices.at(time).unwrap_or_default();
        match behind {
            Some(time) if self.window.newest_first => last = at(time),
            Some(time) => first = first.max(at(time)),
            None => {}
        }
        if let Some(latest) = self.latest {
            last = last.min(at(latest));
        }
        if let Some(after) = self.window.after {
            first = first.max(at(after));
        }
        let slices = inner.slices.list().into_iter().map(|(number, _)| number);
        let mut within: Vec<u32> = slices
            .filter(|number| (first..=last).contains(number))
            .collect();
        if self.window.newest_first {
            within.reverse();
        }
        within
    }

    fn bounds(&self, prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let key = |id: &[u8; 20]| [prefix, id].concat();
        let mut from = Bound::Included(self.from.map_or(prefix.to_vec(), |id| key(&id)));
        let mut to = match self.to {
            Some(id) => Bound::Excluded(key(&id)),
            None => Bound::Excluded(end_of(prefix)),
        };
        if let Some(behind) = self.window.behind {
            let behind = (self.bytes)(&behind);
            if self.window.newest_first {
                if self.to.is_none_or(|to| behind < to) {
                    to = Bound::Excluded(key(&behind));
                }
            } else if self.from.is_none_or(|from| behind >= from) {
                // Excluded with its further chunks, which sort right behind it.
                from = Bound::Excluded(layout::behind_record(&key(&behind)));
            }
        }
        (from, to)
    }
}

/// The first key behind everything that starts with `prefix`, which does not end in `0xff` only.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    end
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::clock::{Clock, Timestamp};
    use crate::config;
    use crate::domain::attempt::Trigger;
    use crate::domain::id::{ApplicationId, MessageId};
    use crate::domain::message::DeliveryKey;
    use crate::store::engine::Changes;
    use crate::store::{Settings, Store, Window, layout};
    use crate::telemetry::Metrics;

    fn new_store(directory: &tempfile::TempDir) -> Store {
        let mut config = config::load(None, config::Flags::default()).expect("the defaults");
        config.store.path = directory.path().join("data");
        let settings = Settings::from_config(&config);
        let clock = Clock::manual(Timestamp(1_700_000_000_000));
        Store::open(settings, clock, Arc::new(Metrics::new())).expect("a new store")
    }

    #[test]
    fn a_damaged_delivery_is_told_and_holds_up_no_other() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = new_store(&directory);
        let mut changes = Changes::default();
        for number in 1..=4 {
            let key = layout::waiting_key(&DeliveryKey {
                lane: 1,
                due: Timestamp(number.into()),
                message: MessageId([number; 20]),
            });
            let waiting = layout::Waiting {
                attempts: 0,
                trigger: Trigger::Scheduled,
            };
            let mut record = layout::encode(&key, &waiting, &[]);
            if number == 2 {
                *record.last_mut().expect("it is not empty") ^= 1;
            }
            changes.put(&key, record);
        }
        store
            .inner
            .live
            .engine()
            .commit(changes)
            .expect("it is written");
        let read = |limit| {
            let waiting = store.waiting(1, None, limit).expect("it can be read");
            Vec::from_iter(waiting.iter().map(|one| one.key.due.0))
        };
        // As many as are asked for, so that nobody takes them for all.
        assert_eq!(read(2), [1, 3]);
        assert_eq!(read(9), [1, 3, 4]);
        let told = store.unreadable();
        let told = Vec::from_iter(told.iter().map(|one| (one.lane, one.message)));
        assert_eq!(told, [(1, Some(MessageId([2; 20])))]);
    }

    /// With a part of each long payload missing, whoever reads one fails.
    #[test]
    fn a_list_reads_no_long_payload_that_it_does_not_show() {
        const APPLICATION: ApplicationId = ApplicationId([7; 20]);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = new_store(&directory);
        let began = Timestamp(1_700_000_000_000);
        let (mut changes, mut ids) = (Changes::default(), Vec::new());
        for number in 0..9 {
            let at = began + Duration::from_millis(4 * number);
            let id = MessageId::first_at(at);
            let meta = layout::MessageMeta {
                commit: 0,
                accepted_at: at,
                event_type: ["short", "long"][number as usize % 2].to_owned(),
                ..layout::golden::rows::message()
            };
            let key = layout::message_key(APPLICATION, id);
            let bytes = if number % 2 == 0 { 5_000 } else { 90_000 };
            layout::put(&mut changes, &key, &meta, &vec![b' '; bytes]);
            if number % 2 == 1 {
                // One of those that a walk over single values meets.
                changes.delete(&[&key[..], &[0, 0, 5]].concat());
            }
            ids.push(id);
        }
        let (newest, _) = store.inner.slices.newest().expect("a slice");
        let slice = store.inner.slice(newest).expect("it opens");
        slice
            .expect("it is there")
            .commit(changes)
            .expect("it is written");
        let list = |newest_first, behind, payloads, wanted: Option<&str>| {
            let window = Window {
                limit: 3,
                bytes: usize::MAX,
                newest_first,
                behind,
                before: None,
                after: None,
            };
            let keep = &mut |message: &crate::domain::message::Message| {
                wanted.is_none_or(|wanted| message.event_type == wanted)
            };
            store.messages(APPLICATION, None, &window, payloads, keep)
        };
        for newest_first in [false, true] {
            let mut in_order = ids.clone();
            if newest_first {
                in_order.reverse();
            }
            // All of them without payloads, and the short ones with theirs.
            for (payloads, wanted, step) in [(false, None, 1), (true, Some("short"), 2)] {
                let expected = in_order.iter().copied().step_by(step).collect::<Vec<_>>();
                let (mut found, mut behind) = (Vec::new(), None);
                loop {
                    let stretch = list(newest_first, behind, payloads, wanted);
                    let stretch = stretch.expect("it reads none of the others");
                    for message in &stretch.items {
                        let bytes = if payloads { 5_000 } else { 0 };
                        assert_eq!(message.payload.len(), bytes);
                        found.push(message.id);
                    }
                    behind = stretch.next;
                    if behind.is_none() {
                        break;
                    }
                }
                assert_eq!(found, expected, "{newest_first} {wanted:?}");
            }
            assert!(list(newest_first, None, true, Some("long")).is_err());
        }
        let one = store.message_without_payload(APPLICATION, ids[1]);
        assert_eq!(one.unwrap().unwrap().event_type, "long");
        assert!(store.message(APPLICATION, ids[1]).is_err());
    }
}
