//! Contacts of applications: set, verified, removed. See [`crate::domain::contact`] for codes and their limits.

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::checks::wrong;
use super::permits::Action;
use super::{Command, Decided, OwnCommand, View};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::contact::{CodeCheck, Contact, Digits};
use crate::domain::id::ApplicationId;
use crate::error::{Error, Result};

const NONE: Error = Error::not_found("contact");

/// A contact as it can be shown: without its code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownContact {
    /// None for an application without a contact.
    pub address: Option<String>,
    pub verified_at: Option<Timestamp>,
    /// The code that was asked for, while it counts.
    pub code: Option<ShownCode>,
    /// When another code can be asked for; none where that is now.
    pub next_code_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownCode {
    pub expires_at: Timestamp,
    pub tries_left: u32,
}

impl ShownContact {
    fn of(contact: &Contact, now: Timestamp) -> ShownContact {
        let code = contact.code.as_ref().map(|code| ShownCode {
            expires_at: code.expires_at(),
            tries_left: code.tries_left(now),
        });
        ShownContact {
            address: contact.address.clone(),
            verified_at: contact.verified_at,
            code: code.filter(|code| code.tries_left > 0),
            next_code_at: contact.next_code_at(now),
        }
    }
}

/// The contact of an application that the caller sees, which may have none.
pub fn contact(
    caller: &Caller,
    catalog: &Catalog,
    application: &str,
    now: Timestamp,
) -> Result<ShownContact> {
    let entry = caller.application(catalog, application, Action::ReadEndpoints)?;
    let id = entry.application.id;
    Ok(match catalog.contact(id) {
        Some(contact) => ShownContact::of(contact, now),
        None => ShownContact::of(&Contact::new(id), now),
    })
}

/// A contact that was not removed.
fn with_address(catalog: &Catalog, id: ApplicationId) -> Result<Contact> {
    let contact = catalog.contact(id);
    let contact = contact.filter(|contact| contact.address.is_some());
    Ok((**contact.ok_or(NONE)?).clone())
}

/// The address of a contact, to be verified by a code or answered for by the operator. An address that is
/// verified already is left as it is; one that is not gets another code.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetContact {
    /// The application's id or uid.
    pub application: String,
    /// It was checked.
    pub address: String,
    /// The caller answers for the address, so it gets no code.
    pub verified: bool,
}

impl Command for SetContact {
    type Answer = ShownContact;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<ShownContact> {
        let entry = caller.application(view.catalog, &self.application, Action::ChangeContact)?;
        if self.verified {
            caller.application(view.catalog, &self.application, Action::ChangeApplications)?;
        }
        let id = entry.application.id;
        let before = view.catalog.contact(id);
        if let Some(before) = before
            && before.verified_address() == Some(&self.address)
        {
            let shown = ShownContact::of(before, view.now);
            return Ok((Vec::new(), shown));
        }
        let mut contact = before.map_or_else(|| Contact::new(id), |before| (**before).clone());
        match self.verified {
            true => contact.set_verified(self.address, view.now),
            false => {
                if !view.settings.notify.is_on() {
                    return Err(Error::Conflict(
                        "this server sends no e-mail (notify.smtp_host is not set), so an address cannot be \
                         verified by a code; the operator can set one with \"verified\": true"
                            .to_owned(),
                    ));
                }
                let digits = Digits::generate(view.random);
                contact
                    .set_unverified(self.address, digits, view.now)
                    .map_err(|wait| Error::TooManyNow {
                        reason:
                            "codes for this application's contact: a minute lies between two, and \
                                 there are 5 an hour at most"
                                .to_owned(),
                        retry_after_seconds: wait.as_millis().div_ceil(1000) as u32,
                    })?;
            }
        }
        let shown = ShownContact::of(&contact, view.now);
        Ok((vec![Change::PutContact(contact)], shown))
    }
}

/// Gives the code back that was mailed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyContact {
    /// The application's id or uid.
    pub application: String,
    /// Six digits.
    pub code: String,
}

/// What became of it. A wrong code is no error of the command: the store has to count it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ContactVerified {
    /// It is verified, or was before.
    Yes(ShownContact),
    No {
        tries_left: u32,
    },
}

impl ContactVerified {
    /// The contact; for a wrong code the error to answer with.
    pub fn into_result(self) -> Result<ShownContact> {
        let tries_left = match self {
            ContactVerified::Yes(contact) => return Ok(contact),
            ContactVerified::No { tries_left } => tries_left,
        };
        let left = match tries_left {
            0 => "no try is left: ask for another code".to_owned(),
            1 => "1 try is left".to_owned(),
            more => format!("{more} tries are left"),
        };
        let problem = format!("is not the code that was mailed last; {left}");
        Err(wrong(&["body", "code"], problem))
    }
}

impl Command for VerifyContact {
    type Answer = ContactVerified;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<ContactVerified> {
        let entry = caller.application(view.catalog, &self.application, Action::ChangeContact)?;
        let mut contact = with_address(view.catalog, entry.application.id)?;
        if contact.verified_at.is_some() {
            let shown = ShownContact::of(&contact, view.now);
            return Ok((Vec::new(), ContactVerified::Yes(shown)));
        }
        let verified = match contact.try_code(&self.code, view.now) {
            CodeCheck::Right => ContactVerified::Yes(ShownContact::of(&contact, view.now)),
            CodeCheck::Wrong { tries_left } => ContactVerified::No { tries_left },
            CodeCheck::NoCode => {
                return Err(Error::Conflict(
                    "no code counts any more: it is older than 30 minutes, or was tried 5 times; ask for \
                     another one"
                        .to_owned(),
                ));
            }
        };
        Ok((vec![Change::PutContact(contact)], verified))
    }
}

/// Removes a contact, so that nobody hears of the application's endpoints by e-mail.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteContact {
    /// The application's id or uid.
    pub application: String,
}

impl Command for DeleteContact {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let entry = caller.application(view.catalog, &self.application, Action::ChangeContact)?;
        let id = entry.application.id;
        let mut contact = with_address(view.catalog, id)?;
        let change = match contact.remove(view.now) {
            true => Change::PutContact(contact),
            false => Change::DeleteContact(id),
        };
        Ok((vec![change], ()))
    }
}

/// Notes that a code was mailed, or that its address was refused for good: in both cases it is not mailed
/// again. A code that another one has replaced since changes nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContactCodeMailed {
    pub application: ApplicationId,
    /// Tells the code from others: see [`crate::domain::contact::CodeToMail`].
    pub asked_at: Timestamp,
}

impl OwnCommand for ContactCodeMailed {
    type Answer = ();

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<()> {
        let contact = catalog.contact(self.application).cloned();
        let Some(mut contact) = contact.map(|contact| (*contact).clone()) else {
            return Ok((Vec::new(), ()));
        };
        match &mut contact.code {
            Some(code) if code.asked_at == self.asked_at && code.mail_due => code.mail_due = false,
            _ => return Ok((Vec::new(), ())),
        }
        Ok((vec![Change::PutContact(contact)], ()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::token::{Role, Token};
    use crate::rules::tests::{Example, NOW, outcome};

    const NO_MAIL: &str = "this server sends no e-mail";

    fn example(contact: Option<Contact>, sends_mail: bool) -> Example {
        let application = Change::PutApplication(Example::application());
        let mut example = Example::with(
            [application]
                .into_iter()
                .chain(contact.map(Change::PutContact)),
        );
        if sends_mail {
            example.settings.notify.smtp_host = "mail.acme.example".to_owned();
        }
        example
    }

    fn unverified(asked_at: Timestamp) -> Contact {
        let mut contact = Contact::new(Example::application().id);
        let digits = Digits::kept("123456".to_owned());
        contact
            .set_unverified("ops@acme.example".to_owned(), digits, asked_at)
            .expect("it is the first code");
        contact
    }

    fn set(address: &str, verified: bool) -> SetContact {
        SetContact {
            application: "one".to_owned(),
            address: address.to_owned(),
            verified,
        }
    }

    fn put(changes: &[Change]) -> &Contact {
        match changes {
            [Change::PutContact(contact)] => contact,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_gets_a_code_unless_it_is_verified_or_answered_for() {
        let a_minute_ago = NOW.saturating_sub(Duration::from_secs(60));
        let pending = unverified(a_minute_ago);
        let mut verified = pending.clone();
        verified.set_verified("ops@acme.example".to_owned(), a_minute_ago);
        for (before, address, by_operator, sends_mail, gets_code) in [
            (None, "ops@acme.example", false, true, Ok(true)),
            (None, "ops@acme.example", true, true, Ok(false)),
            (None, "ops@acme.example", true, false, Ok(false)),
            (None, "ops@acme.example", false, false, Err(NO_MAIL)),
            (Some(&pending), "ops@acme.example", false, true, Ok(true)),
            (Some(&pending), "new@acme.example", false, true, Ok(true)),
            (Some(&pending), "ops@acme.example", true, true, Ok(false)),
            (Some(&verified), "new@acme.example", false, true, Ok(true)),
            (
                Some(&verified),
                "new@acme.example",
                false,
                false,
                Err(NO_MAIL),
            ),
            (
                Some(&unverified(NOW)),
                "new@acme.example",
                false,
                true,
                Err("codes for this"),
            ),
        ] {
            let example = example(before.cloned(), sends_mail);
            let decided = example.decide(set(address, by_operator));
            match (&decided, gets_code) {
                (Ok((changes, shown)), Ok(gets_code)) => {
                    let contact = put(changes);
                    assert_eq!(shown.address.as_deref(), Some(address));
                    assert_eq!(contact.code_to_mail(NOW).is_some(), gets_code);
                    assert_eq!(shown.code.is_some(), gets_code);
                    assert_eq!(contact.verified_address().is_some(), !gets_code);
                }
                (Err(error), Err(expected)) => assert!(error.to_string().starts_with(expected)),
                _ => panic!("{address}: {}", outcome(&decided)),
            }
        }
        // Whoever repeats what is so already changes nothing, and gets no mail.
        for by_operator in [false, true] {
            let example = example(Some(verified.clone()), false);
            let (changes, shown) = example
                .decide(set("ops@acme.example", by_operator))
                .unwrap();
            assert!(changes.is_empty() && shown.verified_at == Some(a_minute_ago));
        }
    }

    #[test]
    fn only_the_operator_answers_for_an_address() {
        let example = example(None, true);
        let caller = |role: Role| {
            let token = Token {
                application: Some(Example::application().id),
                ..Token::new(Example::ORGANISATION, role, String::new(), [9; 32], NOW)
            };
            let mut example = Example::with([
                Change::PutApplication(Example::application()),
                Change::PutToken(token.clone()),
            ]);
            example.settings.notify.smtp_host = "mail.acme.example".to_owned();
            (example, Example::caller(&token))
        };
        for (role, asks, answers_for) in [
            (Role::Application, "", "this token may not do that"),
            (Role::WebhookAdmin, "", "this token may not do that"),
            (
                Role::Viewer,
                "this token may not do that",
                "this token may not do that",
            ),
        ] {
            let (example, caller) = caller(role);
            let decided = example.decide_as(&caller, set("ops@acme.example", false));
            assert_eq!(outcome(&decided), asks, "{role:?}");
            let decided = example.decide_as(&caller, set("ops@acme.example", true));
            assert_eq!(outcome(&decided), answers_for, "{role:?}");
        }
        let decided = example.decide_as(&example.publisher(), set("ops@acme.example", false));
        assert_eq!(outcome(&decided), "this token may not do that");
    }

    #[test]
    fn a_wrong_code_is_counted_and_a_right_one_verifies() {
        let verify = |code: &str| VerifyContact {
            application: "one".to_owned(),
            code: code.to_owned(),
        };
        let example_of = |contact: Option<Contact>| example(contact, true);
        let (changes, verified) = example_of(Some(unverified(NOW)))
            .decide(verify("000000"))
            .unwrap();
        let counted = put(&changes).clone();
        let refused = verified.into_result().unwrap_err().to_string();
        assert_eq!(
            refused,
            "body.code: is not the code that was mailed last; 4 tries are left"
        );
        let example = example_of(Some(counted));
        let (changes, verified) = example.decide(verify("123456")).unwrap();
        let contact = put(&changes);
        assert_eq!(contact.verified_address(), Some("ops@acme.example"));
        assert!(matches!(verified, ContactVerified::Yes(_)));
        // Once more, as after an answer that was lost.
        let example = example_of(Some(contact.clone()));
        let (changes, verified) = example.decide(verify("123456")).unwrap();
        assert!(changes.is_empty() && matches!(verified, ContactVerified::Yes(_)));

        let long_ago = NOW.saturating_sub(Duration::from_secs(1800));
        let decided = example_of(Some(unverified(long_ago))).decide(verify("123456"));
        assert!(outcome(&decided).starts_with("no code counts any more"));
        let mut removed = unverified(NOW);
        assert!(removed.remove(NOW));
        for contact in [None, Some(removed)] {
            let decided = example_of(contact).decide(verify("123456"));
            assert_eq!(outcome(&decided), "contact not found");
        }
    }

    #[test]
    fn a_contact_is_forgotten_once_its_codes_do_not_count() {
        let delete = || DeleteContact {
            application: "one".to_owned(),
        };
        let hour = Duration::from_secs(3600);
        let (changes, ()) = example(Some(unverified(NOW)), true)
            .decide(delete())
            .unwrap();
        assert_eq!(put(&changes).address, None);
        let decided = example(Some(put(&changes).clone()), true).decide(delete());
        assert_eq!(outcome(&decided), "contact not found");
        let old = unverified(NOW.saturating_sub(hour));
        let (changes, ()) = example(Some(old), true).decide(delete()).unwrap();
        assert!(matches!(changes[..], [Change::DeleteContact(_)]));
    }

    #[test]
    fn a_code_that_was_mailed_is_not_mailed_again_and_a_newer_one_is() {
        let example = example(Some(unverified(NOW)), true);
        let catalog = &example.catalog;
        let due = catalog.contact_codes_to_mail(NOW);
        assert_eq!((due.len(), due[0].digits.expose()), (1, "123456"));
        let mailed = |application, asked_at| ContactCodeMailed {
            application,
            asked_at,
        };
        let id = due[0].application;
        for (application, asked_at, count) in [
            (id, NOW, 1),
            (id, Timestamp(NOW.0 - 1), 0),
            (ApplicationId([9; 20]), NOW, 0),
        ] {
            let (changes, ()) = mailed(application, asked_at).decide(catalog, NOW).unwrap();
            assert_eq!(changes.len(), count);
            if let [Change::PutContact(contact)] = &changes[..] {
                assert_eq!(contact.code_to_mail(NOW), None);
                assert!(contact.code.is_some(), "it can be given back");
            }
        }
    }
}
