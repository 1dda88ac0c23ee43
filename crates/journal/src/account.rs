//! What the journal can say of each stream's receipt numbers and segments, for the portal to compare with what it took (SEMANTICS M1, M7).

use std::sync::atomic::Ordering::Acquire;

use crate::journal::{Journal, Shared};
use crate::stream::{Stream, lock};

/// How often the numbers of a stream in use are read again for two readings that agree.
const READINGS: usize = 32;

/// One stream's account. The receipt numbers come from its head page and the calls from its writer's counters: neither is computed from the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAccount {
    /// The stream.
    pub stream: u32,
    /// The first number of this run: all lower ones were given out before the journal was opened.
    pub first_receipt: u64,
    /// The number that the next call takes.
    pub next_receipt: u64,
    /// Calls of this run whose final record was appended.
    pub finished: u64,
    /// Calls of this run that hold a number.
    pub open: u64,
    /// Calls of this run whose number was given back without a record.
    pub broken: u64,
    /// Whether all of these were read at one instant. They are not while calls come and end faster than they can be read.
    pub is_exact: bool,
    /// All segments below it are sealed.
    pub next_seq: u64,
    /// Those of them that the portal has not acked, as inclusive ranges in rising order.
    pub pending: Vec<(u64, u64)>,
}

/// A sealed segment that the portal has not acked, as its footer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedSegment {
    /// The stream.
    pub stream: u32,
    /// The segment.
    pub seq: u64,
    /// Its records, interim ones included.
    pub records: u64,
    /// The number that the next call would have taken when the segment was begun.
    pub first_receipt: u64,
    /// The same when it was sealed.
    pub next_receipt: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Reading {
    next_receipt: u64,
    finished: u64,
    open: u64,
    broken: u64,
}

impl Reading {
    fn of(stream: &Stream) -> Self {
        Self {
            next_receipt: stream.head.next_receipt(),
            finished: stream.finished.load(Acquire),
            open: stream.reserved.load(Acquire),
            broken: stream.abandoned.load(Acquire),
        }
    }
}

impl Journal {
    /// The account of every stream that has a folder. Takes no lock that the request path waits for.
    pub fn accounts(&self) -> Vec<StreamAccount> {
        self.streams().into_iter().map(|stream| account(&self.0, stream)).collect()
    }

    /// Up to `limit` sealed segments of a stream that are not acked, oldest first, from `from_seq` on.
    pub fn sealed(&self, stream: u32, from_seq: u64, limit: usize) -> Vec<SealedSegment> {
        let catalog = lock(&self.0.catalog);
        let Some(entries) = catalog.streams.get(&stream) else { return Vec::new() };
        let sealed = entries.pending.range(from_seq..).take(limit);
        sealed
            .map(|(seq, pending)| SealedSegment {
                stream,
                seq: *seq,
                records: pending.records,
                first_receipt: pending.first_receipt,
                next_receipt: pending.next_receipt,
            })
            .collect()
    }
}

fn account(shared: &Shared, stream: u32) -> StreamAccount {
    let first_receipt = shared.first_receipts.get(&stream).copied().unwrap_or_default();
    let writing = shared.streams.iter().find(|writing| writing.id == stream);
    // A stream without a writer gives out no numbers.
    let at_rest = Reading { next_receipt: first_receipt, finished: 0, open: 0, broken: 0 };
    let (reading, is_exact) = writing.map_or((at_rest, true), |stream| agreeing(stream));
    let (next_seq, pending) = segments(shared, stream);
    StreamAccount {
        stream,
        first_receipt,
        next_receipt: reading.next_receipt,
        finished: reading.finished,
        open: reading.open,
        broken: reading.broken,
        is_exact,
        next_seq,
        pending,
    }
}

/// Two readings in a row that agree were true at an instant between them.
fn agreeing(stream: &Stream) -> (Reading, bool) {
    let mut last = Reading::of(stream);
    for _ in 0..READINGS {
        let next = Reading::of(stream);
        if next == last {
            return (next, true);
        }
        last = next;
    }
    (last, false)
}

/// Under one look at the catalog, so that a segment which is sealed meanwhile is in neither.
fn segments(shared: &Shared, stream: u32) -> (u64, Vec<(u64, u64)>) {
    let catalog = lock(&shared.catalog);
    let at_start = shared.first_seqs.get(&stream).copied().unwrap_or_default();
    let Some(entries) = catalog.streams.get(&stream) else { return (at_start, Vec::new()) };
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seq in entries.pending.keys() {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *seq => *last = *seq,
            _ => ranges.push((*seq, *seq)),
        }
    }
    let newest = entries.pending.keys().next_back().max(entries.acked.keys().next_back());
    (newest.map_or(0, |seq| seq + 1).max(at_start), ranges)
}
