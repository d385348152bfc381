//! A store made of the files of a backup: what `backup` needs to know of a store's files, and the end of a restore.
//!
//! While files are laid down, a file in the directory says that this is no store yet: a server does not start there.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::checkpoint_file::{self, FileError};
use super::engine::Changes;
use super::layout::{self, SliceRecord};
use super::open::{open_files, to_open_error};
use super::{OpenError, Store, StoreSettings, effects, engine, rebuild, replay, slices};
use crate::clock::Clock;
use crate::journal::Reader;

/// The name of the checkpoint file in the data directory.
pub const CHECKPOINT_FILE: &str = checkpoint_file::FILE_NAME;

/// A file that is there while the directory follows a copy.
pub const FOLLOWING: &str = "restore.following";
/// A file that is there while a restore is under way.
const UNFINISHED: &str = "restore.unfinished";
/// How far the numbers of endpoints jump: the lost store may have given some that the copy does not know.
const NUMBERS_JUMP: u64 = 10_000;

/// The cache of a database that is made beside a running store.
const BESIDE_CACHE_BYTES: u64 = 32 << 20;

/// The contents of a restored store.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// How many of each thing.
    pub counts: Vec<(String, u64)>,
    /// Signs that it is not complete, a sentence each.
    pub problems: Vec<String>,
}

impl Store {
    /// The journal, for a backup.
    pub fn journal(&self) -> Reader {
        self.inner.slices.reader().clone()
    }

    /// Where the store is.
    pub fn directory(&self) -> &Path {
        &self.inner.settings.path
    }

    /// Settings for databases that are made in another directory beside this store, with little memory.
    pub fn settings_for(&self, path: &Path) -> StoreSettings {
        let settings = self.inner.settings.clone();
        StoreSettings {
            path: path.to_owned(),
            cache_bytes: settings.cache_bytes.min(BESIDE_CACHE_BYTES),
            ..settings
        }
    }
}

/// The directory of a slice in a data directory.
pub fn slice_directory(store: &Path, slice: u32) -> PathBuf {
    slices::path_in(&store.join("slices"), slice)
}

/// The position at which the checkpoint file of a store was begun; none where there is no whole one of this stream.
pub fn checkpoint_position(store: &Path, stream: u64) -> Result<Option<u64>, OpenError> {
    match checkpoint_file::open(store) {
        Ok(file) => {
            let begun_at = file.begun_at();
            Ok((begun_at.stream == stream).then_some(begun_at.position))
        }
        Err(FileError::Io(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            let path = store.join(CHECKPOINT_FILE);
            Err(checkpoint_file::to_open_error(path, FileError::Io(error)))
        }
        Err(_) => Ok(None),
    }
}

/// Why the content of a record of the journal cannot be applied.
pub fn effects_problem(content: &[u8]) -> Option<String> {
    let decoded = effects::decode(content);
    decoded.err().map(|error| error.to_string())
}

/// Makes a directory ready for the files of a store. One that has a store, or parts of one, is refused; what a restore
/// left that was broken off is removed.
pub fn prepare_restore(settings: &StoreSettings) -> Result<(), OpenError> {
    let path = &settings.path;
    let io = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    super::directory::create_directory(path).map_err(io)?;
    super::handed_over::refuse_handed_over(settings)?;
    let was_broken_off = path.join(UNFINISHED).exists();
    if was_broken_off {
        for name in [CHECKPOINT_FILE, checkpoint_file::APPLIED_NAME] {
            let _ = std::fs::remove_file(path.join(name));
        }
        for name in ["journal", "slices", "live", "live.new"] {
            let _ = std::fs::remove_dir_all(path.join(name));
        }
    }
    if path.join("live").exists() {
        return Err(OpenError::Unsafe(format!(
            "{} has a store already: restore into an empty directory (--to), or move the store away first",
            path.display()
        )));
    }
    super::directory::refuse_in_the_remains_of_another(path)?;
    let unfinished = File::create(path.join(UNFINISHED)).and_then(|file| file.sync_all());
    unfinished
        .and_then(|()| engine::sync_directory(path))
        .map_err(io)
}

/// Whether a restore into the directory is under way, or was broken off.
pub fn is_unfinished(path: &Path) -> bool {
    path.join(UNFINISHED).exists()
}

/// Refuses a directory in which a restore was broken off.
pub fn refuse_unfinished(settings: &StoreSettings) -> Result<(), OpenError> {
    if settings.is_being_restored || !is_unfinished(&settings.path) {
        return Ok(());
    }
    let path = settings.path.display();
    let told = match settings.path.join(FOLLOWING).exists() {
        true => format!(
            "{path} follows the copy of another server: run `postrider restore --follow` again to go on with that, or \
             `postrider restore` to make a store of what is there, where the other server is lost"
        ),
        false => format!(
            "a restore into {path} was broken off: run `postrider restore` again, which begins anew, or remove the \
             directory"
        ),
    };
    Err(OpenError::Unsafe(told))
}

/// Makes a store of the files that were laid into its directory. It goes on as a stream of its own: the lost store, if
/// it comes back, is another one from here on.
pub fn begin_restored(settings: &StoreSettings, clock: &Clock) -> Result<Restored, OpenError> {
    let settings = &being_restored(settings);
    let rebuilt = rebuild::rebuild(settings, clock)?;
    go_on(settings, clock, rebuilt.problems, Lost::Something)
}

/// The settings of a directory that is no store yet.
pub fn being_restored(settings: &StoreSettings) -> StoreSettings {
    StoreSettings {
        is_being_restored: true,
        ..settings.clone()
    }
}

/// What happened to the store behind the last record that is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Nothing,
    /// For all that is known.
    Something,
}

/// Lets the store go on as a stream of its own. `problems` are those of its live database.
pub fn go_on(
    settings: &StoreSettings,
    clock: &Clock,
    problems: Vec<String>,
    lost: Lost,
) -> Result<Restored, OpenError> {
    let path = &settings.path;
    let mut files = open_files(settings, clock)?;
    let branched = files.journal.branch(rand::random());
    branched.map_err(|error| replay::journal_error(&path.join("journal"), error))?;
    forget_later_indexes(path, &files.slices)?;
    let now = clock.now();
    let mut meta = files.meta.clone();
    meta.commit += 1;
    meta.clean = problems.is_empty();
    meta.last_time = meta.last_time.max(now);
    if lost == Lost::Something {
        meta.last_endpoint_number += NUMBERS_JUMP;
    }
    let sealed = files
        .slices
        .values()
        .filter_map(|slice| slice.sealed.as_ref());
    let of_slices = || sealed.clone().chain([&meta.slice]);
    let count = |kind: &str, count| (kind.to_owned(), count);
    let counts = vec![
        count("messages", of_slices().map(|slice| slice.messages).sum()),
        count("attempts", of_slices().map(|slice| slice.attempts).sum()),
        count("registrations", files.catalog.len()),
        count(
            "waiting deliveries",
            meta.waiting.iter().map(|(_, count)| count).sum(),
        ),
    ];
    let problems = problems.into_iter();
    let problems = problems.chain(without_their_files(&files.slices)).collect();
    let mut changes = Changes::default();
    layout::replace(&files.live, &mut changes, &[layout::META], &meta)
        .map_err(|error| to_open_error(path, error.into()))?;
    replay::commit_at_rest(settings, &mut files.journal, &files.live, changes, now)?;
    drop(files);
    Ok(Restored { counts, problems })
}

/// Makes the databases of the files that were laid into a directory, to see whether that can be done. The store does not
/// go on from there. Ends with [`OpenError::Interrupted`] soon after `is_stopping` says so. Returns signs that they are
/// not complete, a sentence each.
pub fn make_databases(
    settings: &StoreSettings,
    clock: &Clock,
    is_stopping: &dyn Fn() -> bool,
) -> Result<Vec<String>, OpenError> {
    let settings = &being_restored(settings);
    let rebuilt = rebuild::rebuild_unless(settings, clock, is_stopping)?;
    Ok(rebuilt.problems)
}

/// Removes the directory of databases that were made in it, once the threads of these have let go of their files: one
/// that misses a file would end them, and they are shared with other databases.
pub fn remove_databases(path: &Path) -> Result<(), OpenError> {
    rebuild::let_go_of_all(path)?;
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(OpenError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Says that a restore is finished: from here on it is a store.
pub fn finish_restore(settings: &StoreSettings) -> Result<(), OpenError> {
    let path = &settings.path;
    let removed = [
        // It is of the stream before; the server writes one of its own in its first seconds.
        CHECKPOINT_FILE,
        UNFINISHED,
    ];
    let removed = removed.map(|name| std::fs::remove_file(path.join(name)));
    let removed = removed.into_iter().collect::<std::io::Result<Vec<()>>>();
    let done = removed.and_then(|_| engine::sync_directory(path));
    done.map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })
}

/// Removes the indexes of slices that were sealed only after the moment that is restored: they will be sealed with
/// something else in them.
fn forget_later_indexes(path: &Path, slices: &BTreeMap<u32, SliceRecord>) -> Result<(), OpenError> {
    let directory = path.join("slices");
    let io = |source| OpenError::Io {
        path: directory.clone(),
        source,
    };
    for entry in std::fs::read_dir(&directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let stretch = number.and_then(|number: u32| slices.get(&number)?.stretch);
        if stretch.is_some_and(|stretch| stretch.to.is_some()) {
            continue;
        }
        match std::fs::remove_file(entry.path().join("index")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Slices that an earlier version wrote are databases, which a backup does not copy.
fn without_their_files(slices: &BTreeMap<u32, SliceRecord>) -> Option<String> {
    let old = slices
        .values()
        .filter(|slice| slice.stretch.is_none())
        .count();
    (old > 0).then(|| {
        format!(
            "{old} slices of history were written by an earlier version, which a backup does not copy: their messages \
             cannot be read, and deliveries that wait in them fail"
        )
    })
}
