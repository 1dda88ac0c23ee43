//! What a start does with what the last stop left.
//!
//! Each file of a stream that is not sealed is walked record by record. Whole records at its start are kept and sealed under the segment's own seq. What
//! a killed writer leaves behind them (the beginning of one record) is cut off silently; anything else is damage: the original is set aside in
//! `damaged/` and reported. Sealed files are believed by their footers here and checked in full when they are read for shipping, so that a start
//! does not read gigabytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::budget::Budget;
use crate::catalog::{Acked, Pending, remove};
use crate::config::{Config, MAX_SEGMENT_SIZE_BYTES};
use crate::error::{IoContext, JournalError};
use crate::head::{HeadImage, HeadState};
use crate::journal::RECEIPT_STEP;
use crate::names::{self, Name};
use crate::salvage::{Remains, salvage, seal_in_place};
use crate::segment::{Activation, FOOTER_BYTES, Footer, HEADER_BYTES, Header, HeaderRead, SEGMENT_VERSION, Scan, SegmentKey, Tail, scan};

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

/// The streams that have a folder, and those that are to have one.
pub(crate) fn streams_on_disk(dir: &Path, streams: u32) -> Result<BTreeSet<u32>, JournalError> {
    let mut found: BTreeSet<u32> = (0..streams).collect();
    for entry in std::fs::read_dir(dir).at("listing", dir)? {
        let entry = entry.at("listing", dir)?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok().filter(|id| id.to_string() == name)) {
            found.insert(id);
        }
    }
    Ok(found)
}

/// A segment file that was not acked.
#[derive(Debug)]
enum Found {
    Sealed { pending: Pending, digest: [u8; 32] },
    Open(OpenSegment),
}

/// A file without a whole footer.
#[derive(Debug)]
struct OpenSegment {
    bytes: Vec<u8>,
    header: Option<Header>,
    activation: Option<Activation>,
    scan: Scan,
}

impl Found {
    fn first_receipt(&self) -> Option<u64> {
        match self {
            Self::Sealed { pending, .. } => Some(pending.first_receipt),
            Self::Open(open) => open.activation.map(|activation| activation.first_receipt),
        }
    }

    /// One more than the highest number that is known from this file to have been given out.
    fn next_known(&self) -> u64 {
        match self {
            Self::Sealed { pending, .. } => pending.next_receipt,
            Self::Open(open) => {
                let first = open.activation.map_or(0, |activation| activation.first_receipt);
                open.scan.max_receipt.map_or(0, |highest| highest.saturating_add(1)).max(first)
            }
        }
    }
}

impl OpenSegment {
    /// Made ahead of need and never written to.
    fn is_unused(&self) -> bool {
        self.scan.record_count == 0 && self.scan.tail == Tail::Clean && self.activation.is_none()
    }

    /// Why recovery cannot simply seal it; `None` for what a kill leaves.
    fn damage(&self) -> Option<&'static str> {
        match (&self.header, self.activation) {
            (None, _) | (_, None) => Some("its header is not whole"),
            (Some(header), _) if (self.bytes.len() as u64) < header.capacity => Some("it is shorter than it was made"),
            _ if self.scan.tail == Tail::Damaged => Some("bytes behind the last whole record do not match their checksum"),
            _ => None,
        }
    }
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
        Settling { dir, stream_dir: &stream_dir, journal_id, stream, now, known_next: next.known, state },
        found,
        &mut recovered,
        report,
    )?;
    let sealed = recovered.pending.keys().chain(recovered.acked.keys()).max().map_or(0, |seq| seq + 1);
    recovered.next_seq = sealed.max(set_aside).max(state.map_or(0, |state| state.next_seq));
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
    let mut followers: Vec<u64> = found.values().skip(1).map(|next| next.first_receipt().unwrap_or(on.known_next)).collect();
    followers.push(on.known_next);
    let mut before: Option<(u64, [u8; 32])> = None;
    let last = found.keys().next_back().copied().unwrap_or(0);
    let mut reached = reached_before(&on, &recovered.acked, found.keys().next().copied())?;
    for ((seq, found), follower) in found.into_iter().zip(followers) {
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
        let first_receipt = open.activation.map_or(reached, |activation| activation.first_receipt);
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
    recovered.last_digest = match before {
        Some((_, digest)) if recovered.acked.last_key_value().is_none_or(|(acked, _)| before.is_some_and(|(seq, _)| seq > *acked)) => {
            digest
        }
        _ => match recovered.acked.last_key_value() {
            Some((seq, _)) => digest_before(&on, &recovered.acked, seq + 1)?,
            None => on.state.map_or([0; 32], |state| state.last_digest),
        },
    };
    Ok(())
}

/// The digest of the segment before `seq`, from its file if it was acked, else from the head; zeros if neither knows.
fn digest_before(on: &Settling<'_>, acked: &BTreeMap<u64, Acked>, seq: u64) -> Result<[u8; 32], JournalError> {
    if let Some(state) = on.state.filter(|state| state.next_seq == seq) {
        return Ok(state.last_digest);
    }
    let Some(before) = seq.checked_sub(1) else { return Ok([0; 32]) };
    let Some(entry) = acked.get(&before) else { return Ok([0; 32]) };
    let key = SegmentKey { journal_id: on.journal_id, stream: on.stream, seq: before };
    let (_, footer) = read_ends(&names::acked(on.stream_dir, before, entry.acked_at))?;
    Ok(Footer::decode(key.seed(), &footer).map_or([0; 32], |footer| footer.digest))
}

/// The next receipt number at the end of the last acked segment before `seq`; 1, which is the first number, if there is none.
fn reached_before(on: &Settling<'_>, acked: &BTreeMap<u64, Acked>, seq: Option<u64>) -> Result<u64, JournalError> {
    let Some((before, entry)) = acked.range(..seq.unwrap_or(0)).next_back() else { return Ok(1) };
    let key = SegmentKey { journal_id: on.journal_id, stream: on.stream, seq: *before };
    let (_, footer) = read_ends(&names::acked(on.stream_dir, *before, entry.acked_at))?;
    Ok(Footer::decode(key.seed(), &footer).map_or(1, |footer| footer.next_receipt))
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

/// What a stream's folder holds.
#[derive(Debug, Default)]
struct Listing {
    segments: BTreeSet<u64>,
    acked: BTreeMap<u64, Acked>,
    /// The receipt ceiling in the header of the newest sealed file.
    newest_ceiling: Option<u64>,
}

impl Listing {
    fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.acked.is_empty()
    }
}

fn list(stream_dir: &Path) -> Result<Listing, JournalError> {
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(stream_dir).at("listing", stream_dir)? {
        let entry = entry.at("listing", stream_dir)?;
        match entry.file_name().to_str().map_or(Name::Other, Name::parse) {
            Name::Segment { seq } => drop(listing.segments.insert(seq)),
            Name::Acked { seq, acked_at } => {
                let file_bytes = entry.metadata().at("reading", &entry.path())?.len();
                listing.acked.insert(seq, Acked { acked_at, file_bytes });
            }
            Name::Unfinished => remove(&entry.path())?,
            Name::Other => {}
        }
    }
    let newest = [
        listing.segments.last().map(|seq| (*seq, names::segment(stream_dir, *seq))),
        listing.acked.last_key_value().map(|(seq, acked)| (*seq, names::acked(stream_dir, *seq, acked.acked_at))),
    ];
    if let Some((_, path)) = newest.into_iter().flatten().max()
        && let HeaderRead::Known(header) = Header::decode(&read_ends(&path)?.0)
    {
        listing.newest_ceiling = Some(header.receipt_ceiling);
    }
    Ok(listing)
}

fn read_head(stream_dir: &Path, journal_id: [u8; 16], stream: u32) -> Result<HeadImage, JournalError> {
    let path = stream_dir.join("head");
    let mut bytes = Vec::new();
    match File::open(&path) {
        Ok(file) => file.take(1 << 16).read_to_end(&mut bytes).at("reading", &path)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).at("opening", &path),
    };
    HeadImage::decode(&bytes, journal_id, stream, &path)
}

/// The first and last bytes of a file.
pub(crate) fn read_ends(path: &Path) -> Result<(Vec<u8>, Vec<u8>), JournalError> {
    let file = File::open(path).at("opening", path)?;
    let length = file.metadata().at("reading", path)?.len();
    let mut start = vec![0; HEADER_BYTES.min(length as usize)];
    file.read_exact_at(&mut start, 0).at("reading", path)?;
    let end_bytes = FOOTER_BYTES.min(length as usize);
    let mut end = vec![0; end_bytes];
    file.read_exact_at(&mut end, length - end_bytes as u64).at("reading", path)?;
    Ok((start, end))
}

fn read_segment(stream_dir: &Path, key: SegmentKey) -> Result<Found, JournalError> {
    let path = names::segment(stream_dir, key.seq);
    let (start, end) = read_ends(&path)?;
    let header = match Header::decode(&start) {
        HeaderRead::Known(header) => Some(header).filter(|header| header.key == key),
        HeaderRead::NewerVersion(version) => return Err(JournalError::NewerVersion { path, version, known: SEGMENT_VERSION }),
        HeaderRead::Damaged => None,
    };
    let activation = Activation::decode(key.seed(), &start);
    let length = std::fs::metadata(&path).at("reading", &path)?.len();
    if let (Some(_), Some(activation), Some(footer)) = (header, activation, Footer::decode(key.seed(), &end))
        && footer.byte_length.checked_add((HEADER_BYTES + FOOTER_BYTES) as u64) == Some(length)
    {
        let pending = Pending {
            records: footer.record_count,
            first_receipt: activation.first_receipt,
            next_receipt: footer.next_receipt,
            file_bytes: length,
            sealed_at: footer.sealed_at,
        };
        return Ok(Found::Sealed { pending, digest: footer.digest });
    }
    let bytes = read_bounded(&path)?;
    let scan = scan(&bytes, key.seed());
    Ok(Found::Open(OpenSegment { bytes, header, activation, scan }))
}

/// Reads a segment file, which is never longer than the longest that is made.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, JournalError> {
    let mut bytes = Vec::new();
    File::open(path).at("opening", path)?.take(MAX_SEGMENT_SIZE_BYTES + 1).read_to_end(&mut bytes).at("reading", path)?;
    if bytes.len() as u64 > MAX_SEGMENT_SIZE_BYTES {
        return Err(JournalError::Damaged { path: path.to_owned(), what: "it is longer than any segment; move it away".to_owned() });
    }
    Ok(bytes)
}

/// The highest seq of the stream that was refused or damaged: it is taken, although its file left the stream's folder.
fn highest_set_aside(dir: &Path, stream: u32) -> Result<Option<u64>, JournalError> {
    let mut highest = None;
    for folder in [dir.join(names::QUARANTINE), dir.join(names::DAMAGED)] {
        if !folder.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&folder).at("listing", &folder)? {
            let name = entry.at("listing", &folder)?.file_name();
            let seq = name.to_str().and_then(names::parse_set_aside).filter(|(id, _)| *id == stream).map(|(_, seq)| seq);
            highest = highest.max(seq);
        }
    }
    Ok(highest)
}
