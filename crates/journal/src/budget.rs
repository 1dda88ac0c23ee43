//! The disk bound: how many bytes the journal's folder may take, and does.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes taken under a bound. Whole pages are counted, as the file system gives them out.
#[derive(Debug)]
pub(crate) struct Budget {
    bound: u64,
    used: AtomicU64,
}

impl Budget {
    pub fn new(bound: u64) -> Self {
        Self { bound, used: AtomicU64::new(0) }
    }

    /// What a file of `bytes` takes.
    pub fn pages(bytes: u64) -> u64 {
        bytes.next_multiple_of(4096)
    }

    /// Takes `bytes` if they fit under the bound.
    pub fn try_take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.bound);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// Counts bytes that are there whatever the bound says (found at the start, or kept as evidence).
    pub fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        // The closure always answers, so the update cannot fail.
        let _ = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    pub fn bound(&self) -> u64 {
        self.bound
    }
}
