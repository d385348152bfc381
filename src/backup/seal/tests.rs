use proptest::prelude::*;

use super::*;

const NAME: &str = "00000000000000ff/segment-7-00000001";
const SIZES: [usize; 7] = [
    0,
    1,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    3 * CHUNK_BYTES,
    3 * CHUNK_BYTES + 17,
];

fn key(byte: &str) -> BackupKey {
    BackupKey::parse(&byte.repeat(32)).unwrap()
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// Seals in stretches of so many bytes.
fn sealed(name: &str, key: Option<&BackupKey>, content: &[u8], stretch: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sealer = Sealer::begin(name, key, &[5; SALT_BYTES], &mut out);
    for stretch in content.chunks(stretch) {
        sealer.push(stretch, &mut out);
    }
    sealer.finish(&mut out);
    out
}

fn opened(
    name: &str,
    key: Option<&BackupKey>,
    bytes: &[u8],
    stretch: usize,
) -> Result<Vec<u8>, NotOpened> {
    let mut out = Vec::new();
    let mut opener = Opener::begin(name, key);
    for stretch in bytes.chunks(stretch) {
        opener.push(stretch, &mut out)?;
    }
    opener.finish(&mut out).map(|()| out)
}

fn is_damaged(result: Result<Vec<u8>, NotOpened>) -> bool {
    matches!(result, Err(NotOpened::Damaged(_)))
}

#[test]
fn content_of_any_size_comes_back_however_it_is_cut() {
    let key = key("4b");
    for size in SIZES {
        let content = content(size);
        for key in [None, Some(&key)] {
            let whole = sealed(NAME, key, &content, usize::MAX);
            assert!(
                whole.len() as u64 <= stored_bytes_max(size as u64),
                "{size}"
            );
            for stretch in [1009, CHUNK_BYTES, CHUNK_BYTES + TAG_BYTES] {
                assert!(sealed(NAME, key, &content, stretch) == whole, "{size}");
                let opened = opened(NAME, key, &whole, stretch);
                assert!(opened.as_ref() == Ok(&content), "{size} {stretch}");
            }
        }
        let chunks = size.div_ceil(CHUNK_BYTES).max(1);
        let expected = SEALED_HEAD_BYTES + size + chunks * TAG_BYTES;
        let whole = sealed(NAME, Some(&key), &content, usize::MAX);
        assert_eq!(whole.len(), expected, "{size}");
    }
}

#[test]
fn a_byte_that_was_changed_is_noticed_wherever_it_is() {
    let key = key("4b");
    let good = sealed(NAME, Some(&key), &content(100), usize::MAX);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let found = opened(NAME, Some(&key), &bad, usize::MAX);
        match at {
            8 => assert_eq!(found, Err(NotOpened::Newer(FORMAT ^ 1))),
            // It became plain, which no key lets in.
            9 => assert_eq!(found, Err(NotOpened::NotSealed)),
            10..18 => assert_eq!(found, Err(NotOpened::Sealed { is_other_key: true })),
            _ => assert!(is_damaged(found), "{at}"),
        }
    }
    let good = sealed(NAME, Some(&key), &content(2 * CHUNK_BYTES + 1), usize::MAX);
    for at in (SEALED_HEAD_BYTES..good.len()).step_by(4099) {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        assert!(is_damaged(opened(NAME, Some(&key), &bad, 10_007)), "{at}");
    }
}

#[test]
fn an_object_that_was_cut_off_is_noticed() {
    let key = key("4b");
    let good = sealed(NAME, Some(&key), &content(3 * CHUNK_BYTES), usize::MAX);
    let mut ends: Vec<usize> = (0..SEALED_HEAD_BYTES).collect();
    for chunk in 0..3 {
        let begin = SEALED_HEAD_BYTES + chunk * STORED_CHUNK_BYTES;
        ends.extend([
            begin,
            begin + 1,
            begin + TAG_BYTES,
            begin + STORED_CHUNK_BYTES - 1,
        ]);
    }
    for end in ends {
        let found = opened(NAME, Some(&key), &good[..end], usize::MAX);
        assert!(is_damaged(found), "{end}");
    }
    let mut longer = good;
    longer.push(0);
    assert!(is_damaged(opened(NAME, Some(&key), &longer, usize::MAX)));
    for end in 0..PLAIN_HEAD_BYTES {
        let plain = sealed(NAME, None, b"", usize::MAX);
        assert!(
            is_damaged(opened(NAME, None, &plain[..end], usize::MAX)),
            "{end}"
        );
    }
}

#[test]
fn chunks_in_another_order_or_of_another_object_are_noticed() {
    let key = key("4b");
    let good = sealed(NAME, Some(&key), &content(3 * CHUNK_BYTES), usize::MAX);
    let chunk = |number: usize| {
        let begin = SEALED_HEAD_BYTES + number * STORED_CHUNK_BYTES;
        &good[begin..begin + STORED_CHUNK_BYTES]
    };
    for order in [&[1, 0, 2][..], &[0, 2], &[0, 1, 1, 2], &[0, 1, 2, 2], &[2]] {
        let mut bad = good[..SEALED_HEAD_BYTES].to_vec();
        order
            .iter()
            .for_each(|number| bad.extend_from_slice(chunk(*number)));
        assert!(
            is_damaged(opened(NAME, Some(&key), &bad, usize::MAX)),
            "{order:?}"
        );
    }
    let renamed = opened(
        "00000000000000ff/segment-8-00000001",
        Some(&key),
        &good,
        usize::MAX,
    );
    assert!(is_damaged(renamed));
}

#[test]
fn a_key_opens_only_what_was_sealed_with_it() {
    let (mine, other) = (key("4b"), key("4c"));
    let plain = sealed(NAME, None, b"content", usize::MAX);
    let sealed = sealed(NAME, Some(&mine), b"content", usize::MAX);
    let open = |key, bytes: &[u8]| opened(NAME, key, bytes, usize::MAX);
    let is_other_key = true;
    assert_eq!(
        open(Some(&other), &sealed),
        Err(NotOpened::Sealed { is_other_key })
    );
    let is_other_key = false;
    assert_eq!(open(None, &sealed), Err(NotOpened::Sealed { is_other_key }));
    assert_eq!(open(Some(&mine), &plain), Err(NotOpened::NotSealed));
    let mut newer = plain.clone();
    newer[8] = 2;
    assert_eq!(open(None, &newer), Err(NotOpened::Newer(2)));
    let mut other_kind = plain;
    other_kind[9] = 2;
    assert!(is_damaged(open(None, &other_kind)));
    assert!(is_damaged(open(
        None,
        b"{\"a\": \"file of somebody else\"}"
    )));
}

/// Golden bytes: objects that were written once must open for ever.
#[test]
fn the_bytes_are_those_of_format_1() {
    let plain = sealed(NAME, None, b"content", usize::MAX);
    assert_eq!(hex::encode(plain), "b7626b6f626a63740100636f6e74656e74");
    let sealed = sealed(NAME, Some(&key("4b")), b"content", usize::MAX);
    assert_eq!(hex::encode(sealed), GOLDEN);
}

/// Made by another implementation of HKDF and AES-GCM.
const GOLDEN: &str = "b7626b6f626a637401012f11d5a94ffad4c2050505050505050505050505050505050505050505050505050505\
    0505050505dfbe0058f3213732728732034a7deb951b2999fdbded6f";

proptest! {
    #[test]
    fn no_bytes_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        is_object in any::<bool>(),
        has_key in any::<bool>(),
        stretch in 1..80_usize,
    ) {
        let key = key("4b");
        if is_object {
            let head = sealed(NAME, Some(&key), b"", usize::MAX);
            let end = bytes.len().min(SEALED_HEAD_BYTES);
            bytes[..end].copy_from_slice(&head[..end]);
        }
        let found = opened(NAME, has_key.then_some(&key), &bytes, stretch);
        prop_assert!(!has_key || found.is_err());
    }
}
