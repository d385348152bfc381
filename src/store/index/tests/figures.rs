//! Memory, bytes on disk and time, with the keys of messages to many applications.

use std::time::Instant;

use super::*;

const APPLICATIONS: usize = 500;
const LANES: u64 = 1_000;

/// The keys of `messages` messages with an attempt each, in batches as they are committed.
fn batches(messages: u32) -> Vec<Vec<(Vec<u8>, Place)>> {
    let mut random = StdRng::seed_from_u64(2);
    let mut id = |time: u32| {
        let mut id: [u8; 20] = random.random();
        id[..4].copy_from_slice(&(0x1234_0000 + time / 2_000).to_be_bytes());
        id[4] = (time % 2_000 / 8) as u8;
        id[5..9].copy_from_slice(&time.to_be_bytes());
        id
    };
    let applications = Vec::from_iter((0..APPLICATIONS).map(|_| id(0)));
    let mut choices = StdRng::seed_from_u64(3);
    let mut entries = Vec::new();
    for number in 0..messages {
        let application = applications.choose(&mut choices).unwrap();
        let lane = choices.random_range(0..LANES).to_be_bytes();
        let (message, attempt) = (id(number), id(number));
        let place = Place {
            segment: (number / 50_000) as u16,
            offset: number % 50_000 * 1_300,
            part: (number % 24) as u16,
        };
        entries.push(([b"M".as_slice(), application, &message].concat(), place));
        entries.push(([b"A".as_slice(), &lane, &attempt].concat(), place));
        entries.push(([b"T".as_slice(), &message, &attempt, &lane].concat(), place));
    }
    entries.chunks(72).map(|batch| batch.to_vec()).collect()
}

#[test]
fn a_key_takes_little_memory_and_little_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let index = OpenIndex::default();
    for batch in batches(10_000) {
        index.add(batch, []);
    }
    assert_eq!(index.len(), 30_000);
    let memory = index.bytes() / index.len();
    assert!(memory < 75, "{memory} bytes a key in memory");
    index.write(&path, &of()).unwrap();
    let disk = std::fs::metadata(&path).unwrap().len() / 30_000;
    assert!(disk < 45, "{disk} bytes a key on disk");
    let file = opened(&path);
    assert!(file.bytes() < index.bytes() / 40, "{}", file.bytes());
}

/// `cargo test --release --lib index::tests::figures -- --ignored --nocapture`
#[test]
#[ignore = "it measures time"]
fn figures() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let batches = batches(100_000);
    let keys = Vec::from_iter(batches.iter().flatten().map(|(key, _)| key.clone()));
    let count = keys.len() as u128;
    let each = |what: &str, from: Instant| {
        println!("{what}: {} ns", from.elapsed().as_nanos() / count);
    };
    let index = Arc::new(OpenIndex::default());
    let from = Instant::now();
    for batch in batches {
        index.add(batch, []);
    }
    each("add", from);
    println!("memory: {} bytes a key", index.bytes() / keys.len());
    let from = Instant::now();
    assert!(keys.iter().all(|key| index.get(key).is_some()));
    each("get, open", from);
    let from = Instant::now();
    assert_eq!(
        index.range(Bound::Unbounded, Bound::Unbounded).count(),
        keys.len()
    );
    each("range, open", from);
    let from = Instant::now();
    index.write(&path, &of()).unwrap();
    each("write", from);
    let disk = std::fs::metadata(&path).unwrap().len();
    println!("disk: {} bytes a key", disk as usize / keys.len());
    let from = Instant::now();
    let file = opened(&path);
    println!("open: {} us", from.elapsed().as_micros());
    println!("memory of the open file: {} bytes", file.bytes());
    let from = Instant::now();
    assert!(keys.iter().all(|key| file.get(key).unwrap().is_some()));
    each("get, file", from);
    let from = Instant::now();
    let range = file.range(Bound::Unbounded, Bound::Unbounded);
    assert_eq!(range.rev().count(), keys.len());
    each("range from the back, file", from);
    let from = Instant::now();
    file.verify().unwrap();
    each("verify", from);
}
