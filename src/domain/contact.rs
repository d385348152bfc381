//! The contact of an application: the e-mail address of those who are to hear that one of its endpoints
//! fails.
//!
//! An address that somebody types in may be anybody's. So it gets nothing but codes of six digits until
//! one of them comes back, and few of those: a code a minute and five an hour for an application, whatever
//! the addresses are. A removed contact stays in the store, without its address, for as long as its codes
//! count. Pure: `rules::contacts` decides who may, and the notifier mails the codes.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::email::{self, EmailAddress};
use super::id::ApplicationId;
use crate::clock::Timestamp;

/// The longest part before the `@` (RFC 5321, 4.5.3.1.1).
const USER_BYTES_MAX: usize = 64;

pub const CODE_DIGITS: usize = 6;

/// How long a code can be given back.
pub const CODE_LIFE: Duration = Duration::from_secs(30 * 60);

/// How often a code can be tried: five guesses at a million.
pub const CODE_TRIES_MAX: u32 = 5;

/// The time between two codes of an application.
const CODE_INTERVAL: Duration = Duration::from_secs(60);

/// Codes of an application within [`CODE_WINDOW`].
const CODES_MAX: usize = 5;

const CODE_WINDOW: Duration = Duration::from_secs(3600);

/// An application's contact.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    pub application: ApplicationId,
    /// Absent once it was removed: its codes count nevertheless.
    pub address: Option<String>,
    /// When somebody showed that he reads the address's mail, or the operator answered for it; absent
    /// until then.
    pub verified_at: Option<Timestamp>,
    /// The newest code, until it has verified the address.
    pub code: Option<ContactCode>,
    /// When codes were asked for, the oldest first; none that does not count any more.
    pub asked_at: Vec<Timestamp>,
}

/// A code that was mailed, or is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct ContactCode {
    pub digits: Digits,
    pub asked_at: Timestamp,
    /// How often a wrong one was given in its place.
    pub tries: u32,
    /// It is yet to be mailed.
    pub mail_due: bool,
}

/// A code's six digits, in a type that cannot be printed by accident. They are kept as they are: they have
/// to be mailed, and of a million codes a hash hides none.
#[derive(Clone, PartialEq, Eq)]
pub struct Digits(String);

impl Digits {
    /// Makes a code of random bytes.
    pub fn generate(random: [u8; 32]) -> Digits {
        let [a, b, c, d, e, f, g, h, ..] = random;
        // Of 2^64 numbers, a million leave no remainder that matters.
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % 1_000_000;
        Digits(format!("{number:06}"))
    }

    /// The code as the store has it.
    pub fn kept(text: String) -> Digits {
        Digits(text)
    }

    /// The digits themselves, for the mail and for the store.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in constant time.
    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digits(…)")
    }
}

impl Drop for Digits {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ContactCode {
    pub fn expires_at(&self) -> Timestamp {
        self.asked_at + CODE_LIFE
    }

    /// How often it can still be tried; 0 for a code that counts no more.
    pub fn tries_left(&self, now: Timestamp) -> u32 {
        match now < self.expires_at() {
            true => CODE_TRIES_MAX.saturating_sub(self.tries),
            false => 0,
        }
    }
}

/// A code that is to be mailed.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeToMail {
    pub application: ApplicationId,
    pub address: String,
    pub digits: Digits,
    /// Tells this code from others of the application.
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What a given code was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeCheck {
    Right,
    Wrong {
        tries_left: u32,
    },
    /// None counts: none was asked for, or it is too old or was tried too often.
    NoCode,
}

impl Contact {
    /// One without an address.
    pub fn new(application: ApplicationId) -> Contact {
        Contact {
            application,
            address: None,
            verified_at: None,
            code: None,
            asked_at: Vec::new(),
        }
    }

    /// The address, once it is verified.
    pub fn verified_address(&self) -> Option<&str> {
        let address = self.address.as_deref();
        address.filter(|_| self.verified_at.is_some())
    }

    /// Sets an address that somebody answers for.
    pub fn set_verified(&mut self, address: String, now: Timestamp) {
        self.address = Some(address);
        self.verified_at = Some(now);
        self.code = None;
    }

    /// Sets an address that has to be verified, with a code to be mailed to it. The error is the time until
    /// there can be another code; it changes nothing.
    pub fn set_unverified(
        &mut self,
        address: String,
        digits: Digits,
        now: Timestamp,
    ) -> Result<(), Duration> {
        if let Some(at) = self.next_code_at(now) {
            return Err(at.since(now));
        }
        self.asked_at.retain(|asked| counts(*asked, now));
        self.asked_at.push(now);
        self.address = Some(address);
        self.verified_at = None;
        self.code = Some(ContactCode {
            digits,
            asked_at: now,
            tries: 0,
            mail_due: true,
        });
        Ok(())
    }

    /// Removes the address. Whether anything is left that has to be kept.
    pub fn remove(&mut self, now: Timestamp) -> bool {
        self.address = None;
        self.verified_at = None;
        self.code = None;
        self.is_needed(now)
    }

    /// Whether it has an address, or codes that count.
    pub fn is_needed(&self, now: Timestamp) -> bool {
        self.address.is_some() || self.asked_at.iter().any(|asked| counts(*asked, now))
    }

    /// When there can be another code; none where that is now.
    pub fn next_code_at(&self, now: Timestamp) -> Option<Timestamp> {
        let counting = self.asked_at.iter().filter(|asked| counts(**asked, now));
        let counting: Vec<Timestamp> = counting.copied().collect();
        let after_last = counting.last().map(|last| *last + CODE_INTERVAL);
        let first_of_most = counting.len().checked_sub(CODES_MAX);
        let after_most = first_of_most.map(|place| counting[place] + CODE_WINDOW);
        after_last.max(after_most).filter(|at| *at > now)
    }

    /// Tries a code; one that is right verifies the address.
    pub fn try_code(&mut self, given: &str, now: Timestamp) -> CodeCheck {
        let code = self.code.as_mut().filter(|code| code.tries_left(now) > 0);
        let Some(code) = code else {
            return CodeCheck::NoCode;
        };
        if code.digits.is(given) {
            self.verified_at = Some(now);
            self.code = None;
            return CodeCheck::Right;
        }
        code.tries += 1;
        let tries_left = code.tries_left(now);
        CodeCheck::Wrong { tries_left }
    }

    /// The code that is to be mailed, if one is and it still counts.
    pub fn code_to_mail(&self, now: Timestamp) -> Option<CodeToMail> {
        let code = self.code.as_ref().filter(|code| code.mail_due)?;
        (code.tries_left(now) > 0).then_some(())?;
        Some(CodeToMail {
            application: self.application,
            address: self.address.clone()?,
            digits: code.digits.clone(),
            asked_at: code.asked_at,
            expires_at: code.expires_at(),
        })
    }
}

/// Whether a code that was asked for then is one of the last hour. One of the future is from a clock that was
/// set back since.
fn counts(asked_at: Timestamp, now: Timestamp) -> bool {
    asked_at <= now && now < asked_at + CODE_WINDOW
}

/// Says how a text is not an e-mail address at somebody else's server: `ops@acme.example`.
pub fn address_problem(address: &str) -> Option<String> {
    if address.len() > email::BYTES_MAX {
        let max = email::BYTES_MAX;
        return Some(format!("must have at most {max} characters"));
    }
    let is_elsewhere = |parsed: EmailAddress| {
        parsed.user().len() <= USER_BYTES_MAX && parsed.domain().trim_matches('.').contains('.')
    };
    let is_one = EmailAddress::parse(address).is_ok_and(is_elsewhere);
    (!is_one).then(|| "must be an e-mail address such as ops@acme.example".to_owned())
}

/// Whether a text can be a code at all.
pub fn is_code(text: &str) -> bool {
    text.len() == CODE_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 + seconds)
    }

    fn digits(text: &str) -> Digits {
        Digits::kept(text.to_owned())
    }

    fn ask(contact: &mut Contact, seconds: u64) -> Result<(), u64> {
        let set = contact.set_unverified("a@b.example".to_owned(), digits("123456"), at(seconds));
        set.map_err(|wait| wait.as_secs())
    }

    #[test]
    fn a_code_a_minute_and_five_an_hour_are_mailed_whatever_happens_between() {
        let mut contact = Contact::new(ApplicationId([1; 20]));
        let mut heard = Vec::new();
        for seconds in [0, 30, 59, 60, 120, 180, 240, 300, 3599, 3600, 3601, 3660] {
            heard.push(ask(&mut contact, seconds));
            if seconds == 120 {
                assert!(contact.remove(at(seconds)), "its codes count");
            }
        }
        let expected = [
            Ok(()),
            Err(30),
            Err(1),
            Ok(()),
            Ok(()),
            Ok(()),
            Ok(()),
            Err(3300),
            Err(1),
            Ok(()),
            Err(59),
            Ok(()),
        ];
        assert_eq!(heard, expected);
        assert_eq!(contact.asked_at.len(), 5);
        assert!(!contact.remove(at(3660 + 3600)));
        // A clock that was set back keeps nobody waiting for longer than ever.
        assert_eq!(ask(&mut contact, 10), Ok(()));
    }

    #[test]
    fn a_code_counts_for_half_an_hour_and_five_tries() {
        let mut contact = Contact::new(ApplicationId([1; 20]));
        assert_eq!(contact.try_code("123456", at(0)), CodeCheck::NoCode);
        ask(&mut contact, 0).unwrap();
        for tries_left in [4, 3] {
            let wrong = CodeCheck::Wrong { tries_left };
            assert_eq!(contact.try_code("123457", at(1)), wrong);
        }
        let mut late = contact.clone();
        assert_eq!(late.try_code("123456", at(1800)), CodeCheck::NoCode);
        let mut right = contact.clone();
        assert_eq!(right.verified_address(), None);
        assert_eq!(right.try_code("123456", at(1799)), CodeCheck::Right);
        assert_eq!(right.verified_address(), Some("a@b.example"));
        assert_eq!(right.code, None);
        for tries_left in [2, 1, 0] {
            let wrong = CodeCheck::Wrong { tries_left };
            assert_eq!(contact.try_code("", at(2)), wrong);
        }
        assert_eq!(contact.try_code("123456", at(3)), CodeCheck::NoCode);
        // A new one is a code of its own.
        ask(&mut contact, 60).unwrap();
        assert_eq!(contact.try_code("123456", at(61)), CodeCheck::Right);
    }

    #[test]
    fn a_code_is_to_be_mailed_until_it_was_or_counts_no_more() {
        let mut contact = Contact::new(ApplicationId([1; 20]));
        assert_eq!(contact.code_to_mail(at(0)), None);
        ask(&mut contact, 0).unwrap();
        let due = contact.code_to_mail(at(1799)).expect("it is due");
        assert_eq!((due.asked_at, due.expires_at), (at(0), at(1800)));
        assert_eq!(contact.code_to_mail(at(1800)), None);
        assert!(!format!("{contact:?} {due:?}").contains("123456"));
        contact.set_verified("c@d.example".to_owned(), at(1));
        assert_eq!(contact.code_to_mail(at(1)), None);
    }

    #[test]
    fn codes_have_six_digits() {
        assert_eq!(Digits::generate([0; 32]).expose(), "000000");
        let mut random = [0; 32];
        random[7] = 7;
        assert_eq!(Digits::generate(random).expose(), "000007");
        for text in ["12345", "1234567", "12345a", "１２", ""] {
            assert!(!is_code(text), "{text}");
        }
        assert!(is_code("012345"));
    }

    #[test]
    fn only_a_plain_address_is_one() {
        let long = |count| format!("{}@acme.example", "a".repeat(count));
        for (address, is_one) in [
            ("ops@acme.example", true),
            ("first.last+hooks@mail.acme.example", true),
            ("o'neil@acme.example", true),
            (&*long(64), true),
            (&*long(65), false),
            (
                &*format!("{}@{}example", "a".repeat(60), "ab.".repeat(62)),
                true,
            ),
            (
                &*format!("{}@{}example", "a".repeat(60), "ab.".repeat(63)),
                false,
            ),
            ("", false),
            ("ops", false),
            ("@acme.example", false),
            ("ops@", false),
            ("ops@localhost", false),
            ("ops@acme.example.", false),
            ("ops@.example", false),
            ("ops@[127.0.0.1]", false),
            ("\"o p s\"@acme.example", false),
            ("ops@acme.example, more@acme.example", false),
            ("Ops <ops@acme.example>", false),
            ("ops@acme.example\r\nBcc: more@acme.example", false),
            (" ops@acme.example", false),
            ("öps@acme.example", false),
            ("ops@ácme.example", false),
        ] {
            assert_eq!(address_problem(address).is_none(), is_one, "{address}");
        }
    }
}
