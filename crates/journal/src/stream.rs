//! What a stream's writer and the keeper share: its head, its open files, and the making of segments.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::budget::Budget;
use crate::commit::Commits;
use crate::error::{IoContext, JournalError};
use crate::head::Head;
use crate::mapping::{FlushMap, SegmentMap};
use crate::names;
use crate::segment::{Activation, HEADER_BYTES, Header, SegmentKey};

/// Takes a lock whose holder never leaves half a change behind, even by a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A segment's file while it is not sealed: what the keeper flushes while the writer writes through its mapping.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub key: SegmentKey,
    pub file: File,
    pub flush_map: FlushMap,
    pub path: PathBuf,
    /// Bytes it was preallocated with.
    pub capacity: u64,
    /// Records appended; stored by the writer.
    pub records: AtomicU64,
    /// Where the next record goes; stored by the writer.
    pub end: AtomicU64,
    /// `end` at the last flush; the keeper's.
    pub flushed_end: AtomicU64,
    /// The end of the first record's call, microseconds UTC; 0 before.
    pub first_at: AtomicU64,
    /// A flush failed: the file is never flushed again.
    pub flush_failed: AtomicBool,
}

/// A segment and its mapping: owned by the maker, then by the writer, then by the keeper.
#[derive(Debug)]
pub(crate) struct Segment {
    pub file: Arc<OpenFile>,
    pub map: SegmentMap,
    pub seed: u32,
    pub activation: Activation,
}

/// What the writer tells the keeper.
#[derive(Debug)]
pub(crate) enum Handover {
    /// This segment is done: seal it.
    Done { segment: Segment, next_receipt: u64, now: i64 },
    /// The writer is closed; these were never used.
    Closed { stream: u32, spares: Vec<Segment> },
}

/// One stream, as its writer and the keeper see it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub journal_id: [u8; 16],
    pub id: u32,
    pub dir: PathBuf,
    pub head: Head,
    /// Numbers below this are safe from reuse: the ceiling in the head has been flushed.
    pub ceiling: AtomicU64,
    /// Calls admitted since the start, and what became of them. Stored by the writer.
    pub admitted: AtomicU64,
    pub finished: AtomicU64,
    pub abandoned: AtomicU64,
    /// Records appended since the start, interim ones included; and how many of them were flushed.
    pub appended: AtomicU64,
    pub flushed: AtomicU64,
    /// Who waits for `flushed` to grow.
    pub commits: Commits,
    /// Room that is reserved, in records; and empty segments the writer holds.
    pub reserved: AtomicU64,
    pub spares: AtomicU64,
    /// The keeper wants the writer to leave its segment, because a flush of it failed.
    pub leave_segment: AtomicBool,
    /// How many bytes of the last segment were filled: so it will be with the next ones.
    pub filled: AtomicU64,
    pub closed: AtomicBool,
    /// Names were made in the folder since it was last flushed.
    dir_dirty: AtomicBool,
    maker: Mutex<Maker>,
    open_files: Mutex<VecDeque<Arc<OpenFile>>>,
}

#[derive(Debug)]
struct Maker {
    next_seq: u64,
    spares: Sender<Segment>,
}

/// How a segment is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Make {
    pub size: u64,
    pub now: i64,
    /// By the keeper, off the request path.
    pub ahead: bool,
}

/// Why no segment could be made.
#[derive(Debug)]
pub(crate) enum NoSegment {
    Bound,
    Disk(JournalError),
}

impl Stream {
    /// A stream that makes its next segment under `next_seq`; the receiver is where the writer finds them, in order.
    pub fn new(journal_id: [u8; 16], id: u32, dir: PathBuf, head: Head, next_seq: u64) -> (Self, Receiver<Segment>) {
        let (sender, receiver) = channel();
        let stream = Self {
            journal_id,
            id,
            dir,
            head,
            ceiling: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            appended: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            commits: Commits::default(),
            reserved: AtomicU64::new(0),
            spares: AtomicU64::new(0),
            leave_segment: AtomicBool::new(false),
            filled: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            dir_dirty: AtomicBool::new(true),
            maker: Mutex::new(Maker { next_seq, spares: sender }),
            open_files: Mutex::new(VecDeque::new()),
        };
        (stream, receiver)
    }

    /// Makes a segment, preallocated and mapped, and sends it to the writer. Called by the keeper ahead of need, and by the writer when it is out.
    pub fn make_segment(&self, budget: &Budget, make: Make) -> Result<(), NoSegment> {
        let Make { size, now, ahead } = make;
        let mut maker = lock(&self.maker);
        if !budget.try_take(size) {
            return Err(NoSegment::Bound);
        }
        let key = SegmentKey { journal_id: self.journal_id, stream: self.id, seq: maker.next_seq };
        let path = names::segment(&self.dir, key.seq);
        let header = Header { key, created_at: now, capacity: size, receipt_ceiling: self.ceiling.load(Ordering::Acquire) };
        match create(&path, &header) {
            Ok((file, map, flush_map)) => {
                if ahead {
                    let filled = self.filled.load(Ordering::Relaxed);
                    map.populate(filled + filled / 4);
                }
                let end = HEADER_BYTES as u64;
                let file = Arc::new(OpenFile {
                    key,
                    file,
                    flush_map,
                    path,
                    capacity: size,
                    records: AtomicU64::new(0),
                    end: AtomicU64::new(end),
                    flushed_end: AtomicU64::new(end),
                    first_at: AtomicU64::new(0),
                    flush_failed: AtomicBool::new(false),
                });
                lock(&self.open_files).push_back(file.clone());
                self.dir_dirty.store(true, Ordering::Release);
                self.spares.fetch_add(1, Ordering::AcqRel);
                maker.next_seq += 1;
                let activation = Activation { first_receipt: 0, activated_at: 0 };
                // The receiver is the writer's; when it is gone, the segment stays an unused file, which recovery removes.
                let _ = maker.spares.send(Segment { file, map, seed: key.seed(), activation });
                Ok(())
            }
            Err(error) => {
                // What was half made must not stand in the way of the next attempt; if it cannot be removed now, `create` replaces it then.
                let _ = std::fs::remove_file(&path);
                budget.give(size);
                Err(NoSegment::Disk(error))
            }
        }
    }

    /// The files not yet sealed, oldest first.
    pub fn open_files(&self) -> Vec<Arc<OpenFile>> {
        lock(&self.open_files).iter().cloned().collect()
    }

    /// The file is sealed or removed.
    pub fn forget_file(&self, seq: u64) {
        lock(&self.open_files).retain(|file| file.key.seq != seq);
    }

    /// True once after names were made in the folder.
    pub fn take_dir_dirty(&self) -> bool {
        self.dir_dirty.swap(false, Ordering::AcqRel)
    }
}

/// Makes a file that has all its blocks, so that no store into its mapping can meet a full disk.
fn create(path: &Path, header: &Header) -> Result<(File, SegmentMap, FlushMap), JournalError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path).at("creating", path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, header.capacity).at("preallocating", path)?;
    let mut block = [0; HEADER_BYTES];
    header.encode(&mut block);
    file.write_all_at(&block, 0).at("writing", path)?;
    let map = SegmentMap::new(&file, header.capacity as usize).at("mapping", path)?;
    let flush_map = FlushMap::new(&file, header.capacity as usize).at("mapping", path)?;
    Ok((file, map, flush_map))
}
