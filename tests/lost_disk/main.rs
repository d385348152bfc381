//! A copy is worth what a restore makes of it: the disk is taken away under load, and a store is made of the copy.
//!
//! Clients publish some 500 messages a second, in batches, erase payloads, send again and replay, make and delete
//! endpoints and applications, while a receiver refuses some of what is delivered. The server copies its store to a
//! folder, every 5 s by its clock. At a random moment it is killed, or its directory is moved away under it, and the
//! directory is gone for good. The clients know what was answered when, and a witness has read messages and attempts
//! through the API meanwhile. So it is known what the copy has, by the time of its last record:
//!
//! - `verify-backup` finds nothing wrong, nor does `verify-store` in the store that `restore` makes of it, whose report
//!   counts what the API shows then.
//! - What was answered before is there, what was deleted or erased is not shown, and what was erased is in no file,
//!   neither of the store nor of its copy.
//! - Messages and attempts are shown byte for byte as the witness saw them.
//! - What waited is delivered, with the same ids and signed by the same secrets, and nothing that had been delivered
//!   comes again.
//!
//! Of six rounds each is of another [`Kind`]. `LOSSES` says how many rounds (12 where `CI` is true, else 6), `SEED` which
//! ones: the moments and what the clients choose; how far they come by then is theirs. `KIND` is for rounds of one kind.

#[path = "../process/mod.rs"]
mod process;

mod arrivals;
mod back;
mod books;
mod check;
mod client;
mod operator;
mod shown;
mod witness;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use books::{MARK, Receipt, SHARED, Span};
use check::{Compared, Found, check};
use operator::newest_manifest;
use process::{say, seed};
use world::{Kind, Tally, World, copy_all};

/// Much of a round is waiting.
const ROUNDS_AT_A_TIME: usize = 2;

#[test]
fn what_was_copied_comes_back_when_the_disk_is_gone() {
    let losses: usize = match std::env::var("LOSSES") {
        Ok(text) => text.parse().expect("LOSSES is a whole number"),
        Err(_) if std::env::var("CI").as_deref() == Ok("true") => 12,
        Err(_) => 6,
    };
    let seed = seed("lost_disk");
    let kinds = kinds();
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    let play_some = || {
        loop {
            let round = next.fetch_add(1, Ordering::SeqCst);
            if round >= losses {
                return;
            }
            let kind = kinds[round % kinds.len()];
            let name = format!("round {round}, {kind:?}, of SEED={seed}:");
            let mut world = World::new(kind, seed.wrapping_add(round as u64), name);
            let begun = Instant::now();
            let played = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
            if let Err(panic) = played {
                // No other begins.
                next.store(losses, Ordering::SeqCst);
                resume_unwind(panic);
            }
            let (tally, took) = (&world.tally, begun.elapsed());
            say(&format!(
                "lost_disk: round {round}, {kind:?}, {took:.1?}: {}",
                told(tally)
            ));
            add(&mut all.lock().expect("no holder of it panics"), tally);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..ROUNDS_AT_A_TIME {
            scope.spawn(play_some);
        }
    });
    let all = all.into_inner().expect("no holder of it panics");
    say(&format!("lost_disk: {losses} rounds, {}", told(&all)));
    assert!(all.accepted > 200 * losses, "too little load");
}

/// All kinds, or the one that `KIND` names.
fn kinds() -> Vec<Kind> {
    let Ok(name) = std::env::var("KIND") else {
        return Kind::ALL.to_vec();
    };
    let mut kinds = Kind::ALL.to_vec();
    kinds.retain(|kind| format!("{kind:?}") == name);
    assert!(!kinds.is_empty(), "KIND is one of {:?}", Kind::ALL);
    kinds
}

/// One disk is lost, or two.
fn play(world: &mut World) {
    let mut server = world.begin();
    if world.kind == Kind::Expiring {
        server = world.fill_slices(server);
    }
    world.live_and_lose(server);
    let mut found = world.bring_back();
    world.compare(&found);
    if world.kind == Kind::Twice {
        world.go_on_from(&found);
        let server = world.start();
        world.live_and_lose(server);
        world.expect_nothing_sent_again(&found);
        let again = world.bring_back();
        assert_ne!(
            again.report.stream, found.report.stream,
            "a store of its own"
        );
        world.compare(&again);
        world.expect_nothing_sent_again(&found);
        found = again;
    }
    world.deliver(&found);
}

fn add(all: &mut Tally, one: &Tally) {
    all.accepted += one.accepted;
    all.delivered += one.delivered;
    all.load_time += one.load_time;
    all.compared = all.compared.plus(one.compared);
}

fn told(tally: &Tally) -> String {
    let Compared {
        messages,
        messages_byte_for_byte,
        attempts,
        attempts_byte_for_byte,
    } = tally.compared;
    let Tally {
        accepted,
        delivered,
        load_time,
        ..
    } = tally;
    let seconds = load_time.as_secs_f64();
    format!(
        "{accepted} messages accepted in {seconds:.1} s ({:.0} a second); came back: {messages} messages \
         ({messages_byte_for_byte} compared byte for byte), {attempts} attempts ({attempts_byte_for_byte}); \
         {delivered} deliveries waited and arrived",
        *accepted as f64 / seconds
    )
}

/// So that the test above can fail: each thing that it looks at is wrong once.
#[test]
fn whatever_is_missing_or_differs_is_noticed() {
    let seed = seed("lost_disk, noticed");
    let mut world = World::new(Kind::Plain, seed, "before anything is wrong:".to_owned());
    let server = world.begin();
    world.live_and_lose(server);
    let found = world.bring_back();
    world.compare(&found);
    let is_told = |world: &World, found: &Found, words: &str| {
        let pages = world.books.pages();
        let (wrong, _) = check(&pages, world.books.seed, &world.sight, found);
        let is_told = wrong.iter().any(|one| one.contains(words));
        assert!(is_told, "not told: {words}; {wrong:?}");
    };
    lose_a_little(&world, &found, &is_told);
    change_a_little(&world, &found, &is_told);
    know_more(&world, &found, &is_told);
}

type Told<'a> = &'a dyn Fn(&World, &Found, &str);

/// What the copy should have had is missing in the store.
fn lose_a_little(world: &World, found: &Found, is_told: Told<'_>) {
    let mut without = found.clone();
    app(&mut without).messages.pop();
    is_told(world, &without, "does not show message");
    let mut without = found.clone();
    app(&mut without).endpoints.remove(books::SOME);
    is_told(world, &without, "does not show endpoint shared-some");
    let mut without = found.clone();
    let attempts = app(&mut without).endpoints.get_mut(books::EVERY);
    attempts.expect("it came back").pop();
    is_told(world, &without, "is not shown");
    let mut without = found.clone();
    without.shown.apps.remove(SHARED);
    is_told(world, &without, "does not show application shared");
    // Of what is shown of neither there is some.
    let mut counted = found.clone();
    counted.report.messages += 1_000_000;
    is_told(world, &counted, "messages are counted");
    counted.report.attempts += 1_000_000;
    is_told(world, &counted, "attempts are counted");
    counted.report.waiting += 1_000_000;
    is_told(world, &counted, "waiting deliveries are counted");
    counted.report.registrations += 1;
    is_told(world, &counted, "registrations, and");
}

/// What came back is not as it was.
fn change_a_little(world: &World, found: &Found, is_told: Told<'_>) {
    let mut changed = found.clone();
    // One that the witness saw and that was not erased since.
    for one in &mut app(&mut changed).messages {
        one.body = one.body.replacen("kind.", "kinds.", 1);
    }
    is_told(world, &changed, "is not as it was");
    let mut changed = found.clone();
    for one in app(&mut changed).endpoints.values_mut().flatten() {
        one.body.push(' ');
    }
    is_told(world, &changed, "is not as it was");
    let mut changed = found.clone();
    for one in &mut app(&mut changed).messages {
        one.payload = one.payload.replace("1.10", "1.1");
    }
    is_told(world, &changed, "is shown with deleted: false");
    let mut changed = found.clone();
    for one in app(&mut changed).endpoints.values_mut().flatten() {
        (one.succeeded, one.status) = (false, 500);
    }
    is_told(world, &changed, "by the receiver");
    let mut changed = found.clone();
    app(&mut changed).messages.reverse();
    is_told(world, &changed, " before ");
}

/// More was answered than the copy has.
fn know_more(world: &World, found: &Found, is_told: Told<'_>) {
    let just_before = Span {
        asked: found.moment.has_before - 2,
        answered: Some(found.moment.has_before - 1),
    };
    let whole = app(&mut found.clone())
        .messages
        .iter()
        .find(|one| !one.payload_deleted && one.payload.contains(MARK))
        .and_then(|one| one.number)
        .expect("not everything is erased");
    let known = world.books.pages().messages[&whole].clone();
    let mut accepted = known.clone();
    accepted.accepted = just_before;
    world.books.pages().messages.insert(u64::MAX, accepted);
    is_told(world, found, "does not show message");
    world.books.pages().messages.remove(&u64::MAX);
    world.books.pages().message(whole).erased = Some(just_before);
    is_told(world, found, "its content is erased: Done");
    let mut on_disk = found.clone();
    on_disk.on_disk = [(whole, PathBuf::new())].into();
    is_told(world, &on_disk, "bytes of its payload are in");
    world.books.pages().messages.insert(whole, known);
    let of_every = |deleted| {
        let books = &world.books;
        books.of_lifetime(books::EVERY, |one, _| one.deleted = deleted);
    };
    of_every(Some(just_before));
    is_told(world, found, "it shows endpoint shared-every");
    of_every(None);
    let (uid, number) = {
        let delivered = found.delivered();
        let mut delivered = delivered.into_iter();
        let one = delivered.find(|(uid, _)| *uid == books::EVERY);
        let (uid, number) = one.expect("something was delivered");
        (uid.to_owned(), number)
    };
    let receipt = Receipt {
        life: found.life + 1,
        succeeded: true,
        message_id: "another".to_owned(),
    };
    let mut pages = world.books.pages();
    pages.add_receipt(&uid, number, receipt);
    let wrong = arrivals::misdelivered(&pages, found);
    for words in ["had been delivered to", "as another and is"] {
        assert!(wrong.iter().any(|one| one.contains(words)), "{wrong:?}");
    }
}

fn app(found: &mut Found) -> &mut shown::ShownApp {
    found.shown.apps.get_mut(SHARED).expect("it came back")
}

/// So that the test above can fail: the copy is an older one than the server had made.
#[test]
fn a_copy_that_went_back_is_noticed() {
    let seed = seed("lost_disk, gone back");
    let mut world = World::new(Kind::Stopped, seed, "before it goes back:".to_owned());
    let server = world.begin();
    world.live_and_stop(server);
    let (copy, old) = (world.target(), world.path("old"));
    copy_all(&copy, &old);
    let server = world.start();
    world.live_and_lose(server);
    std::fs::remove_dir_all(&copy).expect("a folder of ours");
    std::fs::rename(&old, &copy).expect("a folder of ours");
    let found = world.bring_back();
    let (wrong, _) = {
        let pages = world.books.pages();
        check(&pages, world.books.seed, &world.sight, &found)
    };
    for words in ["does not show message", "is not shown"] {
        assert!(wrong.iter().any(|one| one.contains(words)), "{wrong:?}");
    }
    // One without its manifests is no copy any more.
    let folder = copy.join(&found.report.stream);
    while let Some(manifest) = newest_manifest(&folder) {
        std::fs::remove_file(manifest).expect("a file of ours");
    }
    assert!(!world.verifies(), "a copy without a manifest is whole");
}
