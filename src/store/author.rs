//! Who a change of registrations is made for.
//!
//! Every change through [`super::Store::change`] names its author, so that none can forget to ask: a request is let in when its head
//! arrives, and its body, a read or the queue of the committer may take a while. A credential that was
//! ended meanwhile must not leave anything behind.

use super::{Catalog, Change};
use crate::clock::{Clock, Timestamp};
use crate::error::Result;

pub trait Author: Send + 'static {
    /// Whether this author may still change anything, by the catalog that the change is decided on.
    fn still_holds(&self, catalog: &Catalog, now: Timestamp) -> Result<()>;
}

/// The server itself: what it changes nobody asked for with a credential.
pub struct Itself;

impl Author for Itself {
    fn still_holds(&self, _: &Catalog, _: Timestamp) -> Result<()> {
        Ok(())
    }
}

/// The decision, made only if its author may still change anything.
pub(super) fn by<T>(
    author: impl Author,
    clock: Clock,
    decide: impl FnOnce(&Catalog) -> Result<(Vec<Change>, T)> + Send + 'static,
) -> impl FnOnce(&Catalog) -> Result<(Vec<Change>, T)> + Send + 'static {
    move |catalog| {
        author.still_holds(catalog, clock.now())?;
        decide(catalog)
    }
}
