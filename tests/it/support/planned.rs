//! A change of registrations as a test plans it.

use postrider::catalog::Catalog;
use postrider::clock::Timestamp;
use postrider::rules::Decided;
use postrider::rules::decision::Decision;

/// Decides what the closure says, on the writer's thread.
pub struct Planned<F>(pub F);

impl<F, T> Decision for Planned<F>
where
    F: FnOnce(&Catalog) -> Decided<T> + Send + 'static,
    T: Send + 'static,
{
    type Answer = T;

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<T> {
        (self.0)(catalog)
    }
}
