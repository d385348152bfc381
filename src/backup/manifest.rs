//! The manifest of a store's copy: which objects there are, what they hold, and how far they go.
//!
//! A manifest is never written again. The one with the highest number counts, and it is written only where nobody
//! has written that number yet: two processes that copy the same store cannot both go on. The list of sealed
//! segments is an object of its own, since it may be long and changes only when a segment is full.

use serde::{Deserialize, Serialize};

use super::BackupError;
use super::target::{Object, Target, TargetError};
use crate::journal::{PartName, SegmentPlace, Tip};

const FORMAT: u32 = 1;
const NAME: &str = "manifest-";
/// The most that a manifest, and a list of segments, may have.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
const LIST_BYTES_MAX: u64 = 1 << 30;

/// The copy of a store as of a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// The version of postrider that wrote it.
    pub postrider: String,
    /// The journal's stream.
    pub stream: u64,
    pub number: u64,
    /// Which process wrote it: random, so that no two processes write the same bytes.
    pub writer: u64,
    /// Milliseconds since 1970, as all times here.
    pub written_at: u64,
    /// The last record that is in the copy, and its chain; 0 while the first copy is being made.
    pub position: u64,
    pub chain: u64,
    /// The latest time of the records up to there.
    pub time_ms: u64,
    /// The list of sealed segments.
    pub list: Option<Object>,
    /// The segment that was appended to, as far as it went.
    pub open: Option<OpenSegment>,
    /// Oldest first.
    pub checkpoints: Vec<CheckpointCopy>,
    /// Erased parts that are still in the copies of their segments.
    pub to_erase: Vec<ErasedPart>,
    /// Objects that an earlier manifest had. They are deleted once this one is written.
    pub garbage: Vec<String>,
    /// When the store was handed over: it has no record behind `position`, and gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over_at: Option<u64>,
    /// When the process that wrote this manifest took the store over. No other may then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over_at: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSegment {
    pub number: u64,
    /// The length of its file.
    pub file_bytes: u64,
    pub begin: Place,
    pub end: Place,
    /// One behind the other, from the first byte of the file to `end`.
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    pub from: u64,
    pub to: u64,
    pub object: Object,
}

/// A place between two records of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub offset: u64,
    /// The position of the next record, and the chain of the one before.
    pub position: u64,
    pub chain: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointCopy {
    /// The position of the journal at which it was begun.
    pub position: u64,
    /// It is complete with the journal up to this time, and not before.
    pub time_ms: u64,
    pub object: Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedPart {
    pub position: u64,
    pub part: u32,
}

/// The sealed segments, and the indexes of sealed slices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedList {
    pub format: u32,
    /// By their numbers.
    pub segments: Vec<SealedSegment>,
    pub indexes: Vec<IndexCopy>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSegment {
    pub number: u64,
    /// The length of its file, of which the object has a beginning. Zeros follow.
    pub file_bytes: u64,
    pub begin: Place,
    pub end: Place,
    /// The latest time of the records up to its end.
    pub time_ms: u64,
    pub is_damaged: bool,
    /// When it was found removed from the store.
    pub gone_at: Option<u64>,
    pub object: Object,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexCopy {
    pub slice: u32,
    pub gone_at: Option<u64>,
    pub object: Object,
}

impl From<SegmentPlace> for Place {
    fn from(place: SegmentPlace) -> Place {
        Place {
            offset: place.offset,
            position: place.tip.position,
            chain: place.tip.chain,
        }
    }
}

impl From<Place> for SegmentPlace {
    fn from(place: Place) -> SegmentPlace {
        SegmentPlace {
            offset: place.offset,
            tip: place.tip(),
        }
    }
}

impl Place {
    pub fn tip(&self) -> Tip {
        Tip {
            position: self.position,
            chain: self.chain,
        }
    }
}

impl From<PartName> for ErasedPart {
    fn from(name: PartName) -> ErasedPart {
        ErasedPart {
            position: name.position,
            part: name.part,
        }
    }
}

impl From<ErasedPart> for PartName {
    fn from(part: ErasedPart) -> PartName {
        PartName {
            position: part.position,
            part: part.part,
        }
    }
}

/// The name of a stream's folder.
pub fn folder_of(stream: u64) -> String {
    format!("{stream:016x}")
}

/// The stream of a folder with this name.
pub fn stream_of(folder: &str) -> Option<u64> {
    let stream = u64::from_str_radix(folder, 16).ok()?;
    (folder_of(stream) == folder).then_some(stream)
}

pub fn name_of(number: u64) -> String {
    format!("{NAME}{number:016x}")
}

fn number_in(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_prefix(NAME)?, 16).ok()?;
    (name_of(number) == name).then_some(number)
}

impl Manifest {
    pub fn first(stream: u64) -> Manifest {
        Manifest {
            format: FORMAT,
            stream,
            ..Manifest::default()
        }
    }

    /// Whether a store can be made of the copy.
    pub fn is_restorable(&self) -> bool {
        self.position > 0 && !self.checkpoints.is_empty()
    }

    /// The number of the newest manifest in a stream's folder.
    pub fn newest_number(target: &Target) -> Result<Option<u64>, BackupError> {
        let names = target.list(NAME)?;
        Ok(names.iter().filter_map(|one| number_in(&one.name)).max())
    }

    /// The newest manifest in a stream's folder, and the names of all up to it, of which a later one needs none.
    pub fn newest(target: &Target) -> Result<Option<(Manifest, Vec<String>)>, BackupError> {
        // Another process may write the next one and delete this meanwhile.
        const TRIES: usize = 5;
        for _ in 0..TRIES {
            let names = target.list(NAME)?;
            let numbers = names.iter().filter_map(|one| number_in(&one.name));
            let Some(number) = numbers.max() else {
                return Ok(None);
            };
            let bytes = match target.read(&name_of(number), MANIFEST_BYTES_MAX) {
                Err(TargetError::NotFound { .. }) => continue,
                bytes => bytes?,
            };
            let manifest = Manifest::decode(&bytes, number)?;
            let older = names.into_iter().map(|one| one.name);
            let older = older.filter(|name| number_in(name).is_some_and(|one| one <= number));
            return Ok(Some((manifest, older.collect())));
        }
        Err(BackupError::Unusable(
            "its newest manifest changes faster than it can be read".to_owned(),
        ))
    }

    fn decode(bytes: &[u8], number: u64) -> Result<Manifest, BackupError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let name = name_of(number);
        let wrong = |error: serde_json::Error| {
            BackupError::Unusable(format!("{name} makes no sense: {error}"))
        };
        let Format { format } = serde_json::from_slice(bytes).map_err(wrong)?;
        if format > FORMAT {
            return Err(BackupError::Newer { name, format });
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(wrong)?;
        if manifest.number != number {
            return Err(BackupError::Unusable(format!(
                "{name} is a copy of manifest {}",
                manifest.number
            )));
        }
        Ok(manifest)
    }

    /// Writes it as the one after `number`. Returns its name.
    pub fn write(&self, target: &Target) -> Result<String, BackupError> {
        let name = name_of(self.number);
        let bytes = serde_json::to_vec(self).expect("numbers and texts can be written as JSON");
        match target.create(&name, &bytes) {
            Err(TargetError::Exists { .. }) => Err(BackupError::OtherWriter),
            created => Ok(created.map(|_| name)?),
        }
    }

    /// The list that belongs to it.
    pub fn read_list(&self, target: &Target) -> Result<SealedList, BackupError> {
        let Some(object) = &self.list else {
            return Ok(SealedList::default());
        };
        let mut bytes = Vec::new();
        if object.bytes > LIST_BYTES_MAX {
            return Err(BackupError::Unusable(format!(
                "{} is too long",
                object.name
            )));
        }
        target.get(&object.name, Some(object), &mut bytes)?;
        let list: SealedList = serde_json::from_slice(&bytes).map_err(|error| {
            BackupError::Unusable(format!("{} makes no sense: {error}", object.name))
        })?;
        Ok(list)
    }

    /// The names of all objects that it needs, but for the list's.
    pub fn objects<'a>(&'a self, list: &'a SealedList) -> impl Iterator<Item = &'a Object> {
        let pieces = self.open.iter().flat_map(|open| &open.pieces);
        let pieces = pieces.map(|piece| &piece.object);
        let checkpoints = self.checkpoints.iter().map(|one| &one.object);
        let segments = list.segments.iter().map(|one| &one.object);
        let indexes = list.indexes.iter().map(|one| &one.object);
        let all = self.list.iter().chain(pieces).chain(checkpoints);
        all.chain(segments).chain(indexes)
    }
}

impl SealedList {
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts can be written as JSON")
    }

    pub fn segment(&self, number: u64) -> Option<&SealedSegment> {
        let at = self
            .segments
            .binary_search_by_key(&number, |one| one.number);
        at.ok().map(|at| &self.segments[at])
    }

    /// The segment that has the record at this position.
    pub fn with_record(&self, position: u64) -> Option<&SealedSegment> {
        let after = self
            .segments
            .partition_point(|one| one.begin.position <= position);
        let mut before = self.segments[..after].iter().rev();
        before.find(|one| position < one.end.position)
    }

    /// Adds a segment in its place, or puts it in the place of the same one. Returns the object of that.
    pub fn put(&mut self, segment: SealedSegment) -> Option<Object> {
        match self
            .segments
            .binary_search_by_key(&segment.number, |one| one.number)
        {
            Ok(at) => Some(std::mem::replace(&mut self.segments[at], segment).object),
            Err(at) => {
                self.segments.insert(at, segment);
                None
            }
        }
    }

    /// Whether the records from this position to before that one are all there.
    pub fn has_all(&self, from: u64, to: u64) -> bool {
        let mut next = from;
        let after = self
            .segments
            .partition_point(|one| one.begin.position <= from);
        for segment in &self.segments[after.saturating_sub(1)..] {
            if next >= to || segment.begin.position > next {
                break;
            }
            next = next.max(segment.end.position);
        }
        next >= to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, from: u64, to: u64) -> SealedSegment {
        let place = |position| Place {
            offset: 0,
            position,
            chain: 0,
        };
        SealedSegment {
            number,
            file_bytes: 1,
            begin: place(from),
            end: place(to),
            time_ms: to,
            is_damaged: false,
            gone_at: None,
            object: Object {
                name: format!("segment-{number}"),
                bytes: 1,
                sha256: [7; 32],
            },
        }
    }

    fn list() -> SealedList {
        let mut list = SealedList::default();
        // One without a record, and one that is missing.
        for (number, from, to) in [
            (4, 30, 40),
            (1, 10, 20),
            (2, 20, 20),
            (3, 20, 30),
            (6, 50, 60),
        ] {
            assert_eq!(list.put(segment(number, from, to)), None);
        }
        list
    }

    #[test]
    fn a_record_is_found_in_the_segment_that_has_it() {
        let list = list();
        let found = [9, 10, 19, 20, 29, 30, 39, 40, 49, 50, 59, 60];
        let found = found.map(|position| list.with_record(position).map_or(0, |one| one.number));
        assert_eq!(found, [0, 1, 1, 3, 3, 4, 4, 0, 0, 6, 6, 0]);
    }

    #[test]
    fn a_gap_between_segments_is_noticed() {
        let list = list();
        let cases = [
            (10, 40, true),
            (15, 40, true),
            (20, 21, true),
            (40, 40, true),
            (10, 41, false),
            (39, 50, false),
            (9, 20, false),
            (50, 60, true),
            (50, 61, false),
        ];
        for (from, to, has_all) in cases {
            assert_eq!(list.has_all(from, to), has_all, "{from} to {to}");
        }
    }

    #[test]
    fn a_segment_takes_the_place_of_itself() {
        let mut list = list();
        let mut again = segment(3, 20, 30);
        again.object.name = "again".to_owned();
        let replaced = list.put(again).map(|object| object.name);
        assert_eq!(replaced.as_deref(), Some("segment-3"));
        assert_eq!(
            list.segment(3).map(|one| one.object.name.as_str()),
            Some("again")
        );
        assert_eq!(list.segments.len(), 5);
    }

    #[test]
    fn manifests_are_read_as_they_were_written_and_others_are_refused() {
        let mut manifest = Manifest::first(u64::MAX);
        manifest.number = 3;
        manifest.chain = u64::MAX - 1;
        manifest.to_erase.push(ErasedPart {
            position: 9,
            part: 2,
        });
        let bytes = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(Manifest::decode(&bytes, 3).unwrap(), manifest);
        let told = |bytes: &[u8], number| Manifest::decode(bytes, number).unwrap_err().to_string();
        assert!(told(&bytes, 4).contains("is a copy of manifest 3"));
        manifest.format = 2;
        let newer = serde_json::to_vec(&manifest).unwrap();
        assert!(told(&newer, 3).contains("newer postrider (format 2)"));
        assert!(told(b"{}", 3).contains("makes no sense"));
        assert_eq!(number_in(&name_of(u64::MAX)), Some(u64::MAX));
        assert_eq!(number_in("manifest-3"), None);
    }

    #[test]
    fn a_stream_is_named_by_its_number() {
        assert_eq!(stream_of(&folder_of(0xABC)), Some(0xABC));
        assert_eq!(stream_of("abc"), None);
        assert_eq!(stream_of("0000000000000ABC"), None);
    }
}
