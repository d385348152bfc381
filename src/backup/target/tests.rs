use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use self::bucket::Bucket;
use self::server::{Reply, Server};
use super::*;
use crate::backup::seal::CHUNK_BYTES;
use crate::backup::{BackupError, Copier};

mod bucket;
mod failures;
mod server;
mod stops;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Tries without long waits. No answer of a test's server takes long.
const BOUNDS: Bounds = Bounds {
    connect: Duration::from_secs(5),
    request: Duration::from_secs(30),
    tries: 3,
    tries_time: Duration::from_secs(30),
    wait: Duration::from_millis(1),
    wait_max: Duration::from_millis(2),
};

fn settings(to: &str, has_key: bool) -> TargetSettings {
    TargetSettings {
        to: to.to_owned(),
        key: has_key.then(|| BackupKey::parse(KEY).unwrap()),
    }
}

fn folder_target(path: &std::path::Path, has_key: bool) -> Target {
    let settings = settings(path.to_str().unwrap(), has_key);
    Target::open_with(&settings, Environment::default(), BOUNDS).unwrap()
}

/// The bucket `bucket` of a server, with the prefix `pre/fix`.
fn bucket_target(server: &Server, has_key: bool) -> Target {
    let variables = [
        ("AWS_ENDPOINT_URL", format!("http://{}", server.address)),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "top-secret".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let settings = settings("s3://bucket/pre/fix", has_key);
    Target::open_with(&settings, Environment::of(variables), BOUNDS).unwrap()
}

/// Content of which no two stretches are alike.
fn content(bytes: usize) -> Vec<u8> {
    let numbers = (0..=bytes as u32 / 4).flat_map(|number| number.to_le_bytes());
    numbers.take(bytes).collect()
}

fn got(target: &Target, name: &str, expected: Option<&Object>) -> Result<Vec<u8>, TargetError> {
    let mut out = Vec::new();
    target.get(name, expected, &mut out).map(|_| out)
}

/// Everything that a target does, which is the same for folders and buckets.
fn round(target: &Target) {
    let stream = target.folder("00000000000000ff");
    assert!(stream.list("").unwrap().is_empty());
    assert_eq!(target.folders().unwrap(), Vec::<String>::new());
    let sizes = [
        0,
        1,
        CHUNK_BYTES,
        PART_BYTES - 10,
        PART_BYTES,
        2 * PART_BYTES + 17,
    ];
    for size in sizes {
        let content = content(size);
        let name = format!("segment-{size}-0001");
        let object = stream.put(&name, &mut content.as_slice()).unwrap();
        let expected: [u8; 32] = Sha256::digest(&content).into();
        assert_eq!((object.bytes, object.sha256), (size as u64, expected));
        assert_eq!(object.name, name);
        assert!(
            got(&stream, &name, Some(&object)).unwrap() == content,
            "{size}"
        );
        assert!(got(&stream, &name, None).unwrap() == content, "{size}");
        assert!(
            stream.read(&name, size as u64).unwrap() == content,
            "{size}"
        );
    }
    let first = stream.create("manifest-1", b"one").unwrap();
    let again = stream.create("manifest-1", b"two").unwrap_err();
    assert!(
        matches!(again, TargetError::Exists { ref name, .. } if name == "manifest-1"),
        "{again}"
    );
    assert_eq!(stream.read("manifest-1", 3).unwrap(), b"one");
    assert_eq!(got(&stream, "manifest-1", Some(&first)).unwrap(), b"one");
    target.folder("other").create("manifest-9", b"x").unwrap();
    let names = |prefix: &str| {
        let all = stream.list(prefix).unwrap().into_iter();
        all.map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names("manif"), ["manifest-1"]);
    assert_eq!(names("manifest-2"), Vec::<String>::new());
    assert_eq!(names("segment-0"), ["segment-0-0001"]);
    assert_eq!(names("").len(), sizes.len() + 1);
    for listed in stream.list("segment-1-").unwrap() {
        let bytes = listed.stored_bytes;
        assert!((11..=stored_bytes_max_of_one()).contains(&bytes), "{bytes}");
    }
    assert_eq!(target.folders().unwrap(), ["00000000000000ff", "other"]);
    let gone = ["segment-0-0001", "never-there", "segment-1-0001"].map(str::to_owned);
    stream.delete(&gone).unwrap();
    stream.delete(&gone).unwrap();
    stream.delete(&[]).unwrap();
    assert_eq!(names("").len(), sizes.len() - 1);
    let missing = got(&stream, "segment-0-0001", None).unwrap_err();
    assert!(
        matches!(missing, TargetError::NotFound { ref name, .. } if name == &gone[0]),
        "{missing}"
    );
    assert!(!missing.passes());
    let counted = target.requests();
    assert_eq!(counted.deletes, 6);
    assert!(
        counted.puts >= 10 && counted.gets >= 20 && counted.lists >= 9,
        "{counted:?}"
    );
    let bytes: usize = sizes.iter().sum();
    assert!(counted.bytes_up > bytes as u64 && counted.bytes_down > 3 * bytes as u64);
}

fn stored_bytes_max_of_one() -> u64 {
    crate::backup::seal::stored_bytes_max(1)
}

#[test]
fn a_folder_does_all_that_a_target_does() {
    for has_key in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not there yet");
        round(&folder_target(&path, has_key));
        for entry in std::fs::read_dir(path.join("00000000000000ff")).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(
                !name.to_str().unwrap().contains('#'),
                "{name:?} is left over"
            );
        }
    }
}

#[test]
fn a_bucket_does_all_that_a_target_does() {
    for has_key in [false, true] {
        let server = Server::new(Bucket::new().script());
        let target = bucket_target(&server, has_key);
        round(&target);
        assert!(!target.keeps_versions());
    }
}

#[test]
fn a_bucket_that_keeps_versions_is_told() {
    for (version, keeps) in [("null", false), ("v1", true)] {
        let mut script = Bucket::new().script();
        let server = Server::new(move |asked| script(asked).header("x-amz-version-id", version));
        let target = bucket_target(&server, false);
        target.put("a", &mut b"x".as_slice()).unwrap();
        assert_eq!(target.folder("b").keeps_versions(), keeps);
    }
}

#[test]
fn a_service_that_writes_over_objects_is_refused() {
    for (honours, cuts) in [(true, false), (false, false), (true, true), (false, true)] {
        let bucket = Bucket::new();
        let mut script = bucket.script();
        let mut puts = 0;
        let server = Server::new(move |asked| {
            let mut asked = asked.clone();
            if !honours {
                asked.headers.retain(|(name, _)| name != "if-none-match");
            }
            let answer = script(&asked);
            puts += usize::from(asked.method == "PUT");
            // An answer that got lost settles nothing.
            match cuts && asked.method == "PUT" && puts % 2 == 1 {
                true => Reply::Cut,
                false => answer,
            }
        });
        let target = bucket_target(&server, true);
        let opened = Copier::open(target, 7, Duration::ZERO);
        match opened.err() {
            None => assert!(honours, "cuts: {cuts}"),
            Some(BackupError::Target(error @ TargetError::Overwrites { .. })) => {
                assert!(!honours, "cuts: {cuts}");
                let text = error.to_string();
                assert!(text.starts_with("s3://bucket/pre/fix: "), "{text}");
                assert!(!error.passes() && !error.is_of_object());
            }
            Some(error) => panic!("{honours} {cuts}: {error}"),
        }
        assert!(bucket.is_empty(), "nothing is left");
    }
}

#[test]
fn an_object_with_other_content_than_expected_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder_target(folder.path(), false);
    let object = target.create("a", b"content").unwrap();
    let is_damaged = |result: Result<Vec<u8>, TargetError>| match result {
        Err(TargetError::Damaged { name, .. }) => name == "a",
        _ => false,
    };
    let file = folder.path().join("a");
    let good = std::fs::read(&file).unwrap();
    let mut other = good.clone();
    other[12] ^= 1;
    std::fs::write(&file, other).unwrap();
    assert!(is_damaged(got(&target, "a", Some(&object))));
    for change in [good[..good.len() - 1].to_vec(), [&good[..], b"x"].concat()] {
        std::fs::write(&file, change).unwrap();
        assert!(is_damaged(got(&target, "a", Some(&object))));
    }
    // No more is written than is expected, whatever there is.
    std::fs::write(&file, [&good[..], &[0; 100_000]].concat()).unwrap();
    let mut out = Vec::new();
    assert!(target.get("a", Some(&object), &mut out).is_err());
    assert!(out.len() <= 7);
    assert!(is_damaged(target.read("a", 7)));
    std::fs::write(&file, "").unwrap();
    assert!(is_damaged(got(&target, "a", Some(&object))));
    std::fs::write(&file, good).unwrap();
    assert!(is_damaged(target.read("a", 6)));
    assert_eq!(target.read("a", 7).unwrap(), b"content");
}

#[test]
fn an_object_of_another_kind_another_key_or_another_name_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder_target(folder.path(), false);
    let sealed = folder_target(folder.path(), true);
    let object = plain.create("plain", b"content").unwrap();
    let error = got(&sealed, "plain", Some(&object)).unwrap_err();
    assert!(matches!(error, TargetError::NotSealed { .. }), "{error}");
    let object = sealed.create("sealed", b"content").unwrap();
    let error = got(&plain, "sealed", Some(&object)).unwrap_err();
    assert!(
        matches!(
            error,
            TargetError::Sealed {
                is_other_key: false,
                ..
            }
        ),
        "{error}"
    );
    let key = BackupKey::parse(&KEY.replace('0', "1")).ok();
    let to = folder.path().to_str().unwrap().to_owned();
    let settings = TargetSettings { to, key };
    let other = Target::open_with(&settings, Environment::default(), BOUNDS).unwrap();
    let error = got(&other, "sealed", Some(&object)).unwrap_err();
    assert!(
        matches!(
            error,
            TargetError::Sealed {
                is_other_key: true,
                ..
            }
        ),
        "{error}"
    );
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::copy(folder.path().join("sealed"), folder.path().join("a/sealed")).unwrap();
    let error = got(&sealed.folder("a"), "sealed", None).unwrap_err();
    assert!(matches!(error, TargetError::Damaged { .. }), "{error}");
    let mut bytes = std::fs::read(folder.path().join("sealed")).unwrap();
    bytes[8] = 9;
    std::fs::write(folder.path().join("sealed"), bytes).unwrap();
    let error = got(&sealed, "sealed", None).unwrap_err();
    assert!(
        matches!(error, TargetError::Newer { format: 9, .. }),
        "{error}"
    );
    // Nothing of the content can be read in the folder.
    let stored = std::fs::read(folder.path().join("sealed")).unwrap();
    assert!(memchr::memmem::find(&stored, b"content").is_none());
}

/// Fails at its end.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("on purpose")),
            bytes => Ok(bytes),
        }
    }
}

#[test]
fn content_that_cannot_be_read_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder_target(folder.path(), false);
    for bytes in [10, 2 * PART_BYTES] {
        let content = content(bytes);
        let error = target.put("a", &mut Failing(&content)).unwrap_err();
        assert!(matches!(error, TargetError::Io(_)), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    let bucket = Bucket::new();
    let server = Server::new(bucket.script());
    let target = bucket_target(&server, false);
    let content = content(2 * PART_BYTES);
    assert!(target.put("a", &mut Failing(&content)).is_err());
    assert!(bucket.is_empty(), "the upload was given up");
    let full = target.put("a", &mut b"x".as_slice()).unwrap();
    let error = target
        .get("a", Some(&full), &mut &mut [0_u8; 0][..])
        .unwrap_err();
    assert!(matches!(error, TargetError::Io(_)), "{error}");
}

#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    // A file where the folder is to be.
    let target = folder_target(&file, false);
    let error = target.create("a", b"x").unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
    assert!(
        error.to_string().starts_with(file.to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn nothing_secret_is_printed() {
    let server = Server::new(|_| Reply::code(403, "SignatureDoesNotMatch"));
    let target = bucket_target(&server, true).folder("00ff");
    assert_eq!(target.to_string(), "s3://bucket/pre/fix/00ff");
    assert_eq!(format!("{target:?}"), "Target(s3://bucket/pre/fix/00ff)");
    let error = target.read("a", 1).unwrap_err();
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("secret") && !text.contains(KEY), "{text}");
    }
    let good = settings("s3://bucket", true);
    let expected = "TargetSettings { to: \"s3://bucket\", key: Some(BackupKey(…)) }";
    assert_eq!(format!("{good:?}"), expected);
    for bad in ["s3://key:secret@bucket", "az://c/a?sig=secret"] {
        let bad = settings(bad, false);
        assert!(!format!("{bad:?}").contains("secret"));
        let error = Target::open(&bad).unwrap_err();
        assert!(matches!(error, TargetError::Invalid { .. }));
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn an_object_is_json_with_its_hash_in_hex() {
    let object = Object {
        name: "a".to_owned(),
        bytes: 7,
        sha256: [0xab; 32],
    };
    let json = serde_json::to_string(&object).unwrap();
    let hash = "ab".repeat(32);
    assert_eq!(
        json,
        format!(r#"{{"name":"a","bytes":7,"sha256":"{hash}"}}"#)
    );
    assert_eq!(serde_json::from_str::<Object>(&json).unwrap(), object);
    for wrong in [&hash[1..], "", &"x".repeat(64)] {
        let json = json.replace(&hash, wrong);
        assert!(serde_json::from_str::<Object>(&json).is_err(), "{wrong}");
    }
}
