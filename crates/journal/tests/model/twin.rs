//! The twin: what the journal must hold, kept in plain collections.

use std::collections::{BTreeMap, BTreeSet};

use journal::{Config, Journal, Opened, Receipt, RecordKind, SegmentInfo, StreamWriter, UsageRecord};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::common::{NEW_YEAR, SECOND, fast_dir, files, largest, small, usage};
use crate::disk::{self, Choices, Files};

type Checked = Result<(), TestCaseError>;

/// A segment as it was when it was first offered.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    info: SegmentInfo,
    records: Vec<UsageRecord>,
}

pub struct Twin {
    dir: TempDir,
    journal: Option<Journal>,
    writer: Option<StreamWriter>,
    calls: Vec<Receipt>,
    now: i64,
    boot: u8,
    /// What was on the disk after the last flush.
    flushed: Files,
    /// Records appended and not yet seen in a segment, and how many of them a power loss must leave.
    appended: Vec<UsageRecord>,
    durable: usize,
    /// Segments seen, whatever became of them; those that wait, and those that are acked.
    seen: BTreeMap<u64, Seen>,
    waiting: BTreeSet<u64>,
    acked: BTreeMap<u64, i64>,
    highest_receipt: u64,
    /// Records appended since the journal was opened: what `flushed` counts.
    since_open: u64,
    /// Records that were not flushed may be missing.
    power_lost: bool,
}

impl Twin {
    pub fn new() -> Self {
        let mut twin = Self {
            dir: fast_dir(),
            journal: None,
            writer: None,
            calls: Vec::new(),
            now: NEW_YEAR,
            boot: 0,
            flushed: Files::new(),
            appended: Vec::new(),
            durable: 0,
            seen: BTreeMap::new(),
            waiting: BTreeSet::new(),
            acked: BTreeMap::new(),
            highest_receipt: 0,
            since_open: 0,
            power_lost: false,
        };
        twin.open().expect("a new journal opens");
        twin
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("the journal is open")
    }

    fn writer(&mut self) -> &mut StreamWriter {
        self.writer.as_mut().expect("the writer is open")
    }

    fn open(&mut self) -> Result<journal::RecoveryReport, TestCaseError> {
        let config = Config { disk_bound_bytes: 14 * 8192, boot_id: Some([self.boot; 16]), ..small() };
        let opened = Journal::open(self.dir.path(), config, self.now);
        let Opened { journal, mut writers, report } = opened.map_err(|error| TestCaseError::fail(error.to_string()))?;
        self.journal = Some(journal);
        self.writer = writers.pop();
        self.since_open = 0;
        // Opening flushes what it finds and seals. The segment to write and the spares are made after that.
        let offered: BTreeSet<_> = self.journal().pending(0, 0, usize::MAX).iter().map(|segment| segment.seq).collect();
        self.flushed = files(self.dir.path());
        self.flushed.retain(|path, _| disk::waiting_seq(path).is_none_or(|seq| offered.contains(&seq)));
        Ok(report)
    }

    pub fn admit(&mut self) -> Checked {
        if let Ok(receipt) = self.writer().admit() {
            prop_assert!(receipt.number() > self.highest_receipt, "receipt {} was used twice", receipt.number());
            self.highest_receipt = receipt.number();
            self.calls.push(receipt);
        }
        Ok(())
    }

    pub fn append(&mut self, call: usize, large: bool) -> Checked {
        if self.calls.is_empty() {
            return Ok(());
        }
        let receipt = self.calls.swap_remove(call % self.calls.len());
        let n = receipt.number();
        let usage = if large { largest(n) } else { usage(n) };
        self.appended.push(UsageRecord { kind: RecordKind::Final, receipt: n, part: receipt.parts(), usage: usage.clone() });
        self.since_open += 1;
        self.writer().append(receipt, &usage).map_err(|error| TestCaseError::fail(format!("an admitted call had no room: {error}")))
    }

    pub fn interim(&mut self, call: usize) -> Checked {
        if self.calls.is_empty() {
            return Ok(());
        }
        let index = call % self.calls.len();
        let mut receipt = self.calls.swap_remove(index);
        let (number, part) = (receipt.number(), receipt.parts());
        if self.writer().append_interim(&mut receipt, &usage(number)).is_ok() {
            self.since_open += 1;
            self.appended.push(UsageRecord { kind: RecordKind::Interim, receipt: number, part, usage: usage(number) });
        }
        self.calls.push(receipt);
        Ok(())
    }

    pub fn abandon(&mut self, call: usize) -> Checked {
        if !self.calls.is_empty() {
            let receipt = self.calls.swap_remove(call % self.calls.len());
            self.writer().abandon(receipt);
        }
        Ok(())
    }

    pub fn seal(&mut self) -> Checked {
        let now = self.now;
        self.writer().seal(now);
        Ok(())
    }

    pub fn wait(&mut self, seconds: i64) -> Checked {
        self.now += seconds * SECOND;
        let now = self.now;
        self.writer().seal_if_due(now);
        Ok(())
    }

    pub fn tend(&mut self) -> Checked {
        let errors = self.journal().tend(self.now).errors;
        prop_assert!(errors.is_empty(), "{errors:?}");
        self.learn()?;
        self.durable = self.appended.len();
        // Who waited for a flush may go on now, and a power loss must not take what they wait for.
        prop_assert_eq!(self.journal().flushed(0), self.since_open);
        self.flushed = files(self.dir.path());
        Ok(())
    }

    fn nth_waiting(&self, segment: usize) -> Option<u64> {
        self.waiting.iter().nth(segment % self.waiting.len().max(1)).copied()
    }

    pub fn ack(&mut self, segment: usize) -> Checked {
        if let Some(seq) = self.nth_waiting(segment) {
            prop_assert!(self.journal().ack(0, seq, self.now).unwrap());
            self.waiting.remove(&seq);
            self.acked.insert(seq, self.now);
        }
        Ok(())
    }

    pub fn ack_all(&mut self) -> Checked {
        let acked = self.journal().ack_through(0, u64::MAX, self.now).unwrap();
        prop_assert_eq!(acked, self.waiting.len() as u64);
        let now = self.now;
        self.acked.extend(std::mem::take(&mut self.waiting).into_iter().map(|seq| (seq, now)));
        Ok(())
    }

    pub fn offer_again(&mut self) -> Checked {
        let retained = self.journal().stats().retained_segments;
        prop_assert_eq!(self.journal().offer_again().unwrap(), retained);
        disk::flush_names(&mut self.flushed, &files(self.dir.path()));
        self.learn_offered_again()
    }

    pub fn quarantine(&mut self, segment: usize) -> Checked {
        if let Some(seq) = self.nth_waiting(segment) {
            prop_assert!(self.journal().quarantine(0, seq).unwrap().is_some_and(|path| path.exists()));
            self.waiting.remove(&seq);
        }
        Ok(())
    }

    /// The process ends without a word; the next one finds the folder as it is.
    pub fn kill(&mut self) -> Checked {
        // A copy taken while the journal runs holds what the page cache holds.
        let copy = fast_dir();
        crate::common::copy_dir(self.dir.path(), copy.path());
        self.stop();
        self.dir = copy;
        let report = self.open()?;
        prop_assert!(!report.needs_alert(), "{report:?}");
        self.learn()?;
        prop_assert!(self.appended.is_empty(), "{} records were lost by a kill", self.appended.len());
        Ok(())
    }

    pub fn close(&mut self) -> Checked {
        let now = self.now;
        self.writer.take().expect("the writer is open").close(now);
        self.journal().close(now).map_err(|error| TestCaseError::fail(error.to_string()))?;
        self.stop();
        let report = self.open()?;
        prop_assert!(!report.needs_alert() && report.sealed.is_empty(), "{report:?}");
        self.learn()?;
        prop_assert!(self.appended.is_empty(), "{} records were lost by a close", self.appended.len());
        Ok(())
    }

    /// The machine loses power: of all pages not flushed since the last round of the keeper, any may be gone.
    pub fn lose_power(&mut self, seed: u64) -> Checked {
        let now = files(self.dir.path());
        let left = disk::after_power_loss(&self.flushed, &now, &mut Choices(seed));
        self.stop();
        self.dir = fast_dir();
        disk::write(self.dir.path(), &left);
        self.boot += 1;
        self.open()?;
        self.power_lost = true;
        self.learn_offered_again()?;
        self.power_lost = false;
        // What is left of the records that were not flushed is known by what was found; the rest is lost, and may be.
        prop_assert_eq!(self.durable, 0, "flushed records were lost");
        self.appended.clear();
        Ok(())
    }

    fn stop(&mut self) {
        self.calls.clear();
        self.writer = None;
        self.journal = None;
    }

    /// Acked segments that wait again.
    fn learn_offered_again(&mut self) -> Checked {
        for segment in self.journal().pending(0, 0, usize::MAX) {
            if self.acked.remove(&segment.seq).is_some() {
                self.waiting.insert(segment.seq);
            }
        }
        self.learn()
    }

    /// Looks at what is offered: known segments must be as they were, new ones hold the next records.
    fn learn(&mut self) -> Checked {
        let pending = self.journal().pending(0, 0, usize::MAX);
        for segment in &pending {
            let reader = self.journal().read(0, segment.seq).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let records = reader.records().collect::<Result<Vec<_>, _>>().map_err(|error| TestCaseError::fail(error.to_string()))?;
            let seen = Seen { info: *reader.info(), records };
            prop_assert_eq!(seen.info.record_count, seen.records.len() as u64);
            if let Some(before) = self.seen.get(&segment.seq) {
                prop_assert_eq!(before, &seen, "a segment that was offered has changed");
                continue;
            }
            self.follows(&seen)?;
            for record in &seen.records {
                let skipped = self.appended.iter().take_while(|appended| *appended != record).count();
                prop_assert!(skipped < self.appended.len(), "a segment holds a record that is not among the next: {:?}", record.receipt);
                prop_assert!(
                    skipped == 0 || (self.power_lost && self.durable == 0),
                    "{skipped} records are missing before {}",
                    record.receipt
                );
                self.appended.drain(..=skipped);
                self.durable = self.durable.saturating_sub(1);
            }
            self.waiting.insert(segment.seq);
            self.seen.insert(segment.seq, seen);
        }
        let offered: BTreeSet<_> = pending.iter().map(|segment| segment.seq).collect();
        prop_assert_eq!(&offered, &self.waiting);
        Ok(())
    }

    /// A new segment comes right behind the last, in number, digest and receipts.
    fn follows(&self, new: &Seen) -> Checked {
        let Some((seq, last)) = self.seen.last_key_value() else {
            prop_assert_eq!((new.info.seq, new.info.prev_digest), (0, [0; 32]));
            return Ok(());
        };
        prop_assert_eq!((new.info.seq, new.info.prev_digest), (seq + 1, last.info.segment_digest));
        prop_assert!(new.info.first_receipt >= last.info.next_receipt && new.info.next_receipt >= new.info.first_receipt);
        Ok(())
    }

    /// What can be compared after every step.
    pub fn agrees(&mut self) -> Checked {
        let stats = self.journal().stats();
        prop_assert!(stats.disk_used_bytes <= stats.disk_bound_bytes, "{} bytes used", stats.disk_used_bytes);
        prop_assert_eq!(stats.disk_used_bytes, disk::used(self.dir.path()));
        let waiting: u64 = self.waiting.iter().map(|seq| self.seen[seq].records.len() as u64).sum();
        prop_assert_eq!(stats.unshipped_records, waiting + self.appended.len() as u64);
        prop_assert_eq!(stats.open_calls, self.calls.len() as u64);
        prop_assert_eq!(stats.admitted_calls, stats.finished_calls + stats.abandoned_calls + stats.open_calls);
        prop_assert!(stats.retained_segments <= self.acked.len() as u64);
        Ok(())
    }
}
