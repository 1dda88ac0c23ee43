//! A mock portal: it feeds the policy, changes it at a chosen rate, takes usage, grants every lease, and counts what it took.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use calendar::{Clock as _, SystemClock};
use gateway_control::{
    FORMAT,
    lease::{LeaseExchange, LeaseGrant, LeaseGrants},
    policy::{EntryBody, Generation, PolicyEvent},
    units::Micros,
    usage::{BatchAck, SegmentRef, UsageBatch},
};
use ids::{JournalId, MeterId, Uuid};
use quota::MICROUNITS_PER_UNIT;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::{
    process::Cores,
    world::{World, entry},
};

/// The epoch of all generations here.
const EPOCH: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
/// How often changes and heartbeats are sent.
const BEAT: Duration = Duration::from_millis(10);
/// How many bytes of the feed are sent at once.
const PIECE_BYTES: usize = 256 * 1024;
/// What each subscription may use, in units; more than any test uses.
const LIMIT_UNITS: i64 = 1_000_000_000_000;

/// A running mock portal.
#[derive(Debug)]
pub struct MockPortal {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it took and is to do.
    pub state: Arc<Portal>,
}

/// What it took and is to do.
#[derive(Debug)]
pub struct Portal {
    world: World,
    /// Policy changes to send in a second.
    pub changes_per_second: AtomicU64,
    /// Changes that were sent.
    pub changed: AtomicU64,
    /// Usage is refused, as by a portal that is away.
    pub refuses_usage: AtomicBool,
    /// Calls that usage batches told of.
    pub calls: AtomicU64,
    streams: Mutex<BTreeMap<(JournalId, u16), Taken>>,
    feeds: AtomicU64,
}

/// Which segments of a stream were taken.
#[derive(Debug, Default)]
struct Taken {
    /// All before this one.
    next: u64,
    /// And these, before which some are missing.
    beyond: BTreeSet<u64>,
}

impl Taken {
    /// Takes one. False if it was taken before.
    fn take(&mut self, seq: u64) -> bool {
        let is_new = seq >= self.next && self.beyond.insert(seq);
        while self.beyond.remove(&self.next) {
            self.next += 1;
        }
        is_new
    }
}

impl MockPortal {
    /// Starts on a core that leaves calls at a fixed rate theirs, where there are enough; ends with the process.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(world: World) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("the mock portal cannot listen")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(Portal {
            world,
            changes_per_second: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            refuses_usage: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            streams: Mutex::default(),
            feeds: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/control/v1/policy", get(policy))
            .route("/control/v1/usage", post(usage))
            .route("/control/v1/leases", post(leases))
            .route("/control/v1/status", post(async || StatusCode::NO_CONTENT))
            .layer(DefaultBodyLimit::disable())
            .with_state(state.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            let [cores, _] = Cores::divide().two_loads();
            cores.keep_to_load()?;
            runtime.block_on(async move { anyhow::Ok(axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await?) })
        });
        Ok(Self { address, state })
    }
}

#[derive(Deserialize)]
struct Position {
    epoch: Option<Uuid>,
    generation: Option<u64>,
}

async fn policy(State(portal): State<Arc<Portal>>, Query(position): Query<Position>) -> Response {
    portal.feeds.fetch_add(1, Relaxed);
    let (sender, receiver) = mpsc::channel::<Bytes>(16);
    tokio::spawn(feed(portal, position, sender));
    Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>)).into_response()
}

/// Lines of the feed on their way out.
struct Lines {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Lines {
    async fn push(&mut self, event: &PolicyEvent) -> Option<()> {
        serde_json::to_writer(&mut self.buffer, event).ok()?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= PIECE_BYTES { self.flush().await } else { Some(()) }
    }

    /// `None` when the gateway has gone.
    async fn flush(&mut self) -> Option<()> {
        self.sender.send(std::mem::take(&mut self.buffer).into()).await.ok()
    }
}

async fn feed(portal: Arc<Portal>, position: Position, sender: mpsc::Sender<Bytes>) -> Option<()> {
    let mut lines = Lines { sender, buffer: Vec::new() };
    let mut generation = position.generation.filter(|_| position.epoch == Some(EPOCH)).unwrap_or(0);
    if generation == 0 {
        generation = 1;
        lines.push(&PolicyEvent::Snapshot { format: FORMAT, epoch: EPOCH }).await?;
        for body in portal.world.entries() {
            lines.push(&PolicyEvent::Entry(entry(generation, body))).await?;
        }
    } else {
        lines.push(&PolicyEvent::Resume { format: FORMAT, epoch: EPOCH }).await?;
    }
    lines.push(&PolicyEvent::Synced { generation: Generation(generation) }).await?;
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (mut beat, mut owed) = (0_u64, 0);
    loop {
        beats.tick().await;
        beat += 1;
        owed += portal.changes_per_second.load(Relaxed);
        let beats_a_second = 1_000 / BEAT.as_millis() as u64;
        for _ in 0..owed / beats_a_second {
            generation += 1;
            lines.push(&PolicyEvent::Entry(entry(generation, EntryBody::ApiKey(portal.changed_key())))).await?;
            lines.push(&PolicyEvent::Synced { generation: Generation(generation) }).await?;
        }
        owed %= beats_a_second;
        if beat.is_multiple_of(beats_a_second) {
            lines.push(&PolicyEvent::Heartbeat { generation: Generation(generation), now: SystemClock.now(), ledger_epoch: None }).await?;
        }
        if !lines.buffer.is_empty() {
            lines.flush().await?;
        }
    }
}

impl Portal {
    /// Takes a segment: whether it is a new one, and up to which all of its stream are here. A gateway that is behind sends the newest before older ones, and
    /// takes a portal that has less in a row than it said for one that was restored.
    fn take(&self, SegmentRef { journal_id, stream, seq, .. }: &SegmentRef) -> (bool, Option<u64>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = streams.entry((*journal_id, *stream)).or_default();
        (taken.take(*seq), taken.next.checked_sub(1))
    }

    /// A key that expires at another instant than before: it still works.
    fn changed_key(&self) -> gateway_control::policy::ApiKey {
        let count = self.changed.fetch_add(1, Relaxed);
        let number = (count as usize).wrapping_mul(7_919) % self.world.size.keys;
        let expires_at = SystemClock.now().plus(Duration::from_secs(86_400 + count));
        gateway_control::policy::ApiKey { expires_at: Some(expires_at), ..World::api_key(number) }
    }
}

async fn usage(State(portal): State<Arc<Portal>>, body: Bytes) -> Response {
    if portal.refuses_usage.load(Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    // On a thread beside the portal's: a batch takes milliseconds, and leases must not wait for it.
    let read = tokio::task::spawn_blocking(move || serde_json::from_slice::<UsageBatch>(&body));
    let Ok(Ok(batch)) = read.await else { return StatusCode::BAD_REQUEST.into_response() };
    let (is_new, through) = portal.take(&batch.segment);
    if is_new {
        let meter: MeterId = World::meter();
        let calls: u64 = batch.rows.iter().filter(|row| row.key.meter == meter).map(|row| row.count).sum();
        portal.calls.fetch_add(calls, Relaxed);
    }
    Json(BatchAck { ledger_epoch: EPOCH, accepted_through: through, safe_through: through }).into_response()
}

async fn leases(Json(exchange): Json<LeaseExchange>) -> Json<LeaseGrants> {
    let grants = exchange.slots.iter().map(|want| LeaseGrant {
        slot: want.slot,
        granted: want.want,
        limit: (LIMIT_UNITS * MICROUNITS_PER_UNIT).into(),
        used: Micros(0),
        elsewhere: Micros(0),
        outstanding: None,
        lasts_ms: 600_000,
    });
    Json(LeaseGrants { ledger_epoch: EPOCH, exchange: exchange.exchange, grants: grants.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_it_has_in_a_row() {
        let mut taken = Taken::default();
        let mut take = |seq| (taken.take(seq), taken.next);
        assert_eq!(
            [0, 1, 5, 2, 5, 3, 4, 1].map(&mut take),
            [(true, 1), (true, 2), (true, 2), (true, 3), (false, 3), (true, 4), (true, 6), (false, 6)]
        );
    }
}
