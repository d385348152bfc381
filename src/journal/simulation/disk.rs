//! A disk in memory that fails on purpose and forgets what was not synced.
//!
//! Each file has its bytes as the system shows them, its bytes as the disk has them, and the writes
//! between. A power cut leaves, block by block, any of the states that a block was in since the last
//! sync, or a mixture of two. A failed sync writes some blocks and forgets about the others: they are
//! shown until the power fails, and no later sync writes them. Names become durable in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::files::{DataFile, Directory};

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies in the middle of it.
    Crash,
    InputOutput,
    NoSpace,
    /// Less is read or written than was asked for.
    Short,
}

pub const FAULTS: [Fault; 4] = [
    Fault::Crash,
    Fault::InputOutput,
    Fault::NoSpace,
    Fault::Short,
];

#[derive(Default)]
struct Inode {
    shown: Vec<u8>,
    durable: Vec<u8>,
    /// Offset and bytes, in order, since the last sync.
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    random: StdRng,
    block_bytes: usize,
    free_bytes: u64,
    calls: u64,
    /// At which call, and what.
    fault: Option<(u64, Fault)>,
    /// Counts processes: a handle of one before is of no use.
    life: u64,
    is_dead: bool,
}

/// The disk; clones are the same disk.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

/// The disk as one process sees it.
struct Mount {
    state: Arc<Mutex<State>>,
    life: u64,
}

struct OpenFile {
    state: Arc<Mutex<State>>,
    life: u64,
    inode: usize,
}

impl FaultyDisk {
    pub fn new(seed: u64) -> FaultyDisk {
        let mut random = StdRng::seed_from_u64(seed);
        let state = State {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            block_bytes: if random.random() { 512 } else { 4096 },
            random,
            free_bytes: u64::MAX,
            calls: 0,
            fault: None,
            life: 0,
            is_dead: false,
        };
        let state = Arc::new(Mutex::new(state));
        FaultyDisk { state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn mount(&self) -> Arc<dyn Directory> {
        let life = self.state().life;
        let state = self.state.clone();
        Arc::new(Mount { state, life })
    }

    /// Lets a fault happen after so many more calls.
    pub fn arm(&self, calls: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.calls + calls, fault));
    }

    /// Takes the fault away; answers after how many more calls it would have come.
    pub fn disarm(&self) -> Option<(u64, Fault)> {
        let mut state = self.state();
        let (call, fault) = state.fault.take()?;
        Some((call.saturating_sub(state.calls), fault))
    }

    pub fn is_armed(&self) -> bool {
        self.state().fault.is_some()
    }

    pub fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    pub fn set_free_bytes(&self, bytes: u64) {
        self.state().free_bytes = bytes;
    }

    /// Ends the process; what it wrote is still shown.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.is_dead = false;
    }

    /// Ends the process and forgets what was not synced.
    pub fn cut_power(&self) {
        let mut state = self.state();
        state.life += 1;
        state.is_dead = false;
        state.lose_names();
        for inode in 0..state.inodes.len() {
            state.lose_writes(inode);
            let inode = &mut state.inodes[inode];
            inode.unsynced.clear();
            inode.shown.clone_from(&inode.durable);
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// The bytes of a file as the system shows them.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.names[name]].shown.clone()
    }

    /// Changes one bit, for good.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) {
        let mut state = self.state();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        inode.shown[offset] ^= 1 << bit;
        inode.durable[offset] ^= 1 << bit;
    }

    /// Another disk with what the system shows.
    pub fn copy(&self, seed: u64) -> FaultyDisk {
        let copy = FaultyDisk::new(seed);
        {
            let (mut to, from) = (copy.state(), self.state());
            for (name, inode) in &from.names {
                let shown = from.inodes[*inode].shown.clone();
                let number = to.inodes.len();
                to.names.insert(name.clone(), number);
                to.inodes.push(Inode {
                    durable: shown.clone(),
                    shown,
                    unsynced: Vec::new(),
                });
            }
            to.durable_names = to.names.clone();
        }
        copy
    }
}

impl State {
    /// Counts a call of a process; an error if it is dead. Answers the fault that is due.
    fn call(&mut self, life: u64) -> io::Result<Option<Fault>> {
        if self.is_dead || life != self.life {
            return Err(io::Error::other("this process is dead"));
        }
        self.calls += 1;
        let fault = self.fault.take_if(|(call, _)| *call <= self.calls);
        let fault = fault.map(|(_, fault)| fault);
        self.is_dead = fault == Some(Fault::Crash);
        Ok(fault)
    }

    fn change_name(&mut self, life: u64, change: NameChange) -> io::Result<()> {
        let fault = self.call(life)?;
        let fails = matches!(
            fault,
            Some(Fault::Crash | Fault::InputOutput | Fault::NoSpace)
        );
        // A call that failed may have been done all the same.
        if !fails || self.random.random() {
            apply(&mut self.names, &change);
            self.unsynced_names.push(change);
        }
        answer(fault)
    }

    /// Makes some of the first changes of names durable.
    fn lose_names(&mut self) {
        let kept = self.random.random_range(0..=self.unsynced_names.len());
        for change in self.unsynced_names.drain(..kept) {
            apply(&mut self.durable_names, &change);
        }
        self.unsynced_names.clear();
        self.names = self.durable_names.clone();
    }

    /// Makes any of the unsynced blocks durable, in any of the states that they were in.
    fn lose_writes(&mut self, inode: usize) {
        let random = &mut self.random;
        let inode = &mut self.inodes[inode];
        if inode.durable.len() != inode.shown.len() && random.random() {
            inode.durable.resize(inode.shown.len(), 0);
        }
        let blocks: BTreeSet<usize> = inode
            .unsynced
            .iter()
            .filter(|(_, bytes)| !bytes.is_empty())
            .flat_map(|(offset, bytes)| {
                offset / self.block_bytes..=(offset + bytes.len() - 1) / self.block_bytes
            })
            .collect();
        // All, none, or each by itself.
        let likely = [0.0, 0.1, 0.5, 0.9, 1.0][random.random_range(0..5)];
        for block in blocks {
            let start = block * self.block_bytes;
            let end = (start + self.block_bytes).min(inode.durable.len());
            for (offset, bytes) in &inode.unsynced {
                if !random.random_bool(likely) {
                    break; // Later states of the block did not come to the disk.
                }
                let from = start.max(*offset);
                let mut to = end.min(offset + bytes.len());
                let is_torn = from < to && random.random_bool(0.1);
                if is_torn {
                    to = random.random_range(from..to);
                }
                if from < to {
                    inode.durable[from..to].copy_from_slice(&bytes[from - offset..to - offset]);
                }
                if is_torn {
                    break;
                }
            }
        }
    }

    fn sync_file(&mut self, life: u64, number: usize) -> io::Result<()> {
        let fault = self.call(life)?;
        match fault {
            Some(Fault::Crash) => {}
            Some(Fault::InputOutput | Fault::NoSpace) => {
                self.lose_writes(number);
                self.inodes[number].unsynced.clear();
            }
            Some(Fault::Short) | None => {
                let inode = &mut self.inodes[number];
                inode.durable.resize(inode.shown.len(), 0);
                for (offset, bytes) in inode.unsynced.drain(..) {
                    inode.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        answer(fault)
    }

    fn write(
        &mut self,
        life: u64,
        number: usize,
        bytes: &[u8],
        offset: usize,
    ) -> io::Result<usize> {
        let fault = self.call(life)?;
        let length = match fault {
            None => bytes.len(),
            Some(Fault::Short) => self.random.random_range(1..=bytes.len()),
            Some(_) => self.random.random_range(0..=bytes.len()),
        };
        let inode = &mut self.inodes[number];
        let end = offset + length;
        if inode.shown.len() < end {
            inode.shown.resize(end, 0);
        }
        inode.shown[offset..end].copy_from_slice(&bytes[..length]);
        inode.unsynced.push((offset, bytes[..length].to_vec()));
        answer(fault).map(|()| length)
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Create(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

fn answer(fault: Option<Fault>) -> io::Result<()> {
    match fault {
        None | Some(Fault::Short) => Ok(()),
        Some(Fault::Crash) => Err(io::Error::other("the process died")),
        Some(Fault::InputOutput) => Err(io::Error::from_raw_os_error(5)),
        Some(Fault::NoSpace) => Err(io::Error::from_raw_os_error(28)),
    }
}

impl Mount {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn file(&self, inode: usize) -> Arc<dyn DataFile> {
        Arc::new(OpenFile {
            state: self.state.clone(),
            life: self.life,
            inode,
        })
    }
}

impl Directory for Mount {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        let fault = state.call(self.life)?;
        answer(fault).map(|()| state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DataFile>> {
        let mut state = self.state();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change_name(self.life, NameChange::Create(name.to_owned(), inode))?;
        Ok(self.file(inode))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DataFile>> {
        let mut state = self.state();
        let fault = state.call(self.life)?;
        answer(fault)?;
        match state.names.get(name) {
            Some(inode) => Ok(self.file(*inode)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        assert!(!state.names.contains_key(to), "{to} would be replaced");
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        state.change_name(self.life, change)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let change = NameChange::Remove(name.to_owned());
        self.state().change_name(self.life, change)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.call(self.life)?;
        let changes = state.unsynced_names.len();
        let synced = match fault {
            None | Some(Fault::Short) => changes,
            Some(_) => state.random.random_range(0..=changes),
        };
        let synced: Vec<NameChange> = state.unsynced_names.drain(..synced).collect();
        for change in synced {
            apply(&mut state.durable_names, &change);
        }
        answer(fault)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.state();
        let fault = state.call(self.life)?;
        answer(fault).map(|()| state.free_bytes)
    }
}

impl OpenFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl DataFile for OpenFile {
    fn bytes(&self) -> io::Result<u64> {
        let mut state = self.state();
        let fault = state.call(self.life)?;
        answer(fault).map(|()| state.inodes[self.inode].shown.len() as u64)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.call(self.life)?;
        answer(fault)?;
        state.inodes[self.inode].shown.resize(bytes as usize, 0);
        Ok(())
    }

    fn has_taken(&self, bytes: u64) -> io::Result<bool> {
        Ok(self.state().inodes[self.inode].shown.len() as u64 >= bytes)
    }

    fn give_back(&self, offset: u64) -> io::Result<()> {
        let mut state = self.state();
        let length = state.inodes[self.inode].shown.len();
        let zeros = vec![0; length.saturating_sub(offset as usize)];
        if zeros.is_empty() {
            return Ok(());
        }
        state.write(self.life, self.inode, &zeros, offset as usize)?;
        Ok(())
    }

    fn write_some(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state();
        state.write(self.life, self.inode, bytes, offset as usize)
    }

    fn read_some(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state();
        let fault = state.call(self.life)?;
        answer(fault)?;
        let file = &state.inodes[self.inode].shown;
        let left = file.get(offset as usize..).unwrap_or_default();
        let mut length = left.len().min(bytes.len());
        if fault == Some(Fault::Short) && length > 1 {
            length -= 1;
        }
        bytes[..length].copy_from_slice(&left[..length]);
        Ok(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.state().sync_file(self.life, self.inode)
    }
}
