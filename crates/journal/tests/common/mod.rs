//! What the tests share: a small journal, and records to write.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use journal::{AnsweredBy, Config, Dimensions, Journal, KeyMode, MeterItem, Meters, Opened, Outcome, RecoveryReport, Usage, UsageRecord};

/// 2026-01-01T00:00:00Z in microseconds.
pub const NEW_YEAR: i64 = 1_767_225_600_000_000;
pub const SECOND: i64 = 1_000_000;

/// Eight slots a segment, one stream, a boot of its own.
pub fn small() -> Config {
    Config {
        streams: 1,
        segment_size_bytes: 8192,
        max_age: Duration::from_secs(1),
        disk_bound_bytes: 64 * 8192,
        flush_interval: Duration::from_millis(100),
        retain_acked: Duration::from_secs(60),
        boot_id: Some([7; 16]),
    }
}

pub fn open(dir: &Path, config: Config) -> Opened {
    Journal::open(dir, config, NEW_YEAR).expect("the journal opens")
}

/// A report of a start with nothing to do.
pub fn nothing_found() -> RecoveryReport {
    RecoveryReport::default()
}

/// A record with one meter that is told from others by `n`.
pub fn usage(n: u64) -> Usage {
    let mut meters = Meters::new();
    meters.push(MeterItem { meter: [9; 16], micro_units: n as i64 * 1_000_000, unique_hash: n }).unwrap();
    Usage {
        admitted_at: NEW_YEAR + n as i64,
        duration_micros: 1_500,
        namespace: [1; 16],
        subscription: [2; 16],
        plan_version: [3; 16],
        period_start: NEW_YEAR,
        application: [4; 16],
        api_key: [5; 16],
        route: [6; 16],
        status: 200,
        answered_by: AnsweredBy::Upstream,
        key_mode: KeyMode::Live,
        outcome: Outcome::Complete,
        meters,
        dimensions: Dimensions::default(),
    }
}

/// The largest record there can be.
pub fn largest(n: u64) -> Usage {
    let mut usage = usage(n);
    while usage.meters.push(MeterItem { meter: [8; 16], micro_units: -1, unique_hash: 1 }).is_ok() {}
    usage.dimensions = Dimensions::new(vec![b'd'; journal::MAX_DIMENSIONS_BYTES]).unwrap();
    usage
}

/// All records of all sealed segments that are not acked, in order of streams, segments and appending.
pub fn shipped(journal: &Journal) -> Vec<UsageRecord> {
    let mut records = Vec::new();
    for stream in journal.streams() {
        for segment in journal.pending(stream, 0, usize::MAX) {
            let reader = journal.read(stream, segment.seq).expect("a sealed segment is readable");
            assert_eq!(reader.info().record_count, segment.records);
            records.extend(reader.records().map(|record| record.expect("a sealed record is readable")));
        }
    }
    records
}

/// Which `n` the records were made from.
pub fn numbers(records: &[UsageRecord]) -> Vec<u64> {
    records.iter().map(|record| record.usage.meters.as_slice()[0].unique_hash).collect()
}

/// Copies a folder with all that is in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A folder for tests that open a journal hundreds of times: in memory where the system has such a place, because each opening flushes.
pub fn fast_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// All files under a folder by their path in it, with their bytes.
pub fn files(dir: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}
