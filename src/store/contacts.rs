//! What the mailer asks of contacts: the codes that it has to mail, and when to look.
//!
//! A code is in its contact's record from the commit that made it until it was mailed or counts no more, so a
//! restart loses none. The mailer looks at the start, whenever [`Store::contacts_changed`] tells it, and when
//! a mail that failed is due again. It notes each mail by
//! [`ContactCodeMailed`](crate::rules::contacts::ContactCodeMailed); a kill between the two sends one code
//! twice. The address that hears of an application's endpoints is [`Catalog::contact_of`].
//!
//! [`Catalog::contact_of`]: crate::catalog::Catalog::contact_of

use tokio::sync::watch;

use super::Store;
use crate::domain::contact::CodeToMail;
use crate::error::Result;
use crate::rules::contacts::ContactCodeMailed;
use crate::rules::decision::Itself;

impl Store {
    /// The codes that are to be mailed now. One that has expired is not among them.
    pub fn contact_codes_to_mail(&self) -> Vec<CodeToMail> {
        let now = self.inner.clock.now();
        self.inner.catalog().contact_codes_to_mail(now)
    }

    /// Notes that a code was mailed, or that its address was refused for good.
    pub async fn contact_code_mailed(&self, code: &CodeToMail) -> Result<()> {
        let mailed = ContactCodeMailed {
            application: code.application,
            asked_at: code.asked_at,
        };
        self.change(Itself(mailed)).await
    }

    /// Tells of every commit in which a contact was set, a code was asked for, or one was tried.
    pub fn contacts_changed(&self) -> watch::Receiver<()> {
        self.inner.contacts_changed.subscribe()
    }
}
