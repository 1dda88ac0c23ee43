//! The journal's identity: `<dir>/journal`, which also carries the lock.
//!
//! ```text
//! 0  magic "TKJOURN\0"   8  version u32   12  zero u32   16  journal id   32  created_at i64   40  crc32c u32 of 0..40
//! ```
//!
//! The file is locked before it is read, and written only while it is locked. A kill before the first write leaves it empty, which the next start
//! fills. If it is damaged later, the id is taken from any readable segment; with none left, a new id is minted (nothing can collide with it).

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{IoContext, JournalError};
use crate::segment::{Header, HeaderRead, id_at, u32_at, u64_at};

/// The version of the identity file that is written, and the newest that is read.
pub(crate) const IDENTITY_VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"TKJOURN\0";
const BYTES: usize = 44;

/// Who the journal is, and the lock that keeps others out for as long as this lives.
#[derive(Debug)]
pub(crate) struct Identity {
    pub journal_id: [u8; 16],
    pub created_at: i64,
    /// The file was just written.
    pub created: bool,
    /// It was damaged and has been written anew.
    pub rebuilt: bool,
    _lock: File,
}

impl Identity {
    /// Makes the folder if need be, locks it, and reads or mints its identity.
    pub fn open(dir: &Path, now: i64) -> Result<Self, JournalError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).at("creating", dir)?;
        let path = dir.join("journal");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).at("opening", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(JournalError::Io { doing: "locking", path, source }),
        }
        let mut bytes = Vec::new();
        file.by_ref().take(4096).read_to_end(&mut bytes).at("reading", &path)?;
        if let Some((journal_id, created_at)) = decode(&bytes, &path)? {
            return Ok(Self { journal_id, created_at, created: false, rebuilt: false, _lock: file });
        }
        let found = id_from_segments(dir)?;
        let journal_id = match found {
            Some(id) => id,
            None => mint(&path)?,
        };
        file.set_len(0).at("cutting", &path)?;
        file.write_all_at(&encode(journal_id, now), 0).at("writing", &path)?;
        file.sync_all().at("flushing", &path)?;
        sync_dir(dir)?;
        Ok(Self {
            journal_id,
            created_at: now,
            created: bytes.is_empty() && found.is_none(),
            rebuilt: !bytes.is_empty() || found.is_some(),
            _lock: file,
        })
    }
}

fn mint(path: &Path) -> Result<[u8; 16], JournalError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|source| JournalError::Io {
        doing: "minting an id for",
        path: path.to_owned(),
        source: std::io::Error::other(source),
    })?;
    Ok(id)
}

fn encode(journal_id: [u8; 16], created_at: i64) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&IDENTITY_VERSION.to_le_bytes());
    out[16..32].copy_from_slice(&journal_id);
    out[32..40].copy_from_slice(&created_at.to_le_bytes());
    let checksum = crc32c::crc32c(&out[..40]);
    out[40..].copy_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(bytes: &[u8], path: &Path) -> Result<Option<([u8; 16], i64)>, JournalError> {
    let Some(block) = bytes.first_chunk::<BYTES>() else { return Ok(None) };
    if &block[..8] != MAGIC || crc32c::crc32c(&block[..40]) != u32_at(block, 40) {
        return Ok(None);
    }
    let version = u32_at(block, 8);
    if version != IDENTITY_VERSION {
        return Err(JournalError::NewerVersion { path: path.to_owned(), version, known: IDENTITY_VERSION });
    }
    Ok(Some((id_at(block, 16), u64_at(block, 32).cast_signed())))
}

/// The journal id that the segments in the folder carry, if one can be read.
fn id_from_segments(dir: &Path) -> Result<Option<[u8; 16]>, JournalError> {
    for entry in std::fs::read_dir(dir).at("listing", dir)? {
        let stream_dir = entry.at("listing", dir)?.path();
        if !stream_dir.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&stream_dir).at("listing", &stream_dir)? {
            let path = file.at("listing", &stream_dir)?.path();
            if !path.is_file() {
                continue;
            }
            let mut start = Vec::new();
            File::open(&path).at("opening", &path)?.take(128).read_to_end(&mut start).at("reading", &path)?;
            if let HeaderRead::Known(header) = Header::decode(&start) {
                return Ok(Some(header.key.journal_id));
            }
        }
    }
    Ok(None)
}

/// Flushes a folder, so that the names in it survive a power loss.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).at("opening", dir)?.sync_all().at("flushing", dir)
}
