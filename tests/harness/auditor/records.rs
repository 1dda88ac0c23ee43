//! What journals on the disk hold, read by the journal's own reader.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use anyhow::{Context, ensure};
use ids::MeterId;
use journal::{AnsweredBy, Config, Journal, Opened, Outcome, RecordKind, UsageRecord};

/// The records of one exchange.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Its mark; 0 where the upstream's answer had not begun.
    pub mark: u64,
    /// How many final records it has.
    pub finals: u32,
    /// Its status, as its last record has it.
    pub status: u16,
    /// Whether the head of the answer was the upstream's.
    pub by_upstream: bool,
    /// Whether the record says that the answer came to its end.
    pub is_complete: bool,
    /// Bytes of the answer's body, over all of its records.
    pub bytes: u64,
    /// Messages both ways, over all of its records.
    pub messages: u64,
    /// The key.
    pub api_key: [u8; 16],
}

/// What one or more journals hold.
#[derive(Debug, Default)]
pub struct Recorded {
    /// By journal, stream and receipt.
    pub exchanges: BTreeMap<([u8; 16], u32, u64), Exchange>,
    segments: BTreeMap<([u8; 16], u32, u64), Segment>,
}

#[derive(Debug)]
struct Segment {
    admitted: u64,
    records: u64,
}

/// The meters of the auditor's product.
#[derive(Debug, Clone, Copy)]
pub struct Meters {
    /// Takes the mark from the upstream's header.
    pub marks: MeterId,
    /// Bytes of bodies.
    pub bytes: MeterId,
    /// Messages of WebSockets and gRPC calls.
    pub messages: MeterId,
}

impl Recorded {
    /// Adds what the journal in a gateway's folder holds, acked segments included. A copy is read, so that the gateway may run on.
    ///
    /// # Errors
    /// When the copy cannot be made or read, or its segments do not form a chain.
    pub fn read(&mut self, gateway: &Path, meters: Meters, now: i64) -> anyhow::Result<()> {
        let copy = tempfile::tempdir()?;
        copy_folder(&gateway.join("journal"), copy.path()).context("cannot copy a journal")?;
        let Opened { journal, writers, .. } = Journal::open(copy.path(), Config::default(), now)?;
        drop(writers);
        journal.offer_again()?;
        for stream in journal.streams() {
            let mut next = None;
            for segment in journal.pending(stream, 0, usize::MAX) {
                let reader = journal.read(stream, segment.seq)?;
                let info = reader.info();
                let follows = next.is_none_or(|next| next == (info.seq, info.first_receipt));
                ensure!(follows, "segment {} of stream {stream} does not follow the one before it: {info:?}", info.seq);
                next = Some((info.seq + 1, info.next_receipt));
                let segment = Segment { admitted: info.next_receipt - info.first_receipt, records: info.record_count };
                // What was read before, when the gateway still retained it, is not added twice.
                if self.segments.insert((info.journal_id, stream, info.seq), segment).is_none() {
                    for record in reader.records() {
                        self.add((info.journal_id, stream), &record?, meters);
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, (journal, stream): ([u8; 16], u32), record: &UsageRecord, meters: Meters) {
        let exchange = self.exchanges.entry((journal, stream, record.receipt)).or_default();
        let usage = &record.usage;
        exchange.api_key = usage.api_key;
        exchange.status = usage.status;
        exchange.by_upstream = usage.answered_by == AnsweredBy::Upstream;
        if record.kind == RecordKind::Final {
            exchange.finals += 1;
            exchange.is_complete = usage.outcome == Outcome::Complete;
        }
        for item in usage.meters.as_slice() {
            let units = u64::try_from(item.micro_units / 1_000_000).unwrap_or(0);
            if item.meter == meters.marks.bytes() {
                exchange.mark += units;
            } else if item.meter == meters.bytes.bytes() {
                exchange.bytes += units;
            } else if item.meter == meters.messages.bytes() {
                exchange.messages += units;
            }
        }
    }

    /// How many receipt numbers were given out.
    pub fn admitted(&self) -> u64 {
        self.segments.values().map(|segment| segment.admitted).sum()
    }

    /// How many records there are, interim ones included.
    pub fn records(&self) -> u64 {
        self.segments.values().map(|segment| segment.records).sum()
    }

    /// Those with a final record.
    pub fn finals(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.values().filter(|exchange| exchange.finals > 0)
    }

    /// The marks of those with a final record.
    pub fn marks(&self) -> BTreeSet<u64> {
        self.finals().map(|exchange| exchange.mark).filter(|mark| *mark > 0).collect()
    }
}

/// Copies a folder. Nobody seals or acks in it meanwhile: callers wait until everything is shipped, or the gateway is dead.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
