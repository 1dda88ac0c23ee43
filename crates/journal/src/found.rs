//! Looking at what is on the disk, before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::catalog::{Acked, Pending, remove};
use crate::config::MAX_SEGMENT_SIZE_BYTES;
use crate::error::{IoContext, JournalError};
use crate::head::HeadImage;
use crate::names::{self, Name};
use crate::pace::Pace;
use crate::segment::{Activation, FOOTER_BYTES, Footer, HEADER_BYTES, Header, HeaderRead, SEGMENT_VERSION, Scan, SegmentKey, Tail, scan};

/// A segment file that was not acked.
#[derive(Debug)]
pub(crate) enum Found {
    Sealed { pending: Pending, digest: [u8; 32] },
    Open(OpenSegment),
}

/// A file without a whole footer.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub bytes: Vec<u8>,
    pub header: Option<Header>,
    pub activation: Option<Activation>,
    pub scan: Scan,
}

impl Found {
    pub fn first_receipt(&self) -> Option<u64> {
        match self {
            Self::Sealed { pending, .. } => Some(pending.first_receipt),
            Self::Open(open) => open.activation.map(|activation| activation.first_receipt),
        }
    }

    /// One more than the highest number that is known from this file to have been given out.
    pub fn next_known(&self) -> u64 {
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
    pub fn is_unused(&self) -> bool {
        self.scan.record_count == 0 && self.scan.tail == Tail::Clean && self.activation.is_none()
    }

    /// Why recovery cannot simply seal it; `None` for what a kill leaves.
    pub fn damage(&self) -> Option<&'static str> {
        match (&self.header, self.activation) {
            (None, _) | (_, None) => Some("its header is not whole"),
            (Some(header), _) if (self.bytes.len() as u64) < header.capacity => Some("it is shorter than it was made"),
            _ if self.scan.tail == Tail::Damaged => Some("bytes behind the last whole record do not match their checksum"),
            _ => None,
        }
    }
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

/// What a stream's folder holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub segments: BTreeSet<u64>,
    pub acked: BTreeMap<u64, Acked>,
    /// The receipt ceiling in the header of the newest sealed file.
    pub newest_ceiling: Option<u64>,
}

impl Listing {
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.acked.is_empty()
    }
}

pub(crate) fn list(stream_dir: &Path) -> Result<Listing, JournalError> {
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

pub(crate) fn read_head(stream_dir: &Path, journal_id: [u8; 16], stream: u32) -> Result<HeadImage, JournalError> {
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

pub(crate) fn read_segment(stream_dir: &Path, key: SegmentKey) -> Result<Found, JournalError> {
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
    let mut bytes = Vec::new();
    read_bounded(&path, &mut bytes)?;
    let scan = scan(&bytes, key.seed());
    Ok(Found::Open(OpenSegment { bytes, header, activation, scan }))
}

/// How many bytes of a segment are read at once: who waits for the processor has it in between.
const READ_AT_ONCE: u64 = 256 * 1024;

/// Reads a segment file, which is never longer than the longest that is made, into an empty buffer.
pub(crate) fn read_bounded(path: &Path, bytes: &mut Vec<u8>) -> Result<(), JournalError> {
    let file = File::open(path).at("opening", path)?;
    let length = file.metadata().at("reading", path)?.len().min(MAX_SEGMENT_SIZE_BYTES);
    // One byte more, so that the end is found without growing.
    bytes.reserve(length as usize + 1);
    let mut rest = file.take(MAX_SEGMENT_SIZE_BYTES + 1);
    let mut pace = Pace::new(1);
    while rest.by_ref().take(READ_AT_ONCE).read_to_end(bytes).at("reading", path)? > 0 {
        pace.done(1);
    }
    if bytes.len() as u64 > MAX_SEGMENT_SIZE_BYTES {
        return Err(JournalError::Damaged { path: path.to_owned(), what: "it is longer than any segment; move it away".to_owned() });
    }
    Ok(())
}

/// The highest seq of the stream that was refused or damaged: it is taken, although its file left the stream's folder.
pub(crate) fn highest_set_aside(dir: &Path, stream: u32) -> Result<Option<u64>, JournalError> {
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
