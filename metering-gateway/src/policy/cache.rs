//! The last good policy on disk, from which a gateway starts while the portal is away (P3).
//!
//! `<data dir>/policy.v1.ndjson`: a line `{"format":1,"epoch":…,"generation":…}`, then one [`PolicyEntry`] a line, then `{"entries":N}`, which tells a
//! whole file from one that was cut off. It is written beside its place, flushed and renamed, so that there is always a whole one. It holds the digests
//! of all keys and what each may do, so nobody but its owner may read it.
//! `<data dir>/policy.confirmed`: the instant at which the portal last confirmed that policy, so that its age survives a restart.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use calendar::Timestamp;
use gateway_control::{
    FORMAT,
    policy::{Generation, PolicyEntry},
};
use ids::Uuid;
use serde::{Deserialize, Serialize};

/// Reading and writing for the owner.
const OWNER_ONLY: u32 = 0o600;

/// Where the policy is kept.
#[derive(Debug, Clone)]
pub struct PolicyCache {
    policy: PathBuf,
    confirmed: PathBuf,
}

/// What stood in the cache.
#[derive(Debug)]
pub struct CachedPolicy {
    /// The epoch of the generation.
    pub epoch: Uuid,
    /// What the entries are complete up to.
    pub generation: Generation,
    /// When the portal last confirmed it.
    pub confirmed_at: Timestamp,
    /// All of it.
    pub entries: Vec<PolicyEntry>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u16,
    epoch: Uuid,
    generation: Generation,
}

#[derive(Serialize, Deserialize)]
struct Tail {
    entries: u64,
}

impl PolicyCache {
    /// The cache in a data folder.
    pub fn new(data_dir: &Path) -> Self {
        Self { policy: data_dir.join("policy.v1.ndjson"), confirmed: data_dir.join("policy.confirmed") }
    }

    /// Writes a policy. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk refuses; what stood there before is untouched.
    pub fn write<'a>(&self, epoch: Uuid, generation: Generation, entries: impl Iterator<Item = &'a PolicyEntry>) -> io::Result<()> {
        let beside = self.policy.with_extension("new");
        let mut file = BufWriter::new(create_private(&beside)?);
        line(&mut file, &Head { format: FORMAT, epoch, generation })?;
        let mut count = 0;
        for entry in entries {
            line(&mut file, entry)?;
            count += 1;
        }
        line(&mut file, &Tail { entries: count })?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&beside, &self.policy)
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

    /// Reads what was written; `None` where nothing was. Entries that this software cannot read are left out and named, as they are in the feed.
    ///
    /// # Errors
    /// When the file is cut off or is of another format.
    pub fn read(&self, mut bad: impl FnMut(String)) -> io::Result<Option<CachedPolicy>> {
        let file = match File::open(&self.policy) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let confirmed_at = fs::read_to_string(&self.confirmed)?.trim().parse().map_err(|error| damaged(&error))?;
        let mut lines = BufReader::new(file).lines();
        let head = lines.next().ok_or_else(|| damaged(&"it is empty"))??;
        let head: Head = serde_json::from_str(&head).map_err(|error| damaged(&error))?;
        if head.format != FORMAT {
            return Err(damaged(&format!("it has format {}, this software reads {FORMAT}", head.format)));
        }
        let mut entries = Vec::new();
        for (seen, text) in (0..).zip(lines) {
            let text = text?;
            if let Ok(tail) = serde_json::from_str::<Tail>(&text) {
                let whole = tail.entries == seen;
                let policy = CachedPolicy { epoch: head.epoch, generation: head.generation, confirmed_at, entries };
                return if whole { Ok(Some(policy)) } else { Err(damaged(&"entries are missing")) };
            }
            match serde_json::from_str(&text) {
                Ok(entry) => entries.push(entry),
                Err(error) => bad(error.to_string()),
            }
        }
        Err(damaged(&"it was cut off"))
    }
}

/// Creates a file that its owner alone may read, or empties the one that is left of an earlier attempt.
fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(path)?;
    // The mode above is for files that are new; one that was there keeps its own.
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    Ok(file)
}

fn line(file: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

fn damaged(what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the cached policy cannot be used: {what}"))
}

#[cfg(test)]
mod tests {
    use gateway_control::policy::{EntryBody, EntryId, EntryKind, Settings};

    use super::*;

    fn entry(generation: u64) -> PolicyEntry {
        PolicyEntry {
            generation: Generation(generation),
            id: EntryId { kind: EntryKind::Settings, id: Uuid::nil() },
            body: Some(EntryBody::Settings(Settings { cors_origins: vec!["http://a".into()], upgrade_url: "http://b".into() })),
        }
    }

    #[test]
    fn reads_what_was_written_and_refuses_half_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = PolicyCache::new(folder.path());
        assert!(cache.read(|_| ()).expect("no file is no error").is_none());
        let at = Timestamp::from_seconds(1_700_000_000);
        cache.write_confirmed(at).expect("written");
        cache.write(Uuid::from_u128(7), Generation(3), [entry(1), entry(3)].iter()).expect("written");
        let read = cache.read(|reason| panic!("{reason}")).expect("readable").expect("there");
        assert_eq!((read.epoch, read.generation, read.confirmed_at), (Uuid::from_u128(7), Generation(3), at));
        assert_eq!(read.entries, [entry(1), entry(3)]);

        let mode = || fs::metadata(&cache.policy).expect("the file").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600, "nobody else may read it");
        fs::write(cache.policy.with_extension("new"), "left over").expect("written");
        fs::set_permissions(cache.policy.with_extension("new"), Permissions::from_mode(0o644)).expect("set");
        cache.write(Uuid::from_u128(7), Generation(3), [entry(1), entry(3)].iter()).expect("written");
        assert_eq!(mode(), 0o600, "whatever an earlier attempt left");

        let whole = fs::read(&cache.policy).expect("the file");
        for cut in 1..whole.len() {
            fs::write(&cache.policy, &whole[..cut]).expect("written");
            // Without its last line break the file is whole still.
            assert_eq!(cache.read(|_| ()).is_ok(), cut == whole.len() - 1, "cut at {cut}");
        }
    }
}
