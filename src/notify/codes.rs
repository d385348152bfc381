//! The codes by which people show that an address of a contact is theirs. They are mailed at once: somebody waits.

use super::pace::Pace;
use super::relay::Trouble;
use super::{Post, Teller, Words, cut_off, text};
use crate::domain::contact::CodeToMail;
use crate::domain::email::EmailAddress;
use crate::telemetry::MailOutcome;
use crate::watched;

impl Teller {
    /// Mails codes. What cannot be mailed is tried again until the code counts no more.
    pub(super) async fn code_on(&self) {
        let mut contacts = self.store.contacts_changed();
        let mut stopping = self.stopping.clone();
        let mut pace = Pace::default();
        while !self.is_stopping() {
            contacts.borrow_and_update(); // Before we look: a commit in between is not missed.
            let mail = watched::contained_future(self.mail_codes());
            let all_went = tokio::select! {
                all_went = mail => all_went.unwrap_or(false),
                () = cut_off(&mut stopping) => return,
            };
            let next = match all_went {
                true => {
                    pace = Pace::default();
                    None
                }
                false => {
                    let now = self.clock.now();
                    pace.failed(now);
                    Some(pace.begins_at(now))
                }
            };
            self.wait(next, &mut contacts).await;
        }
    }

    /// Returns whether no code is left.
    async fn mail_codes(&self) -> bool {
        let codes = self.store.contact_codes_to_mail();
        let Some(post) = self.post.clone().filter(|_| !codes.is_empty()) else {
            // Without a relay no code is asked for; one from before counts no more in half an hour.
            return true;
        };
        let mut session = match post.relay.open().await {
            Ok(session) => session,
            Err(trouble) => {
                log::warn!("notify: a code: {}", self.failed(&post, &trouble));
                return false;
            }
        };
        let mut all_went = true;
        for code in codes {
            let Ok(to) = EmailAddress::parse(&code.address) else {
                all_went &= self.note_code(&code).await;
                continue;
            };
            let now = self.clock.now();
            let letter = post.letter(std::slice::from_ref(&to), &self.words_of(&post, &code), now);
            match session.send(&letter, false).await {
                Ok(outcome) => {
                    for (to, answer) in &outcome.refused {
                        log::warn!("notify: a code: {}", post.refusal(to, answer));
                        self.metrics.mail(MailOutcome::Refused);
                    }
                    if !outcome.taken.is_empty() {
                        self.metrics.mail(MailOutcome::Sent);
                    }
                    all_went &= self.note_code(&code).await;
                }
                // The others may get theirs.
                Err(trouble @ Trouble::PutOff { .. }) => {
                    log::warn!("notify: a code: {}", self.failed(&post, &trouble));
                    all_went = false;
                }
                Err(trouble) => {
                    log::warn!("notify: a code: {}", self.failed(&post, &trouble));
                    return false;
                }
            }
        }
        session.quit().await;
        all_went
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
