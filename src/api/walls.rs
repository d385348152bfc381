//! The walls between the folders of the API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "src/api";

/// The folders, and the other folders that each may import.
const FOLDERS: [(&str, &[&str]); 5] = [
    ("kit", &[]),
    ("access", &["kit"]),
    ("native", &["kit", "access"]),
    ("foreign", &["kit", "access"]),
    ("reference", &["kit"]),
];

#[test]
fn between_the_folders_imports_go_one_way() {
    for (folder, others) in FOLDERS {
        for (file, code) in sources(&Path::new(ROOT).join(folder)) {
            for path in code.split("crate::api::").skip(1) {
                let may = first_name(path) == folder || others.contains(&first_name(path));
                let import = path.lines().next().unwrap_or_default();
                assert!(may, "{}: crate::api::{import}", file.display());
            }
        }
    }
}

#[test]
fn within_a_folder_no_imports_go_in_a_circle() {
    for (folder, _) in FOLDERS {
        let root = Path::new(ROOT).join(folder);
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (file, code) in sources(&root) {
            let inside = file.strip_prefix(&root).unwrap();
            let above = inside.components().count() > 1;
            let name = inside.iter().next().unwrap().to_str().unwrap();
            let name = name.trim_end_matches(".rs");
            // In a file of a file, `super` is that file.
            let own = format!("crate::api::{folder}::");
            let beside = ["super::", own.as_str()]
                .into_iter()
                .skip(usize::from(above));
            let all = beside.flat_map(|beside| code.split(beside).skip(1));
            let all = all.map(|path| first_name(path).to_owned());
            imports
                .entry(name.to_owned())
                .or_default()
                .extend(all.filter(|one| one != name));
        }
        let files: BTreeSet<String> = imports.keys().cloned().collect();
        for (file, all) in &imports {
            let unknown = all.difference(&files).next();
            assert_eq!(unknown, None, "{folder}/{file}: one file a path, please");
        }
        // Whatever imports nothing that is left is in no circle.
        while let Some(last) = imports.iter().find(|(_, all)| all.is_empty()) {
            let last = last.0.clone();
            imports.remove(&last);
            imports.values_mut().for_each(|all| {
                all.remove(&last);
            });
        }
        assert!(
            imports.is_empty(),
            "{folder}: in a circle, or above one: {imports:?}"
        );
    }
}

fn first_name(path: &str) -> &str {
    let end = path.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    &path[..end.unwrap_or(path.len())]
}

/// The files below a folder, with their code; tests may look anywhere.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.extension() {
            None => sources(&path),
            Some(ending) if ending == "rs" && !path.ends_with("tests.rs") => {
                let code = code(&path);
                vec![(path, code)]
            }
            Some(_) => Vec::new(),
        })
        .collect()
}

fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let (code, _tests) = text
        .split_once("#[cfg(test)]\nmod tests")
        .unwrap_or((&text, ""));
    let lines = code.lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| format!("{line}\n")).collect()
}
