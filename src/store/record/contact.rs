//! `c`: an application's contact.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::values::Id;
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::contact::{Contact, ContactCode, Digits};
use crate::domain::id::ApplicationId;

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Contact1<'a> {
    application: Id<ApplicationId>,
    address: Option<Cow<'a, str>>,
    verified_at: Option<u64>,
    code: Option<ContactCode1<'a>>,
    asked_at: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct ContactCode1<'a> {
    digits: Cow<'a, str>,
    asked_at: u64,
    tries: u32,
    mail_due: bool,
}

impl<'a> From<&'a Contact> for Contact1<'a> {
    fn from(value: &'a Contact) -> Contact1<'a> {
        Contact1 {
            application: Id(value.application),
            address: value.address.as_deref().map(Cow::Borrowed),
            verified_at: value.verified_at.map(|at| at.0),
            code: value.code.as_ref().map(ContactCode1::from),
            asked_at: value.asked_at.iter().map(|at| at.0).collect(),
        }
    }
}

impl From<Contact1<'_>> for Contact {
    fn from(record: Contact1<'_>) -> Contact {
        Contact {
            application: record.application.0,
            address: record.address.map(Cow::into_owned),
            verified_at: record.verified_at.map(Timestamp),
            code: record.code.map(ContactCode::from),
            asked_at: record.asked_at.into_iter().map(Timestamp).collect(),
        }
    }
}

impl<'a> From<&'a ContactCode> for ContactCode1<'a> {
    fn from(value: &'a ContactCode) -> ContactCode1<'a> {
        ContactCode1 {
            digits: Cow::Borrowed(value.digits.expose()),
            asked_at: value.asked_at.0,
            tries: value.tries,
            mail_due: value.mail_due,
        }
    }
}

impl From<ContactCode1<'_>> for ContactCode {
    fn from(record: ContactCode1<'_>) -> ContactCode {
        ContactCode {
            digits: Digits::kept(record.digits.into_owned()),
            asked_at: Timestamp(record.asked_at),
            tries: record.tries,
            mail_due: record.mail_due,
        }
    }
}

impl Kept for Contact {
    const SCHEMA: u16 = 1;
    type Record<'a> = Contact1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Contact, NotARecord> {
        Ok(read_struct::<Contact1<'_>>(bytes)?.into())
    }
}
