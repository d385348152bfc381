//! The codes by which people show that an address of a contact is theirs. They are mailed at once: somebody waits.

use std::collections::HashSet;

use super::pace::Pace;
use super::relay::{Session, Trouble};
use super::{Post, Teller, Words, cut_off, text};
use crate::clock::Timestamp;
use crate::domain::contact::CodeToMail;
use crate::domain::email::EmailAddress;
use crate::domain::id::ApplicationId;
use crate::watched;

/// A code: of whose contact, and when it was asked for.
type Key = (ApplicationId, Timestamp);

impl Teller {
    /// Mails codes. What cannot be mailed is tried again, after waits that grow, until the code counts no more.
    pub(super) async fn code_on(&self) {
        let mut contacts = self.store.contacts_changed();
        let mut stopping = self.stopping.clone();
        let mut pace = Pace::default();
        // These wait until then, whatever comes meanwhile.
        let mut put_off = HashSet::new();
        let mut again_at: Option<Timestamp> = None;
        while !self.is_stopping() {
            contacts.borrow_and_update(); // Before we look: a commit in between is not missed.
            if again_at.is_none_or(|at| at <= self.clock.now()) {
                again_at = None;
                put_off.clear();
            }
            let mail = watched::contained_future(self.mail_codes(&put_off));
            let failed = tokio::select! {
                failed = mail => failed.unwrap_or_else(|_| self.due_codes(&put_off)),
                () = cut_off(&mut stopping) => return,
            };
            put_off.extend(failed.iter().map(key_of));
            if put_off.is_empty() {
                pace = Pace::default();
            } else if again_at.is_none() {
                let now = self.clock.now();
                pace.failed(now);
                again_at = Some(pace.begins_at(now));
            }
            self.wait(again_at, &mut contacts).await;
        }
    }

    fn due_codes(&self, put_off: &HashSet<Key>) -> Vec<CodeToMail> {
        let mut codes = self.store.contact_codes_to_mail();
        codes.retain(|code| !put_off.contains(&key_of(code)));
        codes
    }

    /// Mails the codes that are not put off, and returns those that could not be mailed.
    async fn mail_codes(&self, put_off: &HashSet<Key>) -> Vec<CodeToMail> {
        let codes = self.due_codes(put_off);
        let Some(post) = self.post.clone().filter(|_| !codes.is_empty()) else {
            // Without a relay no code is asked for; one from before counts no more in half an hour.
            return Vec::new();
        };
        let mut failed = Vec::new();
        let mut session = None;
        let mut codes = codes.into_iter();
        while let Some(code) = codes.next() {
            let open = match session.take() {
                Some(open) => open,
                None => match post.relay.open().await {
                    Ok(open) => open,
                    Err(trouble) => {
                        log::warn!("notify: a code: {}", self.failed(&post, &trouble));
                        failed.push(code);
                        failed.extend(codes);
                        return failed;
                    }
                },
            };
            let (left, went) = self.mail_code(&post, open, &code).await;
            session = left;
            if !went {
                failed.push(code);
            }
        }
        if let Some(session) = session {
            session.quit().await;
        }
        failed
    }

    /// Mails a code, or notes that its address is refused for good. Returns the session, where it can be used on, and
    /// whether the code is done with.
    async fn mail_code(
        &self,
        post: &Post,
        mut session: Session,
        code: &CodeToMail,
    ) -> (Option<Session>, bool) {
        let Ok(to) = EmailAddress::parse(&code.address) else {
            return (Some(session), self.note_code(code).await);
        };
        let words = self.words_of(post, code);
        let letter = post.letter(std::slice::from_ref(&to), &words, self.clock.now());
        match session.send(&letter, false).await {
            Ok(outcome) => {
                self.note_customer(post, &outcome);
                (Some(session), self.note_code(code).await)
            }
            // The others get theirs, on a new connection where this one is of no more use.
            Err(trouble) => {
                log::warn!("notify: a code: {}", self.failed(post, &trouble));
                let is_usable = matches!(trouble, Trouble::PutOff { .. });
                (is_usable.then_some(session), false)
            }
        }
    }

    fn words_of(&self, post: &Post, code: &CodeToMail) -> Words {
        let catalog = self.store.catalog();
        let entry = catalog.application_by_id(code.application);
        let name = entry.map_or("", |entry| entry.application.name.as_str());
        text::code_words(&post.style.prefix, name, code.digits.expose())
    }

    /// Notes a code as mailed; false where that fails, and it is mailed once more.
    async fn note_code(&self, code: &CodeToMail) -> bool {
        let noted = self.store.contact_code_mailed(code).await;
        if let Err(error) = &noted {
            self.note_store_error("that a code was mailed was not noted", error);
        }
        noted.is_ok()
    }
}

fn key_of(code: &CodeToMail) -> Key {
    (code.application, code.asked_at)
}
