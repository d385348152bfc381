//! Who is signed in to the console or the portal in a browser.
//!
//! A visit is a credential that the server keeps for a browser, which holds a random cookie in its
//! place. Visits are in memory only: a restart ends them, and so does signing out, a while without a
//! request, and whatever ends the credential, which is proved anew at each request.
//!
//! A cookie is sent by the browser whoever asks for the request, so it counts for nothing alone: the
//! request must name its surface in [`SURFACE`]. A page of another origin cannot send that header
//! without asking first (CORS), and is not let; browsers that say where a request comes from
//! (`Sec-Fetch-Site`) must say that it is from here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::header::{COOKIE, HeaderMap};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::fair::Payer;
use crate::clock::Timestamp;

/// The header that says which surface's cookie a request means.
pub const SURFACE: &str = "x-postrider-surface";

const FETCH_SITE: &str = "sec-fetch-site";

/// Without a request for this long a visit is over.
const IDLE_MAX: Duration = Duration::from_secs(12 * 3600);

/// All of them are in memory. One more than these makes the one go that was idle for the longest: of
/// the same credential, of the same customer's links and keys, or, where there are too many in all, of
/// whoever has the most. So nobody's sign-ins end the visit of somebody else who has few.
const VISITS_MAX: usize = 10_000;
const OF_CREDENTIAL_MAX: usize = 50;
const OF_PAYER_MAX: usize = 500;

/// Which pages a visit is to. Each has a cookie of its own: whoever operates the console can open a
/// customer's portal beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Console,
    Portal,
}

impl Surface {
    pub const ALL: [Surface; 2] = [Surface::Console, Surface::Portal];

    pub fn name(self) -> &'static str {
        match self {
            Surface::Console => "console",
            Surface::Portal => "portal",
        }
    }

    pub fn cookie(self) -> &'static str {
        match self {
            Surface::Console => "postrider_console",
            Surface::Portal => "postrider_portal",
        }
    }

    pub fn named(name: &str) -> Option<Surface> {
        Surface::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The one that a request means.
    pub fn of(headers: &HeaderMap) -> Option<Surface> {
        Surface::named(headers.get(SURFACE)?.to_str().ok()?)
    }
}

/// A credential's text, which is wiped when nobody holds it any more.
pub type Credential = Arc<Zeroizing<String>>;

struct Visit {
    surface: Surface,
    payer: Payer,
    credential: Credential,
    seen_at: Timestamp,
}

type All = HashMap<[u8; 32], Visit>;

#[derive(Default)]
pub struct Visits {
    /// By the SHA-256 of the cookie.
    visits: Mutex<All>,
}

impl Visits {
    /// Begins a visit; returns the cookie's value.
    pub fn begin(
        &self,
        surface: Surface,
        payer: Payer,
        credential: &str,
        now: Timestamp,
    ) -> String {
        let cookie = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let visit = Visit {
            surface,
            payer,
            credential: Arc::new(Zeroizing::new(credential.to_owned())),
            seen_at: now,
        };
        let mut visits = self.lock();
        if visits.len() >= VISITS_MAX {
            visits.retain(|_, visit| now.since(visit.seen_at) < IDLE_MAX);
        }
        make_room(&mut visits, OF_CREDENTIAL_MAX, |one| {
            one.payer == payer && **one.credential == **visit.credential
        });
        make_room(&mut visits, OF_PAYER_MAX, |one| one.payer == payer);
        if visits.len() >= VISITS_MAX {
            let most = who_has_most(&visits);
            make_room(&mut visits, 1, |one| Some(one.payer) == most);
        }
        visits.insert(key_of(&cookie), visit);
        cookie
    }

    /// The credential of the visit that a request belongs to.
    pub fn credential(&self, headers: &HeaderMap, now: Timestamp) -> Option<Credential> {
        let (surface, key) = visit_of(headers)?;
        let mut visits = self.lock();
        let visit = visits.get_mut(&key)?;
        if now.since(visit.seen_at) >= IDLE_MAX {
            visits.remove(&key);
            return None;
        }
        if visit.surface != surface {
            return None;
        }
        visit.seen_at = visit.seen_at.max(now);
        Some(visit.credential.clone())
    }

    /// Ends the visit that a request belongs to.
    pub fn end(&self, headers: &HeaderMap) {
        if let Some((_, key)) = visit_of(headers) {
            self.lock().remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Visit>> {
        // A request that panicked while it held them left whole entries.
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where there are `max` of these, ends the one that was idle for the longest, so that one fits.
fn make_room(visits: &mut All, max: usize, is_one: impl Fn(&Visit) -> bool) {
    let these = visits.iter().filter(|(_, visit)| is_one(visit));
    let these: Vec<_> = these.map(|(key, visit)| (visit.seen_at, *key)).collect();
    if these.len() >= max
        && let Some((_, key)) = these.iter().min()
    {
        visits.remove(key);
    }
}

fn who_has_most(visits: &All) -> Option<Payer> {
    let mut counts: HashMap<Payer, usize> = HashMap::new();
    for visit in visits.values() {
        *counts.entry(visit.payer).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(payer, _)| payer)
}

/// Whether a page of this server sent a request, as far as the browser says.
pub fn is_from_here(headers: &HeaderMap) -> bool {
    headers
        .get(FETCH_SITE)
        .is_none_or(|site| site == "same-origin")
}

fn key_of(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

/// The surface that a request names and the key of its cookie, if a page of ours sent it.
fn visit_of(headers: &HeaderMap) -> Option<(Surface, [u8; 32])> {
    let surface = Surface::of(headers).filter(|_| is_from_here(headers))?;
    headers
        .get_all(COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == surface.cookie())
        .map(|(_, cookie)| (surface, key_of(cookie)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::TokenId;
    use actix_web::http::header::{HeaderName, HeaderValue};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn payer(number: u8) -> Payer {
        Payer::Token(TokenId([number; 20]))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    #[test]
    fn a_cookie_counts_only_with_the_header_of_its_surface_and_from_here() {
        let visits = Visits::default();
        let cookie = visits.begin(Surface::Console, payer(0), "pr_token", NOW);
        let own = format!("other=1; postrider_console={cookie}");
        let moved = format!("postrider_portal={cookie}");
        for (pairs, counts) in [
            (vec![("cookie", own.as_str()), (SURFACE, "console")], true),
            (vec![("cookie", own.as_str())], false),
            (vec![("cookie", own.as_str()), (SURFACE, "portal")], false),
            (vec![("cookie", moved.as_str()), (SURFACE, "portal")], false),
            (vec![("cookie", own.as_str()), (SURFACE, "other")], false),
            (
                vec![
                    ("cookie", own.as_str()),
                    (SURFACE, "console"),
                    (FETCH_SITE, "same-origin"),
                ],
                true,
            ),
            (
                vec![
                    ("cookie", own.as_str()),
                    (SURFACE, "console"),
                    (FETCH_SITE, "same-site"),
                ],
                false,
            ),
            (
                vec![
                    ("cookie", own.as_str()),
                    (SURFACE, "console"),
                    (FETCH_SITE, "cross-site"),
                ],
                false,
            ),
            (
                vec![("cookie", "postrider_console=x"), (SURFACE, "console")],
                false,
            ),
            (vec![(SURFACE, "console")], false),
        ] {
            let found = visits.credential(&headers(&pairs), NOW);
            assert_eq!(found.is_some(), counts, "{pairs:?}");
        }
    }

    #[test]
    fn a_visit_ends_by_itself_and_by_hand() {
        let visits = Visits::default();
        let request = |cookie: &str| {
            let cookie = format!("postrider_portal={cookie}");
            headers(&[("cookie", &cookie), (SURFACE, "portal")])
        };
        let first = request(&visits.begin(Surface::Portal, payer(0), "pr_a", NOW));
        let almost = Duration::from_millis(IDLE_MAX.as_millis() as u64 - 1);
        assert!(visits.credential(&first, NOW + almost).is_some());
        assert!(
            visits.credential(&first, NOW + almost + almost).is_some(),
            "it was seen"
        );
        assert!(
            visits
                .credential(&first, NOW + almost + almost + IDLE_MAX)
                .is_none()
        );
        let second = request(&visits.begin(Surface::Portal, payer(0), "pr_b", NOW));
        visits.end(&second);
        assert!(visits.credential(&second, NOW).is_none());
    }

    fn is_there(visits: &Visits, cookie: &str) -> bool {
        visits.lock().contains_key(&key_of(cookie))
    }

    #[test]
    fn one_more_ends_the_idlest_of_the_same_credential_and_of_the_same_customer() {
        let visits = Visits::default();
        let later = |number: usize| Timestamp(NOW.0 + number as u64);
        let begin = |payer, credential: &str, number| {
            visits.begin(Surface::Portal, payer, credential, later(number))
        };
        let owner = begin(payer(1), "pr_owner", 0);
        let own: Vec<String> = (1..=OF_CREDENTIAL_MAX)
            .map(|number| begin(payer(2), "pr_link", number))
            .collect();
        begin(payer(2), "pr_other", 60);
        assert!(is_there(&visits, &own[0]));
        begin(payer(2), "pr_link", 61);
        assert!(!is_there(&visits, &own[0]) && is_there(&visits, &own[1]));
        for number in 0..2 * OF_PAYER_MAX {
            begin(payer(2), &format!("pr_{number}"), 100 + number);
        }
        let count = visits.lock().len();
        assert_eq!(count, OF_PAYER_MAX + 1);
        assert!(is_there(&visits, &owner));
    }

    #[test]
    fn whoever_has_the_most_makes_room_where_there_are_too_many() {
        let visits = Visits::default();
        let owner = visits.begin(Surface::Console, payer(0), "pr_owner", NOW);
        // Others that have less each than they may, and one of them the most.
        let each = VISITS_MAX / 25;
        for number in 0..VISITS_MAX - 1 {
            let of = match number / each {
                24 => 1,
                of => of as u8 + 1,
            };
            let at = Timestamp(NOW.0 + 1 + number as u64);
            let mut all = visits.lock();
            let key = key_of(&number.to_string());
            let visit = Visit {
                surface: Surface::Console,
                payer: payer(of),
                credential: Arc::new(Zeroizing::new(number.to_string())),
                seen_at: at,
            };
            all.insert(key, visit);
        }
        let at = Timestamp(NOW.0 + VISITS_MAX as u64);
        visits.begin(Surface::Console, payer(99), "pr_late", at);
        assert_eq!(visits.lock().len(), VISITS_MAX);
        assert!(is_there(&visits, &owner) && !is_there(&visits, "0"));
    }
}
