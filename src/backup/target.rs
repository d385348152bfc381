//! A target: the folder or the bucket that objects of a backup are in.
//!
//! Calls block, for threads of their own: one thread, which all targets of one [`Target::open`] share,
//! drives the connections. A call must not be made on a thread of a runtime. Calls of several threads
//! go on beside each other.
//!
//! - What a call has written is durable at the target when it returns, and no other call sees a part of it
//!   under its name. A call that failed may have left its object there all the same.
//! - Everything from the target has a limit: of an object by its expected size, of lists by their
//!   length, of each request by time (`Bounds`). A stop is looked for every 50 ms.
//! - Unfinished uploads of a process that was killed stay behind: beside a folder's objects under names with
//!   `#` and a number, which are in no list; in a bucket until its rule for them removes them.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use object_store::PutResult;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::BackupKey;
use super::place::{MUST, Place};
use super::seal::{Salt, Sealer};
use crate::clock::Timestamp;
use connection::Connection;
use credentials::Environment;
use error::Doing;
use store::{Bounds, Opened, Store};
use upload::Source;

mod connection;
mod credentials;
mod download;
mod error;
mod hex_digits;
mod requests;
mod store;
mod upload;
mod wire;

pub use error::TargetError;

/// An object is sent and fetched in stretches of this length.
const PART_BYTES: usize = 8 << 20;

/// As many objects are removed by one request.
const REMOVED_AT_ONCE: usize = 1000;

/// A target as an operator names it.
#[derive(Clone)]
pub struct TargetSettings {
    /// A folder, or the URL of a bucket: see [`Place`].
    pub to: String,
    /// Objects are encrypted with it. Without one they are plain.
    pub key: Option<BackupKey>,
}

impl fmt::Debug for TargetSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A text that is no place may have a password in it.
        let to = Place::parse(&self.to).map(|place| place.to_string());
        f.debug_struct("TargetSettings")
            .field("to", &to.as_deref().unwrap_or("…"))
            .field("key", &self.key)
            .finish()
    }
}

/// An object by its name in its folder, with size and hash of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub name: String,
    pub bytes: u64,
    #[serde(with = "hex_digits")]
    pub sha256: [u8; 32],
}

/// An object as a list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub stored_bytes: u64,
    /// By the target's clock.
    pub modified_at: Timestamp,
}

/// Requests and bytes so far. A request that was tried again counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Objects and parts of objects.
    pub puts: u64,
    pub gets: u64,
    pub lists: u64,
    /// Objects.
    pub deletes: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
}

/// A folder within a target.
#[derive(Clone)]
pub struct Target {
    shared: Arc<Shared>,
    /// The folder's name within the target, with a slash at its end; empty for the target itself.
    within: String,
    is_stopping: Arc<dyn Fn() -> bool + Send + Sync>,
}

struct Shared {
    shown: Arc<str>,
    store: Store,
    /// The path in the store that names within the target are below.
    root: Path,
    key: Option<BackupKey>,
    connection: Connection,
    bounds: Bounds,
    counts: Counts,
    keeps_versions: AtomicBool,
}

#[derive(Default)]
struct Counts {
    puts: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

impl Requests {
    pub fn in_all(&self) -> u64 {
        self.puts + self.gets + self.lists + self.deletes
    }
}

impl Target {
    /// Makes the client of a target. No request is sent yet, and no folder is made.
    pub fn open(settings: &TargetSettings) -> Result<Target, TargetError> {
        Target::open_with(settings, Environment::of_process(), Bounds::default())
    }

    fn open_with(
        settings: &TargetSettings,
        environment: Environment,
        bounds: Bounds,
    ) -> Result<Target, TargetError> {
        let invalid = |target: &str, problem: String| TargetError::Invalid {
            target: target.into(),
            problem,
        };
        let place = Place::parse(&settings.to);
        let place = place.ok_or_else(|| invalid("the target of the backup", MUST.to_owned()))?;
        let shown = place.to_string();
        let opened = store::open(&place, environment, &bounds);
        let Opened { store, root } = opened.map_err(|problem| invalid(&shown, problem))?;
        let connection = Connection::open().map_err(TargetError::Io)?;
        Ok(Target {
            shared: Arc::new(Shared {
                shown: shown.into(),
                store,
                root,
                key: settings.key.clone(),
                connection,
                bounds,
                counts: Counts::default(),
                keeps_versions: AtomicBool::new(false),
            }),
            within: String::new(),
            is_stopping: Arc::new(|| false),
        })
    }

    /// Ends the call that is under way, and all later ones, with [`TargetError::Stopped`] soon after
    /// `is_stopping` says so. The reader or writer that a call was given is not interrupted: the call ends once it
    /// has returned.
    pub fn stop_when(self, is_stopping: impl Fn() -> bool + Send + Sync + 'static) -> Target {
        Target {
            is_stopping: Arc::new(is_stopping),
            ..self
        }
    }

    /// The folder with this name in this one.
    pub fn folder(&self, name: &str) -> Target {
        Target {
            within: format!("{}{name}/", self.within),
            ..self.clone()
        }
    }

    /// Writes an object with all that `content` reads. More than 8 MiB are sent in parts, of which at most
    /// two are in memory; an object has at most 10,000 of them.
    pub fn put(&self, name: &str, content: &mut dyn Read) -> Result<Object, TargetError> {
        let path = self.path(name)?;
        let whole = self.name_within(name);
        let mut source = Source::new(&whole, self.shared.key.as_ref(), &salt(), content);
        let first = source.part(self)?;
        let result = match source.has_ended() {
            true => self.put_whole(&path, name, first)?,
            false => self.put_parts(&path, name, first, &mut source)?,
        };
        self.note_version(&result);
        Ok(source.object(name))
    }

    /// Writes an object that nobody has written yet: [`TargetError::Exists`] otherwise. Of several who
    /// create the same name one succeeds. `content` is small.
    ///
    /// An answer that got lost is settled by reading the object: if it has these very bytes, it is ours.
    /// Content of two callers must differ for that, as sealed content always does.
    pub fn create(&self, name: &str, content: &[u8]) -> Result<Object, TargetError> {
        let path = self.path(name)?;
        let mut stored = Vec::new();
        let whole = self.name_within(name);
        let mut sealer = Sealer::begin(&whole, self.shared.key.as_ref(), &salt(), &mut stored);
        sealer.push(content, &mut stored);
        sealer.finish(&mut stored);
        let result = self.wait(self.created(&path, name, Bytes::from(stored)))??;
        if let Some(result) = result {
            self.note_version(&result);
        }
        Ok(Object {
            name: name.to_owned(),
            bytes: content.len() as u64,
            sha256: Sha256::digest(content).into(),
        })
    }

    /// Refuses a target at which [`Target::create`] does not keep its word: a small object is created twice. It is
    /// removed again.
    pub fn refuse_overwriting(&self) -> Result<(), TargetError> {
        let name = format!("probe-{:016x}", rand::random::<u64>());
        self.create(&name, b"first")?;
        let second = self.create(&name, b"second");
        if let Err(error) = self.delete(&[name]) {
            log::warn!(
                "backup: a small object was not deleted, which is tried again tomorrow: {error}"
            );
        }
        match second {
            Ok(_) => Err(TargetError::Overwrites {
                target: self.shown(),
            }),
            Err(TargetError::Exists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes an object's content to `out`, in stretches as it comes. What is written is authentic where
    /// there is a key, and as long as the call has not succeeded it may not be all: an error means to
    /// throw it away. No more is written than is expected.
    pub fn get(
        &self,
        name: &str,
        expected: Option<&Object>,
        out: &mut dyn Write,
    ) -> Result<Object, TargetError> {
        let bytes_max = expected.map_or(u64::MAX, |object| object.bytes);
        let mut take = |content: &[u8]| out.write_all(content).map_err(TargetError::Io);
        let found = self.fetch(name, bytes_max, &mut take)?;
        let Some(expected) = expected else {
            return Ok(found);
        };
        if found.bytes != expected.bytes {
            let (is, should) = (found.bytes, expected.bytes);
            let reason = format!("has {is} bytes of content in place of {should}");
            return Err(self.damaged(name, reason));
        }
        if found.sha256 != expected.sha256 {
            let reason = "has another SHA-256 than when it was written".to_owned();
            return Err(self.damaged(name, reason));
        }
        Ok(found)
    }

    /// The content of a small object. One that is longer is damaged.
    pub fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, TargetError> {
        let mut content = Vec::new();
        self.fetch(name, bytes_max, &mut |stretch| {
            content.extend_from_slice(stretch);
            Ok(())
        })?;
        Ok(content)
    }

    /// The objects of this folder whose names begin so, in the order of their names. Objects of folders within
    /// this one are not among them.
    pub fn list(&self, prefix: &str) -> Result<Vec<Listed>, TargetError> {
        let mut names = Vec::new();
        let folder = self.folder_start();
        self.pages(prefix, |page| {
            for object in page.objects {
                let name = object.location.as_ref().strip_prefix(&folder);
                let name = name.filter(|name| name.starts_with(prefix) && !name.contains('/'));
                let modified_ms = object.last_modified.timestamp_millis().max(0);
                names.extend(name.map(|name| Listed {
                    name: name.to_owned(),
                    stored_bytes: object.size,
                    modified_at: Timestamp(modified_ms as u64),
                }));
            }
            names.len()
        })?;
        names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(names)
    }

    /// The names of the folders in this one, in their order.
    pub fn folders(&self) -> Result<Vec<String>, TargetError> {
        let mut names = Vec::new();
        let folder = self.folder_start();
        self.pages("", |page| {
            for path in page.common_prefixes {
                let name = path.as_ref().strip_prefix(&folder);
                names.extend(name.map(|name| name.trim_end_matches('/').to_owned()));
            }
            names.len()
        })?;
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes objects. One that is not there is no error. After an error some may be left.
    pub fn delete(&self, names: &[String]) -> Result<(), TargetError> {
        for names in names.chunks(REMOVED_AT_ONCE) {
            let paths = names.iter().map(|name| self.path(name));
            let paths: Vec<Path> = paths.collect::<Result<_, _>>()?;
            count(&self.shared.counts.deletes, paths.len());
            self.wait(self.again(|| self.removed(paths.clone())))??;
        }
        Ok(())
    }

    /// Whether the target keeps older versions of objects, so that removing one does not erase it. Known
    /// once an object was written. Google does not tell, and neither does a folder.
    pub fn keeps_versions(&self) -> bool {
        self.shared.keeps_versions.load(Ordering::Relaxed)
    }

    /// Requests so far, of all folders of this target.
    pub fn requests(&self) -> Requests {
        let counts = &self.shared.counts;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests {
            puts: load(&counts.puts),
            gets: load(&counts.gets),
            lists: load(&counts.lists),
            deletes: load(&counts.deletes),
            bytes_up: load(&counts.bytes_up),
            bytes_down: load(&counts.bytes_down),
        }
    }
}

impl Target {
    /// The object's name within the target, which its key depends on.
    fn name_within(&self, name: &str) -> String {
        format!("{}{name}", self.within)
    }

    /// The beginning of the paths of all objects in this folder: empty, or with a slash at its end.
    fn folder_start(&self) -> String {
        match self.shared.root.as_ref() {
            "" => self.within.clone(),
            root => format!("{root}/{}", self.within),
        }
    }

    fn path(&self, name: &str) -> Result<Path, TargetError> {
        let path = format!("{}{name}", self.folder_start());
        Path::parse(path).map_err(|_| TargetError::Invalid {
            target: self.shown(),
            problem: "a name has characters that no object can have".to_owned(),
        })
    }

    /// The folder as errors name it.
    fn shown(&self) -> Arc<str> {
        self.to_string().into()
    }

    /// The meaning of an error of the store.
    fn failed(&self, name: &str, doing: Doing, error: &object_store::Error) -> TargetError {
        TargetError::of(&self.shown(), name, doing, error)
    }

    fn damaged(&self, name: &str, reason: String) -> TargetError {
        TargetError::Damaged {
            target: self.shown(),
            name: name.to_owned(),
            reason,
        }
    }

    fn note_version(&self, result: &PutResult) {
        // "null" is the version of an object whose bucket keeps no versions any more.
        let is_kept = matches!(result.version.as_deref(), Some(version) if version != "null");
        if is_kept && self.shared.store.tells_versions() {
            self.shared.keeps_versions.store(true, Ordering::Relaxed);
        }
    }
}

fn salt() -> Salt {
    rand::random()
}

impl fmt::Display for Target {
    /// The folder or URL, which has nothing secret in it: see [`Place::parse`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shared.shown)?;
        match self.within.trim_end_matches('/') {
            "" => Ok(()),
            within => write!(f, "/{within}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests;
