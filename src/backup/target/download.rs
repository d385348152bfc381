//! Fetching an object: its bytes come in stretches, are opened and handed on.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore};
use sha2::{Digest, Sha256};

use super::error::{Doing, of_io};
use super::store::Store;
use super::{Object, PART_BYTES, Target, TargetError, count};
use crate::backup::seal::{NotOpened, Opener, stored_bytes_max};

/// A file is read in stretches of this length.
const STRETCH_BYTES: usize = 1 << 20;

/// Takes content of an object.
type Take<'a> = dyn FnMut(&[u8]) -> Result<(), TargetError> + 'a;

/// An object whose bytes are coming.
struct Coming<'a> {
    target: &'a Target,
    name: &'a str,
    opener: Opener<'a>,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
    /// Content that was opened last.
    content: Vec<u8>,
    take: &'a mut Take<'a>,
}

impl Coming<'_> {
    fn push(&mut self, stored: &[u8]) -> Result<(), TargetError> {
        count(&self.target.shared.counts.bytes_down, stored.len());
        let opened = self.opener.push(stored, &mut self.content);
        opened.map_err(|error| self.not_opened(error))?;
        self.hand_on()
    }

    /// Hands on the content that was opened.
    fn hand_on(&mut self) -> Result<(), TargetError> {
        self.bytes += self.content.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(self.target.too_long(self.name));
        }
        self.hash.update(&self.content);
        if !self.content.is_empty() {
            (self.take)(&self.content)?;
        }
        self.content.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Object, TargetError> {
        let nothing = Opener::begin("", None);
        let opener = std::mem::replace(&mut self.opener, nothing);
        let opened = opener.finish(&mut self.content);
        opened.map_err(|error| self.not_opened(error))?;
        self.hand_on()?;
        Ok(Object {
            name: self.name.to_owned(),
            bytes: self.bytes,
            sha256: self.hash.finalize().into(),
        })
    }

    fn not_opened(&self, error: NotOpened) -> TargetError {
        TargetError::of_seal(&self.target.shown(), self.name, error)
    }
}

impl Target {
    /// Hands out an object's content, of which there may be so much.
    pub(super) fn fetch(
        &self,
        name: &str,
        bytes_max: u64,
        take: &mut Take<'_>,
    ) -> Result<Object, TargetError> {
        let path = self.path(name)?;
        let whole = self.name_within(name);
        let mut coming = Coming {
            target: self,
            name,
            opener: Opener::begin(&whole, self.shared.key.as_ref()),
            hash: Sha256::new(),
            bytes: 0,
            bytes_max,
            content: Vec::new(),
            take,
        };
        match &self.shared.store {
            Store::Folder(folder) => self.fetch_file(folder, &path, &mut coming)?,
            Store::Bucket(_) => self.fetch_ranges(&path, &mut coming)?,
        }
        coming.finish()
    }

    fn fetch_file(
        &self,
        folder: &dyn ObjectStore,
        path: &Path,
        coming: &mut Coming<'_>,
    ) -> Result<(), TargetError> {
        count(&self.shared.counts.gets, 1);
        let got = self.wait(folder.get_opts(path, GetOptions::default()))?;
        let got = got.map_err(|error| self.failed(coming.name, Doing::Reading, &error))?;
        self.check_stored(coming, got.meta.size)?;
        let GetResultPayload::File(file, _) = got.payload else {
            return Err(TargetError::Other {
                target: self.shown(),
                reason: "is not a folder of files".to_owned(),
            });
        };
        // The file may have become longer since.
        let mut file = file.take(got.meta.size);
        let mut buffer = vec![0; STRETCH_BYTES];
        loop {
            self.look()?;
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(bytes) => coming.push(&buffer[..bytes])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(of_io(self.shown(), &error)),
            }
        }
    }

    /// Each stretch is a request of its own, with its own time and tries. So the time for an object grows
    /// with its length, and a slow line is told from a dead one.
    fn fetch_ranges(&self, path: &Path, coming: &mut Coming<'_>) -> Result<(), TargetError> {
        let mut offset = 0;
        let mut size = None;
        loop {
            count(&self.shared.counts.gets, 1);
            let range = offset..offset + PART_BYTES as u64;
            let (bytes, size_now) = self.wait(self.range(path, coming.name, range))??;
            if *size.get_or_insert(size_now) != size_now {
                let reason = "changes while it is read".to_owned();
                return Err(self.damaged(coming.name, reason));
            }
            self.check_stored(coming, size_now)?;
            offset += bytes.len() as u64;
            coming.push(&bytes)?;
            // A stretch without bytes would never lead to the end.
            if offset >= size_now || bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Bytes of an object, and how many it has in all.
    async fn range(
        &self,
        path: &Path,
        name: &str,
        range: Range<u64>,
    ) -> Result<(Bytes, u64), TargetError> {
        let failed = |error| self.failed(name, Doing::Reading, &error);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let store = self.shared.store.often();
        let got = store.get_opts(path, options).await.map_err(failed)?;
        let size = got.meta.size;
        Ok((got.bytes().await.map_err(failed)?, size))
    }

    /// Refuses an object with more bytes than its content can need, before they are fetched.
    fn check_stored(&self, coming: &Coming<'_>, stored: u64) -> Result<(), TargetError> {
        match stored > stored_bytes_max(coming.bytes_max) {
            true => Err(self.too_long(coming.name)),
            false => Ok(()),
        }
    }

    fn too_long(&self, name: &str) -> TargetError {
        self.damaged(name, "is longer than it can be".to_owned())
    }
}
