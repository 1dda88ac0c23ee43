//! The bytes of a segment file: header, frames, footer (format version 1). No I/O here.
//!
//! ```text
//! 0    header, 128 bytes
//!        0  magic "TKSEGMT\0"     8  version u32      12  stream u32      16  journal id
//!        32 seq u64               40 created_at i64   48  capacity u64    56  receipt ceiling u64
//!        64 crc32c u32 of 0..64   68 zero u32
//!        72 first receipt u64     80 activated_at i64 88  state u32 = 1   92  crc32c u32 of 72..92 (seeded)
//!        96 zero
//! 128  frames, each at a multiple of 8: length u32, crc32c u32 (seeded with the length), payload; zeros up to the next multiple of 8
//! ..   footer, 128 bytes, the end of a sealed file
//!        0  0xFFFF_FFFF           4  crc32c u32 of 8..128 (seeded)        8   magic "TKSEALED"
//!        16 version u32           20 flags u32        24 record count u64 32  next receipt u64
//!        40 byte length u64 (frames)                  48 sealed_at i64    56  previous digest  88 digest
//!        120 zero
//! ```
//!
//! All numbers are little endian. "Seeded" checksums start from the checksum of journal id, stream and seq, so that a block that strayed in from
//! another file is not taken for one of ours. The digest is SHA-256 over journal id, stream, seq, first receipt, previous digest, the frames, record
//! count, next receipt and byte length: sealing the same records again gives the same digest. The previous digest stands in the footer and not
//! in the header, because a digest is computed off the request path, when the next segment is already being written.

use sha2::{Digest as _, Sha256};

use crate::encoding::{MAX_PAYLOAD_BYTES, receipt_of};
use crate::pace::Pace;

/// The version of the segment format that is written, and the newest that is read.
pub const SEGMENT_VERSION: u32 = 1;
/// The most bytes one record takes in a segment: what is reserved at admission.
pub const MAX_RECORD_BYTES: usize = (FRAME_BYTES + MAX_PAYLOAD_BYTES).next_multiple_of(8);

pub(crate) const HEADER_BYTES: usize = 128;
pub(crate) const FOOTER_BYTES: usize = 128;
pub(crate) const FRAME_BYTES: usize = 8;
const HEADER_MAGIC: &[u8; 8] = b"TKSEGMT\0";
const FOOTER_MAGIC: &[u8; 8] = b"TKSEALED";
pub(crate) const FOOTER_MARK: u32 = u32::MAX;
const ACTIVE: u32 = 1;

/// Which segment: the key under which the portal takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentKey {
    pub journal_id: [u8; 16],
    pub stream: u32,
    pub seq: u64,
}

impl SegmentKey {
    /// What the seeded checksums of this segment start from.
    pub fn seed(&self) -> u32 {
        let mut bytes = [0; 28];
        bytes[..16].copy_from_slice(&self.journal_id);
        bytes[16..20].copy_from_slice(&self.stream.to_le_bytes());
        bytes[20..].copy_from_slice(&self.seq.to_le_bytes());
        crc32c::crc32c(&bytes)
    }
}

/// The part of the header that is written when the file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub key: SegmentKey,
    pub created_at: i64,
    /// The length it was preallocated with.
    pub capacity: u64,
    /// Receipt numbers below this were safe from reuse when the file was made: what a lost head page is rebuilt from.
    pub receipt_ceiling: u64,
}

/// The part of the header that is written when the writer takes the segment into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activation {
    pub first_receipt: u64,
    pub activated_at: i64,
}

/// What a header's bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderRead {
    Known(Header),
    NewerVersion(u32),
    Damaged,
}

impl Header {
    pub fn encode(&self, out: &mut [u8; HEADER_BYTES]) {
        *out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(HEADER_MAGIC);
        out[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.key.stream.to_le_bytes());
        out[16..32].copy_from_slice(&self.key.journal_id);
        out[32..40].copy_from_slice(&self.key.seq.to_le_bytes());
        out[40..48].copy_from_slice(&self.created_at.to_le_bytes());
        out[48..56].copy_from_slice(&self.capacity.to_le_bytes());
        out[56..64].copy_from_slice(&self.receipt_ceiling.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..64]);
        out[64..68].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the header at the start of a file.
    pub fn decode(bytes: &[u8]) -> HeaderRead {
        let Some(block) = bytes.first_chunk::<HEADER_BYTES>() else { return HeaderRead::Damaged };
        if &block[..8] != HEADER_MAGIC || crc32c::crc32c(&block[..64]) != u32_at(block, 64) {
            return HeaderRead::Damaged;
        }
        let version = u32_at(block, 8);
        if version != SEGMENT_VERSION {
            return HeaderRead::NewerVersion(version);
        }
        let key = SegmentKey { journal_id: id_at(block, 16), stream: u32_at(block, 12), seq: u64_at(block, 32) };
        let created_at = u64_at(block, 40).cast_signed();
        HeaderRead::Known(Self { key, created_at, capacity: u64_at(block, 48), receipt_ceiling: u64_at(block, 56) })
    }
}

impl Activation {
    /// Writes the block into the segment's bytes.
    pub fn encode(&self, seed: u32, segment: &mut [u8]) {
        let block = &mut segment[72..96];
        block[..8].copy_from_slice(&self.first_receipt.to_le_bytes());
        block[8..16].copy_from_slice(&self.activated_at.to_le_bytes());
        block[16..20].copy_from_slice(&ACTIVE.to_le_bytes());
        let checksum = crc32c::crc32c_append(seed, &block[..20]);
        block[20..].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads the block; `None` when the segment was never taken into use, or the block is damaged.
    pub fn decode(seed: u32, segment: &[u8]) -> Option<Self> {
        let block: &[u8; 24] = segment.get(72..96)?.try_into().ok()?;
        if u32_at(block, 16) != ACTIVE || crc32c::crc32c_append(seed, &block[..20]) != u32_at(block, 20) {
            return None;
        }
        Some(Self { first_receipt: u64_at(block, 0), activated_at: u64_at(block, 8).cast_signed() })
    }
}

/// Footer flag: sealed by recovery after an unclean stop.
pub(crate) const FLAG_RECOVERED: u32 = 1;
/// Footer flag: records were lost behind a damaged place.
pub(crate) const FLAG_CUT: u32 = 1 << 1;

/// The end of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub flags: u32,
    pub record_count: u64,
    pub next_receipt: u64,
    pub byte_length: u64,
    pub sealed_at: i64,
    pub prev_digest: [u8; 32],
    pub digest: [u8; 32],
}

impl Footer {
    pub fn encode(&self, seed: u32) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        out[..4].copy_from_slice(&FOOTER_MARK.to_le_bytes());
        out[8..16].copy_from_slice(FOOTER_MAGIC);
        out[16..20].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        out[20..24].copy_from_slice(&self.flags.to_le_bytes());
        out[24..32].copy_from_slice(&self.record_count.to_le_bytes());
        out[32..40].copy_from_slice(&self.next_receipt.to_le_bytes());
        out[40..48].copy_from_slice(&self.byte_length.to_le_bytes());
        out[48..56].copy_from_slice(&self.sealed_at.to_le_bytes());
        out[56..88].copy_from_slice(&self.prev_digest);
        out[88..120].copy_from_slice(&self.digest);
        let checksum = crc32c::crc32c_append(seed, &out[8..]);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the footer that ends a sealed file; `None` when the file does not end with a whole one.
    pub fn decode(seed: u32, file: &[u8]) -> Option<Self> {
        let block = file.last_chunk::<FOOTER_BYTES>()?;
        let whole = u32_at(block, 0) == FOOTER_MARK && &block[8..16] == FOOTER_MAGIC && u32_at(block, 16) == SEGMENT_VERSION;
        if !whole || crc32c::crc32c_append(seed, &block[8..]) != u32_at(block, 4) {
            return None;
        }
        Some(Self {
            flags: u32_at(block, 20),
            record_count: u64_at(block, 24),
            next_receipt: u64_at(block, 32),
            byte_length: u64_at(block, 40),
            sealed_at: u64_at(block, 48).cast_signed(),
            prev_digest: digest_at(block, 56),
            digest: digest_at(block, 88),
        })
    }
}

/// What a digest is taken over, beside the frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DigestInput {
    pub key: SegmentKey,
    pub first_receipt: u64,
    pub prev_digest: [u8; 32],
    pub record_count: u64,
    pub next_receipt: u64,
}

/// How much is hashed at once. All of a segment takes milliseconds, for which a call that comes on the same processor would have to wait.
const DIGEST_PIECE_BYTES: usize = 64 * 1024;

/// The segment's digest (module doc).
pub(crate) fn digest(input: &DigestInput, frames: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(input.key.journal_id);
    hash.update(input.key.stream.to_le_bytes());
    hash.update(input.key.seq.to_le_bytes());
    hash.update(input.first_receipt.to_le_bytes());
    hash.update(input.prev_digest);
    for piece in Pace::new(1).over(frames.chunks(DIGEST_PIECE_BYTES)) {
        hash.update(piece);
    }
    hash.update(input.record_count.to_le_bytes());
    hash.update(input.next_receipt.to_le_bytes());
    hash.update((frames.len() as u64).to_le_bytes());
    hash.finalize().into()
}

/// The checksum of a frame's payload.
#[inline]
pub(crate) fn frame_checksum(seed: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(seed ^ payload.len() as u32, payload)
}

/// Where the frame after one with `payload_len` bytes at `offset` begins.
#[inline]
pub(crate) fn next_frame(offset: usize, payload_len: usize) -> usize {
    (offset + FRAME_BYTES + payload_len).next_multiple_of(8)
}

/// The payload of the frame at `offset`, if it is whole and its checksum is right.
pub(crate) fn frame_at(bytes: &[u8], offset: usize, seed: u32) -> Option<&[u8]> {
    let head: &[u8; FRAME_BYTES] = bytes.get(offset..)?.first_chunk()?;
    let length = u32_at(head, 0) as usize;
    if length == 0 || length > MAX_PAYLOAD_BYTES {
        return None;
    }
    let payload = bytes.get(offset + FRAME_BYTES..offset + FRAME_BYTES + length)?;
    (frame_checksum(seed, payload) == u32_at(head, 4)).then_some(payload)
}

/// What stands behind the last whole record of a segment that was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing, or a whole footer.
    Clean,
    /// The beginning of one record (or of the footer) whose writer was killed: nothing that was ever reported as appended.
    Torn,
    /// Bytes that a killed writer does not leave: flipped, or pages that a power loss took.
    Damaged,
}

/// The whole records at the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Where they end.
    pub end: usize,
    pub record_count: u64,
    /// The highest receipt number in them.
    pub max_receipt: Option<u64>,
    pub tail: Tail,
}

/// How many frames are looked at before others that wait for the processor have it.
const SCANNED_AT_ONCE: usize = 512;

/// Walks the frames from the header to the first that is not whole.
pub(crate) fn scan(bytes: &[u8], seed: u32) -> Scan {
    let mut scan = Scan { end: HEADER_BYTES.min(bytes.len()), record_count: 0, max_receipt: None, tail: Tail::Clean };
    let mut pace = Pace::new(SCANNED_AT_ONCE);
    while let Some(payload) = frame_at(bytes, scan.end, seed) {
        scan.record_count += 1;
        pace.done(1);
        scan.max_receipt = scan.max_receipt.max(receipt_of(payload));
        scan.end = next_frame(scan.end, payload.len()).min(bytes.len());
    }
    scan.tail = tail(&bytes[scan.end..], seed);
    scan
}

fn tail(rest: &[u8], seed: u32) -> Tail {
    let reach = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if reach == 0 {
        return Tail::Clean;
    }
    if rest.get(..FOOTER_BYTES).is_some_and(|block| Footer::decode(seed, block).is_some()) && reach <= FOOTER_BYTES {
        return Tail::Clean;
    }
    // A frame's length is stored last, so what a killed writer leaves begins with a length of zero and is shorter than a record. The footer's mark
    // is stored last too.
    let unpublished = rest.first_chunk::<4>() == Some(&[0; 4]);
    if unpublished && reach <= MAX_RECORD_BYTES { Tail::Torn } else { Tail::Damaged }
}

/// What the portal is told of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The journal's random id.
    pub journal_id: [u8; 16],
    /// One core's writer.
    pub stream: u32,
    /// The segment's place in its stream: 0, 1, 2, .. without holes.
    pub seq: u64,
    /// SHA-256 over the identity and the records (`docs/METERING.md`).
    pub segment_digest: [u8; 32],
    /// The digest of the segment before it; zeros for the first.
    pub prev_digest: [u8; 32],
    /// How many records it holds, interim ones included.
    pub record_count: u64,
    /// The next receipt number when its writing began.
    pub first_receipt: u64,
    /// The next receipt number when it was sealed: `next_receipt - first_receipt` calls were admitted meanwhile.
    pub next_receipt: u64,
    /// Bytes of its frames.
    pub byte_length: u64,
    /// When its writing began, microseconds UTC.
    pub activated_at: i64,
    /// When it was sealed, microseconds UTC.
    pub sealed_at: i64,
    /// Sealed by recovery after an unclean stop.
    pub recovered: bool,
    /// Records were lost behind a damaged place; the original stands in `damaged/`.
    pub cut: bool,
}

/// Why the bytes of a sealed segment are not believed.
pub(crate) type Disbelief = &'static str;

/// Checks a sealed file in full: header, footer, digest.
pub(crate) fn verify(key: SegmentKey, file: &[u8]) -> Result<SegmentInfo, Disbelief> {
    let seed = key.seed();
    let HeaderRead::Known(header) = Header::decode(file) else { return Err("its header is not whole") };
    if header.key != key {
        return Err("its header names another segment");
    }
    let activation = Activation::decode(seed, file).ok_or("its header is not whole")?;
    let footer = Footer::decode(seed, file).ok_or("its footer is not whole")?;
    let frames = &file[HEADER_BYTES..file.len() - FOOTER_BYTES];
    let input = DigestInput {
        key,
        first_receipt: activation.first_receipt,
        prev_digest: footer.prev_digest,
        record_count: footer.record_count,
        next_receipt: footer.next_receipt,
    };
    if footer.byte_length != frames.len() as u64 || footer.digest != digest(&input, frames) {
        return Err("its digest does not match");
    }
    Ok(SegmentInfo {
        journal_id: key.journal_id,
        stream: key.stream,
        seq: key.seq,
        segment_digest: footer.digest,
        prev_digest: footer.prev_digest,
        record_count: footer.record_count,
        first_receipt: activation.first_receipt,
        next_receipt: footer.next_receipt,
        byte_length: footer.byte_length,
        activated_at: activation.activated_at,
        sealed_at: footer.sealed_at,
        recovered: footer.flags & FLAG_RECOVERED != 0,
        cut: footer.flags & FLAG_CUT != 0,
    })
}

pub(crate) fn u32_at(block: &[u8], offset: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&block[offset..offset + 4]);
    u32::from_le_bytes(out)
}

pub(crate) fn u64_at(block: &[u8], offset: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&block[offset..offset + 8]);
    u64::from_le_bytes(out)
}

pub(crate) fn id_at(block: &[u8], offset: usize) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&block[offset..offset + 16]);
    out
}

fn digest_at(block: &[u8], offset: usize) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(&block[offset..offset + 32]);
    out
}
