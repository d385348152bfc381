//! The walls of this room: a test that `domain` depends on no other room.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules that this room may import.
const IMPORTS: [&str; 2] = ["clock::", "domain::"];

/// Words that this room's code must not have: those of HTTP's server and client, the API's
/// document, the store's format and database, and waiting.
const STRANGE: [&str; 12] = [
    "actix",
    "awc",
    "schemars",
    "JsonSchema",
    "bincode",
    "is_human_readable",
    "sled",
    "tokio",
    "async ",
    ".await",
    "std::fs",
    "#[serde(alias",
];

#[test]
fn the_room_knows_no_http_no_schemas_no_store_and_nothing_that_waits() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain");
    let mut count = 0;
    for path in files(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "walls.rs" || name == "tests.rs" {
            continue;
        }
        count += 1;
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            let place = format!("{name}, line {number} of code");
            let mut imports = line.split("crate::").skip(1);
            let strange = imports.find(|path| !IMPORTS.iter().any(|one| path.starts_with(one)));
            assert_eq!(strange, None, "{place}");
            let strange = STRANGE.iter().find(|word| line.contains(*word));
            assert_eq!(strange, None, "{place}");
            // The type of shared bytes has one place.
            let is_shared = line.contains("bytes::Bytes");
            assert!(!is_shared || name == "payload.rs", "{place}");
        }
    }
    assert!(count > 20, "the sources have moved");
}

/// The files of a folder, and of those in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let each = paths.map(|path| match path.is_dir() {
        true => files(&path),
        false => vec![path],
    });
    each.flatten().collect()
}
