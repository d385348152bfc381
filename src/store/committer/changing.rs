//! Changes of registrations: decided here, where nothing races, and written.

use std::collections::BTreeSet;

use super::{Answer, Batch, Committer, Staged};
use crate::catalog::Change;
use crate::domain::id::OrganisationId;
use crate::domain::organisation::Organisation;
use crate::store::engine::EngineError;
use crate::store::layout::{Erasure, OnceAnswer};
use crate::store::queue::{Decide, DecideOnce, Sender};
use crate::store::{Answered, Once, Remembered, layout};

impl Committer {
    pub(super) fn stage_change(
        &mut self,
        batch: &mut Batch,
        decide: Decide,
    ) -> Result<Staged, layout::RecordError> {
        let now = self.inner.clock.now();
        let decided = decide(Ok((&self.inner.catalog(), now)));
        if let Some((changes, notify)) = decided {
            self.stage_decided(batch, changes)?;
            batch.answers.push(Answer::Notify(notify));
        }
        Ok(Staged::Enough)
    }

    pub(super) fn stage_change_once(
        &mut self,
        batch: &mut Batch,
        once: Once,
        from_slice: u32,
        decide: DecideOnce,
        answer: Sender<Answered>,
    ) -> Result<Staged, layout::RecordError> {
        if let Some(remembered) = self.remembered(&once, from_slice)? {
            let answered = remembered.and_then(Remembered::into_answered);
            drop(answer.send(answered));
            return Ok(Staged::Enough);
        }
        let decided = decide(&self.inner.catalog(), self.inner.clock.now());
        match decided {
            Err(error) => drop(answer.send(Err(error))),
            Ok((changes, answered)) => {
                self.stage_decided(batch, changes)?;
                let status = OnceAnswer::Answered(answered.status);
                self.remember(batch, &once, status, &answered.body);
                batch.answers.push(Answer::Answered(answer, answered));
            }
        }
        Ok(Staged::Enough)
    }

    fn stage_decided(
        &mut self,
        batch: &mut Batch,
        changes: Vec<Change>,
    ) -> Result<(), EngineError> {
        self.stage_changes(batch, &changes)?;
        self.tell_of_changes(batch, &changes);
        batch.changes.extend(changes);
        Ok(())
    }

    pub(super) fn stage_changes(
        &self,
        batch: &mut Batch,
        changes: &[Change],
    ) -> Result<(), EngineError> {
        self.stage_new_organisations(batch, changes);
        for change in changes {
            match change {
                Change::PutEndpoint(one) => {
                    batch.endpoint_number = batch.endpoint_number.max(one.number);
                    self.health_of_changed(batch, one);
                }
                Change::DeleteEndpoint(application, id) => {
                    let entry = self
                        .inner
                        .catalog()
                        .application_by_id(*application)
                        .cloned();
                    let endpoint = entry.as_ref().and_then(|entry| entry.endpoint_by_id(*id));
                    endpoint
                        .iter()
                        .for_each(|one| self.forget_health(batch, one.number));
                }
                Change::DeleteApplication(id) => {
                    let erasure = Erasure::new(self.inner.clock.now(), self.slice.number);
                    layout::put(&mut batch.live, &layout::erasure_key(*id), &erasure, &[]);
                    let entry = self.inner.catalog().application_by_id(*id).cloned();
                    self.delete(batch, &layout::contact_key(*id))?;
                    for endpoint in entry.iter().flat_map(|entry| &entry.endpoints) {
                        self.delete(batch, &layout::endpoint_key(*id, endpoint.id))?;
                        self.forget_health(batch, endpoint.number);
                    }
                }
                _ => {}
            }
            let (key, record) = layout::registration(change);
            self.delete(batch, &key)?;
            if let Some(record) = record {
                layout::put_encoded(&mut batch.live, &key, record);
                batch.registrations += 1;
            }
        }
        Ok(())
    }

    /// A signed token may speak for an organisation that nobody has heard of: it comes into being
    /// with what is first registered in it.
    fn stage_new_organisations(&self, batch: &mut Batch, changes: &[Change]) {
        let new: BTreeSet<OrganisationId> = {
            let catalog = self.inner.catalog();
            let owners = changes.iter().filter_map(Change::owner);
            owners
                .filter(|owner| catalog.organisation(*owner).is_none())
                .collect()
        };
        for id in new {
            let organisation = Organisation {
                id,
                name: id.to_string(),
                created_at: self.inner.clock.now(),
            };
            layout::put(
                &mut batch.live,
                &layout::organisation_key(id),
                &organisation,
                &[],
            );
            batch.registrations += 1;
            batch.changes.push(Change::PutOrganisation(organisation));
        }
    }

    fn delete(&self, batch: &mut Batch, key: &[u8]) -> Result<(), EngineError> {
        if layout::delete(&self.inner.live, &mut batch.live, key)? {
            batch.registrations -= 1;
        }
        Ok(())
    }
}
