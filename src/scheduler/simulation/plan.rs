//! What a seed decides before anything happens: how large the world is, and how bad.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::domain::health::HealthRules;
use crate::scheduler::lane::{ENDED_MAX, LaneLimits, WINDOW_MAX};
use crate::scheduler::turns::TurnLimits;

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub workers: usize,
    pub applications: usize,
    pub endpoints: u64,
    pub hosts: usize,
    pub host_places: usize,
    pub limits: TurnLimits,
    /// Payload bytes that travel along: all, some or none.
    pub kept_bytes: usize,
    /// Steps of the workload.
    pub steps: usize,
    /// Deliveries that wait at the start, all in one lane.
    pub backlog: usize,
    /// Deliveries that are published at once, all for one lane.
    pub flood: usize,
    /// How many of 100 endpoints and applications have a rate.
    pub rates_percent: u32,
    /// How many of 100 receivers are bad at a time.
    pub bad_percent: u32,
    /// How many of 100 reads, and of 100 attempts, fail for want of something of this machine.
    pub faults_percent: u32,
    /// Commits and reads take up to so many milliseconds.
    pub disk_ms: u64,
    /// Milliseconds between two steps of the workload at most.
    pub pause_ms: u64,
    /// The store is looked at unasked, now and then; else whatever a worker misses stays missed.
    pub looks_again: bool,
    pub restarts: bool,
    /// Of endpoints without rules of their own.
    pub health: HealthRules,
    /// Deliveries that one page of a search looks at.
    pub search_page: usize,
    pub sets_clock_back: bool,
}

impl Plan {
    pub fn new(random: &mut StdRng) -> Plan {
        // What takes long is rare, so that ten thousand worlds have some hundreds of it and all are played in
        // two minutes by a build without optimisation.
        let is_large = random.random_ratio(1, 25);
        let in_flight_max = random.random_range(1..=6);
        let host_places = match random.random_ratio(1, 2) {
            true => 1000,
            false => random.random_range(1..=10),
        };
        let slots = match random.random_ratio(1, 3) {
            true => random.random_range(1..=5),
            false => random.random_range(4..=32),
        };
        let backlog = match random.random_range(0..100) {
            0..1 => random.random_range(WINDOW_MAX..2 * WINDOW_MAX + 200),
            1..25 => random.random_range(10..80),
            _ => 0,
        };
        let sets_clock_back = random.random_ratio(1, 8);
        Plan {
            workers: random.random_range(1..=3),
            applications: random.random_range(1..=5),
            endpoints: if is_large {
                36
            } else {
                random.random_range(1..=14)
            },
            hosts: random.random_range(1..=6),
            host_places,
            limits: TurnLimits {
                slots,
                lane: LaneLimits {
                    in_flight_max,
                    // With much room a lane is searched while attempts are under way.
                    unrecorded_max: match random.random_ratio(1, 4) {
                        true => in_flight_max + ENDED_MAX,
                        false => in_flight_max + random.random_range(0..6),
                    },
                },
            },
            kept_bytes: *pick(random, &[usize::MAX, 2_000, 0]),
            steps: if is_large {
                60
            } else {
                random.random_range(5..35)
            },
            backlog,
            flood: match random.random_ratio(1, 100) {
                true => random.random_range(WINDOW_MAX..WINDOW_MAX + 300),
                false => 0,
            },
            rates_percent: *pick(random, &[0, 0, 20, 70]),
            bad_percent: *pick(random, &[0, 20, 50]),
            faults_percent: *pick(random, &[0, 0, 2, 10]),
            disk_ms: *pick(random, &[0, 2, 10, 100]),
            pause_ms: *pick(random, &[5, 50, 500, 3_000]),
            // Alarms of before are far away then.
            looks_again: sets_clock_back || random.random(),
            restarts: random.random_ratio(1, 3),
            health: HealthRules {
                failures: *pick(random, &[0, 1, 2, 3, 5]),
                min_open_after: Duration::from_millis(*pick(random, &[0, 0, 2_000])),
                probe_first: Duration::from_millis(*pick(random, &[500, 2_000, 10_000])),
                probe_max: Duration::from_secs(*pick(random, &[10, 30])),
                disable_after: Duration::ZERO,
            },
            search_page: *pick(random, &[1, 5, 100]),
            sets_clock_back,
        }
    }
}

pub fn pick<'a, T>(random: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}
