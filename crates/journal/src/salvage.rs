//! Sealing what is left of a segment: in place after a kill, as a copy beside the original after damage.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::catalog::{Pending, remove};
use crate::error::{IoContext, JournalError};
use crate::identity::sync_dir;
use crate::names;
use crate::segment::{
    Activation, DigestInput, FLAG_CUT, FLAG_RECOVERED, FOOTER_BYTES, Footer, HEADER_BYTES, Header, Scan, SegmentKey, digest,
};

/// The whole records of a segment, and what its footer must say.
pub(crate) struct Remains {
    pub key: SegmentKey,
    pub scan: Scan,
    pub first_receipt: u64,
    pub next_receipt: u64,
    pub prev_digest: [u8; 32],
    pub activation: Option<Activation>,
    pub now: i64,
}

/// What became of a damaged segment.
pub(crate) struct Salvaged {
    pub pending: Pending,
    pub digest: [u8; 32],
    /// Where the original stands; `None` if the disk had no room for both.
    pub set_aside: Option<PathBuf>,
}

impl Remains {
    fn frames<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(HEADER_BYTES..self.scan.end).unwrap_or_default()
    }

    fn footer(&self, bytes: &[u8], cut: bool) -> Footer {
        let frames = self.frames(bytes);
        let input = DigestInput {
            key: self.key,
            first_receipt: self.first_receipt,
            prev_digest: self.prev_digest,
            record_count: self.scan.record_count,
            next_receipt: self.next_receipt,
        };
        Footer {
            flags: FLAG_RECOVERED | if cut { FLAG_CUT } else { 0 },
            record_count: self.scan.record_count,
            next_receipt: self.next_receipt,
            byte_length: frames.len() as u64,
            sealed_at: self.now,
            prev_digest: self.prev_digest,
            digest: digest(&input, frames),
        }
    }

    /// A header that can be trusted, for where the file's own cannot.
    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut block = [0; HEADER_BYTES];
        Header { key: self.key, created_at: self.now, capacity: 0, receipt_ceiling: self.next_receipt }.encode(&mut block);
        let activated_at = self.activation.map_or(self.now, |activation| activation.activated_at);
        Activation { first_receipt: self.first_receipt, activated_at }.encode(self.key.seed(), &mut block);
        block
    }

    fn pending(&self, footer: &Footer) -> Pending {
        Pending {
            records: footer.record_count,
            first_receipt: self.first_receipt,
            next_receipt: footer.next_receipt,
            file_bytes: footer.byte_length + (HEADER_BYTES + FOOTER_BYTES) as u64,
            sealed_at: footer.sealed_at,
        }
    }
}

/// Ends the file behind its last whole record. Needs no room, so it works on a full disk.
pub(crate) fn seal_in_place(stream_dir: &Path, remains: &Remains, bytes: &[u8], cut: bool) -> Result<(Pending, [u8; 32]), JournalError> {
    let path = names::segment(stream_dir, remains.key.seq);
    let footer = remains.footer(bytes, cut);
    let file = OpenOptions::new().write(true).open(&path).at("opening", &path)?;
    if cut {
        file.write_all_at(&remains.header(), 0).at("writing", &path)?;
    }
    let end = remains.scan.end.max(HEADER_BYTES) as u64;
    file.write_all_at(&footer.encode(remains.key.seed()), end).at("writing", &path)?;
    file.set_len(end + FOOTER_BYTES as u64).at("cutting", &path)?;
    file.sync_all().at("flushing", &path)?;
    Ok((remains.pending(&footer), footer.digest))
}

/// Keeps the original in `damaged/` and puts a sealed segment of its whole records in its place. On a full disk the records come first: the damaged
/// file itself is cut and sealed.
pub(crate) fn salvage(dir: &Path, stream_dir: &Path, remains: &Remains, bytes: &[u8]) -> Result<Salvaged, JournalError> {
    let SegmentKey { stream, seq, .. } = remains.key;
    let footer = remains.footer(bytes, true);
    let unfinished = names::unfinished(stream_dir, seq);
    let written = write_sealed(&unfinished, remains, remains.frames(bytes), &footer);
    if let Err(error) = written {
        remove(&unfinished)?;
        if !error.is_disk_full() {
            return Err(error);
        }
        let (pending, digest) = seal_in_place(stream_dir, remains, bytes, true)?;
        return Ok(Salvaged { pending, digest, set_aside: None });
    }
    let set_aside = set_aside_in(dir, names::DAMAGED, stream, seq)?;
    let path = names::segment(stream_dir, seq);
    std::fs::rename(&path, &set_aside).at("setting aside", &path)?;
    std::fs::rename(&unfinished, &path).at("renaming", &unfinished)?;
    sync_dir(stream_dir)?;
    Ok(Salvaged { pending: remains.pending(&footer), digest: footer.digest, set_aside: Some(set_aside) })
}

fn write_sealed(path: &Path, remains: &Remains, frames: &[u8], footer: &Footer) -> Result<(), JournalError> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).at("creating", path)?;
    for part in [&remains.header()[..], frames, &footer.encode(remains.key.seed())] {
        file.write_all(part).at("writing", path)?;
    }
    file.sync_all().at("flushing", path)
}

/// A free name in one of the folders beside the streams, which is made if need be.
pub(crate) fn set_aside_in(dir: &Path, folder: &str, stream: u32, seq: u64) -> Result<PathBuf, JournalError> {
    let folder = dir.join(folder);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).at("creating", &folder)?;
    sync_dir(dir)?;
    Ok(names::set_aside(&folder, stream, seq))
}
