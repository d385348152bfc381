//! Lists that come by pages, from a server that may be broken, or another one than it should be: it may
//! have no last page.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Items of one list that are read at most: ten times as many as the largest organisations have.
const ITEMS_MAX: usize = 1_000_000;

const PATH_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// An id or a name as a segment of a path.
pub fn in_path(name: &str) -> String {
    utf8_percent_encode(name, PATH_ESCAPED).to_string()
}

/// How far a list is read.
pub struct Pages {
    /// Ends where the next parameter begins.
    path: String,
    limit: usize,
    /// Where the next page begins.
    place: Option<String>,
    is_over: bool,
    /// The hashes of the items and of the places that were read.
    items: HashSet<u64>,
    places: HashSet<u64>,
}

impl Pages {
    pub fn of(path: String, limit: usize) -> Pages {
        Pages {
            path,
            limit,
            place: None,
            is_over: false,
            items: HashSet::new(),
            places: HashSet::new(),
        }
    }

    /// Of the next page; none behind the last.
    pub fn path(&self) -> Option<String> {
        let Pages { path, limit, .. } = self;
        let place = match &self.place {
            Some(place) => format!("&iterator={}", in_path(place)),
            None => String::new(),
        };
        (!self.is_over).then(|| format!("{path}limit={limit}{place}"))
    }

    /// Takes in a page: the names of its items, and its word on the next page. The error says why reading
    /// on would come to no end.
    pub fn read<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
        iterator: Option<&str>,
        done: Option<bool>,
    ) -> Result<(), String> {
        let (mut is_empty, mut is_new) = (true, false);
        for name in names {
            is_empty = false;
            is_new |= self.items.insert(hash(name));
        }
        let more = done == Some(false) && !is_empty;
        self.place = iterator.filter(|_| more).map(str::to_owned);
        self.is_over = self.place.is_none();
        let Some(place) = &self.place else {
            return Ok(());
        };
        if !is_new || !self.places.insert(hash(place)) {
            return Err("comes back to what it had before, so it has no end".to_owned());
        }
        if self.items.len() > ITEMS_MAX {
            return Err(format!("has more than {ITEMS_MAX} items"));
        }
        Ok(())
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_an_end_is_given_up() {
        let list = || Pages::of("/a?".to_owned(), 1);
        let more =
            |list: &mut Pages, name: &str, place: &str| list.read([name], Some(place), Some(false));
        let mut same_place = list();
        more(&mut same_place, "a", "1").unwrap();
        assert_eq!(same_place.path().unwrap(), "/a?limit=1&iterator=1");
        assert!(more(&mut same_place, "b", "1").is_err());
        let mut same_items = list();
        more(&mut same_items, "a", "1").unwrap();
        assert!(more(&mut same_items, "a", "2").is_err());
        let mut endless = list();
        let ended =
            (0..=ITEMS_MAX).find_map(|n| more(&mut endless, &n.to_string(), &n.to_string()).err());
        assert!(ended.unwrap().contains("more than"));
        for (names, done) in [(&["a"][..], true), (&[], false)] {
            let mut whole = list();
            let names = names.iter().copied();
            whole.read(names, Some("1"), Some(done)).unwrap();
            assert_eq!(whole.path(), None);
        }
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(in_path("a/b?c%d"), "a%2Fb%3Fc%25d");
        assert_eq!(in_path("app_2-x.y~"), "app_2-x.y~");
    }
}
