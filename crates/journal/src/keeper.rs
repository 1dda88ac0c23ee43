//! The keeper: everything that takes its time, off the request path. Makes segments ahead of need, seals, flushes, trims.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use crate::budget::Budget;
use crate::catalog::{Pending, remove};
use crate::error::{IoContext, JournalError};
use crate::head::HeadState;
use crate::identity::sync_dir;
use crate::journal::{Journal, RECEIPT_STEP};
use crate::mapping::Dirty;
use crate::segment::{DigestInput, FOOTER_BYTES, FOOTER_MARK, Footer, HEADER_BYTES, digest};
use crate::stream::{Handover, OpenFile, Segment, Stream, lock};

/// What only the keeper touches.
#[derive(Debug)]
pub(crate) struct KeeperState {
    pub handovers: Receiver<Handover>,
    pub states: BTreeMap<u32, HeadState>,
}

/// What one round did.
#[derive(Debug, Default)]
pub struct Tended {
    /// Segments sealed, ready to be shipped.
    pub sealed: u64,
    /// Acked segments dropped.
    pub dropped: u64,
    /// What failed; the rest was done. Flushes that failed are in [`Journal::failures`] too.
    pub errors: Vec<JournalError>,
}

impl Journal {
    /// One round of the keeper: makes spare segments, seals what the writers handed over, flushes, drops what was retained long enough. Blocks on the
    /// disk; [`Keeper`] calls it on a thread of its own, every `flush_interval` and when a writer wants it.
    pub fn tend(&self, now: i64) -> Tended {
        let shared = &self.0;
        let mut tended = Tended::default();
        let mut keeper = lock(&shared.keeper);
        shared.now.store(now, Ordering::Relaxed);
        // Who appends after this wakes the keeper again.
        shared.flush_wanted.swap(false, Ordering::AcqRel);
        self.top_up();
        while let Ok(handover) = keeper.handovers.try_recv() {
            match self.take_over(&mut keeper.states, handover) {
                Ok(sealed) => tended.sealed += u64::from(sealed),
                Err(error) => tended.errors.push(error),
            }
        }
        for stream in &shared.streams {
            self.flush_stream(stream);
            if let Some(state) = keeper.states.get_mut(&stream.id) {
                self.raise_ceiling(stream, state);
            }
        }
        match self.trim(now) {
            Ok(dropped) => tended.dropped = dropped,
            Err(error) => tended.errors.push(error),
        }
        self.top_up();
        shared.round.fetch_add(1, Ordering::AcqRel);
        drop(keeper);
        if tended.sealed > 0
            && let Some(wake) = shared.on_sealed.get()
        {
            wake();
        }
        tended
    }

    /// Drops acked segments whose time is over (`retain_acked`). The keeper does it in each round.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn trim(&self, now: i64) -> Result<u64, JournalError> {
        let retain = i64::try_from(self.0.config.retain_acked.as_micros()).unwrap_or(i64::MAX);
        let mut dropped = 0;
        loop {
            let next = lock(&self.0.catalog).trim(now.saturating_sub(retain), &self.0.budget)?;
            let Some(file) = next else { return Ok(dropped) };
            file.give_back();
            dropped += 1;
        }
    }

    /// Seals what the closed writers left and marks their streams as closed in order. Shipping can go on afterwards.
    ///
    /// # Errors
    /// When the disk refuses; the next start then recovers as after a kill.
    pub fn close(&self, now: i64) -> Result<(), JournalError> {
        if let Some(error) = self.tend(now).errors.pop() {
            return Err(error);
        }
        let mut keeper = lock(&self.0.keeper);
        for stream in self.0.streams.iter().filter(|stream| stream.closed.load(Ordering::Acquire)) {
            if let Some(state) = keeper.states.get_mut(&stream.id) {
                state.clean = true;
                stream.head.set_state(state);
                stream.head.file().sync_all().at("flushing", stream.head.path())?;
                sync_dir(&stream.dir)?;
            }
        }
        Ok(())
    }

    /// Sees to it that each open stream has spare segments: as many as its reserved room needs and one more, and a second if it costs no retained one.
    pub(crate) fn top_up(&self) {
        let slots = self.0.config.slots_per_segment();
        for stream in self.0.streams.iter().filter(|stream| !stream.closed.load(Ordering::Acquire)) {
            let needed = stream.reserved.load(Ordering::Relaxed).div_ceil(slots) + 1;
            let mut spares = stream.spares.load(Ordering::Acquire);
            while spares < needed + 1 && self.0.make_segment(stream, spares < needed, true).is_ok() {
                spares += 1;
            }
        }
    }

    fn take_over(&self, states: &mut BTreeMap<u32, HeadState>, handover: Handover) -> Result<bool, JournalError> {
        match handover {
            Handover::Done { segment, next_receipt, now } => {
                let stream = &self.0.streams[segment.file.key.stream as usize];
                let Some(state) = states.get_mut(&stream.id) else { return Ok(false) };
                if segment.file.records.load(Ordering::Acquire) == 0 && segment.activation.first_receipt == next_receipt {
                    return self.discard(stream, segment).map(|()| false);
                }
                self.seal(stream, state, segment, next_receipt, now).map(|()| true)
            }
            Handover::Closed { stream, spares } => {
                let stream = &self.0.streams[stream as usize];
                spares.into_iter().try_for_each(|segment| self.discard(stream, segment)).map(|()| false)
            }
        }
    }

    /// Removes a segment in which nothing was written; its seq is used again at the next start.
    fn discard(&self, stream: &Stream, segment: Segment) -> Result<(), JournalError> {
        let file = segment.file.clone();
        drop(segment);
        remove(&file.path)?;
        stream.forget_file(file.key.seq);
        self.0.budget.give(file.capacity);
        Ok(())
    }

    /// Writes the footer, cuts the file to its length and flushes it, then offers it to the shipper.
    fn seal(&self, stream: &Stream, state: &mut HeadState, segment: Segment, next_receipt: u64, now: i64) -> Result<(), JournalError> {
        let Segment { file, mut map, seed, activation } = segment;
        let end = file.end.load(Ordering::Acquire) as usize;
        let first_receipt = activation.first_receipt;
        let record_count = file.records.load(Ordering::Acquire);
        let input = DigestInput { key: file.key, first_receipt, prev_digest: state.last_digest, record_count, next_receipt };
        let frames = &map.bytes()[HEADER_BYTES..end];
        let footer = Footer {
            flags: 0,
            record_count,
            next_receipt,
            byte_length: frames.len() as u64,
            sealed_at: now,
            prev_digest: state.last_digest,
            digest: digest(&input, frames),
        };
        let bytes = footer.encode(seed);
        map.bytes_mut()[end + 4..end + FOOTER_BYTES].copy_from_slice(&bytes[4..]);
        map.publish_u32(end, FOOTER_MARK);
        // The mapping goes before the file is cut, so that nothing can touch a page that is no more.
        map.release();
        let length = (end + FOOTER_BYTES) as u64;
        file.file.set_len(length).at("cutting", &file.path)?;
        self.flush_dir(stream);
        self.flush_file(stream, &file, None);
        state.last_digest = footer.digest;
        state.next_seq = file.key.seq + 1;
        stream.head.set_state(state);
        let pending = Pending { records: record_count, first_receipt, next_receipt, file_bytes: length, sealed_at: now };
        if let Some(catalog) = lock(&self.0.catalog).streams.get_mut(&stream.id) {
            catalog.add_pending(file.key.seq, pending);
        }
        stream.forget_file(file.key.seq);
        self.0.budget.give(file.capacity);
        self.0.budget.take(Budget::pages(length));
        Ok(())
    }

    /// Flushes what was appended since the last round.
    fn flush_stream(&self, stream: &Stream) {
        let appended = stream.appended.load(Ordering::Acquire);
        self.flush_dir(stream);
        for file in stream.open_files() {
            let from = file.flushed_end.load(Ordering::Relaxed);
            if file.end.load(Ordering::Acquire) > from && !self.flush_file(stream, &file, Some(from)) {
                stream.leave_segment.store(true, Ordering::Release);
            }
        }
        let failed = lock(&self.0.failures).keys().any(|(id, _)| *id == stream.id);
        if !failed {
            stream.flushed.store(appended, Ordering::Release);
            stream.commits.wake(appended);
        }
    }

    /// Flushes a segment's file, or what was appended to it `from` a place on, unless a flush of it has failed before: the kernel may have dropped the pages and
    /// would say that all is well.
    fn flush_file(&self, stream: &Stream, file: &OpenFile, from: Option<u64>) -> bool {
        if file.flush_failed.load(Ordering::Acquire) {
            return true;
        }
        let end = file.end.load(Ordering::Acquire);
        match (self.0.flush)(&Dirty { file: &file.file, part: from.map(|from| (&file.flush_map, from..end)) }) {
            Ok(()) => {
                file.flushed_end.store(end, Ordering::Relaxed);
                true
            }
            Err(error) => {
                file.flush_failed.store(true, Ordering::Release);
                self.0.raise(stream.id, Some(file.key.seq), &error);
                false
            }
        }
    }

    fn flush_dir(&self, stream: &Stream) {
        if stream.take_dir_dirty()
            && let Err(error) = sync_dir(&stream.dir)
        {
            self.0.raise(stream.id, None, &error);
        }
    }

    /// Makes more receipt numbers safe from reuse, long before the writer runs out of them.
    fn raise_ceiling(&self, stream: &Stream, state: &mut HeadState) {
        let ceiling = stream.ceiling.load(Ordering::Relaxed);
        if ceiling - stream.head.next_receipt().min(ceiling) > RECEIPT_STEP / 2 || lock(&self.0.failures).contains_key(&(stream.id, None)) {
            return;
        }
        state.receipt_ceiling = ceiling.saturating_add(RECEIPT_STEP);
        stream.head.set_state(state);
        match (self.0.flush)(&Dirty { file: stream.head.file(), part: None }) {
            Ok(()) => stream.ceiling.store(state.receipt_ceiling, Ordering::Release),
            Err(error) => self.0.raise(stream.id, None, &error),
        }
    }
}

/// The thread that tends a journal. Stops, after a last round, when dropped.
#[derive(Debug)]
pub struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, which first does what `begin` says, for instance about its priority. `clock` tells the time in microseconds UTC.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(journal: Journal, begin: fn(), clock: impl Fn() -> i64 + Send + 'static) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("journal-keeper".to_owned()).spawn(move || {
            begin();
            // A second keeper would be woken by the timer only, which is harmless.
            let _ = journal.0.keeper_thread.set(std::thread::current());
            loop {
                let last = stopped.load(Ordering::Acquire);
                for error in journal.tend(clock()).errors {
                    tracing::error!(%error, "the journal's keeper failed at a part of its round");
                }
                if last {
                    return;
                }
                std::thread::park_timeout(journal.0.config.flush_interval);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the journal's keeper panicked");
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
