//! Spare segment files, made ready before they are needed.
//!
//! Syncing appends changes no metadata, and so is fast, where every block of the file was written
//! before: `fallocate` alone leaves that to the first append. So a thread of its own drives
//! [`Zeroing`], which writes files full of zeros. A removed segment's file is as good as it is, and
//! costs no writing: as many are kept as retention removes at once, and nothing is zeroed while there
//! are some. When space is short no spares are made, those beyond one are removed, and a segment is
//! begun in a file that is only reserved.
//!
//! A file that is being zeroed is `N.zeroing`, a spare `N.spare`; what an earlier process left of
//! the first is removed, of the second used.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::error::{Result, told};
use super::files::{DataFile, Directory, write_all};
use crate::lock::locked;

/// So many are zeroed ahead: one to begin the next segment in, and one that is ready when that happens.
const ZEROED_MAX: usize = 2;
/// Retention removes a slice at once, which has eight segments by default. With that many beside the two
/// zeroed ones, a store that removes as much as it writes zeroes nothing.
const SPARES_MAX: usize = ZEROED_MAX + 8;
/// How much is zeroed and synced in one step.
const STEP_BYTES: u64 = 1 << 20;

pub struct Spares {
    files: Arc<dyn Directory>,
    segment_bytes: u64,
    /// Bytes that stay free on the disk when a spare is made or kept.
    free_bytes_min: u64,
    /// So much was appended that another segment will follow: until then none is made ready, and a store
    /// in which little happens takes little space.
    is_wanted: AtomicBool,
    ready: Mutex<Ready>,
}

#[derive(Default)]
struct Ready {
    names: VecDeque<String>,
    is_zeroing: bool,
    /// For the next file's name.
    number: u64,
}

impl Spares {
    /// Takes over the spares among the files with `names`, and removes those that are of no use.
    pub fn open(
        files: Arc<dyn Directory>,
        names: &[String],
        segment_bytes: u64,
        free_bytes_min: u64,
    ) -> Result<Spares> {
        let mut ready = Ready::default();
        let numbered = |name: &String, suffix| -> Option<u64> {
            u64::from_str_radix(name.strip_suffix(suffix)?, 16).ok()
        };
        for name in names {
            let spare = numbered(name, ".spare");
            if let Some(number) = spare.or_else(|| numbered(name, ".zeroing")) {
                ready.number = ready.number.max(number.saturating_add(1));
                if spare.is_some() && ready.names.len() < SPARES_MAX {
                    let file = files.open(name).map_err(told(name, "opening"))?;
                    let bytes = file.bytes().map_err(told(name, "asking for the length"))?;
                    if bytes == segment_bytes {
                        ready.names.push_back(name.clone());
                        continue;
                    }
                }
                files.remove(name).map_err(told(name, "removing"))?;
            }
        }
        Ok(Spares {
            files,
            segment_bytes,
            free_bytes_min,
            is_wanted: AtomicBool::new(false),
            ready: Mutex::new(ready),
        })
    }

    /// The name of a spare, which is the caller's now; a new file if none is ready. Nothing is
    /// changed where that fails.
    pub fn take(&self) -> Result<String> {
        if let Some(name) = self.ready().names.pop_front() {
            return Ok(name);
        }
        self.make(self.segment_bytes)
    }

    /// Makes one where none is ready. Nothing is changed where that fails.
    pub fn have_one(&self) -> Result<()> {
        if self.ready().names.is_empty() {
            // If a power cut takes its name, another is made.
            let name = self.make(self.segment_bytes)?;
            self.give(name);
        }
        Ok(())
    }

    /// The name of a new file of so many bytes, which are only reserved.
    pub fn make(&self, bytes: u64) -> Result<String> {
        let name = self.new_name("spare");
        self.create(&name, bytes)?;
        Ok(name)
    }

    fn create(&self, name: &str, bytes: u64) -> Result<Arc<dyn DataFile>> {
        let file = self.files.create(name).map_err(told(name, "creating"))?;
        if let Err(cause) = file.reserve(bytes) {
            // Where this fails too, the next start removes it.
            let _ = self.files.remove(name);
            return Err(told(name, "reserving space")(cause));
        }
        Ok(file)
    }

    /// A name for a removed segment's file of so many bytes as a spare, where one more is wanted.
    pub fn name_for_used(&self, bytes: u64) -> Option<String> {
        let wanted =
            bytes == self.segment_bytes && self.has_fewer_than(SPARES_MAX) && self.has_space(0);
        wanted.then(|| self.new_name("spare"))
    }

    /// Takes in a file of this name.
    pub fn give(&self, name: String) {
        self.ready().names.push_back(name);
    }

    /// Lets spares be made from now on.
    pub fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Removes one beyond the first where space is short. False where there is nothing to remove.
    fn give_back(&self) -> Result<bool> {
        if self.has_fewer_than(2) || self.has_space(0) {
            return Ok(false);
        }
        // The journal may have taken some meanwhile.
        let mut ready = self.ready();
        let is_left = ready.names.len() > 1;
        let name = is_left.then(|| ready.names.pop_back()).flatten();
        drop(ready);
        let Some(name) = name else { return Ok(false) };
        // Where it stays, the next start takes it for a spare again.
        self.files.remove(&name).map_err(told(&name, "removing"))?;
        Ok(true)
    }

    fn has_fewer_than(&self, max: usize) -> bool {
        let ready = self.ready();
        ready.names.len() + usize::from(ready.is_zeroing) < max
    }

    /// Whether enough stays free when so many bytes are taken.
    fn has_space(&self, bytes: u64) -> bool {
        let free = self.files.free_bytes();
        free.is_ok_and(|free| free >= self.free_bytes_min.saturating_add(bytes))
    }

    fn new_name(&self, suffix: &str) -> String {
        let mut ready = self.ready();
        let number = ready.number;
        ready.number += 1;
        format!("{number:016x}.{suffix}")
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        locked(self.ready.lock())
    }
}

/// Makes zeroed spares, a step at a time. One for each journal, driven by one thread.
pub struct Zeroing {
    spares: Arc<Spares>,
    work: Option<Work>,
}

struct Work {
    name: String,
    file: Arc<dyn DataFile>,
    zeroed: u64,
}

impl Zeroing {
    pub fn new(spares: Arc<Spares>) -> Zeroing {
        Zeroing { spares, work: None }
    }

    /// Does the next step: at most 1 MiB is written and synced, or a file removed. False if there is
    /// nothing to do now; look again after a segment was begun or removed, or after a while.
    ///
    /// # Errors
    /// The file worked on is given up; the journal itself is not concerned.
    pub fn step(&mut self) -> Result<bool> {
        let stepped = self.try_step();
        if stepped.is_err() {
            if let Some(work) = self.work.take() {
                // Never synced again. Where this fails, the next start removes it.
                let _ = self.spares.files.remove(&work.name);
            }
            self.spares.ready().is_zeroing = false;
        }
        stepped
    }

    fn try_step(&mut self) -> Result<bool> {
        let spares = &self.spares;
        let Some(work) = &mut self.work else {
            if spares.give_back()? {
                return Ok(true);
            }
            let is_wanted =
                spares.is_wanted.load(Ordering::Relaxed) && spares.has_fewer_than(ZEROED_MAX);
            if !is_wanted || !spares.has_space(spares.segment_bytes) {
                return Ok(false);
            }
            spares.ready().is_zeroing = true;
            let name = spares.new_name("zeroing");
            let file = spares.create(&name, spares.segment_bytes)?;
            self.work = Some(Work {
                name,
                file,
                zeroed: 0,
            });
            return Ok(true);
        };
        let left = spares.segment_bytes - work.zeroed;
        if left > 0 {
            let zeros = vec![0; STEP_BYTES.min(left) as usize];
            write_all(&*work.file, &zeros, work.zeroed).map_err(told(&work.name, "zeroing"))?;
            work.file.sync().map_err(told(&work.name, "syncing"))?;
            work.zeroed += zeros.len() as u64;
            return Ok(true);
        }
        let spare = work.name.replace(".zeroing", ".spare");
        let files = &spares.files;
        files
            .rename(&work.name, &spare)
            .map_err(told(&work.name, "renaming"))?;
        files
            .sync()
            .map_err(told(&spare, "syncing the directory"))?;
        self.work = None;
        let mut ready = spares.ready();
        ready.is_zeroing = false;
        ready.names.push_back(spare);
        Ok(true)
    }
}
