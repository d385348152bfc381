//! Finds the visit that a request belongs to: cookies, and the header that says which one is meant.
//!
//! A cookie is sent by the browser whoever asks for the request, so it counts for nothing alone: the
//! request must name its surface in [`SURFACE`]. A page of another origin cannot send that header
//! without asking first (CORS), and is not let; browsers that say where a request comes from
//! (`Sec-Fetch-Site`) must say that it is from here. The console has one cookie, and each
//! application's portal one of its own, so that the portals of several customers work beside each
//! other in one browser.

use std::sync::Arc;

use actix_web::http::header::{COOKIE, HeaderMap};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::catalog::{Catalog, VisitEntry};
use crate::clock::Timestamp;
use crate::domain::id::ApplicationId;
use crate::domain::visit::Surface;

/// The header that says which surface's cookie a request means.
pub const SURFACE: &str = "x-postrider-surface";

/// Its values, as a pattern.
pub const SURFACE_PATTERN: &str = "^(console|portal(:app_[0-9A-Za-z]{27})?)$";

const FETCH_SITE: &str = "sec-fetch-site";

const CONSOLE_COOKIE: &str = "postrider_console";
/// The beginning of a portal's cookie name; the application's id follows.
const PORTAL_COOKIE: &str = "postrider_portal_";

/// The most portals that one browser is signed in to at a time: each costs some hundred bytes in
/// every request. One more signs the oldest out.
pub const PORTALS_PER_BROWSER_MAX: usize = 16;

/// The most cookies of a request that are looked at. A header has room for thousands, each of them
/// hashed.
const COOKIES_MAX: usize = 4 * PORTALS_PER_BROWSER_MAX;

/// Whose cookie a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meant {
    Console,
    /// The portal of one application.
    Portal(ApplicationId),
    /// The portal that this browser signed in to last. Pages ask for it until they know their
    /// application, and so do clients from before each portal had a cookie of its own.
    AnyPortal,
}

impl Meant {
    /// Returns the cookie that a request names.
    pub fn of(headers: &HeaderMap) -> Option<Meant> {
        match headers.get(SURFACE)?.to_str().ok()? {
            "console" => Some(Meant::Console),
            "portal" => Some(Meant::AnyPortal),
            other => {
                let application = other.strip_prefix("portal:")?;
                application.parse().ok().map(Meant::Portal)
            }
        }
    }

    pub fn surface(self) -> Surface {
        match self {
            Meant::Console => Surface::Console,
            Meant::Portal(_) | Meant::AnyPortal => Surface::Portal,
        }
    }
}

/// The name of a visit's cookie.
pub fn cookie_name(surface: Surface, application: Option<ApplicationId>) -> String {
    match (surface, application) {
        (Surface::Portal, Some(application)) => format!("{PORTAL_COOKIE}{application}"),
        _ => CONSOLE_COOKIE.to_owned(),
    }
}

/// A new cookie's value, and the key that its visit is found by.
pub fn new_cookie() -> (String, [u8; 32]) {
    let cookie = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let key = key_of(&cookie);
    (cookie, key)
}

fn key_of(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

/// Whether a page of this server sent a request, as far as the browser says.
pub fn is_from_here(headers: &HeaderMap) -> bool {
    headers
        .get(FETCH_SITE)
        .is_none_or(|site| site == "same-origin")
}

/// The living visit that a request belongs to, if a page of ours sent it.
pub fn visit_of<'a>(
    headers: &HeaderMap,
    catalog: &'a Catalog,
    now: Timestamp,
) -> Option<&'a Arc<VisitEntry>> {
    let meant = Meant::of(headers).filter(|_| is_from_here(headers))?;
    let lives = |entry: &&Arc<VisitEntry>| !catalog.is_over(entry, now);
    match meant {
        Meant::Console => {
            let mut found = named(headers, catalog, |name| name == CONSOLE_COOKIE);
            found.find(|entry| entry.visit.surface == Surface::Console && lives(entry))
        }
        Meant::Portal(application) => {
            let mut found = portals(headers, catalog);
            found.find(|entry| entry.visit.application == Some(application) && lives(entry))
        }
        Meant::AnyPortal => portals(headers, catalog)
            .filter(lives)
            .max_by_key(|entry| entry.visit.id),
    }
}

/// The visits to portals that a browser has cookies of, over or not.
pub fn portals<'a>(
    headers: &HeaderMap,
    catalog: &'a Catalog,
) -> impl Iterator<Item = &'a Arc<VisitEntry>> {
    named(headers, catalog, |name| name.starts_with(PORTAL_COOKIE))
        .filter(|entry| entry.visit.surface == Surface::Portal)
}

/// The applications whose portals a browser has cookies of, valid or not.
pub fn portal_cookies(headers: &HeaderMap) -> impl Iterator<Item = ApplicationId> + '_ {
    let names = cookies(headers).map(|(name, _)| name);
    let portals = names.filter_map(|name| name.strip_prefix(PORTAL_COOKIE)?.parse().ok());
    portals.take(COOKIES_MAX)
}

/// Returns the visits of the cookies with these names. A cookie that was moved to another portal's
/// name is worth nothing there.
fn named<'a>(
    headers: &HeaderMap,
    catalog: &'a Catalog,
    is_one: impl Fn(&str) -> bool,
) -> impl Iterator<Item = &'a Arc<VisitEntry>> {
    cookies(headers)
        .filter(move |(name, _)| is_one(name))
        .take(COOKIES_MAX)
        .filter_map(move |(name, cookie)| {
            let entry = catalog.visit(&key_of(cookie))?;
            let visit = &entry.visit;
            (cookie_name(visit.surface, visit.application) == name).then_some(entry)
        })
}

/// The names and values of a request's cookies (RFC 6265, section 4.2.1), without an allocation. By
/// hand: the crate `cookie` splits the same list into values of its own, and taking names and texts out
/// of them again is longer than this.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    const APPLICATION: &str = "app_1srOrx2ZWZBpBUvZwXKQmoEYga2";

    #[test]
    fn the_header_names_the_console_a_portal_or_any_portal() {
        let application = APPLICATION.parse().unwrap();
        for (value, expected) in [
            ("console", Some(Meant::Console)),
            ("portal", Some(Meant::AnyPortal)),
            (
                &format!("portal:{APPLICATION}"),
                Some(Meant::Portal(application)),
            ),
            ("portal:", None),
            ("portal:org_1srOrx2ZWZBpBUvZwXKQmoEYga2", None),
            (&format!("console:{APPLICATION}"), None),
            (&format!("portal:{APPLICATION}:"), None),
            ("Portal", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            let name = HeaderName::from_static(SURFACE);
            headers.insert(name, HeaderValue::from_str(value).unwrap());
            assert_eq!(Meant::of(&headers), expected, "{value}");
        }
        assert_eq!(Meant::of(&HeaderMap::new()), None);
    }
}
