use proptest::prelude::*;

use super::*;

const SALT: Salt = *b"salt of the file";
const TIP: Tip = Tip {
    position: 7,
    chain: 0x0102_0304_0506_0708,
};

fn draft<'a>(effects: &'a [u8], parts: &'a [&'a [u8]]) -> RecordDraft<'a> {
    RecordDraft {
        epoch: 3,
        time_ms: 1_800_000_000_000,
        key: 9,
        nonce: *b"sixteen bytes ..",
        effects,
        parts,
    }
}

fn encoded(draft: &RecordDraft, erasures: &[PartName]) -> Vec<u8> {
    let mut record = Vec::new();
    let mut blinds = 0x1111_1111;
    let blind = || {
        blinds += 1;
        blinds
    };
    encode(draft, erasures, 0xABCD, TIP, blind, &mut record).unwrap();
    assert_eq!(record.len() as u64, encoded_bytes(draft, erasures.len()));
    seal(&mut record, &SALT);
    record
}

const NAMES: [PartName; 2] = [
    PartName {
        position: 2,
        part: 1,
    },
    PartName {
        position: 5,
        part: 0,
    },
];

/// These bytes are on disks. A change of the format is a new version beside this one.
#[test]
fn version_1_stays_as_it_is() {
    let record = encoded(&draft(b"effects", &[b"a payload", b""]), &NAMES);
    let golden = include_str!("version_1.hex");
    let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.split_whitespace().collect::<String>());

    let head = Head::decode(&record, &SALT).unwrap();
    let stands = (head.stream, head.position, head.before);
    assert_eq!(stands, (0xABCD, 7, TIP.chain));
    let says = (head.epoch, head.time_ms, head.key, head.nonce);
    assert_eq!(says, (3, 1_800_000_000_000, 9, *b"sixteen bytes .."));
    assert_eq!(head.chain, 0x4b5f_2b54_e2ff_f2e9);
    assert_eq!(head.record_bytes(), record.len() as u64);
}

#[test]
fn the_chain_is_the_same_in_every_file_and_differs_with_the_content() {
    let parts: [&[u8]; 1] = [b"a payload"];
    let first = encoded(&draft(b"effects", &parts), &[]);
    let mut elsewhere = first.clone();
    seal(&mut elsewhere, b"some other salt.");
    assert_ne!(first, elsewhere);
    assert_eq!(chain(&first), chain(&elsewhere));
    assert_eq!(Head::decode(&elsewhere, &SALT), Err(NoHead::Invalid));
    let others: [&[u8]; 1] = [b"b payload"];
    assert_ne!(
        chain(&first),
        chain(&encoded(&draft(b"effects", &others), &[]))
    );
    assert_ne!(
        chain(&first),
        chain(&encoded(&draft(b"effectz", &parts), &[]))
    );
}

#[test]
fn a_version_that_is_not_known_is_no_damage() {
    let mut record = encoded(&draft(b"effects", &[]), &[]);
    record[4] = 2;
    assert_eq!(Head::decode(&record, &SALT), Err(NoHead::Invalid));
    seal(&mut record, &SALT);
    assert_eq!(Head::decode(&record, &SALT), Err(NoHead::Newer(2)));
}

#[test]
fn an_erased_part_leaves_its_record_whole_and_is_recognised() {
    let mut record = encoded(&draft(b"effects", &[b"a payload", b"another"]), &[]);
    let head = Head::decode(&record, &SALT).unwrap();
    let body_end = HEAD_BYTES + head.body_bytes() as usize;
    let body = Body::decode(&head, &record[HEAD_BYTES..body_end]).unwrap();
    let stored = |row: &PartRow| row.offset as usize..(row.offset + row.stored_bytes()) as usize;
    let first = stored(&body.parts[0]);
    let filler = erased(first.len(), &SALT);
    assert_eq!(
        filler[..4],
        [0xc0, 0xe1, 0x93, 0x75],
        "these bytes are on disks"
    );
    record[first.clone()].copy_from_slice(&filler);
    assert_eq!(Head::decode(&record, &SALT), Ok(head.clone()));
    assert_eq!(
        Body::decode(&head, &record[HEAD_BYTES..body_end]),
        Some(body.clone())
    );
    assert_eq!(
        body.parts[0].judge(&record[first.clone()], &SALT),
        PartState::Erased
    );
    assert_eq!(
        body.parts[1].judge(&record[stored(&body.parts[1])], &SALT),
        PartState::Whole
    );
    // In another use of the file the same bytes are no erased part.
    let elsewhere = body.parts[0].judge(&record[first.clone()], b"some other salt.");
    assert_eq!(elsewhere, PartState::Damaged);
    // A disk that lost a block shows zeros.
    record[first.clone()].fill(0);
    assert_eq!(
        body.parts[0].judge(&record[first], &SALT),
        PartState::Damaged
    );
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        effects in proptest::collection::vec(any::<u8>(), 0..300),
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 0..6),
        names in proptest::collection::vec((any::<u64>(), any::<u32>()), 0..4),
    ) {
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let names: Vec<PartName> = names
            .iter()
            .map(|(position, part)| PartName { position: *position, part: *part })
            .collect();
        let record = encoded(&draft(&effects, &slices), &names);
        let head = Head::decode(&record, &SALT).unwrap();
        prop_assert_eq!(head.chain, chain(&record));
        let body_bytes = &record[HEAD_BYTES..HEAD_BYTES + head.body_bytes() as usize];
        let body = Body::decode(&head, body_bytes).unwrap();
        prop_assert_eq!(&body_bytes[body.effects.clone()], &effects[..]);
        prop_assert_eq!(&body.erasures, &names);
        prop_assert_eq!(body.parts.len(), parts.len());
        for (index, row) in body.parts.iter().enumerate() {
            let rows = &record[HEAD_BYTES..Head::bytes_to_row(index as u32) as usize];
            prop_assert_eq!(head.row_unchecked(rows), Some(*row));
            let start = row.offset as usize;
            let stored = &record[start..start + row.stored_bytes() as usize];
            prop_assert_eq!(row.judge(stored, &SALT), PartState::Whole);
            prop_assert_eq!(&stored[..row.bytes as usize], &parts[index][..]);
        }
    }

    /// Bytes with a right check, which no publisher can make, and anything behind.
    #[test]
    fn any_bytes_are_decoded_without_a_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        is_sealed: bool,
        has_right_crc: bool,
    ) {
        if is_sealed && bytes.len() >= HEAD_BYTES {
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
            // Small counts, so that some bodies have the right length.
            for count in [74, 78, 82, 86] {
                bytes[count + 1..count + 4].fill(0);
                bytes[count] %= 16;
            }
            let body = bytes.len().min(HEAD_BYTES + 64);
            if has_right_crc {
                let crc = crc32fast::hash(&bytes[HEAD_BYTES..body]);
                bytes[90..94].copy_from_slice(&crc.to_le_bytes());
            }
            seal(&mut bytes, &SALT);
        }
        if let Ok(head) = Head::decode(&bytes, &SALT) {
            let rest = &bytes[HEAD_BYTES..];
            let length = rest.len().min(head.body_bytes() as usize);
            if let Some(body) = Body::decode(&head, &rest[..length]) {
                let end = head.record_bytes();
                prop_assert!(body.parts.iter().all(|row| row.offset + row.stored_bytes() <= end));
            }
            head.row_unchecked(rest);
        }
    }

    #[test]
    fn a_flipped_bit_of_head_or_body_is_noticed(
        effects in proptest::collection::vec(any::<u8>(), 0..60),
        bit in any::<proptest::sample::Index>(),
    ) {
        let mut record = encoded(&draft(&effects, &[b"a payload"]), &NAMES);
        let head = Head::decode(&record, &SALT).unwrap();
        let body_end = HEAD_BYTES + head.body_bytes() as usize;
        let bit = bit.index(record.len() * 8);
        record[bit / 8] ^= 1 << (bit % 8);
        let again = Head::decode(&record, &SALT);
        let body = Body::decode(&head, &record[HEAD_BYTES..body_end]);
        prop_assert_eq!(again.is_ok(), bit / 8 >= HEAD_BYTES);
        prop_assert_eq!(body.is_some(), !(HEAD_BYTES..body_end).contains(&(bit / 8)));
        let stored = &record[body_end..];
        if let Some(body) = body {
            let is_whole = body.parts[0].judge(stored, &SALT) == PartState::Whole;
            prop_assert_eq!(is_whole, bit / 8 < body_end);
        }
    }
}
