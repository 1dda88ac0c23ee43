//! The last good policy on disk, from which a gateway starts while the portal is away (P3): a snapshot and the changes since.
//!
//! `<data dir>/policy.v2`: frames, each `length: u32, CRC-32C of the payload: u32, payload`, little-endian. The first frame is JSON,
//! `{"format":2,"epoch":…}`. Every other one starts with the generation (u64) that is complete with it, 0 inside a snapshot, whose last frame names its
//! own; then come items ([`items`]). A frame is in force whole or not at all, so what a crash cut off is as if it had not come yet: the gateway asks the
//! portal for what followed. A snapshot is written beside its place, flushed and renamed; once the changes outgrow it, the next one is written. The file
//! holds the digests of all keys and what each may do, so nobody but its owner may read it.
//! `<data dir>/policy.confirmed`: the instant at which the portal last confirmed that policy, so that its age survives a restart.
//! `<data dir>/policy.v1.ndjson`: what earlier versions wrote; it is read where there is no other, and removed once there is.

mod items;
mod v1;
mod writer;

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use calendar::Timestamp;
use gateway_control::policy::Generation;
use ids::Uuid;
use serde::{Deserialize, Serialize};

pub use self::writer::{CacheWriter, Snapshot};
use super::store::{Change, PolicyStore};

/// The version of the file's format.
const FORMAT: u16 = 2;
/// The largest frame. A change that needs more starts a new snapshot.
const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;
/// How many bytes of items a frame of a snapshot has, about.
const SNAPSHOT_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// Where the policy is kept.
#[derive(Debug, Clone)]
pub struct PolicyCache {
    policy: PathBuf,
    confirmed: PathBuf,
    first_version: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u16,
    epoch: Uuid,
}

/// What a cached policy is complete up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cached {
    /// The generation.
    pub generation: Generation,
    /// When the portal last confirmed it.
    pub confirmed_at: Timestamp,
}

impl PolicyCache {
    /// The cache in a data folder.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            policy: data_dir.join("policy.v2"),
            confirmed: data_dir.join("policy.confirmed"),
            first_version: data_dir.join("policy.v1.ndjson"),
        }
    }

    /// Brings what was written into a new store; `None` where nothing was. Entries that this software cannot read are left out and named, as they are in
    /// the feed.
    ///
    /// # Errors
    /// When there is no whole snapshot, or it is of another format.
    pub fn read(&self, store: &mut PolicyStore, bad: impl FnMut(String)) -> io::Result<Option<Cached>> {
        let file = match File::open(&self.policy) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return v1::read(self, store, bad),
            Err(error) => return Err(error),
        };
        let confirmed_at = self.read_confirmed()?;
        let mut frames = Frames { reader: BufReader::new(file), payload: Vec::new() };
        let head: Head =
            serde_json::from_slice(frames.next()?.ok_or_else(|| damaged(&"its head is missing"))?).map_err(|error| damaged(&error))?;
        if head.format != FORMAT {
            return Err(damaged(&format!("it has format {}, this software reads {FORMAT}", head.format)));
        }
        store.begin_snapshot(head.epoch);
        let mut generation = Generation::default();
        let mut bad = bad;
        while let Some(payload) = frames.next()? {
            let (named, items) = payload.split_first_chunk().ok_or_else(|| damaged(&"a frame is too short"))?;
            let named = Generation(u64::from_le_bytes(*named));
            for change in items::read(items) {
                match change? {
                    Ok(change) => receive(store, change, named),
                    Err(reason) => bad(reason),
                }
            }
            store.commit(named);
            if named > Generation::default() {
                generation = named;
            }
        }
        if generation == Generation::default() {
            return Err(damaged(&"the snapshot is not whole"));
        }
        Ok(Some(Cached { generation, confirmed_at }))
    }

    /// Writes when the portal last confirmed the policy.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_confirmed(&self, at: Timestamp) -> io::Result<()> {
        let beside = self.confirmed.with_extension("new");
        fs::write(&beside, at.to_string())?;
        fs::rename(&beside, &self.confirmed)
    }

    fn read_confirmed(&self) -> io::Result<Timestamp> {
        fs::read_to_string(&self.confirmed)?.trim().parse().map_err(|error| damaged(&error))
    }
}

fn receive(store: &mut PolicyStore, change: Change, generation: Generation) {
    match change {
        Change::Few(entry) => store.receive(entry),
        Change::Subscription(subscription) => store.receive_subscription(subscription),
        Change::Key(key) => store.receive_key(key),
        Change::Gone(id) => store.receive(gateway_control::policy::PolicyEntry { generation, id, body: None }),
    }
}

/// Frames of a file, up to the first that is not whole.
struct Frames {
    reader: BufReader<File>,
    payload: Vec<u8>,
}

impl Frames {
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut head = [0; 8];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let [length, checksum] = [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let length = length as usize;
        if length > MAX_FRAME_BYTES {
            return Ok(None);
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(length, 0);
        let whole = self.fill(&mut payload)? && crc32c::crc32c(&payload) == checksum;
        self.payload = payload;
        Ok(whole.then_some(&self.payload))
    }

    /// False at the end of the file.
    fn fill(&mut self, out: &mut [u8]) -> io::Result<bool> {
        match self.reader.read_exact(out) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn damaged(what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the cached policy cannot be used: {what}"))
}

#[cfg(test)]
mod tests;
