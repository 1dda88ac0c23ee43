//! The thread that writes the cache: the disk never holds up the task that follows the feed, and what it writes stands in the order of the commits.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use calendar::Timestamp;
use gateway_control::policy::{Generation, PolicyEntry};

use super::{FORMAT, Head, MAX_FRAME_BYTES, PolicyCache, SNAPSHOT_FRAME_BYTES, items};
use crate::policy::{CacheState, index::Index, store::Change};

/// Reading and writing for the owner.
const OWNER_ONLY: u32 = 0o600;
/// How often appended changes are flushed to the disk at most.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Changes up to so many bytes never cause a new snapshot.
const MIN_CHANGE_BYTES: u64 = 4 * 1024 * 1024;

/// The whole policy, to be written. It shares everything large with the index.
#[derive(Debug)]
pub struct Snapshot {
    /// Entries of the few kinds.
    pub few: Vec<PolicyEntry>,
    /// Keys and subscriptions, epoch and generation.
    pub index: Index,
}

/// What the thread is to do.
enum Task {
    Snapshot(Box<Snapshot>),
    Change(Generation, Vec<Change>),
    Confirmed(Timestamp),
}

/// Hands the policy to the thread that writes it. Dropped, it waits until all is written.
#[derive(Debug)]
pub struct CacheWriter {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    /// Items of the last snapshot, and of the changes since, about.
    snapshot_items: u64,
    changed_items: u64,
}

impl Drop for CacheWriter {
    fn drop(&mut self) {
        drop(self.tasks.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that caches the policy panicked; a restart without the portal would start from an older one");
        }
    }
}

impl CacheWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(cache: PolicyCache, state: Arc<CacheState>) -> io::Result<Self> {
        let (tasks, received) = channel();
        let thread = std::thread::Builder::new().name("policy-cache".to_owned()).spawn(move || {
            let mut file = CacheFile { cache, state, file: None, dirty_since: None };
            file.run(&received);
        })?;
        Ok(Self { tasks: Some(tasks), thread: Some(thread), snapshot_items: 0, changed_items: u64::MAX })
    }

    /// Appends the changes of a commit. False if a [`CacheWriter::snapshot`] is due instead: there is none yet, or the changes have outgrown it.
    pub fn change(&mut self, generation: Generation, changes: Vec<Change>) -> bool {
        let items = self.changed_items.saturating_add(changes.len() as u64);
        if items > self.snapshot_items.max(MIN_CHANGE_BYTES / 128) {
            return false;
        }
        self.changed_items = items;
        self.send(Task::Change(generation, changes));
        true
    }

    /// Writes the whole policy anew.
    pub fn snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot_items = (snapshot.few.len() + snapshot.index.subscriptions.count() + snapshot.index.keys.count()) as u64;
        self.changed_items = 0;
        self.send(Task::Snapshot(Box::new(snapshot)));
    }

    /// Writes when the portal last confirmed the policy.
    pub fn confirmed(&self, at: Timestamp) {
        self.send(Task::Confirmed(at));
    }

    fn send(&self, task: Task) {
        // A thread that has panicked is told of when it is joined.
        let _ = self.tasks.as_ref().map(|tasks| tasks.send(task));
    }
}

/// What the thread owns.
struct CacheFile {
    cache: PolicyCache,
    state: Arc<CacheState>,
    /// The file that changes are appended to; absent until a snapshot was written.
    file: Option<File>,
    dirty_since: Option<Instant>,
}

impl CacheFile {
    fn run(&mut self, tasks: &Receiver<Task>) {
        loop {
            let due = self.dirty_since.map(|since| (since + FLUSH_INTERVAL).saturating_duration_since(Instant::now()));
            let task = match due {
                Some(due) => tasks.recv_timeout(due),
                None => tasks.recv().map_err(RecvTimeoutError::from),
            };
            let done = match task {
                Ok(Task::Snapshot(snapshot)) => self.snapshot(&snapshot),
                Ok(Task::Change(generation, changes)) => self.change(generation, &changes),
                Ok(Task::Confirmed(at)) => self.cache.write_confirmed(at),
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.report(self.file.as_ref().map_or(Ok(()), File::sync_data));
                    return;
                }
            };
            self.report(done);
        }
    }

    fn report(&self, done: io::Result<()>) {
        if let Err(error) = done {
            self.state.failed(error.to_string());
            tracing::error!(%error, "the policy could not be cached; a restart without the portal would start from an older one");
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.dirty_since = None;
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    fn change(&mut self, generation: Generation, changes: &[Change]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut payload = generation.0.to_le_bytes().to_vec();
        changes.iter().for_each(|change| items::write(&mut payload, change));
        let appended = append(file, &payload);
        if appended.is_err() {
            // What was written in part would hide what follows it: the next snapshot starts anew.
            self.file = None;
        } else {
            self.state.written(generation);
        }
        self.dirty_since.get_or_insert_with(Instant::now);
        appended
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        self.file = None;
        let beside = self.cache.policy.with_extension("new");
        let mut file = create_private(&beside)?;
        let index = &snapshot.index;
        append(&mut file, &serde_json::to_vec(&Head { format: FORMAT, epoch: index.epoch })?)?;
        let mut frame = Frame { file: &mut file, payload: 0_u64.to_le_bytes().to_vec() };
        // What others refer to goes first, as each frame is put in force by itself when it is read.
        let mut few: Vec<_> = snapshot.few.iter().collect();
        few.sort_by_key(|entry| entry.id.kind);
        few.into_iter().try_for_each(|entry| frame.item(|out| items::write_few(out, entry)))?;
        index.subscriptions.iter().try_for_each(|subscription| frame.item(|out| items::write_subscription(out, subscription)))?;
        index.keys.iter().try_for_each(|key| frame.item(|out| items::write_key(out, key)))?;
        frame.payload[..8].copy_from_slice(&index.generation.0.to_le_bytes());
        frame.end()?;
        file.sync_all()?;
        fs::rename(&beside, &self.cache.policy)?;
        self.file = Some(file);
        self.dirty_since = None;
        self.state.written(index.generation);
        match fs::remove_file(&self.cache.first_version) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A frame of a snapshot on its way to the file.
struct Frame<'a> {
    file: &'a mut File,
    payload: Vec<u8>,
}

impl Frame<'_> {
    fn item(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        write(&mut self.payload);
        if self.payload.len() >= SNAPSHOT_FRAME_BYTES { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> io::Result<()> {
        append(self.file, &self.payload)?;
        self.payload.truncate(8);
        Ok(())
    }
}

fn append(file: &mut File, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= MAX_FRAME_BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a change is too large for one frame"))?;
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.extend(length.to_le_bytes());
    frame.extend(crc32c::crc32c(payload).to_le_bytes());
    frame.extend(payload);
    file.write_all(&frame)
}

/// Creates a file that its owner alone may read, or empties the one that is left of an earlier attempt.
fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(path)?;
    // The mode above is for files that are new; one that was there keeps its own.
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    Ok(file)
}
