//! An object's bytes: a head, and the content, which may be encrypted.
//!
//! Pure: nothing here reads or writes files, and randomness comes in as an argument. Opening takes any
//! bytes, never panics, and holds one chunk beside what it is given.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `B7 62 6b 6f 62 6a 63 74` |
//! | 8 | 1 | format, 1 |
//! | 9 | 1 | kind: 0 plain, 1 sealed |
//!
//! The content of a plain object follows as it is. A sealed one goes on:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 10 | 8 | key id: HKDF-SHA256 of the master key without a salt, info `postrider backup key id` |
//! | 18 | 32 | salt, random |
//! | 50 | | chunks: up to 64 KiB of content, encrypted, and a tag of 16 bytes each |
//!
//! - Each object has a key of its own: HKDF-SHA256 of the master key with the salt; info is
//!   `postrider backup object ` and the object's name within the target. An object under another name does not open.
//! - A chunk is AES-256-GCM; the associated data are the first 10 bytes of the head. The nonce is three
//!   zeros, the chunk's number (u64, big-endian) and 1 for the last chunk, else 0. This is the STREAM
//!   construction: a chunk that is missing, repeated or moved does not open, and neither does a
//!   shortened object. Only the last chunk may be shorter than 64 KiB.
//! - The key id tells an object of another key from a damaged one. It tells whoever reads the target
//!   which objects share a key, and nothing about the key.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;

use super::key::BackupKey;

pub const MAGIC: [u8; 8] = *b"\xB7bkobjct";
pub const FORMAT: u8 = 1;
pub const SALT_BYTES: usize = 32;

/// Content of a chunk.
pub const CHUNK_BYTES: usize = 64 << 10;

const TAG_BYTES: usize = 16;
const STORED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// The head of a plain object, and the beginning of that of a sealed one.
const PLAIN_HEAD_BYTES: usize = 10;
const KEY_ID_BYTES: usize = 8;
const SEALED_HEAD_BYTES: usize = PLAIN_HEAD_BYTES + KEY_ID_BYTES + SALT_BYTES;

const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// Random bytes of one sealed object.
pub type Salt = [u8; SALT_BYTES];

/// Why an object's bytes do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// The bytes are no object, or not all of them, or were changed. The text goes on from "it ".
    Damaged(&'static str),
    /// This program does not know the format.
    Newer(u8),
    /// The object is sealed. There is no key, or it was sealed with another one.
    Sealed { is_other_key: bool },
    /// There is a key, and the object is plain: anybody could have put it there.
    NotSealed,
}

/// The bytes of an object with so much content take no more than this.
pub fn stored_bytes_max(content_bytes: u64) -> u64 {
    let chunks = content_bytes / CHUNK_BYTES as u64 + 1;
    content_bytes
        .saturating_add(chunks * TAG_BYTES as u64)
        .saturating_add(SEALED_HEAD_BYTES as u64)
}

/// Makes an object's bytes out of its content, which comes in stretches of any length.
pub struct Sealer(Option<Chunks>);

/// The chunks of a sealed object: its key, and the number of the next chunk.
struct Chunks {
    key: LessSafeKey,
    number: u64,
    /// Content of the next chunk. A full one waits until it is known whether it is the last.
    held: Vec<u8>,
}

impl Sealer {
    /// Begins the object with this name within the target; without a key it will be plain. The salt
    /// must be random and is used only with a key.
    pub fn begin(name: &str, key: Option<&BackupKey>, salt: &Salt, out: &mut Vec<u8>) -> Sealer {
        let kind = if key.is_some() { SEALED } else { PLAIN };
        out.extend_from_slice(&head(kind));
        let Some(key) = key else {
            return Sealer(None);
        };
        out.extend_from_slice(&key_id(key));
        out.extend_from_slice(salt);
        Sealer(Some(Chunks {
            key: object_key(name, key, salt),
            number: 0,
            held: Vec::with_capacity(CHUNK_BYTES),
        }))
    }

    /// Adds a stretch of the content.
    pub fn push(&mut self, mut content: &[u8], out: &mut Vec<u8>) {
        let Some(chunks) = &mut self.0 else {
            out.extend_from_slice(content);
            return;
        };
        while !content.is_empty() {
            if chunks.held.len() == CHUNK_BYTES {
                chunks.seal(false, out);
            }
            let room = CHUNK_BYTES - chunks.held.len();
            let (now, later) = content.split_at(room.min(content.len()));
            chunks.held.extend_from_slice(now);
            content = later;
        }
    }

    /// Ends the object.
    pub fn finish(self, out: &mut Vec<u8>) {
        if let Some(mut chunks) = self.0 {
            chunks.seal(true, out);
        }
    }
}

impl Chunks {
    fn seal(&mut self, is_last: bool, out: &mut Vec<u8>) {
        let nonce = nonce(self.number, is_last);
        let data = Aad::from(head(SEALED));
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, data, &mut self.held)
            .expect("a chunk is far shorter than the longest text of AES-GCM");
        out.extend_from_slice(&self.held);
        out.extend_from_slice(tag.as_ref());
        self.held.clear();
        self.number += 1;
    }
}

/// Gets the content out of an object's bytes, which come in stretches of any length.
pub struct Opener<'a> {
    name: &'a str,
    key: Option<&'a BackupKey>,
    /// Bytes that have come and are not opened yet.
    held: Vec<u8>,
    state: Opening,
}

enum Opening {
    Head,
    Plain,
    Chunks { key: Box<LessSafeKey>, number: u64 },
}

impl<'a> Opener<'a> {
    /// Begins to open the object with this name within the target. With a key, only sealed objects open.
    pub fn begin(name: &'a str, key: Option<&'a BackupKey>) -> Opener<'a> {
        Opener {
            name,
            key,
            held: Vec::new(),
            state: Opening::Head,
        }
    }

    /// Takes a stretch of the object's bytes, and adds the content that it completes to `out`. Content of a
    /// sealed object is authentic; whether the object is whole is known only after [`Opener::finish`].
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NotOpened> {
        self.held.extend_from_slice(bytes);
        if let Opening::Head = self.state {
            self.read_head()?;
        }
        match &mut self.state {
            Opening::Head => {}
            Opening::Plain => out.append(&mut self.held),
            Opening::Chunks { key, number } => {
                let mut begin = 0;
                // A chunk that more bytes follow is not the last one.
                while self.held.len() - begin > STORED_CHUNK_BYTES {
                    let chunk = &mut self.held[begin..begin + STORED_CHUNK_BYTES];
                    open(key, *number, false, chunk, out)?;
                    *number += 1;
                    begin += STORED_CHUNK_BYTES;
                }
                self.held.drain(..begin);
            }
        }
        Ok(())
    }

    /// Ends the object: what has come must be all of it.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), NotOpened> {
        match self.state {
            Opening::Head => Err(NotOpened::Damaged("ends within its head")),
            Opening::Plain => Ok(()),
            Opening::Chunks { key, number } => open(&key, number, true, &mut self.held, out),
        }
    }

    /// Leaves the head, once enough of it has come.
    fn read_head(&mut self) -> Result<(), NotOpened> {
        let Some(first) = self.held.first_chunk::<PLAIN_HEAD_BYTES>() else {
            return Ok(());
        };
        if first[..8] != MAGIC {
            return Err(NotOpened::Damaged("is not an object of a backup"));
        }
        let (state, bytes) = match (first[8], first[9], self.key) {
            (FORMAT, PLAIN, None) => (Opening::Plain, PLAIN_HEAD_BYTES),
            (FORMAT, PLAIN, Some(_)) => return Err(NotOpened::NotSealed),
            (FORMAT, SEALED, None) => {
                return Err(NotOpened::Sealed {
                    is_other_key: false,
                });
            }
            (FORMAT, SEALED, Some(key)) => {
                let Some(whole) = self.held.first_chunk::<SEALED_HEAD_BYTES>() else {
                    return Ok(());
                };
                let (id, salt) = whole[PLAIN_HEAD_BYTES..].split_at(KEY_ID_BYTES);
                if id != key_id(key) {
                    return Err(NotOpened::Sealed { is_other_key: true });
                }
                let key = Box::new(object_key(self.name, key, salt));
                (Opening::Chunks { key, number: 0 }, SEALED_HEAD_BYTES)
            }
            (FORMAT, _, _) => return Err(NotOpened::Damaged("has a head that makes no sense")),
            (format, _, _) => return Err(NotOpened::Newer(format)),
        };
        self.held.drain(..bytes);
        self.state = state;
        Ok(())
    }
}

fn open(
    key: &LessSafeKey,
    number: u64,
    is_last: bool,
    chunk: &mut [u8],
    out: &mut Vec<u8>,
) -> Result<(), NotOpened> {
    let data = Aad::from(head(SEALED));
    let content = key
        .open_in_place(nonce(number, is_last), data, chunk)
        .map_err(|_| {
            NotOpened::Damaged("was changed, is not whole, or was moved from another name")
        })?;
    out.extend_from_slice(content);
    Ok(())
}

fn head(kind: u8) -> [u8; PLAIN_HEAD_BYTES] {
    let mut head = [0; PLAIN_HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8] = FORMAT;
    head[9] = kind;
    head
}

fn nonce(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}

fn object_key(name: &str, key: &BackupKey, salt: &[u8]) -> LessSafeKey {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, salt);
    let extracted = salt.extract(key.expose());
    let info = [b"postrider backup object ".as_slice(), name.as_bytes()];
    let key = extracted.expand(&info, &AES_256_GCM);
    let key = key.expect("a key is shorter than the longest output of HKDF");
    LessSafeKey::new(UnboundKey::from(key))
}

/// The number of bytes to derive.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn key_id(key: &BackupKey) -> [u8; KEY_ID_BYTES] {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key.expose());
    let info = [b"postrider backup key id".as_slice()];
    let mut id = [0; KEY_ID_BYTES];
    extracted
        .expand(&info, Length(KEY_ID_BYTES))
        .and_then(|derived| derived.fill(&mut id))
        .expect("an id is shorter than the longest output of HKDF");
    id
}

#[cfg(test)]
mod tests;
