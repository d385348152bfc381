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

use crate::clock::Timestamp;

/// The header that says which surface's cookie a request means.
pub const SURFACE: &str = "x-postrider-surface";

const FETCH_SITE: &str = "sec-fetch-site";

/// Without a request for this long a visit is over.
const IDLE_MAX: Duration = Duration::from_secs(12 * 3600);

/// All of them are in memory; the one that was idle for the longest makes room.
const VISITS_MAX: usize = 10_000;

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
    credential: Credential,
    seen_at: Timestamp,
}

#[derive(Default)]
pub struct Visits {
    /// By the SHA-256 of the cookie.
    visits: Mutex<HashMap<[u8; 32], Visit>>,
}

impl Visits {
    /// Begins a visit; returns the cookie's value.
    pub fn begin(&self, surface: Surface, credential: &str, now: Timestamp) -> String {
        let cookie = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let visit = Visit {
            surface,
            credential: Arc::new(Zeroizing::new(credential.to_owned())),
            seen_at: now,
        };
        let mut visits = self.lock();
        if visits.len() >= VISITS_MAX {
            visits.retain(|_, visit| now.since(visit.seen_at) < IDLE_MAX);
        }
        if visits.len() >= VISITS_MAX {
            let idlest = visits.iter().min_by_key(|(_, visit)| visit.seen_at);
            if let Some(key) = idlest.map(|(key, _)| *key) {
                visits.remove(&key);
            }
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
    use actix_web::http::header::{HeaderName, HeaderValue};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

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
        let cookie = visits.begin(Surface::Console, "pr_token", NOW);
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
        let first = request(&visits.begin(Surface::Portal, "pr_a", NOW));
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
        let second = request(&visits.begin(Surface::Portal, "pr_b", NOW));
        visits.end(&second);
        assert!(visits.credential(&second, NOW).is_none());
    }

    #[test]
    fn the_idlest_makes_room_for_one_more() {
        let visits = Visits::default();
        let cookies: Vec<String> = (0..VISITS_MAX as u64)
            .map(|number| visits.begin(Surface::Console, "pr_a", Timestamp(NOW.0 + number)))
            .collect();
        visits.begin(
            Surface::Console,
            "pr_a",
            Timestamp(NOW.0 + VISITS_MAX as u64),
        );
        let is_there = |cookie: &str| visits.lock().contains_key(&key_of(cookie));
        assert!(!is_there(&cookies[0]) && is_there(&cookies[1]));
        assert_eq!(visits.lock().len(), VISITS_MAX);
    }
}
