//! A journal whose files were damaged: it opens or says why not, and what it still offers are records that were written.
//!
//! The input is a list of changes of five bytes: which file, where (three bytes), and what is put there.
#![no_main]

use std::{fs, path::Path, sync::OnceLock, time::Duration};

use journal::{AnsweredBy, Config, Dimensions, Journal, KeyMode, MeterItem, Meters, Opened, Outcome, Usage};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_767_225_600_000_000;

fn settings() -> Config {
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

fn usage(n: u64) -> Usage {
    let mut meters = Meters::new();
    meters.push(MeterItem { meter: [9; 16], micro_units: 1, unique_hash: n }).expect("room for one");
    Usage {
        admitted_at: NOW,
        duration_micros: 1,
        namespace: [1; 16],
        subscription: [2; 16],
        plan_version: [3; 16],
        period_start: NOW,
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

/// A temporary folder, in memory where the system has such a place: each opening flushes.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}

/// The files of a journal with one sealed segment and one that was being written when its process died.
fn base() -> &'static [(String, Vec<u8>)] {
    static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = folder();
        let Opened { journal, mut writers, .. } = Journal::open(folder.path(), settings(), NOW).expect("a new journal opens");
        let writer = &mut writers[0];
        for n in 0..60 {
            let receipt = writer.admit().expect("room");
            writer.append(receipt, &usage(n)).expect("room was reserved");
            if n == 20 {
                writer.seal_if_due(NOW + 2_000_000);
            }
        }
        let mut files = Vec::new();
        let mut folders = vec![folder.path().to_owned()];
        while let Some(at) = folders.pop() {
            for entry in fs::read_dir(&at).expect("the folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(folder.path()).expect("inside").to_str().expect("ASCII").to_owned();
                    files.push((name, fs::read(&path).expect("a file")));
                }
            }
        }
        drop((writers, journal));
        files.sort();
        files
    })
}

fuzz_target!(|changes: &[u8]| {
    let mut files = base().to_vec();
    for change in changes.chunks_exact(5) {
        let at = usize::from(change[0]) % files.len();
        let bytes = &mut files[at].1;
        let place = usize::from(change[1]) << 16 | usize::from(change[2]) << 8 | usize::from(change[3]);
        if change[0] >= 240 {
            bytes.truncate(place % (bytes.len() + 1));
        } else if !bytes.is_empty() {
            let place = place % bytes.len();
            bytes[place] = change[4];
        }
    }
    let folder = folder();
    for (name, bytes) in &files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    let Ok(Opened { journal, .. }) = Journal::open(folder.path(), settings(), NOW) else { return };
    for stream in journal.streams() {
        for segment in journal.pending(stream, 0, usize::MAX) {
            let Ok(reader) = journal.read(stream, segment.seq) else { continue };
            for record in reader.records().map_while(Result::ok) {
                let n = record.usage.meters.as_slice().first().expect("a meter").unique_hash;
                assert_eq!(record.usage, usage(n), "a record that nobody wrote");
                assert!(n < 60);
            }
        }
    }
});
