//! Ships sealed segments (SEMANTICS M3 to M6): fold, offer, ack, trim; again and again until the portal has each.
//!
//! A stream's segments are offered in order, one at a time; streams do not wait for one another. What the portal refuses as other bytes under a known
//! key is quarantined, and the stream goes on. When the ledger's epoch changes, everything that is retained is offered again.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use gateway_control::usage::{BatchAck, SegmentRun, UsageBatch};
use ids::{JournalId, Uuid};
use journal::{JournalError, PendingSegment};
use reqwest::StatusCode;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::fold::{Fold, SegmentFacts};
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
    sealed: Arc<Notify>,
    epoch: Mutex<Option<Uuid>>,
    /// The highest `accepted_through` that the portal has told, by stream.
    accepted: Mutex<HashMap<u32, u64>>,
    epoch_path: PathBuf,
    failing: AtomicUsize,
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
    pub fn new(shared: Arc<Shared>, portal: Portal, alerts: Arc<Alerts>) -> io::Result<Self> {
        let epoch_path = shared.config.data_dir.join("ledger-epoch");
        let epoch = read_epoch(&epoch_path)?;
        let sealed = Arc::new(Notify::new());
        let wake = sealed.clone();
        shared.journal.on_sealed(move || wake.notify_one());
        let accepted = Mutex::default();
        Ok(Self { shared, portal, alerts, sealed, epoch: Mutex::new(epoch), accepted, epoch_path, failing: AtomicUsize::new(0) })
    }

    /// Ships until it is told to stop, then once more, for as long as `finish_within`.
    pub async fn run(self, stop: CancellationToken, finish_within: Duration) {
        let mut backoff = Backoff::new(MAX_BACKOFF);
        loop {
            let shipped = tokio::select! {
                () = stop.cancelled() => break,
                shipped = self.ship_all() => shipped,
            };
            let wait = if shipped {
                backoff.reset();
                LOOK_INTERVAL
            } else {
                self.shared.metrics.ship_failures.fetch_add(1, Ordering::Relaxed);
                backoff.delay()
            };
            let mut epoch = self.shared.quotas.epoch.subscribe();
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.sealed.notified(), if shipped => (),
                () = tokio::time::sleep(wait) => (),
                _ = epoch.changed() => (),
            }
            // A gateway that has nothing new to ship hears of a restore by the heartbeat.
            let heard = *self.shared.quotas.epoch.borrow();
            if let Some(heard) = heard
                && let Err(error) = self.hear_epoch(heard, false)
            {
                tracing::error!(%error, "what is retained could not be offered again");
            }
        }
        match timeout(finish_within, self.ship_all()).await {
            Ok(true) => tracing::info!("all usage has been shipped"),
            Ok(false) | Err(_) => tracing::warn!("some usage was not shipped; it stays in the journal and is shipped after the next start"),
        }
    }

    /// Ships what waits in all streams. False if something could not be shipped.
    async fn ship_all(&self) -> bool {
        let streams = self.shared.journal.streams();
        join_all(streams.into_iter().map(|stream| self.ship_stream(stream))).await.into_iter().all(|shipped| shipped)
    }

    async fn ship_stream(&self, stream: u32) -> bool {
        while let Some(segment) = self.shared.journal.pending(stream, 0, 1).first().copied() {
            if let Err(error) = self.ship(&segment).await {
                let failing = self.failing.fetch_add(1, Ordering::Relaxed);
                // The first of a row of failures is news; the rest is counted.
                if failing == 0 {
                    if let Unshipped::Portal(PortalError::Refused { status, body }) = &error
                        && matches!(
                            *status,
                            StatusCode::BAD_REQUEST
                                | StatusCode::FORBIDDEN
                                | StatusCode::PAYLOAD_TOO_LARGE
                                | StatusCode::UNPROCESSABLE_ENTITY
                        )
                    {
                        self.alerts
                            .raise(format!("segment {} of stream {stream} is not taken by the portal ({status}: {body})", segment.seq));
                    }
                    tracing::warn!(stream, seq = segment.seq, %error, "usage could not be shipped; it stays in the journal and is offered again");
                }
                return false;
            }
            self.failing.store(0, Ordering::Relaxed);
        }
        true
    }

    /// Ships one segment.
    async fn ship(&self, segment: &PendingSegment) -> Result<(), Unshipped> {
        let Some(batch) = self.fold(segment).await? else { return Ok(()) };
        match self.portal.usage(&batch).await {
            Ok(ack) => self.acked(segment, ack).await,
            Err(PortalError::Refused { status: StatusCode::CONFLICT, body }) => self.quarantine(segment, &body),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads and folds a segment, off the runtime. `None` if it is no longer there, or is damaged: what could be kept is offered in its place.
    async fn fold(&self, segment: &PendingSegment) -> Result<Option<UsageBatch>, Unshipped> {
        let (shared, segment) = (self.shared.clone(), *segment);
        let folded = tokio::task::spawn_blocking(move || fold_segment(&shared, &segment)).await;
        match folded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
            Ok(batch) => Ok(Some(batch)),
            Err(JournalError::NoSuchSegment { .. }) => Ok(None),
            Err(error @ JournalError::SegmentDamaged { .. }) => {
                self.alerts.raise(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn acked(&self, segment: &PendingSegment, ack: BatchAck) -> Result<(), Unshipped> {
        self.shared.metrics.batches_shipped.fetch_add(1, Ordering::Relaxed);
        self.shared.journal.ack(segment.stream, segment.seq, self.shared.clock.now().micros())?;
        let went_back = self.went_back(segment.stream, ack);
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

    /// Whether the portal has less in a row than it said before: it lost what it had taken.
    fn went_back(&self, stream: u32, ack: BatchAck) -> bool {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = accepted.get(&stream).copied();
        if let Some(through) = ack.accepted_through {
            accepted.insert(stream, through);
        }
        before.is_some_and(|before| ack.accepted_through.is_none_or(|through| through < before))
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

fn fold_segment(shared: &Shared, segment: &PendingSegment) -> Result<UsageBatch, JournalError> {
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
    let mut fold = Fold::new(facts);
    for record in reader.records() {
        fold.add(&record?);
    }
    Ok(fold.finish())
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
