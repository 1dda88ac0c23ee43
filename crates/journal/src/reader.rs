//! Shipping: reading sealed segments, acking them, offering them again, setting refused ones aside.

use crate::budget::Budget;
use crate::catalog::Pending;
use crate::encoding::decode_into;
use crate::error::{IoContext, JournalError};
use crate::found::{read_bounded, read_ends};
use crate::identity::sync_dir;
use crate::journal::Journal;
use crate::names;
use crate::record::UsageRecord;
use crate::salvage::{Remains, salvage, set_aside_in};
use crate::segment::{Activation, Footer, HEADER_BYTES, SegmentInfo, SegmentKey, frame_at, next_frame, scan, verify};
use crate::stream::lock;

/// A segment that waits to be shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingSegment {
    /// The stream.
    pub stream: u32,
    /// The segment.
    pub seq: u64,
    /// Its records, interim ones included.
    pub records: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// When it was sealed, microseconds UTC.
    pub sealed_at: i64,
}

/// A sealed segment whose checksums are right, loaded into memory.
#[derive(Debug)]
pub struct SegmentReader {
    info: SegmentInfo,
    bytes: Vec<u8>,
    journal: Journal,
}

/// The buffer is read into again: a busy stream seals megabytes each second, and fresh memory of that size costs more than what is done with it.
impl Drop for SegmentReader {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *lock(&self.journal.0.read_buffer) = bytes;
    }
}

impl SegmentReader {
    /// Who the segment is and what it holds.
    pub fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// Its records in the order of appending. After an error there are no more.
    pub fn records(&self) -> impl Iterator<Item = Result<UsageRecord, JournalError>> + '_ {
        let mut record = UsageRecord::default();
        self.payloads().map(move |payload| {
            self.decode(&mut record, payload?)?;
            Ok(record.clone())
        })
    }

    /// Shows its records in the order of appending, each in the place of the one before: a segment has tens of thousands, and they are long.
    ///
    /// # Errors
    /// When a record cannot be read; those before it were shown.
    pub fn each_record(&self, mut show: impl FnMut(&UsageRecord)) -> Result<(), JournalError> {
        let mut record = UsageRecord::default();
        for payload in self.payloads() {
            self.decode(&mut record, payload?)?;
            show(&record);
        }
        Ok(())
    }

    fn decode(&self, record: &mut UsageRecord, payload: &[u8]) -> Result<(), JournalError> {
        let (stream, seq) = (self.info.stream, self.info.seq);
        decode_into(record, payload).map_err(|source| JournalError::Record { stream, seq, source })
    }

    fn payloads(&self) -> impl Iterator<Item = Result<&[u8], JournalError>> {
        let seed = SegmentKey { journal_id: self.info.journal_id, stream: self.info.stream, seq: self.info.seq }.seed();
        let end = HEADER_BYTES + self.info.byte_length as usize;
        let mut offset = HEADER_BYTES;
        std::iter::from_fn(move || {
            if offset >= end {
                return None;
            }
            let Some(payload) = frame_at(&self.bytes[..end], offset, seed) else {
                offset = end;
                let path = format!("segment {} of stream {}", self.info.seq, self.info.stream).into();
                return Some(Err(JournalError::Damaged { path, what: "a record's checksum does not match".to_owned() }));
            };
            offset = next_frame(offset, payload.len());
            Some(Ok(payload))
        })
    }
}

impl Journal {
    /// The streams that have a folder, with or without a writer.
    pub fn streams(&self) -> Vec<u32> {
        lock(&self.0.catalog).streams.keys().copied().collect()
    }

    /// Up to `limit` sealed segments of a stream that are not acked, oldest first, from `from_seq` on.
    pub fn pending(&self, stream: u32, from_seq: u64, limit: usize) -> Vec<PendingSegment> {
        let catalog = lock(&self.0.catalog);
        let Some(entries) = catalog.streams.get(&stream) else { return Vec::new() };
        let shown = |(seq, pending): (&u64, &Pending)| PendingSegment {
            stream,
            seq: *seq,
            records: pending.records,
            file_bytes: pending.file_bytes,
            sealed_at: pending.sealed_at,
        };
        entries.pending.range(from_seq..).take(limit).map(shown).collect()
    }

    /// Loads a segment that waits to be shipped and checks it in full. Blocks on the disk.
    ///
    /// # Errors
    /// [`JournalError::SegmentDamaged`] when its bytes are not what was sealed: raise an alert and read it again; what could be kept is in its place.
    pub fn read(&self, stream: u32, seq: u64) -> Result<SegmentReader, JournalError> {
        let mut catalog = lock(&self.0.catalog);
        let pending = catalog.streams.get(&stream).and_then(|entries| entries.pending.get(&seq)).copied();
        let Some(pending) = pending else { return Err(JournalError::NoSuchSegment { stream, seq }) };
        drop(catalog);
        let stream_dir = self.0.stream_dir(stream);
        let key = SegmentKey { journal_id: self.id(), stream, seq };
        let mut bytes = std::mem::take(&mut *lock(&self.0.read_buffer));
        read_bounded(&names::segment(&stream_dir, seq), &mut bytes)?;
        let what = match verify(key, &bytes) {
            Ok(info) => return Ok(SegmentReader { info, bytes, journal: self.clone() }),
            Err(what) => what,
        };
        catalog = lock(&self.0.catalog);
        let Some(entries) = catalog.streams.get_mut(&stream).filter(|entries| entries.pending.contains_key(&seq)) else {
            return Err(JournalError::NoSuchSegment { stream, seq });
        };
        let remains = Remains {
            key,
            scan: scan(&bytes, key.seed()),
            first_receipt: pending.first_receipt,
            next_receipt: pending.next_receipt,
            prev_digest: Footer::decode(key.seed(), &bytes).map_or([0; 32], |footer| footer.prev_digest),
            activation: Activation::decode(key.seed(), &bytes),
            now: pending.sealed_at,
        };
        let salvaged = salvage(&self.0.dir, &stream_dir, &remains, &bytes)?;
        entries.take_pending(seq);
        entries.add_pending(seq, salvaged.pending);
        self.0.budget.give(Budget::pages(pending.file_bytes));
        self.0.budget.take(Budget::pages(salvaged.pending.file_bytes));
        let mut set_aside = names::segment(&stream_dir, seq);
        if let Some(path) = salvaged.set_aside {
            catalog.damaged += 1;
            self.0.budget.take(Budget::pages(bytes.len() as u64));
            set_aside = path;
        }
        let kept_records = remains.scan.record_count;
        Err(JournalError::SegmentDamaged { stream, seq, what: what.to_owned(), kept_records, set_aside })
    }

    /// The portal has the segment, safely: it is retained for `retain_acked`, then dropped. False if it was not waiting (acked before): nothing changes.
    ///
    /// # Errors
    /// When the file cannot be renamed; it then stays pending.
    pub fn ack(&self, stream: u32, seq: u64, now: i64) -> Result<bool, JournalError> {
        let acked = match lock(&self.0.catalog).streams.get_mut(&stream) {
            Some(entries) => entries.ack(seq, now)?,
            None => false,
        };
        if acked {
            lock(&self.0.failures).remove(&(stream, Some(seq)));
        }
        Ok(acked)
    }

    /// Acks all waiting segments of a stream up to and including `through`; answers how many.
    ///
    /// # Errors
    /// When a file cannot be renamed; those before it are acked.
    pub fn ack_through(&self, stream: u32, through: u64, now: i64) -> Result<u64, JournalError> {
        let mut acked = 0;
        loop {
            let first = self.pending(stream, 0, 1).first().map(|segment| segment.seq).filter(|seq| *seq <= through);
            let Some(seq) = first else { return Ok(acked) };
            acked += u64::from(self.ack(stream, seq, now)?);
        }
    }

    /// Makes all retained segments wait to be shipped again: the portal's ledger went back or has a new epoch (M4). Answers how many. Store the new epoch
    /// after this returns, so that a kill in the middle has it done again.
    ///
    /// # Errors
    /// When a file cannot be read or renamed; those before it are offered again.
    pub fn offer_again(&self) -> Result<u64, JournalError> {
        let mut offered = 0;
        let mut catalog = lock(&self.0.catalog);
        for (stream, entries) in &mut catalog.streams {
            while let Some((seq, acked)) = entries.acked.first_key_value().map(|(seq, acked)| (*seq, *acked)) {
                let key = SegmentKey { journal_id: self.id(), stream: *stream, seq };
                let from = names::acked(&entries.dir, seq, acked.acked_at);
                let (start, end) = read_ends(&from)?;
                // A damaged one is offered as well: reading it for shipping finds that out, and says so.
                let footer = Footer::decode(key.seed(), &end);
                let first_receipt = Activation::decode(key.seed(), &start).map_or(0, |activation| activation.first_receipt);
                let pending = Pending {
                    records: footer.map_or(0, |footer| footer.record_count),
                    first_receipt,
                    next_receipt: footer.map_or(first_receipt, |footer| footer.next_receipt),
                    file_bytes: acked.file_bytes,
                    sealed_at: footer.map_or(acked.acked_at, |footer| footer.sealed_at),
                };
                std::fs::rename(&from, names::segment(&entries.dir, seq)).at("renaming", &from)?;
                entries.acked.remove(&seq);
                entries.add_pending(seq, pending);
                offered += 1;
            }
            // The caller will store that it was done; a power loss must not undo the renaming after that.
            sync_dir(&entries.dir)?;
        }
        Ok(offered)
    }

    /// Sets a segment aside that the portal refused because it has other bytes under the same key (409): raise an alert. The stream goes on without it.
    /// Answers where it stands now, or `None` if it was not waiting.
    ///
    /// # Errors
    /// When the file cannot be moved; it then stays pending.
    pub fn quarantine(&self, stream: u32, seq: u64) -> Result<Option<std::path::PathBuf>, JournalError> {
        let mut catalog = lock(&self.0.catalog);
        let Some(entries) = catalog.streams.get_mut(&stream).filter(|entries| entries.pending.contains_key(&seq)) else { return Ok(None) };
        let from = names::segment(&entries.dir, seq);
        let to = set_aside_in(&self.0.dir, names::QUARANTINE, stream, seq)?;
        std::fs::rename(&from, &to).at("setting aside", &from)?;
        entries.take_pending(seq);
        catalog.quarantined += 1;
        drop(catalog);
        lock(&self.0.failures).remove(&(stream, Some(seq)));
        Ok(Some(to))
    }
}
