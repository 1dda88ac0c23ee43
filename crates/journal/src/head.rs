//! A stream's head page: `<dir>/<stream>/head`, 4096 bytes, mapped.
//!
//! ```text
//! word (8 bytes each, little endian)
//! 0    magic "TKJHEAD\0"
//! 1    version u32, stream u32
//! 2-3  journal id
//! 4    crc32c u32 of words 0..4, zero u32
//! 8    next receipt number     9  its complement
//! 64   state, slot A           128  state, slot B
//!        +0 generation  +1 receipt ceiling  +2 next seq  +3..+7 digest of the last sealed segment  +7..+9 boot id  +9 clean
//!        +10 crc32c u32 of +0..+10, zero u32
//! ```
//!
//! The next receipt number is stored by the writer at each admission: first the number, then its complement, so that a kill between the two is told
//! from a flipped bit. The state is stored by the keeper into the older of two slots and flushed; the slots lie in different disk sectors.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{IoContext, JournalError};
use crate::mapping::{HEAD_WORDS, HeadMap};
use crate::segment::{id_at, u32_at, u64_at};

/// The version of the head format that is written, and the newest that is read.
pub(crate) const HEAD_VERSION: u32 = 1;
pub(crate) const HEAD_BYTES: usize = HEAD_WORDS * 8;

const MAGIC: &[u8; 8] = b"TKJHEAD\0";
const NEXT_RECEIPT: usize = 8;
const COMPLEMENT: usize = 9;
const SLOTS: [usize; 2] = [64, 128];
const SLOT_WORDS: usize = 10;

/// What the keeper stores in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadState {
    /// No receipt number at or above this has been given out.
    pub receipt_ceiling: u64,
    /// The seq after the last sealed segment.
    pub next_seq: u64,
    /// The digest of the last sealed segment; zeros before the first.
    pub last_digest: [u8; 32],
    /// The boot of the machine under which the stream was last written.
    pub boot_id: [u8; 16],
    /// The stream was closed in order: the next receipt number is exact.
    pub clean: bool,
}

/// What could be read of a head file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HeadImage {
    pub next_receipt: Option<u64>,
    pub state: Option<HeadState>,
    generation: u64,
}

impl HeadImage {
    /// Reads a head file's bytes; parts that are not whole are absent.
    pub fn decode(bytes: &[u8], journal_id: [u8; 16], stream: u32, path: &Path) -> Result<Self, JournalError> {
        let Some(page) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(Self::default()) };
        if &page[..8] != MAGIC || crc32c::crc32c(&page[..32]) != u32_at(page, 32) {
            return Ok(Self::default());
        }
        let version = u32_at(page, 8);
        if version != HEAD_VERSION {
            return Err(JournalError::NewerVersion { path: path.to_owned(), version, known: HEAD_VERSION });
        }
        if u32_at(page, 12) != stream || id_at(page, 16) != journal_id {
            return Ok(Self::default());
        }
        let number = u64_at(page, NEXT_RECEIPT * 8);
        let complement = !u64_at(page, COMPLEMENT * 8);
        // Both agree, or the writer was killed between its two stores.
        let next_receipt = (number == complement || number == complement.wrapping_add(1)).then_some(number);
        let newest = SLOTS.iter().filter_map(|slot| decode_slot(&page[slot * 8..])).max_by_key(|(generation, _)| *generation);
        let (generation, state) = newest.map_or((0, None), |(generation, state)| (generation, Some(state)));
        Ok(Self { next_receipt, state, generation })
    }
}

fn decode_slot(bytes: &[u8]) -> Option<(u64, HeadState)> {
    let block = bytes.first_chunk::<{ (SLOT_WORDS + 1) * 8 }>()?;
    let generation = u64_at(block, 0);
    if generation == 0 || crc32c::crc32c(&block[..SLOT_WORDS * 8]) != u32_at(block, SLOT_WORDS * 8) {
        return None;
    }
    let mut last_digest = [0; 32];
    last_digest.copy_from_slice(&block[24..56]);
    let state = HeadState {
        receipt_ceiling: u64_at(block, 8),
        next_seq: u64_at(block, 16),
        last_digest,
        boot_id: id_at(block, 56),
        clean: u64_at(block, 72) == 1,
    };
    Some((generation, state))
}

fn encode_slot(generation: u64, state: &HeadState) -> [u64; SLOT_WORDS + 1] {
    let mut block = [0; SLOT_WORDS * 8];
    block[..8].copy_from_slice(&generation.to_le_bytes());
    block[8..16].copy_from_slice(&state.receipt_ceiling.to_le_bytes());
    block[16..24].copy_from_slice(&state.next_seq.to_le_bytes());
    block[24..56].copy_from_slice(&state.last_digest);
    block[56..72].copy_from_slice(&state.boot_id);
    block[72..80].copy_from_slice(&u64::from(state.clean).to_le_bytes());
    let mut words = [0; SLOT_WORDS + 1];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words[SLOT_WORDS] = u64::from(crc32c::crc32c(&block));
    words
}

/// A stream's mapped head.
#[derive(Debug)]
pub(crate) struct Head {
    map: HeadMap,
    file: File,
    path: PathBuf,
    generation: Mutex<u64>,
}

impl Head {
    /// Opens the head at `path`, which holds `image`; what is absent in the image is written anew. Nothing is flushed yet.
    pub fn open(path: &Path, journal_id: [u8; 16], stream: u32, image: &HeadImage) -> Result<Self, JournalError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).at("opening", path)?;
        if *image == HeadImage::default() {
            // Nothing of the old page is to be believed, an old state least of all.
            file.set_len(0).at("cutting", path)?;
        }
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, HEAD_BYTES as u64).at("preallocating", path)?;
        let length = file.metadata().at("reading", path)?.len();
        if length != HEAD_BYTES as u64 {
            file.set_len(HEAD_BYTES as u64).at("cutting", path)?;
        }
        let mut page = [0; 40];
        page[..8].copy_from_slice(MAGIC);
        page[8..12].copy_from_slice(&HEAD_VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&stream.to_le_bytes());
        page[16..32].copy_from_slice(&journal_id);
        let checksum = crc32c::crc32c(&page[..32]);
        page[32..36].copy_from_slice(&checksum.to_le_bytes());
        file.write_all_at(&page, 0).at("writing", path)?;
        let map = HeadMap::new(&file).at("mapping", path)?;
        Ok(Self { map, file, path: path.to_owned(), generation: Mutex::new(image.generation) })
    }

    /// Says that numbers below `number` are taken.
    #[inline]
    pub fn set_next_receipt(&self, number: u64) {
        self.map.store(NEXT_RECEIPT, number);
        self.map.store(COMPLEMENT, !number);
    }

    /// The next receipt number.
    pub fn next_receipt(&self) -> u64 {
        self.map.load(NEXT_RECEIPT)
    }

    /// Stores the keeper's state. It is in the page cache then; `file` is what to flush.
    pub fn set_state(&self, state: &HeadState) {
        let mut generation = self.generation.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *generation += 1;
        let slot = SLOTS[(*generation % 2) as usize];
        // The generation is stored last but one and the checksum last: a slot that is half written does not match.
        for (index, word) in encode_slot(*generation, state).into_iter().enumerate() {
            self.map.store(slot + index, word);
        }
    }

    /// The file to flush.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
