//! Reading: messages and attempts from their slices, waiting deliveries from the live database.
//!
//! Everything here blocks on the disk. Lists are walks over the slices: see `walk`.

use std::ops::Bound;
use std::sync::Arc;

use super::layout::{self, RecordError};
use super::slice::{AttemptFound, FoundItem, MessageRead, Slice};
use super::walk::{LOOKED_AT_MAX, Walk};
use super::{EventKeys, Inner, Store, Stretch, Window};
use crate::clock::Timestamp;
use crate::domain::attempt::Attempt;
use crate::domain::id::{ApplicationId, AttemptId, MessageId};
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::error::Result;

/// How many messages one call looks at where each may need some reads more to tell whether it is wanted.
const MESSAGES_MAX: usize = 500;

/// A message as far as it was read.
pub(super) struct Seen {
    pub message: Arc<Message>,
    /// With its payload.
    is_whole: bool,
}

impl Inner {
    /// An open slice; nothing where there is none of this number.
    pub(super) fn slice(&self, number: u32) -> Result<Option<Arc<Slice>>, RecordError> {
        if !self.slices.contains(number) {
            return Ok(None);
        }
        match self.slices.get(number) {
            // It was dropped meanwhile.
            Err(_) if !self.slices.contains(number) => Ok(None),
            Err(error) => {
                if !error.passes() {
                    self.note_unreadable_slice(number, &error.to_string());
                }
                Err(error)
            }
            Ok(slice) if !slice.gaps().is_empty() && !self.slices.contains(number) => Ok(None),
            Ok(slice) => {
                if let Some(gap) = slice.gaps().first() {
                    self.note_unreadable_slice(number, &gap.to_string());
                }
                Ok(Some(slice))
            }
        }
    }

    /// The slices that may have attempts for a message, oldest first: they are opened one by one, as they are
    /// asked for.
    pub(super) fn slices_with_attempts_of(
        &self,
        message: MessageId,
    ) -> impl DoubleEndedIterator<Item = Result<Arc<Slice>, RecordError>> {
        let numbers = self.slices.with_attempts_of(message).into_iter();
        numbers.filter_map(|number| self.slice(number).transpose())
    }

    pub(super) fn slice_at(&self, time: Timestamp) -> Result<Option<Arc<Slice>>, RecordError> {
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
        let Some(slice) = self.slice_at(id.time())? else {
            return Ok(None);
        };
        let key = layout::message_key(application, id);
        let Some(found) = slice.get(&key)? else {
            return Ok(None);
        };
        let read = slice.message(&key, &found)?;
        Ok(read.and_then(|read| self.message_of(application, id, read)))
    }

    /// Nothing where the record's commit never happened.
    fn message_of(
        &self,
        application: ApplicationId,
        id: MessageId,
        read: MessageRead,
    ) -> Option<Arc<Message>> {
        let MessageRead { meta, payload } = read;
        self.happened(meta.commit).then(|| {
            Arc::new(Message {
                id,
                application,
                event_type: meta.event_type,
                event_id: meta.event_id,
                channels: meta.channels,
                payload: payload.unwrap_or_default(),
                is_raw: meta.is_raw,
                content_type: meta.content_type,
                accepted_at: meta.accepted_at,
                origin: meta.origin,
                tags: meta.tags,
                deliver_at: meta.deliver_at,
                expires_at: meta.expires_at,
                expunged: meta.expunged,
                endpoints_matched: meta.endpoints_matched,
                metadata: meta.metadata,
                headers: meta.headers,
            })
        })
    }

    /// A message without its payload, unless that costs nothing: a list that does not want the message,
    /// or does not show its payload, reads no more of it.
    pub(super) fn see(
        &self,
        slice: &Slice,
        application: ApplicationId,
        key: &[u8],
        found: &FoundItem,
    ) -> Result<Option<Seen>> {
        let id = MessageId(layout::last_id(key));
        let Some(read) = slice.message_without_payload(key, found)? else {
            return Ok(None);
        };
        let is_whole = read.payload.is_some();
        let message = self.message_of(application, id, read);
        Ok(message.map(|message| Seen { message, is_whole }))
    }

    /// The message with its payload or without.
    pub(super) fn show(
        &self,
        slice: &Slice,
        key: &[u8],
        found: &FoundItem,
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
        let read = slice.message(key, found)?;
        Ok(read.and_then(|read| self.message_of(message.application, message.id, read)))
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
        for slice in self.slices_with_attempts_of(message.id) {
            *looked_at += 1;
            for found in slice?.attempts_of_message(message.id, None) {
                *looked_at += 1;
                if lanes.contains(&found?.lane) {
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
        let among = self.slices.with_attempts_of(message);
        within.run(self, &prefix, Some(&among), |slice, key, found, cost| {
            let found = AttemptFound::of(key, found)?;
            let attempt = slice.attempt_of_message(&found)?;
            let is_wanted =
                |attempt: &Attempt| window.includes(attempt.started_at) && keep(attempt);
            let attempt = attempt.filter(is_wanted);
            cost.bytes += attempt.as_ref().map_or(0, Attempt::bytes);
            Ok((found.id, attempt))
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
        let Some(slice) = self.inner.slice_at(id.time())? else {
            return Ok(None);
        };
        let key = layout::message_key(application, id);
        let Some(found) = slice.get(&key)? else {
            return Ok(None);
        };
        let seen = self.inner.see(&slice, application, &key, &found)?;
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
            let hashes = self.inner.event_hashes(number, &event);
            let Some(slice) = self.inner.slice_with(number, hashes)? else {
                continue;
            };
            if let Some(found) = self.inner.event_id_in(&slice, &event)? {
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
        within.run(&self.inner, &prefix, None, |slice, key, found, cost| {
            let id = MessageId(layout::last_id(key));
            let seen = self.inner.see(slice, application, key, found)?;
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
            let message = self.inner.show(slice, key, found, seen, payloads)?;
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
        within.run(&self.inner, &prefix, None, |slice, key, found, cost| {
            cost.looked_at += LOOKED_AT_MAX / MESSAGES_MAX - 1;
            let id = MessageId(layout::last_id(key));
            let read = slice.message(key, found)?;
            let message = read.and_then(|read| self.inner.message_of(application, id, read));
            let wanted = match message {
                Some(message) if window.includes(message.accepted_at) => visit(&message)?,
                _ => false,
            };
            Ok((id, wanted.then_some(())))
        })
    }

    /// Blocks on the disk.
    pub fn attempt(&self, message: MessageId, id: AttemptId) -> Result<Option<Attempt>> {
        let Some(slice) = self.inner.slice_at(id.time())? else {
            return Ok(None);
        };
        match slice.attempt_by_id(message, id)? {
            Some(found) => Ok(slice.attempt_of_message(&found)?),
            None => Ok(None),
        }
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
        within.run(&self.inner, &prefix, None, |slice, key, found, cost| {
            let id = AttemptId(layout::last_id(key));
            let attempt = slice.attempt(key, found)?;
            let attempt =
                attempt.filter(|attempt| window.includes(attempt.started_at) && keep(attempt));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::clock::{Clock, Timestamp};
    use crate::config;
    use crate::domain::attempt::Trigger;
    use crate::domain::id::{ApplicationId, MessageId};
    use crate::domain::message::DeliveryKey;
    use crate::store::engine::{Changes, Engine};
    use crate::store::layout::SliceRecord;
    use crate::store::tests::let_go;
    use crate::store::{Store, StoreSettings, Window, layout};
    use crate::telemetry::Metrics;

    fn new_store(directory: &tempfile::TempDir) -> Store {
        new_store_at(directory, Timestamp(1_700_000_000_000))
    }

    fn new_store_at(directory: &tempfile::TempDir, now: Timestamp) -> Store {
        let mut config = config::load(None, config::Flags::default()).expect("the defaults");
        config.store.path = directory.path().join("data");
        let settings = StoreSettings::from_config(&config);
        let clock = Clock::manual(now);
        Store::open(settings, clock, Arc::new(Metrics::new())).expect("a new store")
    }

    /// A store of which all history is in a database.
    fn with_database(directory: &tempfile::TempDir, history: Changes) -> Store {
        let store = new_store(directory);
        store.close().expect("it closes");
        drop(store);
        let path = directory.path().join("data");
        let_go(&path);
        let live = Engine::open(&path.join("live"), 1 << 20).expect("it opens");
        let record = SliceRecord::beginning(Timestamp(1_600_000_000_000), None);
        let mut changes = Changes::default();
        layout::put(&mut changes, &layout::slice_key(1), &record, &[]);
        live.commit(changes).expect("room");
        let slice = path.join("slices").join("00000001");
        let slice = Engine::open(&slice, 1 << 20).expect("it opens");
        slice.commit(history).expect("room");
        drop((live, slice));
        let_go(&path);
        // What comes now comes into a slice of its own.
        new_store_at(directory, Timestamp(1_700_000_100_000))
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
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = with_database(&directory, changes);
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
            // A list ends before what cannot be read, and who reads on is told.
            let page = list(newest_first, None, true, Some("long")).expect("a page");
            assert!(page.items.is_empty() && page.next.is_some());
            assert!(list(newest_first, page.next, true, Some("long")).is_err());
        }
        let one = store.message_without_payload(APPLICATION, ids[1]);
        assert_eq!(one.unwrap().unwrap().event_type, "long");
        assert!(store.message(APPLICATION, ids[1]).is_err());
    }
}
