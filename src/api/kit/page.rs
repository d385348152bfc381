//! Pages of lists: the page that a query asks for, and its answer.
//!
//! An answer is `{"data", "iterator", "prevIterator", "done"}`. `iterator` is the id of the last
//! item and reads on; `prevIterator` is `-` and the id of the first, and reads back. A name that
//! begins with `-` itself has `=` before it where it reads on. Either way the items stand in the list's
//! own order, and `done` says that there is nothing further in the direction of reading.

use std::fmt::{self, Display};
use std::str::FromStr;

use actix_web::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::extract::answered;
use super::operation::Parameter;
use super::query::Query;
use crate::clock::Timestamp;
use crate::config::LimitsSection;
use crate::domain::event_type::name_problem;
use crate::rules::checks::EVENT_TYPE_NAME_MAX;
use crate::store::{Answered, Stretch, Window};

/// How many items a page has by default.
const LIMIT_DEFAULT: usize = 50;

/// Returns the parameters that [`Query::page`] reads.
pub fn page_parameters(descending: bool) -> [Parameter; 3] {
    let order = if descending {
        "descending"
    } else {
        "ascending"
    };
    [
        Parameter::query(
            "limit",
            "How many items the page has at most. The server may be set up for fewer than 250.",
            serde_json::json!({ "type": "integer", "minimum": 1, "maximum": 250, "default": LIMIT_DEFAULT }),
        ),
        Parameter::query(
            "iterator",
            "`iterator` or `prevIterator` of the page before, to read on or back.",
            serde_json::json!({ "type": "string" }),
        ),
        Parameter::query(
            "order",
            "The order of the items, oldest first or newest first; names, where a list is of \
             names, by the alphabet.",
            serde_json::json!({ "type": "string", "enum": ["ascending", "descending"], "default": order }),
        ),
    ]
}

impl Query<'_> {
    /// Reads `limit`, `iterator` and `order`. `descending` is the list's own order where the query
    /// names none.
    pub fn page<Id: FromStr>(&mut self, max: impl Into<PageMax>, descending: bool) -> Page<Id> {
        let PageMax {
            items: limit_max,
            bytes,
        } = max.into();
        let limit = match self.get("limit").map(str::parse::<usize>) {
            None => LIMIT_DEFAULT.min(limit_max),
            Some(Ok(limit)) if (1..=limit_max).contains(&limit) => limit,
            Some(_) => {
                let message = format!("must be a number from 1 to {limit_max}");
                self.problems.add(&["query", "limit"], message);
                limit_max
            }
        };
        let orders = [("ascending", false), ("descending", true)];
        let descending = self.choice("order", &orders).unwrap_or(descending);
        let (behind, backwards) = self.iterator(parse_iterator::<Id>).unzip();
        let backwards = backwards.unwrap_or(false);
        Page {
            limit,
            bytes,
            descending,
            behind,
            backwards,
        }
    }

    /// Returns the page for a list whose contract has no pages: the rest of the list after
    /// `iterator`, as far as it fits into a page's bytes.
    pub fn rest<Id: FromStr>(&mut self, limits: &LimitsSection) -> Page<Id> {
        Page {
            limit: usize::MAX - 1,
            bytes: limits.page_bytes,
            descending: false,
            behind: self.iterator(|text| text.parse().map_err(|_| ())),
            backwards: false,
        }
    }

    fn iterator<T>(&mut self, read: impl FnOnce(&str) -> Result<T, ()>) -> Option<T> {
        let given = self.get("iterator").map(read)?;
        if given.is_err() {
            let message = "is not an iterator of this list";
            self.problems.add(&["query", "iterator"], message);
        }
        given.ok()
    }
}

/// The longest page.
#[derive(Clone, Copy)]
pub struct PageMax {
    items: usize,
    bytes: usize,
}

impl From<&LimitsSection> for PageMax {
    fn from(limits: &LimitsSection) -> PageMax {
        PageMax {
            items: limits.list_page_max,
            bytes: limits.page_bytes,
        }
    }
}

/// The name of an item in a list that goes by names.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub struct Name(pub String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        match name_problem(text, EVENT_TYPE_NAME_MAX) {
            None => Ok(Name(text.to_owned())),
            Some(problem) => Err(problem),
        }
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn parse_iterator<Id: FromStr>(text: &str) -> Result<(Id, bool), ()> {
    let (id, backwards) = match text.strip_prefix('-') {
        Some(id) => (id, true),
        None => (text.strip_prefix('=').unwrap_or(text), false),
    };
    Ok((id.parse().map_err(|_| ())?, backwards))
}

/// Returns the `iterator` that reads on after this id.
fn iterator(id: impl Display) -> String {
    let id = id.to_string();
    match id.starts_with('-') {
        true => format!("={id}"),
        false => id,
    }
}

/// The page that a query asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<Id> {
    limit: usize,
    /// The page ends after so many bytes, whatever the limit is; a single item may be longer.
    bytes: usize,
    /// The list's order, whichever direction is read.
    descending: bool,
    behind: Option<Id>,
    /// Reading against the list's order.
    backwards: bool,
}

impl<Id: Display + Clone + PartialOrd> Page<Id> {
    /// This page of a list that is in memory, in ascending order.
    pub fn of<T>(
        &self,
        ascending: impl DoubleEndedIterator<Item = T>,
        id: impl Fn(&T) -> Id,
    ) -> Stretch<T, Id> {
        let mut items = if self.reads_down() {
            self.take(ascending.rev(), &id, |id, behind| id < behind)
        } else {
            self.take(ascending, &id, |id, behind| id > behind)
        };
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = items.last().filter(|_| more).map(&id);
        Stretch { items, next }
    }

    /// Takes one item more than the page has: it shows whether there are more.
    fn take<T>(
        &self,
        items: impl Iterator<Item = T>,
        id: impl Fn(&T) -> Id,
        beyond: impl Fn(&Id, &Id) -> bool,
    ) -> Vec<T> {
        items
            .filter(|item| {
                self.behind
                    .as_ref()
                    .is_none_or(|behind| beyond(&id(item), behind))
            })
            .take(self.limit + 1)
            .collect()
    }

    /// The same page of a list in the store.
    pub fn window(&self, before: Option<Timestamp>, after: Option<Timestamp>) -> Window<Id> {
        Window {
            limit: self.limit,
            bytes: self.bytes,
            newest_first: self.reads_down(),
            behind: self.behind.clone(),
            before,
            after,
        }
    }

    fn reads_down(&self) -> bool {
        self.descending != self.backwards
    }

    /// The answer with this page of a list that is in memory, in ascending order. `show` makes an item's
    /// JSON of it, with [`shown`].
    pub fn list<T>(
        &self,
        ascending: impl DoubleEndedIterator<Item = T>,
        id: impl Fn(&T) -> Id,
        show: impl FnMut(&T) -> Box<RawValue>,
    ) -> Answered {
        self.answer(self.of(ascending, &id), id, show)
    }

    /// Returns the answer with the items that were read.
    pub fn answer<T>(
        &self,
        stretch: Stretch<T, Id>,
        id: impl Fn(&T) -> Id,
        show: impl FnMut(&T) -> Box<RawValue>,
    ) -> Answered {
        answered(StatusCode::OK, &self.listed(stretch, id, show))
    }

    /// Returns the items that were read as the API lists them, as many as fit into a page.
    pub fn listed<T>(
        &self,
        stretch: Stretch<T, Id>,
        id: impl Fn(&T) -> Id,
        mut show: impl FnMut(&T) -> Box<RawValue>,
    ) -> Listed<Box<RawValue>> {
        let mut next = stretch.next;
        let (mut first, mut last) = (None, None);
        let mut data = Vec::with_capacity(stretch.items.len());
        let mut bytes = 0;
        for item in &stretch.items {
            let shown = show(item);
            bytes += shown.get().len();
            if bytes > self.bytes && !data.is_empty() {
                next.clone_from(&last);
                break;
            }
            data.push(shown);
            last = Some(id(item));
            first = first.or_else(|| last.clone());
        }
        if self.backwards {
            data.reverse();
            std::mem::swap(&mut first, &mut last);
        }
        let done = next.is_none();
        // A filter may have looked further than the last item that it let through.
        let (first, last) = match self.backwards {
            true => (next.or(first), last),
            false => (first, next.or(last)),
        };
        Listed {
            data,
            iterator: last.map(iterator),
            prev_iterator: first.map(|id| format!("-{id}")),
            done,
        }
    }
}

/// An item of a page.
pub fn shown(item: &impl Serialize) -> Box<RawValue> {
    to_raw_value(item).expect("our types have text keys")
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ListOf{T}")]
pub struct Listed<T> {
    pub data: Vec<T>,
    /// The value of the parameter `iterator` for the next page; null where this page is empty.
    pub iterator: Option<String>,
    /// The value of the parameter `iterator` for the page before.
    pub prev_iterator: Option<String>,
    /// There are no further items in the direction of reading.
    pub done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use proptest::prelude::*;

    fn problem_places(query: Query<'_>) -> Vec<String> {
        match query.problems.done() {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(all)) => all.iter().map(|one| one.location.join(".")).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    fn list(items: &[u32], text: &str) -> Listed<u32> {
        let mut query = Query::parse(text);
        let page: Page<u32> = query.page(250, false);
        query.problems.done().expect("the query is right");
        let stretch = page.of(items.iter().copied(), |id| *id);
        numbers(page.listed(stretch, |id| *id, shown))
    }

    fn numbers(listed: Listed<Box<RawValue>>) -> Listed<u32> {
        Listed {
            data: (listed.data.iter())
                .map(|item| item.get().parse().expect("a number"))
                .collect(),
            iterator: listed.iterator,
            prev_iterator: listed.prev_iterator,
            done: listed.done,
        }
    }

    impl From<usize> for PageMax {
        fn from(items: usize) -> PageMax {
            PageMax {
                items,
                bytes: usize::MAX,
            }
        }
    }

    #[test]
    fn a_page_ends_where_it_would_be_too_long() {
        for (bytes, text, data, iterator, previous, done) in [
            (3, "", vec![8, 10], "10", "-8", false),
            (3, "iterator=10", vec![11], "11", "-11", false),
            (4, "iterator=10", vec![11, 12], "12", "-11", true),
            // One that is too long comes alone.
            (1, "iterator=8", vec![10], "10", "-10", false),
            (4, "iterator=-12", vec![10, 11], "11", "-10", false),
            (3, "iterator=-11", vec![8, 10], "10", "-8", true),
            (2, "iterator=-12", vec![11], "11", "-11", false),
            (4, "order=descending", vec![12, 11], "11", "-12", false),
            (100, "limit=3", vec![8, 10, 11], "11", "-8", false),
        ] {
            let mut query = Query::parse(text);
            let page: Page<u32> = query.page(PageMax { items: 250, bytes }, false);
            let stretch = page.of([8, 10, 11, 12].into_iter(), |id| *id);
            let page = numbers(page.listed(stretch, |id| *id, shown));
            assert_eq!(page.data, data, "{bytes} {text}");
            assert_eq!(page.iterator.as_deref(), Some(iterator), "{bytes} {text}");
            assert_eq!(
                page.prev_iterator.as_deref(),
                Some(previous),
                "{bytes} {text}"
            );
            assert_eq!(page.done, done, "{bytes} {text}");
        }
    }

    #[test]
    fn pages_read_on_and_back() {
        let items: Vec<u32> = (1..=5).collect();
        for (query, data, iterator, previous, done) in [
            ("limit=2", vec![1, 2], "2", "-1", false),
            ("limit=2&iterator=2", vec![3, 4], "4", "-3", false),
            ("limit=2&iterator=4", vec![5], "5", "-5", true),
            ("limit=2&iterator=-5", vec![3, 4], "4", "-3", false),
            ("limit=2&iterator=-3", vec![1, 2], "2", "-1", true),
            ("limit=2&order=descending", vec![5, 4], "4", "-5", false),
            (
                "limit=2&order=descending&iterator=2",
                vec![1],
                "1",
                "-1",
                true,
            ),
            (
                "limit=2&order=descending&iterator=-2",
                vec![4, 3],
                "3",
                "-4",
                false,
            ),
            ("limit=5", vec![1, 2, 3, 4, 5], "5", "-1", true),
        ] {
            let page = list(&items, query);
            assert_eq!(page.data, data, "{query}");
            assert_eq!(page.iterator.as_deref(), Some(iterator), "{query}");
            assert_eq!(page.prev_iterator.as_deref(), Some(previous), "{query}");
            assert_eq!(page.done, done, "{query}");
        }
        let empty = list(&[], "");
        assert_eq!(
            (empty.iterator, empty.prev_iterator, empty.done),
            (None, None, true)
        );
    }

    #[test]
    fn a_filter_that_looked_further_reads_on_from_there() {
        let mut query = Query::parse("limit=2");
        let page: Page<u32> = query.page(250, true);
        let stretch = Stretch {
            items: vec![9],
            next: Some(4),
        };
        let listed = page.listed(stretch, |id| *id, shown);
        assert_eq!(listed.iterator.as_deref(), Some("4"));
        assert_eq!(listed.prev_iterator.as_deref(), Some("-9"));
        assert!(!listed.done);
    }

    #[test]
    fn a_window_reads_against_the_order_for_a_previous_page() {
        for (text, newest_first) in [("", true), ("iterator=7", true), ("iterator=-7", false)] {
            let page: Page<u32> = Query::parse(text).page(250, true);
            assert_eq!(page.window(None, None).newest_first, newest_first, "{text}");
        }
    }

    #[test]
    fn wrong_queries_say_what_is_wrong() {
        for (text, expected) in [
            ("", vec![]),
            ("limit=250&with=&before=", vec![]),
            ("limit=0", vec!["query.limit"]),
            ("limit=251", vec!["query.limit"]),
            ("limit=many", vec!["query.limit"]),
            ("limit=-1", vec!["query.limit"]),
            ("iterator=x", vec!["query.iterator"]),
            ("order=up", vec!["query.order"]),
            ("before=yesterday", vec!["query.before"]),
            ("after=2026-02-30T00:00:00Z", vec!["query.after"]),
            ("with_content=yes", vec!["query.with_content"]),
            ("channel=a%20b", vec!["query.channel"]),
            ("event_types=a,b%20c", vec!["query.event_types"]),
            ("limit=x&order=y", vec!["query.limit", "query.order"]),
        ] {
            let mut query = Query::parse(text);
            let _: Page<u32> = query.page(250, false);
            query.time_bounds();
            query.flag("with_content", true);
            query.channel();
            query.event_types();
            assert_eq!(problem_places(query), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn following_the_iterator_visits_everything_once(
            count in 0u32..60, limit in 1usize..20, descending: bool,
        ) {
            let items: Vec<u32> = (0..count).collect();
            let order = if descending { "descending" } else { "ascending" };
            let (mut seen, mut iterator) = (Vec::<u32>::new(), String::new());
            loop {
                let page = list(&items, &format!("limit={limit}&order={order}&iterator={iterator}"));
                seen.extend(&page.data);
                if page.done {
                    break;
                }
                iterator = page.iterator.expect("a page with more behind it has an iterator");
            }
            let mut expected = items.clone();
            if descending {
                expected.reverse();
            }
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn any_query_is_read_without_panic(text in "\\PC{0,80}") {
            let mut query = Query::parse(&text);
            let _: Page<u32> = query.page(250, false);
            query.time_bounds();
            query.event_types();
        }
    }
}
