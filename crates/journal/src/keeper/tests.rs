use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use super::*;
use crate::journal::Opened;
use crate::record::{AnsweredBy, Dimensions, KeyMode, Meters, Outcome, Usage};
use crate::{Config, MIN_SEGMENT_SIZE_BYTES};

pub(crate) const USAGE: Usage = Usage {
    admitted_at: 0,
    duration_micros: 1,
    namespace: [1; 16],
    subscription: [2; 16],
    plan_version: [3; 16],
    period_start: 0,
    application: [4; 16],
    api_key: [5; 16],
    route: [6; 16],
    status: 200,
    answered_by: AnsweredBy::Upstream,
    key_mode: KeyMode::Live,
    outcome: Outcome::Complete,
    meters: Meters::new(),
    dimensions: Dimensions::EMPTY,
};

/// A journal whose flushes fail while `failing` is above zero, and the inode of each file that was flushed.
pub(crate) fn with_failing_disk(dir: &std::path::Path, failing: Arc<AtomicU32>) -> (Opened, Arc<Mutex<Vec<u64>>>) {
    let flushed = Arc::new(Mutex::new(Vec::new()));
    let log = flushed.clone();
    let flush = move |dirty: &Dirty<'_>| {
        use std::os::unix::fs::MetadataExt;
        lock(&log).push(dirty.file.metadata()?.ino());
        if failing.load(Ordering::Relaxed) > 0 { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    };
    let config = Config { segment_size_bytes: MIN_SEGMENT_SIZE_BYTES, disk_bound_bytes: 1 << 20, ..Config::default() };
    (Journal::open_with(dir, config, 0, Box::new(flush)).unwrap(), flushed)
}

#[test]
fn a_failed_flush_is_never_tried_again_on_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicU32::new(0));
    let (Opened { journal, mut writers, .. }, flushed) = with_failing_disk(dir.path(), failing.clone());
    let writer = &mut writers[0];
    let receipt = writer.admit().unwrap();
    writer.append(receipt, &USAGE).unwrap();
    journal.tend(1);
    assert_eq!((journal.flushed(0), journal.failures().len()), (1, 0));

    failing.store(1, Ordering::Relaxed);
    let receipt = writer.admit().unwrap();
    writer.append(receipt, &USAGE).unwrap();
    journal.tend(2);
    let failures = journal.failures();
    assert_eq!((failures.len(), failures[0].stream, failures[0].seq), (1, 0, Some(0)));
    assert_eq!(journal.flushed(0), 1, "what was not flushed is not called flushed");

    failing.store(0, Ordering::Relaxed);
    let before = lock(&flushed).len();
    assert!(writer.seal_if_due(2), "the writer leaves the segment although it is not due");
    assert_eq!(journal.tend(3).sealed, 1);
    assert_eq!(lock(&flushed).len(), before, "the file is sealed without another flush");
    assert_eq!(journal.failures().len(), 1, "health stays down while the portal does not have the records");
    assert_eq!(journal.read(0, 0).unwrap().records().count(), 2, "and the records are offered at once");

    journal.ack(0, 0, 4).unwrap();
    assert!(journal.failures().is_empty());
    let receipt = writer.admit().unwrap();
    writer.append(receipt, &USAGE).unwrap();
    journal.tend(5);
    assert_eq!((journal.flushed(0), lock(&flushed).len()), (3, before + 1), "the next file is flushed as ever");
}

#[test]
fn flushes_leave_no_page_with_a_record_out() {
    let dir = tempfile::tempdir().unwrap();
    let parts = Arc::new(Mutex::new(Vec::new()));
    let log = parts.clone();
    let flush = move |dirty: &Dirty<'_>| {
        lock(&log).extend(dirty.part.as_ref().map(|(_, bytes)| bytes.clone()));
        dirty.write_out()
    };
    let Opened { journal, mut writers, .. } = Journal::open_with(dir.path(), Config::default(), 0, Box::new(flush)).unwrap();
    for round in 1..=40 {
        // The longer ones are begun in pieces.
        for _ in 0..40 * round {
            let receipt = writers[0].admit().unwrap();
            writers[0].append(receipt, &USAGE).unwrap();
        }
        assert!(journal.tend(round).errors.is_empty());
        let end = journal.0.streams[0].open_files()[0].end.load(Ordering::Acquire);
        let parts = lock(&parts);
        assert_eq!((parts.len() as i64, parts[parts.len() - 1].end), (round, end), "a flush goes as far as records do");
    }
    // The first part starts on the page of the header, which is written when a segment is taken into use.
    let parts = lock(&parts);
    assert_eq!(parts[0].start, HEADER_BYTES as u64);
    assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start), "each goes on where the last ended: {parts:?}");
    assert!(journal.failures().is_empty());
}

#[test]
fn a_segment_is_flushed_before_it_is_offered() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let (Opened { journal, mut writers, .. }, flushed) = with_failing_disk(dir.path(), Arc::new(AtomicU32::new(0)));
    let receipt = writers[0].admit().unwrap();
    writers[0].append(receipt, &USAGE).unwrap();
    assert!(writers[0].seal(1));
    let shared = journal.clone();
    let log = flushed.clone();
    let path = dir.path().join("0/0000000000000000.seg");
    journal.on_sealed(move || {
        assert_eq!(shared.pending(0, 0, 1).len(), 1);
        let inode = path.metadata().map(|metadata| metadata.ino()).ok();
        assert_eq!(lock(&log).last().copied(), inode, "the sealed file was the last to be flushed");
    });
    assert_eq!(journal.tend(2).sealed, 1);
}

#[test]
fn receipt_numbers_stop_at_the_ceiling_that_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicU32::new(0));
    let (Opened { journal, mut writers, .. }, _) = with_failing_disk(dir.path(), failing.clone());
    journal.0.streams[0].ceiling.store(3, Ordering::Release);
    failing.store(1, Ordering::Relaxed);
    let held: Vec<_> = (0..2).map(|_| writers[0].admit().unwrap()).collect();
    assert_eq!(writers[0].admit().unwrap_err(), crate::Full::Receipts);
    journal.tend(1);
    assert_eq!(writers[0].admit().unwrap_err(), crate::Full::Receipts, "the new ceiling is not on the disk");
    assert_eq!(journal.failures()[0].seq, None);
    journal.0.failures.lock().unwrap().clear();
    failing.store(0, Ordering::Relaxed);
    journal.tend(2);
    assert_eq!(writers[0].admit().unwrap().number(), 3);
    drop(held);
}
