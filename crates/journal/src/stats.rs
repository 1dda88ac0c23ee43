//! What the journal says about itself: numbers for metrics, and its health.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::journal::Journal;
use crate::stream::lock;

/// Numbers for metrics. Counters of calls and records count since the journal was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Records that the portal has not acked: what a lost disk would lose (M6).
    pub unshipped_records: u64,
    /// Bytes of the segments that hold them.
    pub unshipped_bytes: u64,
    /// When the oldest of them was sealed, or appended where its segment is not sealed; microseconds UTC.
    pub oldest_unshipped_at: Option<i64>,
    /// Segments that wait to be shipped.
    pub pending_segments: u64,
    /// Segments kept after their ack.
    pub retained_segments: u64,
    /// Segments that the portal refused, in `quarantine/`.
    pub quarantined_segments: u64,
    /// Damaged originals, in `damaged/`.
    pub damaged_segments: u64,
    /// Bytes that the folder takes, preallocated ones included.
    pub disk_used_bytes: u64,
    /// The most it may take.
    pub disk_bound_bytes: u64,
    /// Calls admitted: equals `finished_calls + open_calls + abandoned_calls`.
    pub admitted_calls: u64,
    /// Calls whose final record was appended.
    pub finished_calls: u64,
    /// Calls whose receipt was given back without a record: broken ones.
    pub abandoned_calls: u64,
    /// Calls that hold a receipt.
    pub open_calls: u64,
    /// Records appended, interim ones included.
    pub appended_records: u64,
}

/// Something the disk refused. While there is one, the gateway is not ready and an alert is raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The stream.
    pub stream: u32,
    /// The segment whose flush failed: cleared when it is acked. `None` is the head page or the folder: stays until the process is started again.
    pub seq: Option<u64>,
    /// The system's words.
    pub error: String,
}

impl Journal {
    /// The numbers now. Takes no lock that the request path waits for.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { disk_used_bytes: self.0.budget.used(), disk_bound_bytes: self.0.budget.bound(), ..Stats::default() };
        let mut oldest = None;
        let mut older = |at: i64| oldest = Some(oldest.map_or(at, |oldest: i64| oldest.min(at)));
        for stream in &self.0.streams {
            stats.admitted_calls += stream.admitted.load(Relaxed);
            stats.finished_calls += stream.finished.load(Relaxed);
            stats.abandoned_calls += stream.abandoned.load(Relaxed);
            stats.open_calls += stream.reserved.load(Relaxed);
            stats.appended_records += stream.appended.load(Acquire);
            for file in stream.open_files() {
                let records = file.records.load(Relaxed);
                if records > 0 {
                    stats.unshipped_records += records;
                    stats.unshipped_bytes += file.end.load(Acquire);
                    older(file.first_at.load(Relaxed).cast_signed());
                }
            }
        }
        let catalog = lock(&self.0.catalog);
        for stream in catalog.streams.values() {
            stats.pending_segments += stream.pending.len() as u64;
            stats.retained_segments += stream.acked.len() as u64;
            stats.unshipped_records += stream.pending_records;
            stats.unshipped_bytes += stream.pending_bytes;
            if let Some(first) = stream.pending.values().next() {
                older(first.sealed_at);
            }
        }
        stats.quarantined_segments = catalog.quarantined;
        stats.damaged_segments = catalog.damaged;
        stats.oldest_unshipped_at = oldest;
        stats
    }

    /// What the disk has refused; empty = healthy.
    pub fn failures(&self) -> Vec<Failure> {
        let failures = lock(&self.0.failures);
        failures.iter().map(|((stream, seq), error)| Failure { stream: *stream, seq: *seq, error: error.clone() }).collect()
    }
}
