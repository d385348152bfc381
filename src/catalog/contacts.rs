//! The contacts in memory, and those whose code is to be mailed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Catalog;
use crate::clock::Timestamp;
use crate::domain::contact::{CodeToMail, Contact};
use crate::domain::id::ApplicationId;

#[derive(Debug, Default)]
pub(super) struct Contacts {
    by_application: BTreeMap<ApplicationId, Arc<Contact>>,
    /// Whose code is yet to be mailed.
    mail_due: BTreeSet<ApplicationId>,
    /// Who has no address, and codes that count.
    removed: BTreeSet<ApplicationId>,
}

impl Contacts {
    pub(super) fn put(&mut self, contact: Contact) {
        let id = contact.application;
        let is_due = contact.code.as_ref().is_some_and(|code| code.mail_due);
        for (ids, is_one) in [
            (&mut self.mail_due, is_due),
            (&mut self.removed, contact.address.is_none()),
        ] {
            match is_one {
                true => ids.insert(id),
                false => ids.remove(&id),
            };
        }
        self.by_application.insert(id, Arc::new(contact));
    }

    pub(super) fn delete(&mut self, id: ApplicationId) {
        self.by_application.remove(&id);
        self.mail_due.remove(&id);
        self.removed.remove(&id);
    }

    pub(super) fn len(&self) -> usize {
        self.by_application.len()
    }
}

impl Catalog {
    /// An application's contact, which may have no address any more.
    pub fn contact(&self, application: ApplicationId) -> Option<&Arc<Contact>> {
        self.contacts.by_application.get(&application)
    }

    /// The verified e-mail address of those who hear of an application's endpoints; none where there is
    /// none, or it is not verified yet.
    pub fn contact_of(&self, application: ApplicationId) -> Option<&str> {
        self.contact(application)?.verified_address()
    }

    /// The codes that are yet to be mailed, as far as they still count.
    pub fn contact_codes_to_mail(&self, now: Timestamp) -> Vec<CodeToMail> {
        let due = self.contacts.mail_due.iter();
        let contacts = due.filter_map(|id| self.contact(*id));
        contacts.filter_map(|one| one.code_to_mail(now)).collect()
    }

    /// Contacts that were removed, and are here because of their codes.
    pub fn removed_contacts(&self) -> impl Iterator<Item = &Arc<Contact>> {
        let removed = self.contacts.removed.iter();
        removed.filter_map(|id| self.contact(*id))
    }
}
