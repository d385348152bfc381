//! Pages of the log of attempts, of a log that was made by publishing: for any version's binary.
//!
//! `list` writes its log through the store, which other versions read as little as this one reads
//! theirs. Here each attempt is a request that was made, one in ten of which failed.

use postrider::clock::Clock;
use postrider::domain::id::AttemptId;

use super::list::{Samples, page, timed};
use super::rig::figures::{Figures, MIB, MILLIS, PER_SECOND, Target};
use super::rig::world::World;
use super::rig::{Latency, Options, heading, line, ms, usage};

/// Of a message: the log is what counts here.
const PAYLOAD_BYTES: usize = 128;
/// Messages that wait at a time.
const AT_A_TIME: u64 = 100_000;

pub fn run(options: &Options, figures: &mut Figures) {
    let attempts = options.number("attempts", 20_000, 1_000_000);
    heading(&format!(
        "pages: of 50, out of {attempts} attempts that were made, after a restart"
    ));
    let mut world = World::start_with_file(options, &[], "[delivery]\nretry_delays_seconds = []\n");
    world.payload_bytes = PAYLOAD_BYTES;
    let endpoint = world.endpoint(&world.sink.url("/tenth/0"));
    let began = Clock::System.now();
    let mut seconds = 0.0;
    for part in 0..attempts.div_ceil(AT_A_TIME) {
        let messages = AT_A_TIME.min(attempts - part * AT_A_TIME) / 100 * 100;
        let published = world.fill(messages);
        let received = world.sink.wait(0..1, messages);
        seconds += received.last_ns.saturating_sub(published.started_ns) as f64 / 1e9;
        world.sink.reset();
    }
    let ended = Clock::System.now();
    line("made", PER_SECOND.show(attempts as f64 / seconds));
    usage::written_at_rest(world.server.process.id());
    figures.add("disk", usage::disk(world.data()), MIB);

    world.restart();
    let list = endpoint.replace("/endpoint/", "/attempt/endpoint/");
    let list = format!("{list}?limit=50");
    let between = ended.since(began);
    let middle = began + between / 2;
    // The oldest first: nothing that is read before opens its slice.
    let first = began + between / 8;
    let old = format!("{list}&iterator={}", AttemptId::first_at(first));
    let (first_look, _) = page(&world.server, &old);
    figures.judge(
        "the first look into an old slice",
        ms(first_look),
        MILLIS,
        Target::Below(30.0),
    );
    let (first_look, samples) = timed(&world.server, &list, None, "newest");
    figures.add("the first look, newest", first_look, MILLIS);
    both(figures, "the newest pages", samples);
    let (first_look, samples) = timed(&world.server, &list, Some(middle), "middle");
    figures.add("the first look, middle", first_look, MILLIS);
    both(figures, "pages in the middle", samples);
    let (_, samples) = timed(&world.server, &format!("{list}&status=2"), None, "failed");
    both(figures, "pages of failed attempts", samples);
    let memory = usage::rss(world.server.process.id());
    figures.add("memory after it", memory, MIB);
}

fn both(figures: &mut Figures, name: &str, samples: Samples) {
    figures.latency(&format!("{name}, read"), Latency::of(samples.first));
    figures.latency(&format!("{name}, read again"), Latency::of(samples.again));
}
