//! What the portal is told of segments beside their usage, by which it finds what it does not have (SEMANTICS M7).
//!
//! A segment is told of when it is sealed, and again when its ack is here: in every status until one was taken. What is forgotten by a restart is not
//! told again; the ranges of [`gateway_control::status::StreamReport`] speak for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gateway_control::{
    status::{SegmentReport, StreamReport},
    usage::UsageBatch,
};
use journal::{Journal, SealedSegment, StreamAccount};

/// The most segments of one status.
const MAX_SEGMENTS: usize = 2000;
/// The most acks that wait to be told: far more than come in between two statuses. Beyond, the oldest are left to the ranges.
const MAX_WAITING: usize = 20_000;
/// The most ranges of receipt numbers of a segment.
const MAX_RANGES: usize = 64;
/// The most ranges of segments of a stream.
const MAX_PENDING_RANGES: usize = 1000;

/// What was told, and what is still to be.
#[derive(Debug, Default)]
pub struct Told(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    acked: VecDeque<SegmentReport>,
    /// By stream: all sealed segments below it have been told of.
    sealed_below: HashMap<u16, u64>,
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The portal answered that it took this batch.
    pub fn note_acked(&self, batch: SegmentReport) {
        let mut state = self.state();
        if state.acked.len() >= MAX_WAITING {
            state.acked.pop_front();
        }
        state.acked.push_back(batch);
    }

    /// What the next status tells: acks first, then sealed segments that wait.
    pub fn due(&self, journal: &Journal) -> Vec<SegmentReport> {
        let state = self.state();
        let mut due: Vec<SegmentReport> = state.acked.iter().take(MAX_SEGMENTS).cloned().collect();
        for stream in journal.streams() {
            let from = state.sealed_below.get(&number(stream)).copied().unwrap_or_default();
            due.extend(journal.sealed(stream, from, MAX_SEGMENTS.saturating_sub(due.len())).into_iter().map(report_of));
        }
        due
    }

    /// A status with these was taken.
    pub fn taken(&self, told: &[SegmentReport]) {
        let mut state = self.state();
        for segment in told {
            if segment.acked {
                // The queue only grew behind what was told, unless it was cut at its bound.
                if state.acked.front() == Some(segment) {
                    state.acked.pop_front();
                }
            } else {
                let below = state.sealed_below.entry(segment.stream).or_default();
                *below = (*below).max(segment.seq + 1);
            }
        }
    }
}

/// What is told of a batch once it is acked.
pub fn report_acked(batch: &UsageBatch) -> SegmentReport {
    SegmentReport {
        stream: batch.segment.stream,
        seq: batch.segment.seq,
        records: batch.records,
        first_receipt: None,
        next_receipt: batch.next_receipt,
        acked: true,
        finals: Some(batch.final_receipts.iter().map(|(first, last)| last - first + 1).sum()),
        final_receipts: batch.final_receipts.iter().take(MAX_RANGES).copied().collect(),
    }
}

/// The accounts of all streams, as the status carries them.
pub fn streams(journal: &Journal) -> Vec<StreamReport> {
    journal.accounts().into_iter().map(stream_of).collect()
}

fn stream_of(account: StreamAccount) -> StreamReport {
    let mut pending = account.pending;
    if pending.len() > MAX_PENDING_RANGES
        && let Some((_, last)) = pending.last().copied()
    {
        pending.truncate(MAX_PENDING_RANGES);
        pending[MAX_PENDING_RANGES - 1].1 = last;
    }
    StreamReport {
        stream: number(account.stream),
        first_receipt: account.first_receipt,
        next_receipt: account.next_receipt,
        finished: account.finished,
        open: account.open,
        broken: account.broken,
        is_exact: account.is_exact,
        next_seq: account.next_seq,
        pending,
    }
}

fn report_of(segment: SealedSegment) -> SegmentReport {
    SegmentReport {
        stream: number(segment.stream),
        seq: segment.seq,
        records: segment.records,
        first_receipt: Some(segment.first_receipt),
        next_receipt: segment.next_receipt,
        acked: false,
        finals: None,
        final_receipts: Vec::new(),
    }
}

/// A journal has at most `journal::MAX_STREAMS` streams.
fn number(stream: u32) -> u16 {
    u16::try_from(stream).unwrap_or(u16::MAX)
}
