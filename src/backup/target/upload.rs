//! Sending an object: its content is read, sealed and sent, a part at a time.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use object_store::path::Path;
use object_store::{MultipartUpload, PutMultipartOptions, PutOptions, PutPayload, PutResult};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::error::Doing;
use super::{Object, PART_BYTES, Target, TargetError, count};
use crate::backup::key::BackupKey;
use crate::backup::seal::{CHUNK_BYTES, Salt, Sealer};

/// How long an upload that has failed may take to be given up. What is left of it then stays behind.
const ABORT_TIME_MAX: Duration = Duration::from_secs(5);

/// The content of an object on its way into parts.
pub(super) struct Source<'a> {
    content: &'a mut dyn Read,
    /// None once the content has been read to its end.
    sealer: Option<Sealer>,
    /// Bytes of the object that are in no part yet.
    ready: Vec<u8>,
    buffer: Vec<u8>,
    hash: Sha256,
    bytes: u64,
}

impl<'a> Source<'a> {
    /// `name` is that within the target.
    pub fn new(
        name: &str,
        key: Option<&BackupKey>,
        salt: &Salt,
        content: &'a mut dyn Read,
    ) -> Source<'a> {
        let mut ready = Vec::new();
        let sealer = Sealer::begin(name, key, salt, &mut ready);
        Source {
            content,
            sealer: Some(sealer),
            ready,
            buffer: vec![0; CHUNK_BYTES],
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// The next part. Only the last one is shorter than [`PART_BYTES`]: some services want all others to be
    /// equally long.
    pub fn part(&mut self, target: &Target) -> Result<Vec<u8>, TargetError> {
        // A byte more than a part shows that this one is not the last.
        while self.ready.len() <= PART_BYTES && self.sealer.is_some() {
            target.look()?;
            match self.content.read(&mut self.buffer) {
                Ok(0) => {
                    if let Some(sealer) = self.sealer.take() {
                        sealer.finish(&mut self.ready);
                    }
                }
                Ok(bytes) => self.take(bytes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(TargetError::Io(error)),
            }
        }
        // Sealing the last stretch may leave more than one part.
        let rest = match self.ready.len() > PART_BYTES {
            true => self.ready.split_off(PART_BYTES),
            false => Vec::new(),
        };
        Ok(std::mem::replace(&mut self.ready, rest))
    }

    fn take(&mut self, bytes: usize) {
        let content = &self.buffer[..bytes];
        self.hash.update(content);
        self.bytes += bytes as u64;
        if let Some(sealer) = &mut self.sealer {
            sealer.push(content, &mut self.ready);
        }
    }

    /// Whether the last part has been taken.
    pub fn has_ended(&self) -> bool {
        self.sealer.is_none() && self.ready.is_empty()
    }

    /// The object that was sent.
    pub fn object(self, name: &str) -> Object {
        Object {
            name: name.to_owned(),
            bytes: self.bytes,
            sha256: self.hash.finalize().into(),
        }
    }
}

/// A part that is being sent. It is given up when this is dropped.
struct Sending(JoinHandle<object_store::Result<()>>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Target {
    /// Sends an object that is a single part.
    pub(super) fn put_whole(
        &self,
        path: &Path,
        name: &str,
        stored: Vec<u8>,
    ) -> Result<PutResult, TargetError> {
        self.count_part(&stored);
        let store = self.shared.store.often();
        let put = store.put_opts(path, PutPayload::from(stored), PutOptions::default());
        self.wait(put)?
            .map_err(|error| self.failed(name, Doing::Writing, &error))
    }

    /// Sends an object of several parts.
    pub(super) fn put_parts(
        &self,
        path: &Path,
        name: &str,
        first: Vec<u8>,
        source: &mut Source<'_>,
    ) -> Result<PutResult, TargetError> {
        let failed = |error| self.failed(name, Doing::Writing, &error);
        let store = self.shared.store.often();
        let begun = store.put_multipart_opts(path, PutMultipartOptions::default());
        let mut upload = self.wait(begun)?.map_err(failed)?;
        let sent = self.send_parts(upload.as_mut(), name, first, source);
        let done = sent.and_then(|()| self.wait(upload.complete())?.map_err(failed));
        if done.is_err() {
            // The error that counts is the one before. A stop does not prevent this, so time does.
            let handle = self.shared.connection.handle();
            let given_up = async { tokio::time::timeout(ABORT_TIME_MAX, upload.abort()).await };
            let _ = handle.block_on(given_up);
        }
        done
    }

    /// Sends one part while the next one is read and sealed.
    fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        name: &str,
        first: Vec<u8>,
        source: &mut Source<'_>,
    ) -> Result<(), TargetError> {
        let mut next = Some(first);
        while let Some(part) = next {
            self.count_part(&part);
            let part = upload.put_part(PutPayload::from(part));
            let mut sending = Sending(self.shared.connection.handle().spawn(part));
            next = match source.has_ended() {
                true => None,
                false => Some(source.part(self)?),
            };
            match self.wait(&mut sending.0)? {
                Ok(sent) => sent.map_err(|error| self.failed(name, Doing::Writing, &error))?,
                Err(_) => {
                    return Err(TargetError::Other {
                        target: self.shown(),
                        reason: "sending a part ended in a panic".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn count_part(&self, stored: &[u8]) {
        count(&self.shared.counts.puts, 1);
        count(&self.shared.counts.bytes_up, stored.len());
    }
}
