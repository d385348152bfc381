//! Erasing content of messages and attempts.

use super::{Answer, Batch, Committer, Staged};
use crate::catalog::Catalog;
use crate::domain::id::{ApplicationId, MessageId};
use crate::error::Error;
use crate::store::expunge::{self, Content};
use crate::store::queue::{ExpungeAnswer, Expunged, Sender};
use crate::store::{Event, layout};

impl Committer {
    /// Erases content, and answers with the commit: a crash in between leaves it erased and nobody told,
    /// and asking again does no harm.
    pub(super) fn stage_expunge(
        &mut self,
        batch: &mut Batch,
        what: Expunged,
        content: Content,
        answer: Sender<ExpungeAnswer>,
    ) -> Result<Staged, layout::RecordError> {
        match what {
            Expunged::Payload { slice, .. } | Expunged::Answer { slice, .. }
                if !self.is_kept(slice) =>
            {
                drop(answer.send(Err(Error::not_found("message"))));
                return Ok(Staged::More);
            }
            Expunged::Payload {
                application,
                message,
                ..
            } => {
                let lanes = expunge::lanes(&self.inner.catalog(), application);
                let told = lanes.map(|lane| Event::Expunged { lane, message });
                batch.events.extend(told);
                let longest = self.inner.settings.attempt_recorded_after;
                self.erased.note(message, longest);
            }
            // What was read of the attempt in a database has its request.
            Expunged::Answer {
                application,
                message,
                with_request: false,
                ..
            } if !content.databases.is_empty() && self.is_erased(application, message) => {
                drop(answer.send(Ok(ExpungeAnswer::WithRequest)));
                return Ok(Staged::More);
            }
            Expunged::Answer { .. } | Expunged::Attempts => {}
            Expunged::Application(application, next) => {
                let key = layout::erasure_key(application);
                match next {
                    Some(next) => layout::replace(&self.inner.live, &mut batch.live, &key, &next)?,
                    None => layout::delete(&self.inner.live, &mut batch.live, &key)?,
                };
            }
        }
        batch.erased.extend(content.parts);
        let databases = content.databases.into_iter();
        let kept = databases.filter(|one| self.is_kept(one.number));
        batch.of_databases.extend(kept);
        batch.answers.push(Answer::Expunged(answer));
        Ok(Staged::Enough)
    }

    pub(super) fn is_kept(&self, slice: u32) -> bool {
        self.inner.slices.contains(slice) && !self.dropped.contains(&slice)
    }

    /// Whether the content of a message's attempts is not written down any more: its payload was erased
    /// lately, or its application deleted.
    pub(super) fn is_erased(&self, application: ApplicationId, message: MessageId) -> bool {
        let is_there = |catalog: &Catalog| catalog.application_by_id(application).is_some();
        self.erased.has(message) || !is_there(&self.inner.catalog())
    }
}
