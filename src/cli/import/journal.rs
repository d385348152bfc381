//! The things that have come over, in a file of lines that only grows.
//!
//! A line is on disk before the next thing is sent. The first one names both servers, so that a
//! file is not taken for another pair, and a number of this journal's own: keys of requests are
//! made from it, so that one whose answer was lost makes nothing twice. A line that a crash cut
//! off is as if it was never written.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::{Failure, Result};
use super::thing::Fields;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    EventType,
    Application,
    Endpoint,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Import {
        from: String,
        to: String,
        number: u64,
    },
    /// A thing of the source is this one of the target.
    Became {
        kind: Kind,
        source: String,
        target: String,
    },
    /// It is over there with all that belongs to it.
    Done { kind: Kind, source: String },
    /// Everything was gone through: the next run begins anew.
    Ended,
}

#[derive(Debug)]
pub struct Journal {
    file: File,
    name: String,
    number: u64,
    targets: HashMap<String, String>,
    done: HashSet<(Kind, String)>,
}

/// How the first line of every journal begins.
const BEGIN: &[u8] = b"{\"import\"";

impl Journal {
    pub fn open(path: &Path, from: &str, to: &str) -> Result<Journal> {
        let name = path.display().to_string();
        let failed = |error: std::io::Error| Failure::failed(format!("cannot use {name}: {error}"));
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let message = format!("{name} is in use by another import");
            return Err(Failure::failed(message));
        }
        let (lines, whole) = read(&file).map_err(failed)?.ok_or_else(|| {
            Failure::failed(format!(
                "{name} is not the state of an import; choose another file with --state"
            ))
        })?;
        file.set_len(whole).map_err(failed)?;
        let mut journal = Journal {
            file,
            name,
            number: rand::random(),
            targets: HashMap::new(),
            done: HashSet::new(),
        };
        if lines.is_empty() {
            journal.write(&Line::Import {
                from: from.to_owned(),
                to: to.to_owned(),
                number: journal.number,
            })?;
        }
        for line in lines {
            journal.take(line, from, to)?;
        }
        Ok(journal)
    }

    fn take(&mut self, line: Line, from: &str, to: &str) -> Result {
        match line {
            Line::Import {
                from: was_from,
                to: was_to,
                number,
            } => {
                if (&was_from[..], &was_to[..]) != (from, to) {
                    return Err(Failure::failed(format!(
                        "{} is of an import from {was_from} to {was_to}; choose another file with \
                         --state",
                        self.name
                    )));
                }
                self.number = number;
            }
            Line::Became { source, target, .. } => {
                self.targets.insert(source, target);
            }
            Line::Done { kind, source } => {
                self.done.insert((kind, source));
            }
            Line::Ended => self.done.clear(),
        }
        Ok(())
    }

    pub fn target(&self, source: &str) -> Option<&str> {
        self.targets.get(source).map(String::as_str)
    }

    pub fn is_done(&self, kind: Kind, source: &str) -> bool {
        self.done.contains(&(kind, source.to_owned()))
    }

    pub fn became(&mut self, kind: Kind, source: &str, target: &str) -> Result {
        if self.target(source) == Some(target) {
            return Ok(());
        }
        self.write(&Line::Became {
            kind,
            source: source.to_owned(),
            target: target.to_owned(),
        })?;
        self.targets.insert(source.to_owned(), target.to_owned());
        Ok(())
    }

    pub fn done(&mut self, kind: Kind, source: &str) -> Result {
        self.write(&Line::Done {
            kind,
            source: source.to_owned(),
        })?;
        self.done.insert((kind, source.to_owned()));
        Ok(())
    }

    pub fn ended(&mut self) -> Result {
        self.write(&Line::Ended)
    }

    /// The idempotency key of the request that makes the target's one of `source`.
    pub fn key(&self, source: &str, body: &Fields) -> String {
        let mut digest = Sha256::new();
        digest.update(self.number.to_be_bytes());
        digest.update(source);
        digest.update(serde_json::to_vec(body).expect("its keys are texts"));
        format!("import-{}", hex::encode(digest.finalize()))
    }

    fn write(&mut self, line: &Line) -> Result {
        let mut text = serde_json::to_string(line).expect("its keys are texts");
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        written
            .and_then(|()| self.file.sync_data())
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", self.name)))
    }
}

/// The lines, and the length of the whole ones; none where it is another kind of file.
fn read(file: &File) -> std::io::Result<Option<(Vec<Line>, u64)>> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let (mut lines, mut whole) = (Vec::new(), 0);
    let mut text = Vec::new();
    loop {
        text.clear();
        let length = reader.read_until(b'\n', &mut text)?;
        let cut_off = text.last() != Some(&b'\n');
        let line = serde_json::from_slice::<Line>(&text);
        match line {
            _ if length == 0 => break,
            Ok(line) if !cut_off => {
                // The first line, and no other, names the import.
                if lines.is_empty() != matches!(line, Line::Import { .. }) {
                    return Ok(None);
                }
                lines.push(line);
                whole += length as u64;
            }
            // Nothing of a foreign file is cut off.
            _ if cut_off && (whole > 0 || text.starts_with(BEGIN) || BEGIN.starts_with(&text)) => {
                break;
            }
            _ => return Ok(None),
        }
    }
    Ok(Some((lines, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "https://source.test";
    const TO: &str = "http://127.0.0.1:8071";

    #[test]
    fn what_was_written_is_there_again_wherever_it_was_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut journal = Journal::open(&path, FROM, TO).ok().unwrap();
        let key = journal.key("app_1", &Fields::new());
        journal
            .became(Kind::Application, "app_1", "app_2")
            .ok()
            .unwrap();
        let before = std::fs::metadata(&path).unwrap().len();
        journal.done(Kind::Application, "app_1").ok().unwrap();
        assert!(Journal::open(&path, FROM, TO).is_err(), "it is in use");
        drop(journal);
        let text = std::fs::read(&path).unwrap();
        for length in 0..=text.len() {
            std::fs::write(&path, &text[..length]).unwrap();
            let journal = Journal::open(&path, FROM, TO).ok().unwrap();
            let is_done = journal.is_done(Kind::Application, "app_1");
            assert_eq!(is_done, length == text.len(), "{length}");
            let known = journal.target("app_1").is_some();
            assert_eq!(known, length as u64 >= before, "{length}");
            if known {
                assert_eq!(journal.key("app_1", &Fields::new()), key);
            }
        }
    }

    #[test]
    fn after_the_end_everything_is_gone_through_again_and_nothing_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut journal = Journal::open(&path, FROM, TO).ok().unwrap();
        journal.became(Kind::Endpoint, "ep_1", "ep_2").ok().unwrap();
        journal.done(Kind::Endpoint, "ep_1").ok().unwrap();
        journal.ended().ok().unwrap();
        drop(journal);
        let journal = Journal::open(&path, FROM, TO).ok().unwrap();
        assert!(!journal.is_done(Kind::Endpoint, "ep_1"));
        assert_eq!(journal.target("ep_1"), Some("ep_2"));
        drop(journal);
        assert!(Journal::open(&path, "https://other.test", TO).is_err());
    }

    #[test]
    fn another_kind_of_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes");
        for text in ["my notes", "{}\n", "\"ended\"\n", "{\"a\":1}\nb"] {
            std::fs::write(&path, text).unwrap();
            assert!(Journal::open(&path, FROM, TO).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
