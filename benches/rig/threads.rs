//! Time and context switches of a process by thread.

use std::collections::BTreeMap;
use std::time::Duration;

use super::usage;

/// What one thread, or all of one kind, has used.
#[derive(Clone, Copy, Default)]
pub struct Use {
    pub user: Duration,
    pub system: Duration,
    /// Times that it waited for something.
    pub waits: u64,
    /// Times that the kernel let another thread run in its place.
    pub preemptions: u64,
}

impl Use {
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }

    pub fn switches(&self) -> u64 {
        self.waits + self.preemptions
    }

    fn add(&mut self, other: &Use) {
        self.user += other.user;
        self.system += other.system;
        self.waits += other.waits;
        self.preemptions += other.preemptions;
    }

    fn since(&self, before: &Use) -> Use {
        Use {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            waits: self.waits.saturating_sub(before.waits),
            preemptions: self.preemptions.saturating_sub(before.preemptions),
        }
    }
}

/// By thread id: the name, and what it has used so far.
pub struct Threads(BTreeMap<u32, (String, Use)>);

impl Threads {
    pub fn of(process: u32) -> Threads {
        let tasks = format!("/proc/{process}/task");
        let entries = std::fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}"));
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        // One that ends meanwhile is left out.
        let threads = ids.filter_map(|id| Some((id, used_by(process, id)?)));
        Threads(threads.collect())
    }

    /// What was used since, by kind of thread, the largest first. Threads that began meanwhile count
    /// whole, those that ended not at all.
    pub fn since(&self, before: &Threads) -> Vec<(String, Use)> {
        let mut kinds: BTreeMap<String, Use> = BTreeMap::new();
        for (id, (name, used)) in &self.0 {
            let used = match before.0.get(id) {
                Some((_, earlier)) => used.since(earlier),
                None => *used,
            };
            kinds.entry(kind_of(name)).or_default().add(&used);
        }
        let mut kinds = Vec::from_iter(kinds);
        kinds.sort_by_key(|(_, used)| std::cmp::Reverse(used.cpu()));
        kinds
    }
}

/// The name without the number at its end: threads of one kind are one row.
pub fn kind_of(name: &str) -> String {
    // The threads that answer requests, in versions that did not name them.
    if name == "actix-rt|system" {
        return "http".to_owned();
    }
    let kind = name.trim_end_matches(|last: char| last.is_ascii_digit() || last == '-');
    if kind.is_empty() {
        name.to_owned()
    } else {
        kind.to_owned()
    }
}

fn used_by(process: u32, thread: u32) -> Option<(String, Use)> {
    let read = |file| std::fs::read_to_string(format!("/proc/{process}/task/{thread}/{file}")).ok();
    let name = read("comm")?.trim_end().to_owned();
    let (user, system) = usage::times(&read("stat")?);
    let status = read("status")?;
    let count = |field| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|number| number.trim().parse().ok())
    };
    let used = Use {
        user,
        system,
        waits: count("voluntary_ctxt_switches:")?,
        preemptions: count("nonvoluntary_ctxt_switches:")?,
    };
    Some((name, used))
}
