//! The wall around records: what is written of them is made of plain values and other records, so a
//! change of a type elsewhere cannot change it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The types that a record may be made of besides records. An id's bytes are written by `Id`, whatever its type.
const PLAIN: [&str; 18] = [
    "bool", "u8", "u16", "u32", "u64", "f64", "str", "String", "Vec", "Option", "Cow", "BTreeMap",
    "BTreeSet", "Id", "Address", "Network", "static", "a",
];

/// The files of records and their texts.
pub fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/record");
    let paths = fs::read_dir(folder).expect("the sources");
    let paths = paths.map(|entry| entry.expect("an entry").path());
    let names = paths.map(|path| {
        let name = path.file_name().expect("it has a name").to_string_lossy();
        (
            name.into_owned(),
            fs::read_to_string(&path).expect("a source"),
        )
    });
    let tests = ["tests.rs", "walls.rs"];
    names
        .filter(|(name, _)| !tests.contains(&name.as_str()))
        .collect()
}

/// The types that are written or read, with what they are made of: `(name, body)`.
fn written(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for item in text.split("\n#[derive(").skip(1) {
        let (derived, rest) = item.split_once(")]").expect("a whole derive");
        if !derived.contains("erialize") {
            continue;
        }
        let end = rest.find("\n}").expect("a whole item");
        let rest = without_attributes(&rest[..end]);
        let (head, body) = rest.split_once('{').expect("a body");
        let is_name = |word: &&str| !["pub", "struct", "enum"].contains(word);
        let mut words = head.split([' ', '<', '\n']).filter(|word| !word.is_empty());
        let name = words.find(is_name).expect("a name");
        found.push((name.to_owned(), body.to_owned()));
    }
    found
}

fn without_attributes(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("#[") {
        kept += &rest[..at];
        let mut depth = 0;
        let end = rest[at..].find(|one| {
            depth += i32::from(one == '[') - i32::from(one == ']');
            one == ']' && depth == 0
        });
        rest = &rest[at + end.expect("a whole attribute") + 1..];
    }
    let lines = (kept + rest).lines().map(str::to_owned).collect::<Vec<_>>();
    let code = lines
        .iter()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.cloned().collect::<Vec<_>>().join("\n")
}

/// The names in a body that stand for types: neither fields nor variants.
fn types(body: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in body.lines() {
        let is_part = |one: char| one.is_alphanumeric() || one == '_';
        let mut rest = line;
        let mut is_first = true;
        while let Some(at) = rest.find(is_part) {
            let end = rest[at..]
                .find(|one| !is_part(one))
                .map_or(rest.len(), |end| at + end);
            let word = &rest[at..end];
            rest = &rest[end..];
            let is_field = rest.starts_with(':');
            let is_variant = is_first && !rest.starts_with(['<', ':']) && word != "pub";
            is_first = false;
            let is_number = word.starts_with(|one: char| one.is_numeric());
            if !is_field && !is_variant && !is_number && word != "pub" {
                found.push(word.to_owned());
            }
        }
    }
    found
}

#[test]
fn records_are_made_of_plain_values_and_records() {
    let files = files();
    let all: Vec<(String, String)> = files.iter().flat_map(|(_, text)| written(text)).collect();
    assert!(all.len() > 40, "the sources have moved: {}", all.len());
    // The record of an enum is declared by `mirrored!`.
    let mirrors = files.iter().flat_map(|(_, text)| {
        let lines = text.lines().map(str::trim_start);
        lines.filter_map(|line| line.split_once(" of ").map(|(name, _)| name.to_owned()))
    });
    let records: BTreeSet<String> = all.iter().map(|(name, _)| name.clone()).collect();
    let records: BTreeSet<String> = records.into_iter().chain(mirrors).collect();
    for (name, body) in &all {
        for part in types(body) {
            // An id by its type: `Id<TokenId>`.
            let is_id = body.contains(&format!("Id<{part}>"));
            assert!(
                is_id || PLAIN.contains(&part.as_str()) || records.contains(&part),
                "{name} is written as it has a {part}, which is no record"
            );
        }
    }
}

#[test]
fn a_type_that_is_no_record_is_found() {
    let text = "
#[derive(Serialize, Deserialize)]
pub struct One1<'a> {
    /// A Comment.
    #[serde(default)]
    at: Option<Timestamp>,
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
enum Two1 {
    First,
    Second(Role),
    Third { id: Id<TokenId>, of: [u8; 32] },
}
";
    let found: Vec<Vec<String>> = written(text).iter().map(|(_, body)| types(body)).collect();
    assert_eq!(
        found,
        [
            vec!["Option", "Timestamp", "Cow", "a", "str"],
            vec!["Role", "Id", "TokenId", "u8"]
        ]
    );
}
