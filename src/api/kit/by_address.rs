//! Counts of clients' behaviour that an operator should know of, as a line a minute for each
//! address in the log.
//!
//! Anybody can provoke these lines, so few addresses have one each; the others share a line.

use std::net::IpAddr;

use super::minute;
use crate::clock::Timestamp;

/// Addresses with a line of their own: the first ones of the period.
const LINES_MAX: usize = 20;

/// How often it happened, and how often it was refused for a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub all: u64,
    pub refused: u64,
}

impl Count {
    fn add(&mut self, is_refused: bool) {
        self.all += 1;
        self.refused += u64::from(is_refused);
    }
}

/// The period that runs.
#[derive(Default)]
pub struct ByAddress {
    since: Timestamp,
    /// The counts by address; `None` is a trusted proxy that named no client.
    own: Vec<(Option<IpAddr>, Count)>,
    others: Count,
}

impl ByAddress {
    /// Counts one more of the address. Where the period before is over, returns its counts, as
    /// [`ByAddress::ended`] does.
    pub fn note(
        &mut self,
        address: Option<IpAddr>,
        is_refused: bool,
        now: Timestamp,
    ) -> Vec<(String, Count)> {
        let ended = self.ended(now);
        if self.own.is_empty() {
            self.since = now;
        }
        let known = self.own.iter().position(|(one, _)| *one == address);
        let count = match known {
            Some(place) => &mut self.own[place].1,
            None if self.own.len() < LINES_MAX => {
                self.own.push((address, Count::default()));
                &mut self.own.last_mut().expect("it was pushed").1
            }
            None => &mut self.others,
        };
        count.add(is_refused);
        ended
    }

    /// Returns the counts of the period by client, where it is over.
    pub fn ended(&mut self, now: Timestamp) -> Vec<(String, Count)> {
        match minute::is_over(self.since, now) {
            true => self.end(),
            false => Vec::new(),
        }
    }

    /// Ends the period and returns its counts.
    pub fn end(&mut self) -> Vec<(String, Count)> {
        let ByAddress { own, others, .. } = std::mem::take(self);
        let others = (others.all > 0).then(|| ("others".to_owned(), others));
        let own = own
            .into_iter()
            .map(|(address, count)| (name(address), count));
        own.chain(others).collect()
    }
}

fn name(address: Option<IpAddr>) -> String {
    match address {
        None => "a proxy that named no client".to_owned(),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        // Addresses of IPv6 are counted by network: see `client_address::counted_as`.
        Some(IpAddr::V6(ip)) => format!("{ip}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn some_addresses_have_a_line_a_minute_and_the_others_one_together() {
        let mut by_address = ByAddress::default();
        let address = |number: u8| Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)));
        for number in 0..LINES_MAX as u8 + 5 {
            let _ = by_address.note(address(number), number > 0, NOW);
            let _ = by_address.note(address(number), false, NOW);
        }
        assert_eq!(by_address.ended(NOW + minute::MINUTE / 2), []);
        let lines = by_address.ended(NOW + minute::MINUTE);
        assert_eq!(lines.len(), LINES_MAX + 1);
        let count = |all, refused| Count { all, refused };
        assert_eq!(lines[0], ("192.0.2.0".to_owned(), count(2, 0)));
        assert_eq!(lines[1], ("192.0.2.1".to_owned(), count(2, 1)));
        assert_eq!(lines[LINES_MAX], ("others".to_owned(), count(10, 5)));
        assert_eq!(by_address.ended(NOW + 2 * minute::MINUTE), []);

        let _ = by_address.note(None, false, NOW);
        let _ = by_address.note(Some("2001:db8::".parse().unwrap()), false, NOW);
        let names = by_address.end().into_iter().map(|(name, _)| name);
        let names: Vec<_> = names.collect();
        assert_eq!(names, ["a proxy that named no client", "2001:db8::/64"]);
    }
}
