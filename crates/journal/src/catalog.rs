//! The sealed segments of all streams: what waits to be shipped, and what is retained after its ack.
//!
//! The newest sealed segment of a stream is never dropped: with it, the next seq and the digest chain survive the loss of the head page.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use crate::budget::Budget;
use crate::error::{IoContext, JournalError};
use crate::names;
use crate::pace::Pace;

/// A sealed segment that the portal has not acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    pub records: u64,
    pub first_receipt: u64,
    pub next_receipt: u64,
    pub file_bytes: u64,
    pub sealed_at: i64,
}

/// A segment that the portal has acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acked {
    pub acked_at: i64,
    pub file_bytes: u64,
}

/// The sealed segments of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamCatalog {
    pub dir: PathBuf,
    pub pending: BTreeMap<u64, Pending>,
    pub acked: BTreeMap<u64, Acked>,
    /// Sums over `pending`, kept so that a look at the metrics does not walk a long backlog.
    pub pending_records: u64,
    pub pending_bytes: u64,
}

impl StreamCatalog {
    pub fn new(dir: PathBuf, pending: BTreeMap<u64, Pending>, acked: BTreeMap<u64, Acked>) -> Self {
        let pending_records = pending.values().map(|p| p.records).sum();
        let pending_bytes = pending.values().map(|p| p.file_bytes).sum();
        Self { dir, pending, acked, pending_records, pending_bytes }
    }

    pub fn add_pending(&mut self, seq: u64, pending: Pending) {
        self.pending_records += pending.records;
        self.pending_bytes += pending.file_bytes;
        self.pending.insert(seq, pending);
    }

    pub fn take_pending(&mut self, seq: u64) -> Option<Pending> {
        let pending = self.pending.remove(&seq)?;
        self.pending_records -= pending.records;
        self.pending_bytes -= pending.file_bytes;
        Some(pending)
    }
    fn newest(&self) -> Option<u64> {
        self.pending.last_key_value().map(|(seq, _)| *seq).max(self.acked.last_key_value().map(|(seq, _)| *seq))
    }

    /// The oldest acked segment that may be dropped.
    fn droppable(&self) -> Option<(u64, Acked)> {
        let (seq, acked) = self.acked.first_key_value()?;
        (Some(*seq) != self.newest()).then_some((*seq, *acked))
    }

    /// Renames the segment so that it counts as shipped. False if it was not pending.
    pub fn ack(&mut self, seq: u64, now: i64) -> Result<bool, JournalError> {
        let Some(pending) = self.pending.get(&seq).copied() else { return Ok(false) };
        let from = names::segment(&self.dir, seq);
        std::fs::rename(&from, names::acked(&self.dir, seq, now)).at("renaming", &from)?;
        self.take_pending(seq);
        self.acked.insert(seq, Acked { acked_at: now, file_bytes: pending.file_bytes });
        Ok(true)
    }

    fn drop_acked(&mut self, seq: u64, acked: Acked, budget: &Budget) -> Result<Dropped, JournalError> {
        let path = names::acked(&self.dir, seq, acked.acked_at);
        // Of a file that cannot be opened now, all goes at once.
        let file = OpenOptions::new().write(true).open(&path).ok();
        remove(&path)?;
        self.acked.remove(&seq);
        budget.give(Budget::pages(acked.file_bytes));
        Ok(Dropped(file))
    }
}

/// All streams' sealed segments.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub streams: BTreeMap<u32, StreamCatalog>,
    pub quarantined: u64,
    pub damaged: u64,
}

impl Catalog {
    /// Drops an acked segment that was retained long enough.
    pub fn trim(&mut self, acked_before: i64, budget: &Budget) -> Result<Option<Dropped>, JournalError> {
        let due = |stream: &StreamCatalog| stream.droppable().filter(|(_, acked)| acked.acked_at <= acked_before);
        let found = self.streams.values_mut().find_map(|stream| due(stream).map(|(seq, acked)| (stream, seq, acked)));
        found.map(|(stream, seq, acked)| stream.drop_acked(seq, acked, budget)).transpose()
    }

    /// Drops the acked segment that was acked first, to make room. False when there is none to drop.
    pub fn drop_oldest_acked(&mut self, budget: &Budget) -> Result<bool, JournalError> {
        let oldest = self.streams.values_mut().filter_map(|stream| stream.droppable().map(|(seq, acked)| (acked.acked_at, seq, stream)));
        let Some((acked_at, seq, stream)) = oldest.min_by_key(|(acked_at, ..)| *acked_at) else { return Ok(false) };
        let file_bytes = stream.acked.get(&seq).map_or(0, |acked| acked.file_bytes);
        // Who needs the room waits for it, so that it goes at once.
        drop(stream.drop_acked(seq, Acked { acked_at, file_bytes }, budget)?);
        Ok(true)
    }
}

/// A file that has no name any more. When this is dropped, its pages and blocks go, for all of which together the system takes a millisecond.
#[must_use = "its pages go now or, all at once, when it is dropped"]
#[derive(Debug)]
pub(crate) struct Dropped(Option<File>);

/// How much of a file without a name goes at once: first the pages that are in memory, which take the longest, then its blocks.
#[cfg(target_os = "linux")]
const FORGOTTEN_AT_ONCE: u64 = 128 * 1024;
const CUT_AT_ONCE: u64 = 512 * 1024;

impl Dropped {
    /// Gives pages and blocks back a few at a time. To be called without a lock.
    pub fn give_back(self) {
        let Some(file) = self.0 else { return };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        #[cfg(target_os = "linux")]
        for offset in Pace::new(1).over((0..length).step_by(FORGOTTEN_AT_ONCE as usize)) {
            // Pages that stay in memory go with their blocks.
            let _ = rustix::fs::fadvise(&file, offset, NonZeroU64::new(FORGOTTEN_AT_ONCE), rustix::fs::Advice::DontNeed);
        }
        for length in Pace::new(1).over((0..length.div_ceil(CUT_AT_ONCE)).rev().map(|cuts| cuts * CUT_AT_ONCE)) {
            if file.set_len(length).is_err() {
                // What is left goes with the file.
                return;
            }
        }
    }
}

/// Removes a file; that it is gone already is as good.
pub(crate) fn remove(path: &Path) -> Result<(), JournalError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("removing", path),
        _ => Ok(()),
    }
}
