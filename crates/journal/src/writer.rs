//! The writer of one stream: admission, appending, moving on to the next segment. No locks and no system calls while there is room.
//!
//! # How room is reserved
//!
//! A *slot* is room for the largest record. Every admitted call holds one until its final record is appended. Two rules keep the promise that an
//! admitted call always has room, in blocks that the file system has already given out:
//!
//! 1. A call is admitted only if all reserved slots, its own included, fit into the *spare* segments alone.
//! 2. Reserved slots never exceed the free slots of the segment being written plus those of the spares. A record takes at most one slot and frees one;
//!    moving on by size happens when less than one slot is left; moving on by age gives up the rest of the segment and happens only when the spares
//!    alone hold all that is reserved; an interim record is refused if it would take a reserved slot (its units go into the next record).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::mpsc::{Receiver, Sender};

use crate::encoding::{encode, encoded_len};
use crate::error::{AppendError, Full};
use crate::journal::Shared;
use crate::record::{RecordKind, Usage};
use crate::segment::{Activation, FOOTER_BYTES, FRAME_BYTES, HEADER_BYTES, MAX_RECORD_BYTES, frame_checksum, next_frame};
use crate::stream::{Handover, NoSegment, Segment, Stream};

/// Proof of admission: the call's number, and room for its final record. Give it back with [`StreamWriter::append`] or [`StreamWriter::abandon`];
/// dropped without either, its room stays reserved until the process ends.
#[derive(Debug)]
#[must_use = "a receipt holds room in the journal: append its record, or abandon it"]
pub struct Receipt {
    number: u64,
    stream: u32,
    parts: u32,
}

impl Receipt {
    /// The number, unique in the stream for ever.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The stream it belongs to.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// How many interim records were appended for it.
    pub fn parts(&self) -> u32 {
        self.parts
    }
}

/// The one writer of a stream. Lives on one core; is `Send`, needs `&mut self`, never waits for another core while there is room.
#[derive(Debug)]
pub struct StreamWriter {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
    /// The segment being written. There is none after a start at the disk bound, until there is room again.
    active: Option<Segment>,
    spares: VecDeque<Segment>,
    incoming: Receiver<Segment>,
    handover: Sender<Handover>,
    /// Where the next record goes, and where records must end.
    end: usize,
    limit: usize,
    records: u64,
    first_at: i64,
    next_receipt: u64,
    reserved: u64,
    slots_per_segment: u64,
    finished: u64,
    abandoned: u64,
    appended: u64,
    /// The keeper's round in which making a segment last failed: not tried again before the next.
    failed_round: Option<(u64, Full)>,
}

/// What a writer starts from.
pub(crate) struct WriterParts {
    pub shared: Arc<Shared>,
    pub stream: Arc<Stream>,
    pub incoming: Receiver<Segment>,
    pub handover: Sender<Handover>,
    pub next_receipt: u64,
}

impl StreamWriter {
    /// Takes the first segment, which has been made, into use.
    pub(crate) fn new(parts: WriterParts, now: i64) -> Self {
        let WriterParts { shared, stream, incoming, handover, next_receipt } = parts;
        let slots_per_segment = shared.config.slots_per_segment();
        let mut writer = Self {
            shared,
            stream,
            active: None,
            spares: VecDeque::new(),
            incoming,
            handover,
            end: 0,
            limit: 0,
            records: 0,
            first_at: 0,
            next_receipt,
            reserved: 0,
            slots_per_segment,
            finished: 0,
            abandoned: 0,
            appended: 0,
            failed_round: None,
        };
        writer.receive();
        // Without room this is tried again at the first record; the rules above see to it that no call is admitted before.
        let _ = writer.move_on(now);
        writer
    }

    /// Which stream this writes.
    pub fn stream(&self) -> u32 {
        self.stream.id
    }

    /// Admits a call: takes the stream's next receipt number and reserves room for its final record.
    ///
    /// # Errors
    /// When there might be no room for the record.
    #[inline]
    pub fn admit(&mut self) -> Result<Receipt, Full> {
        while self.reserved >= self.spare_slots() {
            self.find_room()?;
        }
        let number = self.next_receipt;
        if number >= self.stream.ceiling.load(Relaxed) {
            self.shared.nudge();
            return Err(Full::Receipts);
        }
        self.next_receipt = number + 1;
        self.stream.head.set_next_receipt(self.next_receipt);
        self.reserved += 1;
        self.stream.reserved.store(self.reserved, Relaxed);
        self.stream.admitted.store(self.stream.admitted.load(Relaxed) + 1, Relaxed);
        Ok(Receipt { number, stream: self.stream.id, parts: 0 })
    }

    /// Appends the final record of a call. When this returns, the record survives a kill of the process. Call it before the last byte of the answer is
    /// handed out.
    ///
    /// # Errors
    /// Only for defects: a receipt of another stream (its room stays reserved there).
    #[inline]
    pub fn append(&mut self, receipt: Receipt, usage: &Usage) -> Result<(), AppendError> {
        if receipt.stream != self.stream.id {
            return Err(AppendError::ForeignReceipt(receipt.stream));
        }
        self.write(RecordKind::Final, &receipt, usage)?;
        self.finished += 1;
        self.stream.finished.store(self.finished, Relaxed);
        self.give_back();
        Ok(())
    }

    /// Appends an interim record of a long exchange: what was used since the one before.
    ///
    /// # Errors
    /// [`Full`] when there is no room beyond what is reserved, or the receipt is of another stream: keep the units for the next record.
    pub fn append_interim(&mut self, receipt: &mut Receipt, usage: &Usage) -> Result<(), Full> {
        if receipt.stream != self.stream.id {
            return Err(Full::DiskBound);
        }
        while self.reserved >= self.free_slots() + self.spare_slots() {
            self.find_room()?;
        }
        self.write(RecordKind::Interim, receipt, usage).map_err(|_| Full::DiskBound)?;
        receipt.parts += 1;
        Ok(())
    }

    /// Gives back the room of a call that will have no final record: it counts as broken.
    pub fn abandon(&mut self, receipt: Receipt) {
        if receipt.stream == self.stream.id {
            self.abandoned += 1;
            self.stream.abandoned.store(self.abandoned, Relaxed);
            self.give_back();
        }
    }

    /// Moves on to the next segment if the one being written has a record older than `max_age`. Call it from the core's timer, a few times per
    /// `max_age`. True if it moved on.
    pub fn seal_if_due(&mut self, now: i64) -> bool {
        let max_age = i64::try_from(self.shared.config.max_age.as_micros()).unwrap_or(i64::MAX);
        // A record from the future means that the clock was stepped back: its age is not known, so it is not waited for.
        let age = now.saturating_sub(self.first_at);
        let due = age >= max_age || age <= -max_age || self.stream.leave_segment.load(Acquire);
        self.records > 0 && due && self.leave_early(now)
    }

    /// Moves on to the next segment now, if the one being written has records and the spares hold all that is reserved.
    pub fn seal(&mut self, now: i64) -> bool {
        self.records > 0 && self.leave_early(now)
    }

    /// How many records this writer has appended since the start: compare with [`crate::Journal::flushed`] to know when they are on the disk.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Ends the stream in order: what was written is sealed by the keeper's next round. Receipts still held count as broken.
    pub fn close(mut self, now: i64) {
        self.receive();
        let Self { stream, active, spares, handover, shared, next_receipt, .. } = self;
        stream.closed.store(true, Release);
        // The keeper lives as long as the journal, which `shared` keeps alive.
        if let Some(segment) = active {
            let _ = handover.send(Handover::Done { segment, next_receipt, now });
        }
        let _ = handover.send(Handover::Closed { stream: stream.id, spares: spares.into() });
        shared.nudge();
    }

    #[inline]
    fn write(&mut self, kind: RecordKind, receipt: &Receipt, usage: &Usage) -> Result<(), AppendError> {
        let length = encoded_len(usage);
        let at = usage.admitted_at.saturating_add_unsigned(usage.duration_micros);
        if next_frame(self.end, length) > self.limit {
            self.move_on(at)?;
        }
        let start = self.end;
        let Some(active) = &mut self.active else { return Err(AppendError::NoRoom) };
        let frame = &mut active.map.bytes_mut()[start..start + FRAME_BYTES + length];
        let (head, payload) = frame.split_at_mut(FRAME_BYTES);
        encode(payload, kind, receipt.number, receipt.parts, usage);
        let checksum = frame_checksum(active.seed, payload);
        head[4..8].copy_from_slice(&checksum.to_le_bytes());
        active.map.publish_u32(start, length as u32);
        self.end = next_frame(start, length);
        // The next record is most likely as long as this one.
        active.map.fetch(self.end, FRAME_BYTES + length);
        if self.records == 0 {
            self.first_at = at;
            active.file.first_at.store(at.cast_unsigned(), Relaxed);
        }
        self.records += 1;
        self.appended += 1;
        active.file.records.store(self.records, Relaxed);
        active.file.end.store(self.end as u64, Release);
        self.stream.appended.store(self.appended, Release);
        Ok(())
    }

    fn give_back(&mut self) {
        self.reserved -= 1;
        self.stream.reserved.store(self.reserved, Relaxed);
    }

    #[inline]
    fn spare_slots(&self) -> u64 {
        self.spares.len() as u64 * self.slots_per_segment
    }

    fn free_slots(&self) -> u64 {
        (self.limit - self.end) as u64 / MAX_RECORD_BYTES as u64
    }

    /// Takes what has been made meanwhile.
    fn receive(&mut self) {
        self.spares.extend(self.incoming.try_iter());
    }

    /// Gets at least one more spare segment: one the keeper has made, or one made here and now.
    #[cold]
    fn find_room(&mut self) -> Result<(), Full> {
        let before = self.spares.len();
        self.receive();
        if self.spares.len() > before {
            return Ok(());
        }
        let round = self.shared.round.load(Acquire);
        if let Some((failed, full)) = self.failed_round
            && failed == round
        {
            return Err(full);
        }
        match self.shared.make_segment(&self.stream, true, false) {
            Ok(()) => {
                // The keeper makes the next one. Where this failed it would fail too, and waking it would only have every call try again.
                self.shared.nudge();
                self.failed_round = None;
                self.receive();
                Ok(())
            }
            Err(reason) => {
                let full = match reason {
                    NoSegment::Bound => Full::DiskBound,
                    NoSegment::Disk(_) => Full::Disk,
                };
                self.failed_round = Some((round, full));
                Err(full)
            }
        }
    }

    /// Moves on although the segment is not full, if what is reserved fits into the spares.
    fn leave_early(&mut self, now: i64) -> bool {
        while self.spares.is_empty() || self.reserved > self.spare_slots() {
            // No room is no error here: the segment is kept on with, and this is tried again at the next tick.
            if self.find_room().is_err() {
                return false;
            }
        }
        self.move_on(now).is_ok()
    }

    /// Hands the segment to the keeper and takes the next spare into use.
    #[cold]
    fn move_on(&mut self, now: i64) -> Result<(), AppendError> {
        if self.spares.is_empty() {
            self.find_room().map_err(|_| AppendError::NoRoom)?;
        }
        let mut next = self.spares.pop_front().ok_or(AppendError::NoRoom)?;
        self.stream.spares.fetch_sub(1, AcqRel);
        self.stream.leave_segment.store(false, Release);
        next.activation = Activation { first_receipt: self.next_receipt, activated_at: now };
        next.activation.encode(next.seed, next.map.bytes_mut());
        self.stream.filled.store(self.end as u64, Relaxed);
        self.limit = next.file.capacity as usize - FOOTER_BYTES;
        self.end = HEADER_BYTES;
        self.records = 0;
        self.first_at = 0;
        if let Some(segment) = self.active.replace(next) {
            // The keeper lives as long as the journal, which `shared` keeps alive.
            let _ = self.handover.send(Handover::Done { segment, next_receipt: self.next_receipt, now });
        }
        self.receive();
        self.shared.nudge();
        Ok(())
    }
}
