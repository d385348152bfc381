//! Files that are damaged, missing, another's or half written.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;

/// A file of two blocks of keys and two of lane hours.
fn small_file(directory: &Path) -> PathBuf {
    let path = directory.join("index");
    let mut random = StdRng::seed_from_u64(3);
    let index = OpenIndex::default();
    let keys = std::iter::repeat_with(|| (key(&mut random, 1_000_000), Place::from_bytes([5; 8])));
    let entries = Vec::from_iter(keys.take(150));
    let hours = (0..70).map(|hour| ((1, hour), counts(hour)));
    index.add(entries, hours);
    index.write(&path, &of()).unwrap();
    path
}

type Content = (Vec<Entry>, Vec<(u64, LaneHour)>);

/// Reads everything in each way. What is read before an error is as in the whole file.
fn read_all(path: &Path, whole: Option<&Content>) -> Result<Content, IndexError> {
    let file = Arc::new(IndexFile::open(path, &of())?);
    let verified = file.verify();
    let range = || file.range(Bound::Unbounded, Bound::Unbounded);
    let from_front = until_error(range());
    let from_back = until_error(range().rev());
    let hours = file.hours(1, 0, 1_000);
    if let Some((entries, all_hours)) = whole {
        assert!(entries.starts_with(&from_front.0));
        assert!(
            entries
                .iter()
                .rev()
                .take(from_back.0.len())
                .eq(&from_back.0)
        );
        assert!(hours.as_ref().is_ok_and(|hours| hours == all_hours) || verified.is_err());
        for (key, place) in [
            &entries[0],
            &entries[entries.len() / 2],
            &entries[entries.len() - 1],
        ] {
            let found = file.get(key);
            let is_right = found.as_ref().is_ok_and(|found| *found == Some(*place));
            assert!(is_right || (found.is_err() && verified.is_err()));
        }
    }
    let is_whole = from_front.1.is_none() && hours.is_ok();
    assert_eq!(verified.is_ok(), is_whole, "{verified:?}");
    assert_eq!(from_front.1.is_none(), from_back.1.is_none());
    verified?;
    Ok((from_front.0, hours?))
}

fn until_error(
    range: impl Iterator<Item = Result<Entry, IndexError>>,
) -> (Vec<Entry>, Option<IndexError>) {
    let mut entries = Vec::new();
    for entry in range {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(error) => return (entries, Some(error)),
        }
    }
    (entries, None)
}

fn assert_damaged<T>(result: Result<T, IndexError>, of: &dyn std::fmt::Debug) {
    match result {
        Err(IndexError::Damaged { .. }) => {}
        Err(error) => panic!("{of:?}: {error}"),
        Ok(_) => panic!("{of:?} is not noticed"),
    }
}

#[test]
fn every_flipped_byte_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = small_file(directory.path());
    let bytes = std::fs::read(&path).unwrap();
    let whole = read_all(&path, None).unwrap();
    assert!(whole.0.len() > 100 && whole.1.len() == 70 && bytes.len() > 2 * 4096);
    // In place: a file that is replaced goes to the disk at once.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for (at, byte) in bytes.iter().enumerate() {
        for mask in [1 << (at % 8), 0xff] {
            file.write_all_at(&[byte ^ mask], at as u64).unwrap();
            assert_damaged(read_all(&path, Some(&whole)), &(at, mask));
        }
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
    assert!(read_all(&path, Some(&whole)).unwrap() == whole);
}

#[test]
fn every_truncation_and_every_addition_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = small_file(directory.path());
    let whole = read_all(&path, None).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let file_bytes = file.metadata().unwrap().len();
    file.set_len(file_bytes + 1).unwrap();
    assert_damaged(read_all(&path, Some(&whole)), &"a byte too many");
    for length in (0..file_bytes).rev() {
        file.set_len(length).unwrap();
        assert_damaged(read_all(&path, Some(&whole)), &length);
    }
}

/// Bytes that change or go after the file was opened.
#[test]
fn damage_behind_an_open_file_is_an_error_that_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let path = small_file(directory.path());
    let whole = std::fs::read(&path).unwrap();
    let file = opened(&path);
    let all = || file.range(Bound::Unbounded, Bound::Unbounded);
    let keys = Vec::from_iter(all().map(|entry| entry.unwrap().0));
    let mut flipped = whole.clone();
    flipped[head::HEAD_BYTES + 10] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    let error = file.get(&keys[0]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is damaged at byte 128: a block's checksum is wrong",
            path.display()
        )
    );
    assert!(file.get(keys.last().unwrap()).unwrap().is_some());
    // From the back the good blocks come first. Nothing follows the error, from either end.
    let mut range = all();
    assert!(range.next_back().unwrap().is_ok());
    assert_damaged(range.next().unwrap(), &"the first block");
    assert!(range.next().is_none() && range.next_back().is_none());
    std::fs::write(&path, &whole[..head::HEAD_BYTES]).unwrap();
    assert_damaged(file.get(&keys[0]), &"no blocks");
    assert_damaged(file.hours(1, 0, 10), &"no blocks");
}

#[test]
fn a_block_in_the_place_of_another_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let index = OpenIndex::default();
    // Keys that share nothing, so that all full blocks have one length.
    let key = |number: u64| [(number * 0x0101_0101_0101).to_be_bytes(), [7; 8]].concat();
    index.add(
        (0..2_000).map(|number| (key(number), Place::from_bytes([1; 8]))),
        [],
    );
    index.write(&path, &of()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let (first, second) = (head::HEAD_BYTES, head::HEAD_BYTES + block::BLOCK_BYTES);
    let behind = second + block::BLOCK_BYTES;
    assert!(behind < whole.len());
    let bytes = [
        &whole[..first],
        &whole[second..behind],
        &whole[first..second],
        &whole[behind..],
    ];
    std::fs::write(&path, bytes.concat()).unwrap();
    let file = opened(&path);
    assert_damaged(
        file.get(&key(0)),
        &"the second block in the first one's place",
    );
    assert_damaged(file.verify(), &"two blocks in each other's places");
}

#[test]
fn a_file_of_another_slice_stream_or_state_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = small_file(directory.path());
    let others = [
        IndexOf { stream: 1, ..of() },
        IndexOf { slice: 1, ..of() },
        IndexOf { from: 1, ..of() },
        IndexOf { to: 1, ..of() },
    ];
    for other in others {
        let error = IndexFile::open(&path, &other).err().unwrap();
        assert!(matches!(error, IndexError::OfAnother { .. }), "{error}");
    }
    let missing = IndexFile::open(&directory.path().join("none"), &of());
    let error = missing.err().unwrap();
    assert!(matches!(error, IndexError::Missing { .. }), "{error}");
    let not_a_file = IndexFile::open(directory.path(), &of()).err().unwrap();
    let is_told = matches!(
        not_a_file,
        IndexError::Io { .. } | IndexError::Damaged { .. }
    );
    assert!(is_told, "{not_a_file}");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = small_file(directory.path());
    let before = std::fs::read(&path).unwrap();
    // What a crash left of an earlier try is in the way of nothing.
    std::fs::write(directory.path().join("index.new"), vec![7; 1 << 20]).unwrap();
    let mut writer = write::IndexWriter::create(&path, &of()).unwrap();
    writer.key(b"M", Place::from_bytes([1; 8])).unwrap();
    drop(writer);
    let names = || {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        Vec::from_iter(names)
    };
    assert_eq!(names(), ["index"]);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let index = OpenIndex::default();
    index.add([(b"M", Place::from_bytes([1; 8]))], []);
    index.write(&path, &of()).unwrap();
    assert_eq!(names(), ["index"]);
    assert_eq!(opened(&path).len(), 1);
    let nowhere = directory.path().join("none").join("index");
    assert!(index.write(&nowhere, &of()).is_err());
}
