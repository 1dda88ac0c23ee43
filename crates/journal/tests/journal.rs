//! The journal's promises, one by one, on a real folder.

mod common;

use std::time::Duration;

use common::{NEW_YEAR, SECOND, copy_dir, largest, nothing_found, numbers, open, shipped, small, usage};
use journal::{Config, Full, Journal, JournalError, Keeper, MAX_RECORD_BYTES, Opened, RecordKind};

#[test]
fn what_is_appended_is_read_back_after_sealing() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { journal, mut writers, report } = open(dir.path(), small());
    assert!(report.created && !report.needs_alert());
    let writer = &mut writers[0];
    let mut long = writer.admit().unwrap();
    let short = writer.admit().unwrap();
    assert_eq!((long.number(), short.number()), (1, 2));
    writer.append_interim(&mut long, &usage(1)).unwrap();
    writer.append(short, &usage(2)).unwrap();
    writer.append_interim(&mut long, &usage(3)).unwrap();
    writer.append(long, &largest(4)).unwrap();
    assert!(writer.seal(NEW_YEAR));
    assert!(journal.pending(0, 0, 10).is_empty(), "the keeper has not sealed it yet");
    assert_eq!(journal.tend(NEW_YEAR + 5).sealed, 1);
    let pending = journal.pending(0, 0, 10);
    assert_eq!((pending.len(), pending[0].seq, pending[0].records), (1, 0, 4));
    let reader = journal.read(0, 0).unwrap();
    let info = reader.info();
    assert_eq!((info.first_receipt, info.next_receipt, info.record_count, info.prev_digest), (1, 3, 4, [0; 32]));
    assert_eq!((info.journal_id, info.recovered, info.cut), (journal.id(), false, false));
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    let heads: Vec<_> = records.iter().map(|r| (r.kind, r.receipt, r.part)).collect();
    use RecordKind::{Final, Interim};
    assert_eq!(heads, [(Interim, 1, 0), (Final, 2, 0), (Interim, 1, 1), (Final, 1, 2)]);
    assert_eq!(records[1].usage, usage(2));
    assert_eq!(records[3].usage, largest(4));
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), small());
    let error = Journal::open(dir.path(), small(), NEW_YEAR).unwrap_err();
    assert!(matches!(error, JournalError::InUse { .. }) && error.to_string().contains(&dir.path().display().to_string()), "{error}");
    drop(first);
    open(dir.path(), small());
}

#[test]
fn a_kill_loses_no_record_and_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), small());
    let writer = &mut first.writers[0];
    let held: Vec<_> = (0..3).map(|_| writer.admit().unwrap()).collect();
    for n in 1..=40 {
        let receipt = writer.admit().unwrap();
        writer.append(receipt, &usage(n)).unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let Opened { journal, mut writers, report } = open(copy.path(), small());
    assert!(!report.needs_alert(), "{report:?}");
    assert_eq!(report.sealed.iter().map(|s| s.records).sum::<u64>(), 40);
    assert_eq!(numbers(&shipped(&journal)), (1..=40).collect::<Vec<_>>());
    assert_eq!(writers[0].admit().unwrap().number(), 44, "the numbers of the three open calls are not used again");
    let infos: Vec<_> = journal.pending(0, 0, 100).iter().map(|p| *journal.read(0, p.seq).unwrap().info()).collect();
    assert_eq!((infos[0].first_receipt, infos.last().unwrap().next_receipt), (1, 44));
    for pair in infos.windows(2) {
        assert_eq!((pair[1].seq, pair[1].prev_digest), (pair[0].seq + 1, pair[0].segment_digest));
        assert_eq!(pair[1].first_receipt, pair[0].next_receipt);
    }
    drop(held);
}

#[test]
fn a_close_in_order_leaves_nothing_to_recover() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { journal, mut writers, .. } = open(dir.path(), small());
    let mut writer = writers.remove(0);
    let receipt = writer.admit().unwrap();
    writer.append(receipt, &usage(1)).unwrap();
    writer.close(NEW_YEAR);
    journal.close(NEW_YEAR).unwrap();
    assert_eq!(numbers(&shipped(&journal)), [1]);
    drop(journal);
    // Another boot of the machine: after a close in order the head is exact all the same.
    let Opened { journal, mut writers, report } = open(dir.path(), Config { boot_id: Some([8; 16]), ..small() });
    assert_eq!(report, nothing_found());
    assert_eq!(writers[0].admit().unwrap().number(), 2);
    assert_eq!(numbers(&shipped(&journal)), [1]);
}

#[test]
fn after_lost_power_numbers_go_on_beyond_all_that_may_have_been_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), small());
    let receipt = first.writers[0].admit().unwrap();
    first.writers[0].append(receipt, &usage(1)).unwrap();
    drop(first);
    let Opened { journal, mut writers, report } = open(dir.path(), Config { boot_id: Some([8; 16]), ..small() });
    assert!(report.needs_alert());
    assert_eq!(report.skipped_receipts[0].numbers, 2..1 + (1 << 32));
    assert_eq!(writers[0].admit().unwrap().number(), 1 + (1 << 32));
    assert_eq!(numbers(&shipped(&journal)), [1]);
    assert_eq!(journal.read(0, 0).unwrap().info().next_receipt, 2, "the segment names only what is known");
}

#[test]
fn admission_is_refused_before_the_bound_and_every_admitted_call_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let bound = 10 * 8192;
    let config = Config { disk_bound_bytes: bound, ..small() };
    let Opened { journal, mut writers, .. } = open(dir.path(), config);
    let writer = &mut writers[0];
    let mut receipts = Vec::new();
    let full = loop {
        match writer.admit() {
            Ok(receipt) => receipts.push(receipt),
            Err(full) => break full,
        }
        assert!(receipts.len() < 1000, "the bound does not hold");
    };
    assert_eq!(full, Full::DiskBound);
    let slots = (8192 - 256) / MAX_RECORD_BYTES;
    assert!(receipts.len() >= 7 * slots, "{} calls admitted", receipts.len());
    assert!(journal.stats().disk_used_bytes <= bound);
    // An interim record may use the segment being written, and not what is reserved.
    let mut interim = 0;
    while writer.append_interim(&mut receipts[0], &largest(0)).is_ok() {
        interim += 1;
        assert!(interim < 1000, "the bound does not hold");
    }
    assert_eq!(interim, slots);
    let admitted = receipts.len();
    for receipt in receipts {
        writer.append(receipt, &largest(1)).unwrap();
        writer.seal_if_due(NEW_YEAR + 100 * SECOND);
        journal.tend(NEW_YEAR);
        assert!(journal.stats().disk_used_bytes <= bound);
    }
    assert_eq!(journal.stats().appended_records, (admitted + interim) as u64);
    assert_eq!(writer.admit().unwrap_err(), Full::DiskBound);
    // Shipping makes room again, although acked segments are retained: the bound goes first.
    journal.ack_through(0, u64::MAX, NEW_YEAR).unwrap();
    journal.tend(NEW_YEAR);
    writer.admit().map(|receipt| writer.abandon(receipt)).unwrap();
}

#[test]
fn a_journal_at_its_bound_opens_to_be_shipped() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { disk_bound_bytes: 4 * 8192, ..small() };
    let Opened { journal, mut writers, .. } = open(dir.path(), config.clone());
    // Far more calls than there is room for, so that a bound that does not hold fails the test and not the disk.
    let mut calls = 0;
    while let Ok(receipt) = writers[0].admit() {
        writers[0].append(receipt, &largest(1)).unwrap();
        journal.tend(NEW_YEAR);
        calls += 1;
        assert!(calls < 1000, "the bound does not hold");
    }
    let appended = journal.stats().appended_records;
    drop((journal, writers));
    let Opened { journal, mut writers, .. } = open(dir.path(), config);
    assert_eq!(journal.stats().unshipped_records, appended);
    assert!(journal.stats().disk_used_bytes <= 4 * 8192);
    journal.ack_through(0, u64::MAX, NEW_YEAR).unwrap();
    journal.tend(NEW_YEAR);
    let receipt = writers[0].admit().unwrap();
    writers[0].append(receipt, &usage(2)).unwrap();
}

#[test]
fn acked_segments_are_retained_then_dropped_and_offered_again_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { journal, mut writers, .. } = open(dir.path(), small());
    for n in 0..4 {
        let receipt = writers[0].admit().unwrap();
        writers[0].append(receipt, &usage(n)).unwrap();
        writers[0].seal(NEW_YEAR);
    }
    journal.tend(NEW_YEAR);
    assert_eq!(journal.stats().unshipped_records, 4);
    assert!(journal.ack(0, 0, NEW_YEAR).unwrap() && journal.ack(0, 1, NEW_YEAR + 30 * SECOND).unwrap());
    assert!(!journal.ack(0, 1, NEW_YEAR).unwrap(), "a second ack changes nothing");
    assert_eq!(numbers(&shipped(&journal)), [2, 3]);
    journal.tend(NEW_YEAR + 61 * SECOND);
    assert_eq!(journal.stats().retained_segments, 1);
    drop((journal, writers));
    let Opened { journal, .. } = open(dir.path(), small());
    assert_eq!(numbers(&shipped(&journal)), [2, 3], "acks outlive the process");
    assert_eq!(journal.offer_again().unwrap(), 1);
    assert_eq!(numbers(&shipped(&journal)), [1, 2, 3]);
    assert_eq!(journal.ack_through(0, 2, NEW_YEAR).unwrap(), 2);
    assert_eq!(numbers(&shipped(&journal)), [3]);
}

#[test]
fn the_newest_sealed_segment_is_never_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { journal, mut writers, .. } = open(dir.path(), small());
    for n in 0..3 {
        let receipt = writers[0].admit().unwrap();
        writers[0].append(receipt, &usage(n)).unwrap();
        writers[0].seal(NEW_YEAR);
    }
    journal.tend(NEW_YEAR);
    let digest = journal.read(0, 2).unwrap().info().segment_digest;
    journal.ack_through(0, 2, NEW_YEAR).unwrap();
    journal.tend(NEW_YEAR + 1000 * SECOND);
    assert_eq!(journal.stats().retained_segments, 1);
    drop((journal, writers));
    std::fs::write(dir.path().join("0/head"), vec![0; 4096]).unwrap();
    let Opened { journal, mut writers, report } = open(dir.path(), small());
    assert_eq!(report.heads_rebuilt, [0]);
    let receipt = writers[0].admit().unwrap();
    assert!(receipt.number() > 1 << 32, "{}", receipt.number());
    writers[0].append(receipt, &usage(3)).unwrap();
    writers[0].seal(NEW_YEAR);
    journal.tend(NEW_YEAR);
    let reader = journal.read(0, 3).unwrap();
    assert_eq!(reader.info().prev_digest, digest);
}

#[test]
fn a_refused_segment_is_set_aside_and_its_number_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { journal, mut writers, .. } = open(dir.path(), small());
    let receipt = writers[0].admit().unwrap();
    writers[0].append(receipt, &usage(1)).unwrap();
    writers[0].seal(NEW_YEAR);
    journal.tend(NEW_YEAR);
    let aside = journal.quarantine(0, 0).unwrap().unwrap();
    assert!(aside.starts_with(dir.path().join("quarantine")) && aside.exists());
    assert_eq!(journal.quarantine(0, 0).unwrap(), None);
    assert!(journal.pending(0, 0, 1).is_empty());
    assert_eq!((journal.stats().quarantined_segments, journal.stats().unshipped_records), (1, 0));
    drop((journal, writers));
    std::fs::remove_file(dir.path().join("0/head")).unwrap();
    let Opened { journal, mut writers, .. } = open(dir.path(), small());
    assert_eq!(journal.stats().quarantined_segments, 1);
    let receipt = writers[0].admit().unwrap();
    writers[0].append(receipt, &usage(2)).unwrap();
    writers[0].seal(NEW_YEAR);
    journal.tend(NEW_YEAR);
    assert_eq!(journal.pending(0, 0, 1)[0].seq, 1);
}

#[test]
fn a_segment_is_sealed_by_age_and_the_numbers_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { journal, mut writers, .. } = open(dir.path(), small());
    let writer = &mut writers[0];
    let receipts: Vec<_> = (0..3).map(|_| writer.admit().unwrap()).collect();
    let mut receipts = receipts.into_iter();
    assert!(!writer.seal_if_due(NEW_YEAR + 10 * SECOND), "there is nothing to ship");
    writer.append(receipts.next().unwrap(), &usage(0)).unwrap();
    assert!(!writer.seal_if_due(NEW_YEAR + SECOND));
    let stats = journal.stats();
    assert_eq!((stats.unshipped_records, stats.oldest_unshipped_at), (1, Some(NEW_YEAR + 1_500)));
    assert!(writer.seal_if_due(NEW_YEAR + SECOND + 1_500));
    writer.abandon(receipts.next().unwrap());
    let stats = journal.stats();
    assert_eq!((stats.admitted_calls, stats.finished_calls, stats.abandoned_calls, stats.open_calls), (3, 1, 1, 1));
    assert_eq!(journal.flushed(0), 0);
    journal.tend(NEW_YEAR + 2 * SECOND);
    assert_eq!((journal.flushed(0), writer.appended()), (1, 1));
    assert_eq!(journal.stats().oldest_unshipped_at, Some(NEW_YEAR + SECOND + 1_500));
}

#[test]
fn the_keeper_seals_and_tells() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { journal, mut writers, .. } = open(dir.path(), Config { flush_interval: Duration::from_secs(3600), ..small() });
    let (told, telling) = std::sync::mpsc::channel();
    assert!(journal.on_sealed(move || told.send(()).expect("the test listens")));
    let keeper = Keeper::start(journal.clone(), || (), || NEW_YEAR).unwrap();
    for n in 0..200 {
        let receipt = writers[0].admit().unwrap();
        writers[0].append(receipt, &usage(n)).unwrap();
    }
    telling.recv_timeout(Duration::from_secs(30)).expect("the keeper was woken by the writer, long before its flush interval");
    drop(keeper);
    assert!(journal.pending(0, 0, 100).len() >= 4);
}

#[test]
fn streams_without_a_writer_are_still_shipped() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), Config { streams: 2, ..small() });
    for (n, writer) in first.writers.iter_mut().enumerate() {
        let receipt = writer.admit().unwrap();
        writer.append(receipt, &usage(n as u64)).unwrap();
    }
    drop(first);
    let Opened { journal, writers, .. } = open(dir.path(), small());
    assert_eq!((writers.len(), journal.streams()), (1, vec![0, 1]));
    assert_eq!(numbers(&shipped(&journal)), [0, 1]);
    assert!(journal.ack(1, 0, NEW_YEAR).unwrap());
}

#[test]
fn a_receipt_of_another_stream_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path(), Config { streams: 2, ..small() });
    let receipt = opened.writers[0].admit().unwrap();
    let error = opened.writers[1].append(receipt, &usage(1)).unwrap_err();
    assert_eq!(error.to_string(), "the receipt belongs to stream 0");
}

#[test]
fn settings_that_cannot_keep_the_promises_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        (Config { streams: 0, ..small() }, "streams"),
        (Config { segment_size_bytes: 10_000, ..small() }, "segment_size_bytes"),
        (Config { disk_bound_bytes: 2 * 8192, ..small() }, "disk_bound_bytes"),
        (Config { flush_interval: Duration::ZERO, ..small() }, "flush_interval"),
    ];
    for (config, field) in cases {
        let error = Journal::open(dir.path(), config, NEW_YEAR).unwrap_err();
        assert!(error.to_string().contains(&format!("`{field}`")), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was touched");
}
