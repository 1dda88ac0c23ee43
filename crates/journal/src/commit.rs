//! Group commit: who may not go on before its record is on the disk waits here, and one flush serves all that wait.
//!
//! The first who waits wakes the keeper. What is appended while the disk works is flushed by the keeper's next round, together. A flush that failed is
//! not repeated; who waits for it goes on when the portal has the segment, or never.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use crate::journal::Journal;
use crate::stream::lock;

/// Who waits for a flush of one stream, by the number of the record.
#[derive(Debug, Default)]
pub(crate) struct Commits(Mutex<BTreeMap<u64, Waker>>);

impl Commits {
    /// Wakes all whose records are flushed.
    pub fn wake(&self, flushed: u64) {
        let woken = {
            let mut waiting = lock(&self.0);
            let rest = waiting.split_off(&(flushed + 1));
            std::mem::replace(&mut *waiting, rest)
        };
        woken.into_values().for_each(Waker::wake);
    }
}

impl Journal {
    /// Whether the first `records` records that were appended to a stream since the start ([`crate::StreamWriter::appended`]) are on the disk, or safe at the
    /// portal. If not, the task is woken when they are, and the keeper flushes at once. Takes a lock that no appending takes.
    pub fn poll_flushed(&self, stream: u32, records: u64, cx: &mut Context<'_>) -> Poll<()> {
        let Some(found) = self.0.streams.get(stream as usize) else { return Poll::Ready(()) };
        let is_flushed = || found.flushed.load(Ordering::Acquire) >= records;
        if is_flushed() {
            return Poll::Ready(());
        }
        lock(&found.commits.0).insert(records, cx.waker().clone());
        // The keeper may have flushed between the look and the entry, and found nobody to wake.
        if is_flushed() {
            lock(&found.commits.0).remove(&records);
            return Poll::Ready(());
        }
        if !self.0.flush_wanted.swap(true, Ordering::AcqRel) {
            self.0.nudge();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicU64};
    use std::task::Wake;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::keeper::tests::{USAGE, with_failing_disk};
    use crate::{Keeper, Opened};

    /// Counts how often it was woken, and wakes a thread.
    struct Woken(AtomicU64, std::thread::Thread);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
            self.1.unpark();
        }
    }

    fn append(opened: &mut Opened) -> u64 {
        let receipt = opened.writers[0].admit().unwrap();
        opened.writers[0].append(receipt, &USAGE).unwrap();
        opened.writers[0].appended()
    }

    #[test]
    fn one_flush_serves_all_that_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (mut opened, flushed) = with_failing_disk(dir.path(), Arc::default());
        let journal = opened.journal.clone();
        journal.tend(0);
        let before = lock(&flushed).len();
        let woken = Arc::new(Woken(AtomicU64::new(0), std::thread::current()));
        let waker = woken.clone().into();
        let cx = &mut Context::from_waker(&waker);
        let records: Vec<u64> = (0..5).map(|_| append(&mut opened)).collect();
        assert!(records.iter().all(|record| journal.poll_flushed(0, *record, cx).is_pending()), "appended is not flushed");
        journal.tend(1);
        assert_eq!((woken.0.load(Ordering::Acquire), lock(&flushed).len()), (5, before + 1), "all five are woken by one flush");
        assert!(records.iter().all(|record| journal.poll_flushed(0, *record, cx).is_ready()));
    }

    #[test]
    fn who_waits_wakes_the_keeper() {
        let dir = tempfile::tempdir().unwrap();
        // The keeper's own round would come in an hour.
        let config = crate::Config { flush_interval: Duration::from_secs(3_600), ..crate::Config::default() };
        let mut opened = Journal::open(dir.path(), config, 0).unwrap();
        let journal = opened.journal.clone();
        let keeper = Keeper::start(journal.clone(), || (), || 0).unwrap();
        let waker = Arc::new(Woken(AtomicU64::new(0), std::thread::current())).into();
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..20 {
            let record = append(&mut opened);
            let started = Instant::now();
            while journal.poll_flushed(0, record, cx).is_pending() {
                assert!(started.elapsed() < Duration::from_secs(60), "record {record} is not flushed");
                std::thread::park_timeout(Duration::from_secs(5));
            }
            assert!(journal.flushed(0) >= record);
        }
        drop(keeper);
    }

    #[test]
    fn after_a_failed_flush_nobody_goes_on_before_the_portal_has_the_segment() {
        let dir = tempfile::tempdir().unwrap();
        let failing = Arc::new(AtomicU32::new(1));
        let (mut opened, _) = with_failing_disk(dir.path(), failing.clone());
        let journal = opened.journal.clone();
        let woken = Arc::new(Woken(AtomicU64::new(0), std::thread::current()));
        let waker = woken.clone().into();
        let cx = &mut Context::from_waker(&waker);
        let record = append(&mut opened);
        assert!(journal.poll_flushed(0, record, cx).is_pending());
        journal.tend(1);
        failing.store(0, Ordering::Relaxed);
        let later = append(&mut opened);
        assert!(opened.writers[0].seal_if_due(2));
        journal.tend(2);
        assert!(journal.poll_flushed(0, record, cx).is_pending() && journal.poll_flushed(0, later, cx).is_pending());
        assert_eq!(woken.0.load(Ordering::Acquire), 0);
        journal.ack(0, 0, 3).unwrap();
        journal.tend(3);
        assert!(woken.0.load(Ordering::Acquire) > 0 && journal.poll_flushed(0, later, cx).is_ready());
    }
}
