//! Flipped, cut and random bytes: never a panic, never a wrong record, and the whole records before the damage are kept.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{NEW_YEAR, fast_dir, files, numbers, open, shipped, small, usage};
use journal::{Config, Journal, JournalError, Opened};
use proptest::prelude::*;

/// Bytes of a frame with one of `usage`'s records, and where the first begins.
const FRAME: usize = 8 + 144 + 32;
const HEADER: usize = 128;
const RECORDS: u64 = 6;

/// The files of a journal whose process was killed after six records.
fn killed() -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let dir = fast_dir();
    let mut opened = open(dir.path(), small());
    for n in 0..RECORDS {
        let receipt = opened.writers[0].admit().unwrap();
        opened.writers[0].append(receipt, &usage(n)).unwrap();
    }
    files(dir.path()).into_iter().collect()
}

/// The files of a journal with six records in a sealed segment.
fn sealed() -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let dir = fast_dir();
    let Opened { journal, mut writers, .. } = open(dir.path(), small());
    for n in 0..RECORDS {
        let receipt = writers[0].admit().unwrap();
        writers[0].append(receipt, &usage(n)).unwrap();
    }
    writers.remove(0).close(NEW_YEAR);
    journal.close(NEW_YEAR).unwrap();
    drop(journal);
    files(dir.path()).into_iter().collect()
}

fn lay_out(dir: &Path, files: &[(std::path::PathBuf, Vec<u8>)], change: &Path, bytes: &[u8]) {
    for (path, original) in files {
        let target = dir.join(path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target, if path == change { bytes } else { original }).unwrap();
    }
}

fn bytes_of(files: &[(std::path::PathBuf, Vec<u8>)], path: &Path) -> Vec<u8> {
    files.iter().find(|(candidate, _)| candidate == path).map(|(_, bytes)| bytes.clone()).unwrap()
}

/// Reads everything that is offered, taking the salvaged segment where the first reading finds damage.
fn read_all(journal: &Journal) -> Vec<u64> {
    for segment in journal.pending(0, 0, usize::MAX) {
        if let Err(error) = journal.read(0, segment.seq) {
            assert!(matches!(&error, JournalError::SegmentDamaged { set_aside, .. } if set_aside.exists()), "{error}");
        }
    }
    numbers(&shipped(journal))
}

/// Opens the changed journal, checks what is left, and that it can go on.
fn survives(files: &[(std::path::PathBuf, Vec<u8>)], change: &Path, bytes: &[u8], whole: usize) -> Result<(), TestCaseError> {
    let dir = fast_dir();
    lay_out(dir.path(), files, change, bytes);
    let Opened { journal, mut writers, .. } = match Journal::open(dir.path(), small(), NEW_YEAR) {
        Ok(opened) => opened,
        Err(JournalError::NewerVersion { .. }) => return Err(TestCaseError::fail("a checksum did not notice a changed version")),
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    };
    let found = read_all(&journal);
    prop_assert_eq!(&found, &(0..found.len() as u64).collect::<Vec<_>>());
    prop_assert!(found.len() >= whole && found.len() <= RECORDS as usize, "{} kept of {} whole", found.len(), whole);
    let receipt = writers[0].admit().unwrap();
    prop_assert!(receipt.number() > RECORDS, "receipt {} was used twice", receipt.number());
    writers[0].append(receipt, &usage(found.len() as u64)).unwrap();
    writers[0].seal(NEW_YEAR);
    journal.tend(NEW_YEAR);
    prop_assert_eq!(numbers(&shipped(&journal)).len(), found.len() + 1);
    Ok(())
}

fn whole_before(offset: usize) -> usize {
    (offset.saturating_sub(HEADER) / FRAME).min(RECORDS as usize)
}

const SEGMENT: &str = "0/0000000000000000.seg";

#[test]
fn each_byte_of_an_open_segment_may_flip() {
    let files = killed();
    let original = bytes_of(&files, Path::new(SEGMENT));
    for offset in (0..HEADER + RECORDS as usize * FRAME + 200).chain([4095, 4096, 8191]) {
        for change in [0xff, 1 << (offset % 8)] {
            let mut bytes = original.clone();
            bytes[offset] ^= change;
            // Behind the records nothing is lost, and a damaged header does not cost the records.
            let whole = if offset < HEADER { RECORDS as usize } else { whole_before(offset) };
            survives(&files, Path::new(SEGMENT), &bytes, whole).unwrap_or_else(|error| panic!("byte {offset} ^ {change:#x}: {error}"));
        }
    }
}

#[test]
fn an_open_segment_may_be_cut_anywhere() {
    let files = killed();
    let original = bytes_of(&files, Path::new(SEGMENT));
    for length in (0..HEADER + RECORDS as usize * FRAME + 20).chain([4096, 8191]) {
        let result = survives(&files, Path::new(SEGMENT), &original[..length], whole_before(length));
        result.unwrap_or_else(|error| panic!("cut to {length}: {error}"));
    }
}

#[test]
fn each_byte_of_a_sealed_segment_may_flip() {
    let files = sealed();
    let original = bytes_of(&files, Path::new(SEGMENT));
    for offset in 0..original.len() {
        let mut bytes = original.clone();
        bytes[offset] ^= 1 << (offset % 8);
        let whole = if offset < HEADER { RECORDS as usize } else { whole_before(offset) };
        survives(&files, Path::new(SEGMENT), &bytes, whole).unwrap_or_else(|error| panic!("byte {offset}: {error}"));
    }
}

#[test]
fn a_sealed_segment_may_be_cut_anywhere() {
    let files = sealed();
    let original = bytes_of(&files, Path::new(SEGMENT));
    for length in 0..original.len() {
        let result = survives(&files, Path::new(SEGMENT), &original[..length], whole_before(length));
        result.unwrap_or_else(|error| panic!("cut to {length}: {error}"));
    }
}

#[test]
fn each_used_byte_of_the_head_and_the_identity_may_flip() {
    let files = killed();
    for (path, ranges) in [("0/head", vec![0..80, 512..600, 1024..1112]), ("journal", std::iter::once(0..44).collect())] {
        let original = bytes_of(&files, Path::new(path));
        for offset in ranges.into_iter().flatten() {
            let mut bytes = original.clone();
            bytes[offset] ^= 1 << (offset % 8);
            let result = survives(&files, Path::new(path), &bytes, RECORDS as usize);
            result.unwrap_or_else(|error| panic!("{path} byte {offset}: {error}"));
        }
    }
}

#[test]
fn damage_is_reported_and_the_original_kept() {
    let files = killed();
    let mut bytes = bytes_of(&files, Path::new(SEGMENT));
    bytes[HEADER + 2 * FRAME + 50] ^= 1;
    let dir = fast_dir();
    lay_out(dir.path(), &files, Path::new(SEGMENT), &bytes);
    let Opened { journal, report, .. } = open(dir.path(), small());
    assert!(report.needs_alert());
    let damaged = &report.damaged[0];
    assert_eq!((damaged.stream, damaged.seq, damaged.kept_records), (0, 0, 2));
    assert_eq!(std::fs::read(damaged.set_aside.as_ref().unwrap()).unwrap(), bytes);
    let info = *journal.read(0, 0).unwrap().info();
    assert!(info.cut && info.recovered);
    assert_eq!((info.first_receipt, info.next_receipt, info.record_count), (1, 7, 2), "the lost numbers are named");
    assert_eq!(journal.stats().damaged_segments, 1);
}

#[test]
fn a_newer_version_is_refused_by_name_and_left_alone() {
    let files = sealed();
    for (path, checksum_at, checked) in [("journal", 40, 40), ("0/head", 32, 32), (SEGMENT, 64, 64)] {
        let mut bytes = bytes_of(&files, Path::new(path));
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..checked]);
        bytes[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_le_bytes());
        let dir = fast_dir();
        lay_out(dir.path(), &files, Path::new(path), &bytes);
        let before = common::files(dir.path());
        let error = Journal::open(dir.path(), small(), NEW_YEAR).unwrap_err();
        assert!(matches!(&error, JournalError::NewerVersion { version: 2, known: 1, .. }), "{error}");
        assert_eq!(common::files(dir.path()), before, "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(
        segment in prop::collection::vec(any::<u8>(), 0..3000),
        head in prop::collection::vec(any::<u8>(), 0..5000),
        identity in prop::collection::vec(any::<u8>(), 0..100),
        which in 0..7_u8,
    ) {
        let files = killed();
        let dir = fast_dir();
        lay_out(dir.path(), &files, Path::new(""), &[]);
        for (bit, path, bytes) in [(1, SEGMENT, segment), (2, "0/head", head), (4, "journal", identity)] {
            if which & bit != 0 {
                std::fs::write(dir.path().join(path), bytes).unwrap();
            }
        }
        let Opened { journal, mut writers, .. } = Journal::open(dir.path(), Config { boot_id: None, ..small() }, NEW_YEAR).unwrap();
        let found = read_all(&journal);
        prop_assert_eq!(&found, &(0..found.len() as u64).collect::<Vec<_>>());
        writers[0].admit().map(|receipt| writers[0].abandon(receipt)).unwrap();
    }

    #[test]
    fn several_bytes_may_flip(flips in prop::collection::vec((0..HEADER + RECORDS as usize * FRAME, 1..=255_u8), 1..6)) {
        let files = killed();
        let mut bytes = bytes_of(&files, Path::new(SEGMENT));
        for (offset, change) in &flips {
            bytes[*offset] ^= change;
        }
        let same = bytes == bytes_of(&files, Path::new(SEGMENT));
        let first = flips.iter().map(|(offset, _)| *offset).filter(|offset| *offset >= HEADER).min().unwrap_or(usize::MAX);
        survives(&files, Path::new(SEGMENT), &bytes, if same { RECORDS as usize } else { whole_before(first) })?;
    }
}
