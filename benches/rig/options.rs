//! What is measured, of which binary, and how much of it.

use std::collections::HashMap;
use std::path::PathBuf;

use tempfile::TempDir;

use super::figures::{Figures, Turns};
use super::heading;

/// `[--quick] [--dir PATH] [--set SETTING=VALUE]… [--against PATH] [--turns N] [--NAME NUMBER]… [WORKLOAD]…`
#[derive(Clone)]
pub struct Options {
    pub quick: bool,
    /// Where the data goes; another disk, or memory, to see what the disk costs.
    directory: PathBuf,
    /// Passed on to the server.
    pub settings: Vec<(String, String)>,
    /// The binary of an older version, which takes turns with this build's.
    pub against: Option<PathBuf>,
    /// The binary to run, where it is not this build's.
    pub binary: Option<PathBuf>,
    numbers: HashMap<String, u64>,
    workloads: Vec<String>,
}

impl Options {
    pub fn parse(arguments: Vec<String>) -> Options {
        let mut options = Options {
            quick: false,
            directory: env!("CARGO_TARGET_TMPDIR").into(),
            settings: Vec::new(),
            against: None,
            binary: None,
            numbers: HashMap::new(),
            workloads: Vec::new(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--") {
                None => options.workloads.push(argument),
                Some("bench") => {}
                Some("quick") => options.quick = true,
                Some("dir") => options.directory = arguments.next().expect("--dir PATH").into(),
                Some("against") => {
                    let path = PathBuf::from(arguments.next().expect("--against PATH"));
                    // The server runs in another directory.
                    let path = std::fs::canonicalize(&path)
                        .unwrap_or_else(|error| panic!("--against {}: {error}", path.display()));
                    options.against = Some(path);
                }
                Some("set") => {
                    let pair = arguments.next().unwrap_or_default();
                    let (setting, value) = pair.split_once('=').expect("--set SETTING=VALUE");
                    options
                        .settings
                        .push((setting.to_owned(), value.to_owned()));
                }
                Some(name) => {
                    let number = arguments.next().and_then(|text| text.parse().ok());
                    let number = number.unwrap_or_else(|| panic!("--{name} takes a number"));
                    options.numbers.insert(name.to_owned(), number);
                }
            }
        }
        options
    }

    /// The same with another binary; with this build's, where there is none.
    pub fn with_binary(&self, binary: Option<PathBuf>) -> Options {
        Options {
            binary,
            ..self.clone()
        }
    }

    /// Runs a workload once, or with both binaries in turns: old new, new old, old new, and so on,
    /// so that a machine that slows down slows down both. Each run has a fresh data directory.
    pub fn measure(&self, workload: &str, run: impl Fn(&Options, &mut Figures)) {
        if !self.wants(workload) {
            return;
        }
        let Some(old) = &self.against else {
            run(self, &mut Figures::default());
            return;
        };
        let both = self.number("turns", 1, 3);
        let mut turns = Turns::default();
        for turn in 0..both {
            let mut order = [("old", Some(old.clone())), ("new", None)];
            if turn % 2 == 1 {
                order.reverse();
            }
            for (name, binary) in order {
                heading(&format!("{workload}, turn {} of {both}: {name}", turn + 1));
                let mut figures = Figures::default();
                run(&self.with_binary(binary), &mut figures);
                match name {
                    "old" => turns.old.push(figures),
                    _ => turns.new.push(figures),
                }
            }
        }
        heading(&format!(
            "{workload}: medians of {both} turns, old -> new, new / old; old is {}",
            old.display()
        ));
        print!("{}", turns.table());
    }

    /// A fresh directory for data.
    pub fn scratch(&self) -> TempDir {
        let place = &self.directory;
        tempfile::tempdir_in(place)
            .unwrap_or_else(|error| panic!("no directory in {}: {error}", place.display()))
    }

    /// Whether this workload is wanted: all are when none is named.
    pub fn wants(&self, workload: &str) -> bool {
        self.workloads.is_empty() || self.workloads.iter().any(|named| named == workload)
    }

    /// Whether this workload was asked for by its name: it takes long, or needs another program.
    pub fn names(&self, workload: &str) -> bool {
        self.workloads.iter().any(|named| named == workload)
    }

    /// A size by its name, else the default for a quick or a full run.
    pub fn number(&self, name: &str, quick: u64, full: u64) -> u64 {
        let default = if self.quick { quick } else { full };
        self.numbers.get(name).copied().unwrap_or(default)
    }
}
