//! The journal as a whole: opening it, and what all its parts share.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

use crate::budget::Budget;
use crate::catalog::{Catalog, StreamCatalog};
use crate::config::Config;
use crate::error::{IoContext, JournalError};
use crate::found::streams_on_disk;
use crate::head::{HEAD_BYTES, Head, HeadState};
use crate::identity::{Identity, sync_dir};
use crate::keeper::KeeperState;
use crate::mapping::Dirty;
use crate::names;
use crate::recovery::{self, Recovered, RecoveryReport};
use crate::stream::{Make, NoSegment, Stream, lock};
use crate::writer::{StreamWriter, WriterParts};

/// How many receipt numbers are made safe from reuse at a time.
pub(crate) const RECEIPT_STEP: u64 = 1 << 32;

/// Flushes a file's data to the disk. A value, so that tests can have it fail.
pub(crate) type Flush = Box<dyn Fn(&Dirty<'_>) -> io::Result<()> + Send + Sync>;

/// A journal: the handle of everything but writing. Cheap to clone; the folder stays locked until the last clone, writer and keeper is gone.
#[derive(Clone)]
pub struct Journal(pub(crate) Arc<Shared>);

/// A freshly opened journal.
#[derive(Debug)]
pub struct Opened {
    /// The handle for shipping, metrics and the keeper.
    pub journal: Journal,
    /// One writer a stream, in order of their numbers: `Config::streams` of them.
    pub writers: Vec<StreamWriter>,
    /// What was found and done about it. Anything in it that [`RecoveryReport::needs_alert`] names must be raised as an alert.
    pub report: RecoveryReport,
}

pub(crate) struct Shared {
    pub dir: PathBuf,
    pub config: Config,
    pub identity: Identity,
    /// The streams that have writers, by number.
    pub streams: Vec<Arc<Stream>>,
    pub budget: Budget,
    pub catalog: Mutex<Catalog>,
    pub keeper: Mutex<KeeperState>,
    pub failures: Mutex<BTreeMap<(u32, Option<u64>), String>>,
    pub flush: Flush,
    /// What the last segment was read into.
    pub read_buffer: Mutex<Vec<u8>>,
    /// The keeper's rounds so far, and the time of the last.
    pub round: AtomicU64,
    pub now: AtomicI64,
    pub keeper_thread: OnceLock<Thread>,
    /// Somebody waits for a flush, and the keeper has been woken.
    pub flush_wanted: AtomicBool,
    /// Where each stream went on when the journal was opened.
    pub first_seqs: BTreeMap<u32, u64>,
    /// The number at which each stream went on when the journal was opened.
    pub first_receipts: BTreeMap<u32, u64>,
    pub on_sealed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("dir", &self.dir)
            .field("config", &self.config)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Shared {
    /// Makes a segment for the stream, `ahead` of need or on the request path. With `may_trim`, acked segments are dropped early if the disk bound needs it.
    pub fn make_segment(&self, stream: &Stream, may_trim: bool, ahead: bool) -> Result<(), NoSegment> {
        let make = Make { size: self.config.segment_size_bytes, now: self.now.load(Ordering::Relaxed), ahead };
        loop {
            let made = stream.make_segment(&self.budget, make);
            let short = match &made {
                Ok(()) => return Ok(()),
                Err(NoSegment::Bound) => true,
                Err(NoSegment::Disk(error)) => error.is_disk_full(),
            };
            if !short || !may_trim || !lock(&self.catalog).drop_oldest_acked(&self.budget).map_err(NoSegment::Disk)? {
                return made;
            }
        }
    }

    /// Wakes the keeper, if there is one.
    pub fn nudge(&self) {
        if let Some(thread) = self.keeper_thread.get() {
            thread.unpark();
        }
    }

    pub fn stream_dir(&self, stream: u32) -> PathBuf {
        self.dir.join(stream.to_string())
    }

    pub fn raise(&self, stream: u32, seq: Option<u64>, error: &dyn std::fmt::Display) {
        tracing::error!(stream, seq, %error, "the journal could not write to its disk");
        lock(&self.failures).insert((stream, seq), error.to_string());
    }
}

impl Journal {
    /// Opens the journal in `dir`, making it if need be, and recovers what an unclean stop left.
    ///
    /// # Errors
    /// When the settings cannot be used, another process holds the folder, a file is of a newer version, or the disk refuses.
    pub fn open(dir: impl AsRef<Path>, config: Config, now: i64) -> Result<Opened, JournalError> {
        Self::open_with(dir.as_ref(), config, now, Box::new(|dirty| dirty.write_out()))
    }

    pub(crate) fn open_with(dir: &Path, config: Config, now: i64, flush: Flush) -> Result<Opened, JournalError> {
        config.validate()?;
        let identity = Identity::open(dir, now)?;
        let mut report = RecoveryReport { created: identity.created, identity_rebuilt: identity.rebuilt, ..RecoveryReport::default() };
        let budget = Budget::new(config.disk_bound_bytes);
        let mut catalog = Catalog { quarantined: count_aside(&dir.join(names::QUARANTINE), &budget)?, ..Catalog::default() };
        let mut first_seqs = BTreeMap::new();
        let mut first_receipts = BTreeMap::new();
        let mut streams = Vec::new();
        let mut receivers = Vec::new();
        let mut states = BTreeMap::new();
        for id in streams_on_disk(dir, config.streams)? {
            let stream_dir = dir.join(id.to_string());
            DirBuilder::new().recursive(true).mode(0o700).create(&stream_dir).at("creating", &stream_dir)?;
            let recovered = recovery::recover_stream(dir, identity.journal_id, id, &config, now, &mut report)?;
            budget.take(recovered.file_bytes + HEAD_BYTES as u64);
            let (head, state) = open_head(&stream_dir, identity.journal_id, id, &config, &recovered)?;
            first_seqs.insert(id, recovered.next_seq);
            first_receipts.insert(id, recovered.next_receipt);
            catalog.streams.insert(id, StreamCatalog::new(stream_dir.clone(), recovered.pending, recovered.acked));
            if id < config.streams {
                let (stream, receiver) = Stream::new(identity.journal_id, id, stream_dir, head, recovered.next_seq);
                stream.ceiling.store(state.receipt_ceiling, Ordering::Release);
                states.insert(id, state);
                streams.push(Arc::new(stream));
                receivers.push((receiver, recovered.next_receipt));
            }
        }
        catalog.damaged = count_aside(&dir.join(names::DAMAGED), &budget)?;
        sync_dir(dir)?;
        let (handover, handovers) = channel();
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            config,
            identity,
            streams,
            budget,
            catalog: Mutex::new(catalog),
            keeper: Mutex::new(KeeperState { handovers, states }),
            failures: Mutex::new(BTreeMap::new()),
            flush,
            read_buffer: Mutex::default(),
            round: AtomicU64::new(0),
            now: AtomicI64::new(now),
            keeper_thread: OnceLock::new(),
            flush_wanted: AtomicBool::new(false),
            first_seqs,
            first_receipts,
            on_sealed: OnceLock::new(),
        });
        // Where there is no room for a segment, the journal opens all the same, to ship what it holds; its writers refuse admission until there is.
        Self(shared.clone()).top_up();
        let mut writers = Vec::new();
        for (stream, (incoming, next_receipt)) in shared.streams.iter().zip(receivers) {
            let parts = WriterParts { shared: shared.clone(), stream: stream.clone(), incoming, handover: handover.clone(), next_receipt };
            writers.push(StreamWriter::new(parts, now));
        }
        Ok(Opened { journal: Self(shared), writers, report })
    }

    /// The journal's random id, minted with its folder.
    pub fn id(&self) -> [u8; 16] {
        self.0.identity.journal_id
    }

    /// Each stream with the seq of the first segment that is written since the journal was opened: all below are from before.
    pub fn first_seqs(&self) -> &BTreeMap<u32, u64> {
        &self.0.first_seqs
    }

    /// When the journal was made, microseconds UTC.
    pub fn created_at(&self) -> i64 {
        self.0.identity.created_at
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Calls `wake` whenever the keeper has sealed segments: the shipper's alarm. Only the first call counts; false if there was one.
    pub fn on_sealed(&self, wake: impl Fn() + Send + Sync + 'static) -> bool {
        self.0.on_sealed.set(Box::new(wake)).is_ok()
    }

    /// How many records of a stream are flushed to the disk, of those appended since the start. Stands still while a flush of the stream has failed.
    pub fn flushed(&self, stream: u32) -> u64 {
        self.0.streams.get(stream as usize).map_or(0, |stream| stream.flushed.load(Ordering::Acquire))
    }
}

/// Opens the head and makes the state of this start durable before any receipt number is given out.
fn open_head(dir: &Path, journal_id: [u8; 16], id: u32, config: &Config, recovered: &Recovered) -> Result<(Head, HeadState), JournalError> {
    let head = Head::open(&dir.join("head"), journal_id, id, &recovered.image)?;
    head.set_next_receipt(recovered.next_receipt);
    let state = HeadState {
        receipt_ceiling: recovered.next_receipt.saturating_add(RECEIPT_STEP),
        next_seq: recovered.next_seq,
        last_digest: recovered.last_digest,
        boot_id: config.boot_id.unwrap_or_default(),
        // A stream without a writer gives out no numbers.
        clean: id >= config.streams,
    };
    head.set_state(&state);
    head.file().sync_all().at("flushing", head.path())?;
    sync_dir(dir)?;
    Ok((head, state))
}

/// Counts the files in a folder beside the streams, and their bytes.
fn count_aside(folder: &Path, budget: &Budget) -> Result<u64, JournalError> {
    if !folder.exists() {
        return Ok(0);
    }
    let mut count = 0;
    for entry in std::fs::read_dir(folder).at("listing", folder)? {
        let length = entry.and_then(|entry| entry.metadata()).at("listing", folder)?.len();
        budget.take(Budget::pages(length));
        count += 1;
    }
    Ok(count)
}
