//! Ships sealed segments (SEMANTICS M3 to M6): fold, offer, ack, trim; again and again until the portal has each.
//!
//! Several segments are under way at once ([`super::lanes`] says which). What the portal refuses as other bytes under a known key is quarantined; what
//! it refuses for another reason that lies in the segment rests and is offered again later; either way the stream goes on. While the portal is away
//! nothing is offered, for longer each time. When the ledger's epoch changes, everything that is retained is offered again.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use gateway_control::{
    status::SegmentReport,
    usage::{BatchAck, SegmentRun, UsageBatch},
};
use ids::{JournalId, Uuid};
use journal::{JournalError, Pace, PendingSegment};
use reqwest::StatusCode;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    fold::{Fold, ROWS_AT_ONCE, Room, SegmentFacts},
    lanes::{LOOK_AHEAD, Lanes, Place, Waiting},
    told::{self, Told},
};
use crate::{
    portal::{Backoff, Portal, PortalError},
    shared::Shared,
};

/// How often segments are looked for, beside when one is sealed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The most alerts that are kept for the status.
const MAX_ALERTS: usize = 100;
/// The longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// How many segments are looked at in one step on the way to the newest.
const NEWEST_AT_ONCE: usize = 256;

/// Segments that are under way.
type Ships<'a> = FuturesUnordered<BoxFuture<'a, (Place, Result<(), Unshipped>)>>;

/// What an operator must look at; the status carries it.
#[derive(Debug, Default)]
pub struct Alerts(Mutex<Vec<String>>);

impl Alerts {
    /// Notes one, and logs it.
    pub fn raise(&self, alert: String) {
        tracing::error!(alert, "an operator must look at this");
        let mut alerts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if alerts.len() < MAX_ALERTS {
            alerts.push(alert);
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The task that ships.
#[derive(Debug)]
pub struct Shipper {
    shared: Arc<Shared>,
    portal: Portal,
    alerts: Arc<Alerts>,
    told: Arc<Told>,
    sealed: Arc<Notify>,
    epoch: Mutex<Option<Uuid>>,
    /// The highest `accepted_through` that the portal has told, by stream.
    accepted: Mutex<HashMap<u32, u64>>,
    epoch_path: PathBuf,
    failing: AtomicUsize,
    lanes: Mutex<Lanes>,
    /// The newest sealed segment that is known, by stream.
    newest: Mutex<HashMap<u32, u64>>,
    /// The memory of the last fold.
    spare: Arc<Mutex<Room>>,
    /// Folds that run, beside the runtime.
    folds: TaskTracker,
}

/// Whether the portal refuses the segment, and would take others.
fn is_about_the_segment(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY)
}

/// Why a segment was not shipped now.
#[derive(Debug, thiserror::Error)]
enum Unshipped {
    #[error(transparent)]
    Portal(#[from] PortalError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the ledger's epoch could not be kept: {0}")]
    Epoch(#[from] io::Error),
}

impl Shipper {
    /// Sets the task up. Reads the ledger's last known epoch.
    ///
    /// # Errors
    /// When the epoch's file cannot be read.
    pub fn new(shared: Arc<Shared>, portal: Portal, alerts: Arc<Alerts>, told: Arc<Told>) -> io::Result<Self> {
        let epoch_path = shared.config.data_dir.join("ledger-epoch");
        let epoch = read_epoch(&epoch_path)?;
        let sealed = Arc::new(Notify::new());
        let wake = sealed.clone();
        shared.journal.on_sealed(move || wake.notify_one());
        let accepted = Mutex::default();
        let (lanes, newest) = (Mutex::default(), Mutex::default());
        Ok(Self {
            shared,
            portal,
            alerts,
            told,
            sealed,
            epoch: Mutex::new(epoch),
            accepted,
            epoch_path,
            failing: AtomicUsize::new(0),
            lanes,
            newest,
            spare: Arc::default(),
            folds: TaskTracker::new(),
        })
    }

    /// Ships until it is told to stop, then what is left, for as long as `finish_within`.
    pub async fn run(self, stop: CancellationToken, finish_within: Duration) {
        let mut ships = FuturesUnordered::new();
        let mut backoff = Backoff::new(MAX_BACKOFF);
        // Until when nothing new is offered, because the portal is away.
        let mut pause = Instant::now();
        let mut epoch = self.shared.quotas.epoch.subscribe();
        loop {
            if pause <= Instant::now() {
                self.offer(&mut ships);
            }
            let wait = if pause > Instant::now() { pause } else { Instant::now() + LOOK_INTERVAL };
            tokio::select! {
                () = stop.cancelled() => break,
                Some((place, outcome)) = ships.next() => if self.settle(place, outcome) {
                    backoff.reset();
                    pause = Instant::now();
                } else {
                    pause = Instant::now() + backoff.delay();
                },
                () = self.sealed.notified(), if pause <= Instant::now() => (),
                () = sleep_until(wait) => (),
                // A gateway that has nothing new to ship hears of a restore by the heartbeat.
                _ = epoch.changed() => self.hear_heartbeat(*epoch.borrow_and_update()),
            }
        }
        match timeout(finish_within, self.finish(&mut ships)).await {
            Ok(true) => tracing::info!("all usage has been shipped"),
            Ok(false) | Err(_) => tracing::warn!("some usage was not shipped; it stays in the journal and is shipped after the next start"),
        }
        // Nobody uses the journal once this has ended: the next one to open its folder may be here already.
        self.folds.close();
        self.folds.wait().await;
    }

    /// Ships what waits, and offers what rests once more. False if something could not be shipped.
    async fn finish<'a>(&'a self, ships: &mut Ships<'a>) -> bool {
        self.lanes().wake_all();
        loop {
            self.offer(ships);
            match ships.next().await {
                Some((place, outcome)) => {
                    if !self.settle(place, outcome) {
                        return false;
                    }
                }
                None => return self.lanes().resting() == 0,
            }
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts as many segments under way as there may be.
    fn offer<'a>(&'a self, ships: &mut Ships<'a>) {
        let waiting: Vec<Waiting> = self.shared.journal.streams().into_iter().map(|stream| self.waiting(stream)).collect();
        while let Some(place) = self.lanes().next(&waiting, Instant::now()) {
            ships.push(async move { (place, self.ship_place(place).await) }.boxed());
        }
    }

    /// What waits in a stream.
    fn waiting(&self, stream: u32) -> Waiting {
        let journal = &self.shared.journal;
        let oldest: Vec<u64> = journal.pending(stream, 0, LOOK_AHEAD).iter().map(|segment| segment.seq).collect();
        let mut seen = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(stream).or_default();
        // Segments are sealed in order, so that only those behind the newest one that is known need be looked at.
        let mut newest = None;
        loop {
            let behind = journal.pending(stream, *seen, NEWEST_AT_ONCE);
            let Some(last) = behind.last() else { break };
            newest = Some(last.seq);
            let moved = *seen != last.seq;
            *seen = last.seq;
            if !moved || behind.len() < NEWEST_AT_ONCE {
                break;
            }
        }
        Waiting { stream, newest: newest.or(oldest.last().copied()), oldest }
    }

    async fn ship_place(&self, (stream, seq): Place) -> Result<(), Unshipped> {
        match self.shared.journal.pending(stream, seq, 1).first().copied().filter(|segment| segment.seq == seq) {
            Some(segment) => self.ship(&segment).await,
            None => Ok(()),
        }
    }

    /// Notes what became of a segment. False if the portal is away, so that nothing else should be offered for a while.
    fn settle(&self, place: Place, outcome: Result<(), Unshipped>) -> bool {
        let (stream, seq) = place;
        let Err(error) = outcome else {
            self.lanes().done(place);
            self.failing.store(0, Ordering::Relaxed);
            return true;
        };
        self.shared.metrics.ship_failures.fetch_add(1, Ordering::Relaxed);
        if let Unshipped::Portal(PortalError::Refused { status, body }) = &error
            && is_about_the_segment(*status)
        {
            if self.lanes().refused(place, Instant::now()) == 1 {
                self.alerts.raise(format!(
                    "segment {seq} of stream {stream} is not taken by the portal ({status}: {body}); it stays in the journal and is offered again later"
                ));
            }
            return true;
        }
        let failed_inside = matches!(&error, Unshipped::Portal(PortalError::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, .. }));
        self.lanes().failed(place, failed_inside, Instant::now());
        // The first of a row of failures is news; the rest is counted.
        if self.failing.fetch_add(1, Ordering::Relaxed) == 0 {
            if let Unshipped::Portal(PortalError::Refused { status: StatusCode::FORBIDDEN, body }) = &error {
                self.alerts.raise(format!("the portal does not take this gateway's journal (403: {body})"));
            }
            tracing::warn!(stream, seq, %error, "usage could not be shipped; it stays in the journal and is offered again");
        }
        false
    }

    fn hear_heartbeat(&self, heard: Option<Uuid>) {
        if let Some(heard) = heard
            && let Err(error) = self.hear_epoch(heard, false)
        {
            tracing::error!(%error, "what is retained could not be offered again");
        }
    }

    /// Ships one segment.
    async fn ship(&self, segment: &PendingSegment) -> Result<(), Unshipped> {
        let Some((told, body)) = self.fold(segment).await? else { return Ok(()) };
        let accepted_before = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).get(&segment.stream).copied();
        match self.portal.usage(body).await {
            Ok(ack) => {
                self.told.note_acked(told);
                self.acked(segment, ack, accepted_before)
            }
            Err(PortalError::Refused { status: StatusCode::CONFLICT, body }) => self.quarantine(segment, &body),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads and folds a segment and writes its batch, off the runtime: the batch, and what is told of it once it is acked. `None` if the segment is no longer
    /// there, or is damaged: what could be kept is offered in its place.
    async fn fold(&self, segment: &PendingSegment) -> Result<Option<(SegmentReport, Bytes)>, Unshipped> {
        let (shared, portal, segment, spare) = (self.shared.clone(), self.portal.clone(), *segment, self.spare.clone());
        let fold = move || fold_segment(&shared, &segment, &spare).map(|batch| (told::report_acked(&batch), portal.written(&batch)));
        let folded = self.folds.spawn_blocking(fold).await;
        match folded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
            Ok(written) => Ok(Some(written)),
            Err(JournalError::NoSuchSegment { .. }) => Ok(None),
            Err(error @ JournalError::SegmentDamaged { .. }) => {
                self.alerts.raise(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn acked(&self, segment: &PendingSegment, ack: BatchAck, accepted_before: Option<u64>) -> Result<(), Unshipped> {
        self.shared.metrics.batches_shipped.fetch_add(1, Ordering::Relaxed);
        self.shared.journal.ack(segment.stream, segment.seq, self.shared.clock.now().micros())?;
        let went_back = self.went_back(segment.stream, ack, accepted_before);
        self.shared.quotas.hear_epoch(ack.ledger_epoch);
        self.hear_epoch(ack.ledger_epoch, went_back)
    }

    /// Offers everything again that is retained, if the ledger is not the one that took it.
    fn hear_epoch(&self, epoch: Uuid, went_back: bool) -> Result<(), Unshipped> {
        let known = *self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if known == Some(epoch) && !went_back {
            return Ok(());
        }
        if known.is_some() {
            self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let offered = self.shared.journal.offer_again()?;
            self.alerts.raise(format!("the portal's ledger was restored: {offered} segments are offered again"));
        }
        // Kept after the segments are offered, so that a kill in the middle offers them again.
        write_epoch(&self.epoch_path, epoch)?;
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) = Some(epoch);
        Ok(())
    }

    /// Whether the portal has less in a row than it had said before the segment was sent: it lost what it had taken. Acks of segments that are under
    /// way together come in any order, so that what was said meanwhile proves nothing.
    fn went_back(&self, stream: u32, ack: BatchAck, before: Option<u64>) -> bool {
        let went_back = before.is_some_and(|before| ack.accepted_through.is_none_or(|through| through < before));
        if let Some(through) = ack.accepted_through {
            let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
            let known = accepted.entry(stream).or_insert(through);
            *known = if went_back { through } else { through.max(*known) };
        }
        went_back
    }

    fn quarantine(&self, segment: &PendingSegment, body: &str) -> Result<(), Unshipped> {
        self.shared.metrics.quarantined.fetch_add(1, Ordering::Relaxed);
        let place = self.shared.journal.quarantine(segment.stream, segment.seq)?;
        self.alerts.raise(format!(
            "segment {} of stream {} was refused by the portal and stands in {}: {body}",
            segment.seq,
            segment.stream,
            place.unwrap_or_default().display()
        ));
        Ok(())
    }
}

fn fold_segment(shared: &Shared, segment: &PendingSegment, spare: &Mutex<Room>) -> Result<UsageBatch, JournalError> {
    let reader = shared.journal.read(segment.stream, segment.seq)?;
    let info = reader.info();
    let facts = SegmentFacts {
        journal_id: JournalId::from_bytes(info.journal_id),
        // A journal has at most `journal::MAX_STREAMS` streams.
        stream: u16::try_from(info.stream).unwrap_or(u16::MAX),
        seq: info.seq,
        digest: info.segment_digest,
        prev_digest: info.prev_digest,
        next_receipt: info.next_receipt,
        run: Some(SegmentRun {
            number: shared.quotas.run.load(Ordering::Acquire),
            before: shared.journal.first_seqs().get(&info.stream).is_none_or(|first| info.seq < *first),
        }),
    };
    let room = std::mem::take(&mut *spare.lock().unwrap_or_else(PoisonError::into_inner));
    let mut fold = Fold::new(facts, room);
    let mut pace = Pace::new(ROWS_AT_ONCE);
    reader.each_record(|record| {
        pace.done(1);
        fold.add(record);
    })?;
    let (batch, room) = fold.finish();
    *spare.lock().unwrap_or_else(PoisonError::into_inner) = room;
    Ok(batch)
}

fn read_epoch(path: &Path) -> io::Result<Option<Uuid>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_epoch(path: &Path, epoch: Uuid) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, epoch.to_string())?;
    fs::rename(&beside, path)
}
