//! Names to addresses, by the system's resolver, with a small cache.
//!
//! One per delivery thread. A name is looked up once at a time, however many attempts wait for it,
//! and its answer, also that there is none, is kept for `dns_cache_seconds`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Names remembered per thread; at about 200 bytes each.
const NAMES_MAX: usize = 4096;
/// Addresses of one name that are ever tried.
const ADDRESSES_MAX: usize = 16;

/// The addresses, or the resolver's own words on why there are none.
pub type Resolved = Result<Rc<[IpAddr]>, Rc<str>>;

pub struct Resolver {
    keep: Duration,
    names: RefCell<HashMap<String, Lookup>>,
}

struct Lookup {
    started: Instant,
    /// Empty until the lookup has ended.
    answer: watch::Receiver<Option<Resolved>>,
}

impl Resolver {
    pub fn new(keep: Duration) -> Resolver {
        Resolver {
            keep,
            names: RefCell::default(),
        }
    }

    pub async fn resolve(&self, name: &str) -> Resolved {
        let mut answer = self.lookup(name);
        let answer = answer.wait_for(Option::is_some).await;
        match answer.as_deref() {
            Ok(Some(resolved)) => resolved.clone(),
            // The lookup's task ended without an answer: the runtime is stopping.
            _ => Err("the lookup was given up".into()),
        }
    }

    fn lookup(&self, name: &str) -> watch::Receiver<Option<Resolved>> {
        let mut names = self.names.borrow_mut();
        if let Some(lookup) = names.get(name)
            && lookup.is_current(self.keep)
        {
            return lookup.answer.clone();
        }
        if names.len() >= NAMES_MAX {
            names.retain(|_, lookup| lookup.is_current(self.keep));
        }
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        let (sender, answer) = watch::channel(None);
        let host = name.to_owned();
        // A task of its own: an attempt that gives up does not stop the lookup for the others, and
        // the resolver could not be stopped anyway.
        actix_rt::spawn(async move {
            sender.send_replace(Some(ask_system(&host).await));
        });
        let lookup = Lookup {
            started: Instant::now(),
            answer: answer.clone(),
        };
        names.insert(name.to_owned(), lookup);
        answer
    }
}

impl Lookup {
    /// Still under way, or young enough.
    fn is_current(&self, keep: Duration) -> bool {
        let under_way = self.answer.borrow().is_none() && self.answer.has_changed().is_ok();
        under_way || self.started.elapsed() < keep
    }
}

async fn ask_system(host: &str) -> Resolved {
    let found = tokio::net::lookup_host((host, 0))
        .await
        .map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        return Err("the name has no address".into());
    }
    Ok(addresses.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_name_is_asked_for_once_while_its_answer_is_kept() {
        let resolver = Resolver::new(Duration::from_secs(60));
        let first = resolver.resolve("localhost").await.unwrap();
        assert!(first.iter().all(IpAddr::is_loopback), "{first:?}");
        let second = resolver.resolve("localhost").await.unwrap();
        assert!(Rc::ptr_eq(&first, &second));

        let forgetful = Resolver::new(Duration::ZERO);
        let first = forgetful.resolve("localhost").await.unwrap();
        let second = forgetful.resolve("localhost").await.unwrap();
        assert!(!Rc::ptr_eq(&first, &second));
    }

    #[actix_web::test]
    async fn a_name_that_does_not_exist_is_an_error() {
        let resolver = Resolver::new(Duration::from_secs(60));
        assert!(resolver.resolve("does-not-exist.invalid").await.is_err());
    }

    #[actix_web::test]
    async fn the_cache_is_bounded() {
        let resolver = Resolver::new(Duration::from_secs(60));
        for number in 0..NAMES_MAX {
            let (_, answer) = watch::channel(None);
            let lookup = Lookup {
                started: Instant::now(),
                answer,
            };
            let name = format!("{number}.example");
            resolver.names.borrow_mut().insert(name, lookup);
        }
        resolver.resolve("localhost").await.unwrap();
        assert!(resolver.names.borrow().len() <= NAMES_MAX);
    }
}
