//! The mails of a round: which messages are in which mail, to whom. Pure.
//!
//! The operator gets one mail about everything, and a customer one about its own endpoints. A message is over with
//! once everybody has it who is to have it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::letter::Words;
use super::text::{self, Counts, Item, LISTED_MAX, Reader, Topic};
use crate::catalog::{ApplicationEntry, Catalog};
use crate::clock::Timestamp;
use crate::domain::email::EmailAddress;
use crate::domain::endpoint::Endpoint;
use crate::domain::notice::Told;

/// Customers that get a mail in one round: a relay takes only so many in a minute.
pub const CUSTOMERS_MAX: usize = 100;

/// A message by its lane and its time.
pub type Key = (u64, Timestamp);

/// A message with its endpoint.
pub struct Entry {
    pub key: Key,
    told: Told,
    application: Arc<ApplicationEntry>,
    endpoint: Arc<Endpoint>,
    customer: Option<EmailAddress>,
}

impl Entry {
    pub fn customer(&self) -> Option<&EmailAddress> {
        self.customer.as_ref()
    }
}

/// A mail that is to be sent.
pub struct Mail {
    pub words: Words,
    pub covers: Vec<Key>,
}

/// The mails of a round, and what becomes of the messages.
#[derive(Default)]
pub struct Plan {
    pub operator: Option<Mail>,
    /// At most [`CUSTOMERS_MAX`].
    pub customers: Vec<(EmailAddress, Mail)>,
    /// Messages that a customer is to get, in this round or a later one.
    pub for_customers: HashSet<Key>,
    /// Messages that are over with: their endpoints were deleted, or everybody has them and that could not be noted.
    pub over: Vec<Key>,
    /// More customers wait.
    pub has_more: bool,
}

/// How mails are worded.
#[derive(Clone, Debug)]
pub struct Style {
    pub prefix: String,
    /// The URL of the server from outside, without a slash at the end.
    pub public_url: Option<String>,
}

/// The address of the customer who owns an endpoint, where one is known that may be written to.
pub fn customer(catalog: &Catalog, endpoint: &Endpoint) -> Option<EmailAddress> {
    let address = catalog.contact_of(endpoint.application)?;
    EmailAddress::parse(address).ok()
}

/// Adds their endpoints to messages. Those of endpoints that are gone come second.
pub fn entries(
    catalog: &Catalog,
    told: Vec<(u64, Told)>,
    customer: impl Fn(&Catalog, &Endpoint) -> Option<EmailAddress>,
) -> (Vec<Entry>, Vec<Key>) {
    let (mut entries, mut gone) = (Vec::new(), Vec::new());
    for (lane, told) in told {
        let key = (lane, told.at);
        match catalog.lane(lane) {
            Some((application, endpoint)) => entries.push(Entry {
                key,
                told,
                customer: customer(catalog, endpoint),
                application: application.clone(),
                endpoint: endpoint.clone(),
            }),
            None => gone.push(key),
        }
    }
    (entries, gone)
}

impl Plan {
    /// `known` has the messages that the operator has, and `put_off` the customers whose mails wait longer.
    pub fn new(
        mut entries: Vec<Entry>,
        gone: Vec<Key>,
        known: &HashSet<Key>,
        put_off: impl Fn(&EmailAddress) -> bool,
        style: &Style,
    ) -> Plan {
        // The worst first, and of those alike the ones that lost most.
        entries.sort_by_key(|entry| {
            let lost = std::cmp::Reverse(entry.told.news.exhausted);
            (Topic::of(&entry.told), lost, entry.key)
        });
        let news = entries.iter().filter(|entry| !known.contains(&entry.key));
        let news = Vec::from_iter(news);
        let mut customers: BTreeMap<&EmailAddress, Vec<&Entry>> = BTreeMap::new();
        for entry in &entries {
            if let Some(customer) = &entry.customer {
                customers.entry(customer).or_default().push(entry);
            }
        }
        let for_customers = customers.values().flatten().map(|entry| entry.key);
        let for_customers: HashSet<Key> = for_customers.collect();
        let told = known.iter().filter(|key| !for_customers.contains(*key));
        let over = gone.into_iter().chain(told.copied()).collect();
        customers.retain(|customer, _| !put_off(customer));
        let has_more = customers.len() > CUSTOMERS_MAX;
        // Whoever has waited longest comes first.
        let mut customers = Vec::from_iter(customers);
        customers.sort_by_key(|(_, entries)| entries.iter().map(|entry| entry.key.1).min());
        customers.truncate(CUSTOMERS_MAX);
        let to_customer = |(address, entries): (&EmailAddress, Vec<&Entry>)| {
            (address.clone(), mail(Reader::Customer, &entries, style))
        };
        Plan {
            operator: (!news.is_empty()).then(|| mail(Reader::Operator, &news, style)),
            customers: customers.into_iter().map(to_customer).collect(),
            for_customers,
            over,
            has_more,
        }
    }
}

fn mail(reader: Reader, entries: &[&Entry], style: &Style) -> Mail {
    let mut counts = Counts::default();
    for entry in entries {
        counts.add(Topic::of(&entry.told));
    }
    let listed = &entries[..entries.len().min(LISTED_MAX)];
    let shown = listed.iter().map(|entry| {
        let page = style
            .public_url
            .as_deref()
            .and_then(|url| page(reader, url, entry));
        (entry, entry.endpoint.id.to_string(), page)
    });
    let shown = Vec::from_iter(shown);
    let items = shown.iter().map(|(entry, id, page)| Item {
        url: &entry.endpoint.url,
        description: &entry.endpoint.description,
        application: (!entry.endpoint.is_operational())
            .then_some(entry.application.application.name.as_str()),
        id,
        page: page.as_deref(),
        disabled: entry.endpoint.disabled.map(|disabled| disabled.reason),
        told: &entry.told,
    });
    let items = Vec::from_iter(items);
    let home = match (reader, &style.public_url, entries.first()) {
        (Reader::Operator, Some(url), _) => Some(format!("{url}/console")),
        (Reader::Customer, Some(url), Some(first)) => {
            Some(format!("{url}/portal/{}", first.endpoint.application))
        }
        _ => None,
    };
    Mail {
        words: text::words(&style.prefix, reader, &counts, &items, home.as_deref()),
        covers: entries.iter().map(|entry| entry.key).collect(),
    }
}

/// The endpoint's page. The platform's own endpoints share one.
fn page(reader: Reader, url: &str, entry: &Entry) -> Option<String> {
    let endpoint = &entry.endpoint;
    let (application, id) = (endpoint.application, endpoint.id);
    match reader {
        Reader::Operator if endpoint.is_operational() => None,
        Reader::Operator => Some(format!("{url}/console/{}", endpoint.console_page())),
        Reader::Customer => Some(format!("{url}/portal/{application}/endpoint/{id}")),
    }
}

#[cfg(test)]
mod tests;
