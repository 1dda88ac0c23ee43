//! Follows the portal's feed: list, then watch (SEMANTICS P1 to P4).

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use calendar::Timestamp;
use futures_util::StreamExt as _;
use gateway_control::{
    FORMAT,
    policy::{Generation, PolicyEvent},
};
use ids::Uuid;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    cache::{CacheWriter, PolicyCache, Snapshot},
    store::{Committed, PolicyStore},
};
use crate::{
    portal::{Backoff, Portal},
    shared::{READY_CLOCK, READY_POLICY, Shared},
};

/// Without a line for so long the connection counts as lost: heartbeats come each second.
const SILENCE: Duration = Duration::from_secs(3);
/// The longest line that is read; an entry is far smaller.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// How far the clock may be off the portal's (M9).
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(2);
/// How often the instant of the last confirmation is written.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(10);

/// The task that follows the feed.
#[derive(Debug)]
pub struct PolicySync {
    shared: Arc<Shared>,
    portal: Portal,
    store: PolicyStore,
    cache: CacheWriter,
    cached_confirmation: Option<Instant>,
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Portal(#[from] crate::portal::PortalError),
    #[error("the feed broke off: {0}")]
    Broken(#[from] reqwest::Error),
    #[error("the feed ended")]
    Ended,
    #[error("the feed was silent for {SILENCE:?}")]
    Silent,
    #[error("a line of the feed is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    #[error("the feed has format {0}, this software reads {FORMAT}")]
    Format(u16),
}

impl PolicySync {
    /// Starts from the cached policy, if there is one. Blocks on the disk.
    ///
    /// # Errors
    /// When the thread that writes the cache cannot be started.
    pub fn start(shared: Arc<Shared>, portal: Portal, data_dir: &Path) -> io::Result<Self> {
        let cache = PolicyCache::new(data_dir);
        let mut store = PolicyStore::default();
        let bad = |reason: String| tracing::warn!(reason, "a cached policy entry cannot be read and is left out");
        match cache.read(&mut store, bad) {
            Ok(Some(cached)) => {
                let index = Arc::new(store.index().clone());
                tracing::info!(generation = cached.generation.0, confirmed_at = %cached.confirmed_at, keys = index.keys.count(), "serving from the cached policy");
                shared.policy.publish(index, store.bad_entries());
                shared.policy.confirm(cached.confirmed_at);
                shared.policy.cached.written(cached.generation);
            }
            Ok(None) => (),
            Err(error) => {
                tracing::warn!(%error, "starting without a policy until the portal answers");
                store = PolicyStore::default();
            }
        }
        let cache = CacheWriter::start(cache, shared.policy.cached.clone())?;
        Ok(Self { shared, portal, store, cache, cached_confirmation: None })
    }

    /// Follows the feed until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        loop {
            let lost = tokio::select! {
                () = stop.cancelled() => break,
                lost = self.follow(&mut backoff) => lost,
            };
            self.shared.policy.set_connected(false);
            self.note_readiness();
            tracing::warn!(reason = %lost, "the policy feed is not followed; the last good policy stays in force");
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(backoff.delay()) => (),
            }
        }
        self.write_confirmed();
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Lost {
        match self.try_follow(backoff).await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn try_follow(&mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, Lost> {
        let (epoch, generation) = self.store.position();
        let position = (epoch != Uuid::nil()).then_some((epoch, generation));
        let mut feed = self.portal.policy(position).await?.bytes_stream();
        self.shared.metrics.policy_connects.fetch_add(1, Ordering::Relaxed);
        let mut buffer = BytesMut::new();
        // How much of the buffer is known to hold no end of a line.
        let mut searched = 0;
        loop {
            while let Some(at) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(searched + at);
                buffer.advance(1);
                searched = 0;
                self.line(&line)?;
                backoff.reset();
            }
            searched = buffer.len();
            if buffer.len() > MAX_LINE_BYTES {
                return Err(Lost::LineTooLong);
            }
            self.write_confirmed_if_due();
            let chunk = timeout(SILENCE, feed.next()).await.map_err(|_| Lost::Silent)?;
            buffer.extend_from_slice(&chunk.ok_or(Lost::Ended)??);
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Lost> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match serde_json::from_slice(line) {
            Ok(PolicyEvent::Snapshot { format, epoch }) => {
                readable(format)?;
                self.store.begin_snapshot(epoch);
            }
            Ok(PolicyEvent::Resume { format, .. }) => {
                readable(format)?;
                self.store.begin_resume();
            }
            Ok(PolicyEvent::Entry(entry)) => self.store.receive(entry),
            Ok(PolicyEvent::Synced { generation }) => self.synced(generation),
            Ok(PolicyEvent::Heartbeat { now, ledger_epoch, .. }) => {
                self.heartbeat(now);
                ledger_epoch.into_iter().for_each(|epoch| self.shared.quotas.hear_epoch(epoch));
            }
            Ok(PolicyEvent::Recall { slots }) => slots.iter().for_each(|slot| self.shared.quotas.recall(slot)),
            Err(error) => self.unreadable(line, &error),
        }
        Ok(())
    }

    fn synced(&mut self, generation: Generation) {
        let Committed { index, changes } = self.store.commit(generation);
        self.shared.policy.publish(index, self.store.bad_entries());
        self.shared.policy.confirm(self.shared.clock.now());
        self.shared.policy.set_connected(true);
        self.note_readiness();
        if !changes.is_some_and(|changes| changes.is_empty() || self.cache.change(generation, changes)) {
            self.cache.snapshot(Snapshot { few: self.store.few().cloned().collect(), index: self.store.index().clone() });
            self.write_confirmed();
        }
    }

    fn heartbeat(&mut self, portal_now: Timestamp) {
        let now = self.shared.clock.now();
        let skew = now.since(portal_now).max(portal_now.since(now));
        if skew > MAX_CLOCK_SKEW {
            if self.shared.readiness.fail(READY_CLOCK, format!("the clock is {skew:?} off the portal's")) {
                tracing::error!(?skew, "the clock is too far off the portal's; set it right");
            }
        } else {
            self.shared.readiness.hold(READY_CLOCK);
        }
        if self.shared.policy.is_connected() {
            self.shared.policy.confirm(now);
        }
        self.note_readiness();
    }

    /// A line that is no event: an entry that a newer portal may have written. The last good one stays.
    fn unreadable(&mut self, line: &[u8], error: &serde_json::Error) {
        #[derive(serde::Deserialize)]
        struct Named {
            id: gateway_control::policy::EntryId,
        }
        let name = serde_json::from_slice::<Named>(line)
            .map_or_else(|_| "a line of the feed".to_owned(), |named| format!("{:?} {}", named.id.kind, named.id.id));
        tracing::warn!(entry = name, %error, "a policy entry cannot be read; the last good one stays in force");
        match serde_json::from_slice::<Named>(line) {
            Ok(named) => self.store.keep(named.id, error),
            Err(_) => self.store.note_bad(name, error),
        }
    }

    fn note_readiness(&self) {
        let shared = &self.shared;
        if shared.policy.is_usable(shared.clock.now(), shared.config.max_policy_age) {
            shared.readiness.hold(READY_POLICY);
        } else {
            shared.readiness.fail(READY_POLICY, "there is no policy that is recent enough");
        }
    }

    fn write_confirmed_if_due(&mut self) {
        if self.cached_confirmation.is_none_or(|at| at.elapsed() >= CONFIRM_INTERVAL) {
            self.write_confirmed();
        }
    }

    fn write_confirmed(&mut self) {
        if let Some(at) = self.shared.policy.confirmed_at() {
            self.cached_confirmation = Some(Instant::now());
            self.cache.confirmed(at);
        }
    }
}

fn readable(format: u16) -> Result<(), Lost> {
    if format == FORMAT { Ok(()) } else { Err(Lost::Format(format)) }
}
