//! The cached policy on disk: whatever stands there, reading it ends, without a panic, in a policy or in a reason.
//!
//! An input whose first byte is even is the file as it is. Otherwise it is cut into frames with the right lengths and checksums, behind a good head, so
//! that what is inside of them is reached.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use metering_gateway::policy::{cache::PolicyCache, store::PolicyStore};

fn frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend(u32::try_from(payload.len()).expect("short").to_le_bytes());
    out.extend(crc32c::crc32c(payload).to_le_bytes());
    out.extend(payload);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut file = Vec::new();
    if first % 2 == 0 {
        file.extend(rest);
    } else {
        frame(&mut file, br#"{"format":2,"epoch":"0190f2a4-7c3b-7e52-8c5f-3a1f0d2b4c6e"}"#);
        let size = usize::from(first / 2) + 9;
        rest.chunks(size).for_each(|payload| frame(&mut file, payload));
    }
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
    let name = if first % 4 == 2 { "policy.v1.ndjson" } else { "policy.v2" };
    fs::write(folder.path().join(name), file).expect("written");
    fs::write(folder.path().join("policy.confirmed"), "2026-01-01T00:00:00Z").expect("written");
    let mut store = PolicyStore::default();
    if let Ok(Some(cached)) = PolicyCache::new(folder.path()).read(&mut store, |_| ()) {
        assert!(first % 4 == 2 || cached.generation.0 > 0);
    }
});
