//! What a start does with what the last stop left.
//!
//! Each file of a stream that is not sealed is walked record by record. Whole records at its start are kept and sealed under the segment's own seq. What
//! a killed writer leaves behind them (the beginning of one record) is cut off silently; anything else is damage: the original is set aside in
//! `damaged/` and reported. Sealed files are believed by their footers here and checked in full when they are read for shipping, so that a start
//! does not read gigabytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::budget::Budget;
use crate::catalog::{Acked, Pending, remove};
use crate::config::Config;
use crate::error::JournalError;
use crate::found::{Found, Listing, highest_set_aside, list, read_ends, read_head, read_segment};
use crate::head::{HeadImage, HeadState};
use crate::journal::RECEIPT_STEP;
use crate::names;
use crate::salvage::{Remains, salvage, seal_in_place};
use crate::segment::{Footer, SegmentKey, Tail};

/// What was found at the start and done about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// The journal is new.
    pub created: bool,
    /// The identity file was damaged or missing and was rebuilt from the segments.
    pub identity_rebuilt: bool,
    /// Streams whose head page was not whole and was rebuilt from the segments.
    pub heads_rebuilt: Vec<u32>,
    /// Segments that an unclean stop left open and that were sealed.
    pub sealed: Vec<SealedByRecovery>,
    /// Segments of which something was lost.
    pub damaged: Vec<DamagedSegment>,
    /// Receipt numbers that were passed over, because they might have been given out before a power loss.
    pub skipped_receipts: Vec<SkippedReceipts>,
}

/// A segment that recovery sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedByRecovery {
    /// The stream.
    pub stream: u32,
    /// The segment.
    pub seq: u64,
    /// Its records, all whole.
    pub records: u64,
    /// The beginning of one record stood behind them: its writer was killed before it reported it.
    pub torn_append: bool,
}

/// A segment that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSegment {
    /// The stream.
    pub stream: u32,
    /// The segment.
    pub seq: u64,
    /// What is wrong with it.
    pub what: String,
    /// Whole records before the damage: kept, and sealed under the same seq.
    pub kept_records: u64,
    /// Where the original stands; `None` if the disk had no room to keep it.
    pub set_aside: Option<PathBuf>,
}

/// Receipt numbers that were passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedReceipts {
    /// The stream.
    pub stream: u32,
    /// The numbers. Calls that were admitted under some of them just before the power was lost are broken.
    pub numbers: Range<u64>,
}

impl RecoveryReport {
    /// What an operator must know of, a sentence each: what was lost, rebuilt or passed over. Empty after an orderly stop, and after a kill.
    pub fn alerts(&self) -> Vec<String> {
        let mut alerts = Vec::new();
        if self.identity_rebuilt {
            alerts.push("the journal's identity file was not whole and was rebuilt from the segments".to_owned());
        }
        alerts.extend(
            self.heads_rebuilt.iter().map(|stream| format!("the head of stream {stream} was not whole and was rebuilt from its segments")),
        );
        alerts.extend(self.damaged.iter().map(|damaged| {
            let DamagedSegment { stream, seq, what, kept_records, set_aside } = damaged;
            let place = set_aside.as_ref().map_or_else(|| "could not be kept".to_owned(), |path| format!("stands in {}", path.display()));
            format!("segment {seq} of stream {stream} is damaged: {what}; {kept_records} records before the damage are kept, the original {place}")
        }));
        alerts.extend(self.skipped_receipts.iter().map(|skipped| {
            let SkippedReceipts { stream, numbers } = skipped;
            format!(
                "receipts {} to {} of stream {stream} were passed over after a power loss",
                numbers.start,
                numbers.end.saturating_sub(1)
            )
        }));
        alerts
    }

    /// True when something was lost or rebuilt that an operator must know of. Sealing after a kill is not.
    pub fn needs_alert(&self) -> bool {
        self.identity_rebuilt || !self.heads_rebuilt.is_empty() || !self.damaged.is_empty() || !self.skipped_receipts.is_empty()
    }
}

/// A stream, ready to go on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub image: HeadImage,
    pub next_receipt: u64,
    pub next_seq: u64,
    pub last_digest: [u8; 32],
    pub pending: BTreeMap<u64, Pending>,
    pub acked: BTreeMap<u64, Acked>,
    /// What the files take, in whole pages.
    pub file_bytes: u64,
}

/// Recovers one stream.
pub(crate) fn recover_stream(
    dir: &Path,
    journal_id: [u8; 16],
    stream: u32,
    config: &Config,
    now: i64,
    report: &mut RecoveryReport,
) -> Result<Recovered, JournalError> {
    let stream_dir = dir.join(stream.to_string());
    let image = read_head(&stream_dir, journal_id, stream)?;
    let listing = list(&stream_dir)?;
    let mut found = BTreeMap::new();
    for seq in &listing.segments {
        found.insert(*seq, read_segment(&stream_dir, SegmentKey { journal_id, stream, seq: *seq })?);
    }
    while let Some((seq, Found::Open(open))) = found.last_key_value()
        && open.is_unused()
        && image.state.is_none_or(|state| state.next_seq <= *seq)
    {
        let seq = *seq;
        remove(&names::segment(&stream_dir, seq))?;
        found.remove(&seq);
    }
    let fresh = listing.is_empty() && image == HeadImage::default();
    let next = next_receipt(&image, &found, &listing, config, fresh);
    if next.known < next.next && !fresh {
        report.skipped_receipts.push(SkippedReceipts { stream, numbers: next.known..next.next });
    }
    if !fresh && (image.state.is_none() || image.next_receipt.is_none()) {
        report.heads_rebuilt.push(stream);
    }
    let mut recovered = Recovered {
        image,
        next_receipt: next.next,
        next_seq: 0,
        last_digest: [0; 32],
        pending: BTreeMap::new(),
        acked: listing.acked,
        file_bytes: 0,
    };
    let set_aside = highest_set_aside(dir, stream)?.map_or(0, |seq| seq + 1);
    let state = image.state;
    settle(
        Settling { dir, stream_dir: &stream_dir, journal_id, stream, now, known_next: next.known, set_aside, state },
        found,
        &mut recovered,
        report,
    )?;
    let bytes = recovered.pending.values().map(|p| p.file_bytes).chain(recovered.acked.values().map(|a| a.file_bytes));
    recovered.file_bytes = bytes.map(Budget::pages).sum();
    Ok(recovered)
}

/// What `settle` goes by.
struct Settling<'a> {
    dir: &'a Path,
    stream_dir: &'a Path,
    journal_id: [u8; 16],
    stream: u32,
    now: i64,
    known_next: u64,
    /// One more than the highest seq that was set aside.
    set_aside: u64,
    state: Option<HeadState>,
}

/// Seals what is open, oldest first, so that each knows the digest of the one before.
fn settle(
    on: Settling<'_>,
    found: BTreeMap<u64, Found>,
    recovered: &mut Recovered,
    report: &mut RecoveryReport,
) -> Result<(), JournalError> {
    let stream = on.stream;
    // Where each segment's numbers end: where those of the next segment that knows begin.
    let mut follower = on.known_next;
    let mut followers = Vec::new();
    for next in found.values().rev() {
        followers.push(follower);
        follower = next.first_receipt().unwrap_or(follower);
    }
    let mut before: Option<(u64, [u8; 32])> = None;
    let last = found.keys().next_back().copied().unwrap_or(0);
    let mut reached = 1;
    for ((seq, found), follower) in found.into_iter().zip(followers.into_iter().rev()) {
        let prev_digest = match before {
            Some((before, digest)) if before + 1 == seq => digest,
            _ => digest_before(&on, &recovered.acked, seq)?,
        };
        let open = match found {
            Found::Sealed { pending, digest } => {
                recovered.pending.insert(seq, pending);
                before = Some((seq, digest));
                reached = pending.next_receipt;
                continue;
            }
            Found::Open(open) => open,
        };
        let first_receipt = match open.activation {
            Some(activation) => activation.first_receipt,
            None => footer_before(&on, &recovered.acked, seq)?.map_or(reached, |footer| footer.next_receipt),
        };
        let next_receipt = follower.max(first_receipt).max(open.scan.max_receipt.map_or(0, |highest| highest + 1));
        let key = SegmentKey { journal_id: on.journal_id, stream, seq };
        let damage = open.damage();
        let unsealed = on.state.is_none_or(|state| state.next_seq <= seq);
        if seq == last && unsealed && damage.is_none() && open.scan.record_count == 0 && next_receipt == first_receipt {
            remove(&names::segment(on.stream_dir, seq))?;
            continue;
        }
        let remains = Remains { key, scan: open.scan, first_receipt, next_receipt, prev_digest, activation: open.activation, now: on.now };
        let (pending, digest) = match damage {
            None => {
                report.sealed.push(SealedByRecovery {
                    stream,
                    seq,
                    records: open.scan.record_count,
                    torn_append: open.scan.tail == Tail::Torn,
                });
                seal_in_place(on.stream_dir, &remains, &open.bytes, false)?
            }
            Some(what) => {
                let salvaged = salvage(on.dir, on.stream_dir, &remains, &open.bytes)?;
                let set_aside = salvaged.set_aside;
                let kept_records = open.scan.record_count;
                report.damaged.push(DamagedSegment { stream, seq, what: what.to_owned(), kept_records, set_aside });
                (salvaged.pending, salvaged.digest)
            }
        };
        recovered.pending.insert(seq, pending);
        before = Some((seq, digest));
        reached = next_receipt;
    }
    let sealed = recovered.pending.keys().chain(recovered.acked.keys()).max().map_or(0, |seq| seq + 1);
    recovered.next_seq = sealed.max(on.set_aside).max(on.state.map_or(0, |state| state.next_seq));
    recovered.last_digest = match before {
        Some((before, digest)) if before + 1 == recovered.next_seq => digest,
        _ => digest_before(&on, &recovered.acked, recovered.next_seq)?,
    };
    Ok(())
}

/// The digest of the segment before `seq`: from the head, or from its file if it was acked or refused; zeros if none knows.
fn digest_before(on: &Settling<'_>, acked: &BTreeMap<u64, Acked>, seq: u64) -> Result<[u8; 32], JournalError> {
    if let Some(state) = on.state.filter(|state| state.next_seq == seq) {
        return Ok(state.last_digest);
    }
    Ok(footer_before(on, acked, seq)?.map_or([0; 32], |footer| footer.digest))
}

/// The footer of the segment before `seq`, if that was acked or refused.
fn footer_before(on: &Settling<'_>, acked: &BTreeMap<u64, Acked>, seq: u64) -> Result<Option<Footer>, JournalError> {
    let Some(before) = seq.checked_sub(1) else { return Ok(None) };
    let key = SegmentKey { journal_id: on.journal_id, stream: on.stream, seq: before };
    let retained = acked.get(&before).map(|entry| names::acked(on.stream_dir, before, entry.acked_at));
    let refused = Some(names::first_set_aside(&on.dir.join(names::QUARANTINE), on.stream, before)).filter(|path| path.exists());
    let Some(path) = retained.or(refused) else { return Ok(None) };
    let (_, footer) = read_ends(&path)?;
    Ok(Footer::decode(key.seed(), &footer))
}

/// Where receipt numbers go on.
struct NextReceipt {
    /// All numbers that are known to have been given out lie below.
    known: u64,
    /// All numbers that may have been given out lie below.
    next: u64,
}

fn next_receipt(image: &HeadImage, found: &BTreeMap<u64, Found>, listing: &Listing, config: &Config, fresh: bool) -> NextReceipt {
    if fresh {
        return NextReceipt { known: 1, next: 1 };
    }
    let seen = found.values().map(Found::next_known).max().unwrap_or(0).max(1);
    let known = image.next_receipt.unwrap_or(0).max(seen);
    if let (Some(next), Some(state)) = (image.next_receipt, image.state) {
        // A kill leaves the page cache as it was, so within one boot of the machine the head's number is exact.
        let same_boot = config.boot_id.is_some_and(|boot| boot == state.boot_id);
        if (state.clean || same_boot) && next <= state.receipt_ceiling && next >= seen {
            return NextReceipt { known: next, next };
        }
    }
    // Else some pages may be older than others. Numbers were given out below the ceiling only, which was flushed before; without it, a segment's header
    // holds the ceiling of its time, and one step was not used up in one segment's life.
    let from_headers = found.values().filter_map(|found| match found {
        Found::Open(open) => open.header.map(|header| header.receipt_ceiling),
        Found::Sealed { .. } => None,
    });
    let rebuilt =
        from_headers.max().into_iter().chain(listing.newest_ceiling).chain([known]).max().unwrap_or(known).saturating_add(RECEIPT_STEP);
    let next = image.state.map_or(rebuilt, |state| state.receipt_ceiling).max(known);
    NextReceipt { known, next }
}
