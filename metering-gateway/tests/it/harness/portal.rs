//! A portal that keeps to the contract and insists that the gateway does: credential, formats, segment chains, exchange numbers.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use calendar::{Clock, SystemClock};
use gateway_control::{
    FORMAT,
    credential::{Credential, CredentialKind},
    lease::{LeaseExchange, LeaseGrant, LeaseGrants, QuotaSlot},
    policy::{EntryId, Generation, PolicyEntry, PolicyEvent},
    status::GatewayStatus,
    units::Micros,
    usage::{BatchAck, FOLD_VERSION, UsageBatch, UsageRow},
};
use ids::{MeterId, Uuid};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use url::Url;

use super::{credential, eventually, policy::World, serve};

pub struct MockPortal {
    pub credential: Credential,
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    credential: String,
    epoch: Uuid,
    facts: Mutex<Facts>,
    /// The newest generation, and whether the portal is there at all.
    news: watch::Sender<(u64, bool)>,
    /// Segments below this number are not answered for.
    hang_below: watch::Sender<u64>,
}

#[derive(Default)]
struct Facts {
    entries: BTreeMap<EntryId, PolicyEntry>,
    raw_lines: Vec<String>,
    batches: BTreeMap<(u16, u64), UsageBatch>,
    duplicates: usize,
    /// Segments that are refused, of any stream, and the status.
    refused: HashMap<u64, StatusCode>,
    refusals: usize,
    ledger_epoch: Uuid,
    limits: HashMap<MeterId, i64>,
    granted: HashMap<QuotaSlot, i64>,
    /// What of it is out to a run of the gateway.
    out_to_runs: HashMap<(QuotaSlot, u64), i64>,
    last_exchange: Option<(LeaseExchange, LeaseGrants)>,
    /// All exchanges that were answered, each once, in the order in which they came.
    exchanges: Vec<LeaseExchange>,
    /// Exchanges whose number was below the last.
    conflicts: usize,
    elsewhere: i64,
    status: Option<GatewayStatus>,
    feeds: usize,
    snapshots: usize,
}

impl MockPortal {
    pub async fn start(world: &World) -> Self {
        let credential = credential(CredentialKind::Gateway);
        let shared = Arc::new(Shared {
            credential: credential.reveal().to_owned(),
            epoch: Uuid::now_v7(),
            facts: Mutex::new(Facts { ledger_epoch: Uuid::now_v7(), ..Facts::default() }),
            news: watch::Sender::new((0, true)),
            hang_below: watch::Sender::new(0),
        });
        let router = Router::new()
            .route("/control/v1/policy", get(policy))
            .route("/control/v1/usage", post(usage))
            .route("/control/v1/leases", post(leases))
            .route("/control/v1/status", post(status))
            .layer(middleware::from_fn_with_state(shared.clone(), authorize))
            .with_state(shared.clone());
        let portal = Self { credential, address: serve(router).await, shared };
        world.entries().into_iter().for_each(|entry| portal.change(entry));
        portal
    }

    pub fn url(&self) -> Url {
        format!("http://{}/", self.address).parse().expect("a URL")
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.shared.facts.lock().expect("no test panicked with it")
    }

    /// Changes or removes an entry, under the next generation.
    pub fn change(&self, mut entry: PolicyEntry) {
        self.shared.news.send_modify(|(generation, _)| {
            *generation += 1;
            entry.generation = Generation(*generation);
            self.facts().entries.insert(entry.id, entry);
        });
    }

    pub fn remove(&self, id: EntryId) {
        self.change(PolicyEntry { generation: Generation(0), id, body: None });
    }

    /// Sends a line that is no valid event with the next change.
    pub fn send_raw(&self, line: String) {
        self.facts().raw_lines.push(line);
    }

    /// Is away: answers 503 to everything and ends the feeds.
    pub fn go_away(&self) {
        self.shared.news.send_modify(|(_, there)| *there = false);
    }

    pub fn come_back(&self) {
        self.shared.news.send_modify(|(_, there)| *there = true);
    }

    /// Refuses the segments with this number from now on; `None` takes them again.
    pub fn refuse(&self, seq: u64, status: Option<StatusCode>) {
        let mut facts = self.facts();
        match status {
            Some(status) => facts.refused.insert(seq, status),
            None => facts.refused.remove(&seq),
        };
    }

    /// Answers for the segments below this number only once the number is lowered.
    pub fn hang_below(&self, seq: u64) {
        self.shared.hang_below.send_replace(seq);
    }

    /// How often a segment was refused.
    pub fn refusals(&self) -> usize {
        self.facts().refusals
    }

    pub fn limit(&self, meter: MeterId, units: i64) {
        self.facts().limits.insert(meter, units * 1_000_000);
    }

    /// Units that other gateways hold.
    pub fn elsewhere(&self, units: i64) {
        self.facts().elsewhere = units * 1_000_000;
    }

    /// Loses all batches, as a restore from a backup does. Returns the ledger's new epoch.
    pub fn lose_usage(&self) -> Uuid {
        let mut facts = self.facts();
        facts.batches.clear();
        facts.ledger_epoch = Uuid::now_v7();
        facts.ledger_epoch
    }

    /// The exchanges of leases that were answered, each once, in the order in which they came.
    pub fn exchanges(&self) -> Vec<LeaseExchange> {
        self.facts().exchanges.clone()
    }

    /// How many exchanges came under a number that was passed.
    pub fn conflicts(&self) -> usize {
        self.facts().conflicts
    }

    pub fn batches(&self) -> Vec<UsageBatch> {
        self.facts().batches.values().cloned().collect()
    }

    pub fn rows(&self) -> Vec<UsageRow> {
        self.batches().into_iter().flat_map(|batch| batch.rows).collect()
    }

    pub fn status(&self) -> Option<GatewayStatus> {
        self.facts().status.clone()
    }

    pub fn granted_units(&self) -> i64 {
        self.facts().granted.values().sum::<i64>() / 1_000_000
    }

    pub fn snapshots(&self) -> usize {
        self.facts().snapshots
    }

    /// Waits until the rows of a meter count so many calls, and returns them.
    pub async fn calls_of(&self, meter: MeterId, calls: u64) -> Vec<UsageRow> {
        eventually(&format!("{calls} calls are shipped"), async || {
            let rows: Vec<_> = self.rows().into_iter().filter(|row| row.key.meter == meter).collect();
            let count: u64 = rows.iter().map(|row| row.count).sum();
            assert!(count <= calls, "{count} calls arrived, {calls} were made");
            (count == calls).then_some(rows)
        })
        .await
    }
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if !shared.news.borrow().1 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let expected = format!("Bearer {}", shared.credential);
    if request.headers().get(header::AUTHORIZATION).is_none_or(|value| value != expected.as_str()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    next.run(request).await
}

#[derive(Deserialize)]
struct Position {
    version: u16,
    epoch: Option<Uuid>,
    generation: Option<u64>,
}

async fn policy(State(shared): State<Arc<Shared>>, Query(position): Query<Position>) -> Response {
    if position.version != FORMAT {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(64);
    tokio::spawn(feed(shared, position, sender));
    Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>)).into_response()
}

async fn feed(shared: Arc<Shared>, position: Position, sender: tokio::sync::mpsc::Sender<Bytes>) {
    let mut news = shared.news.subscribe();
    let resumes = position.epoch == Some(shared.epoch);
    let mut sent = if resumes { position.generation.unwrap_or(0) } else { 0 };
    let hello = match resumes {
        true => PolicyEvent::Resume { format: FORMAT, epoch: shared.epoch },
        false => PolicyEvent::Snapshot { format: FORMAT, epoch: shared.epoch },
    };
    let mut lines = vec![event(&hello)];
    {
        let mut facts = shared.facts.lock().expect("no test panicked with it");
        facts.feeds += 1;
        facts.snapshots += usize::from(!resumes);
    }
    loop {
        let (newest, there) = *news.borrow_and_update();
        if !there {
            return;
        }
        if newest > sent || lines.len() == 1 {
            let mut facts = shared.facts.lock().expect("no test panicked with it");
            lines.append(&mut facts.raw_lines);
            let changed = facts.entries.values().filter(|entry| entry.generation.0 > sent && (resumes || sent > 0 || entry.body.is_some()));
            lines.extend(changed.map(|entry| event(&PolicyEvent::Entry(entry.clone()))));
            lines.push(event(&PolicyEvent::Synced { generation: Generation(newest) }));
            sent = newest;
        }
        let ledger_epoch = shared.facts.lock().expect("no test panicked with it").ledger_epoch;
        lines.push(event(&PolicyEvent::Heartbeat {
            generation: Generation(newest),
            now: SystemClock.now(),
            ledger_epoch: Some(ledger_epoch),
        }));
        // Lines do not end where pieces do.
        let text = lines.drain(..).collect::<String>();
        for piece in text.as_bytes().chunks(777) {
            if sender.send(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = news.changed() => (),
            () = tokio::time::sleep(Duration::from_millis(200)) => (),
        }
    }
}

fn event(event: &PolicyEvent) -> String {
    serde_json::to_string(event).expect("an event is JSON") + "\n"
}

async fn usage(State(shared): State<Arc<Shared>>, Json(batch): Json<UsageBatch>) -> Response {
    let hangs = |below: &u64| batch.segment.seq >= *below;
    shared.hang_below.subscribe().wait_for(hangs).await.expect("the portal is there");
    let mut facts = shared.facts.lock().expect("no test panicked with it");
    let key = (batch.segment.stream, batch.segment.seq);
    let ledger_epoch = facts.ledger_epoch;
    if let Some(status) = facts.refused.get(&key.1).copied() {
        facts.refusals += 1;
        return (status, "refused by the test").into_response();
    }
    if let Some(known) = facts.batches.get(&key) {
        if known != &batch {
            return StatusCode::CONFLICT.into_response();
        }
        facts.duplicates += 1;
    } else {
        check(&facts, &batch);
        facts.batches.insert(key, batch);
    }
    let through = (0..).take_while(|seq| facts.batches.contains_key(&(key.0, *seq))).last();
    Json(BatchAck { ledger_epoch, accepted_through: through, safe_through: through }).into_response()
}

/// What the contract says of a batch.
fn check(facts: &Facts, batch: &UsageBatch) {
    assert_eq!((batch.format, batch.fold_version), (FORMAT, FOLD_VERSION));
    let before = batch.segment.seq.checked_sub(1).and_then(|seq| facts.batches.get(&(batch.segment.stream, seq)));
    if let Some(before) = before {
        assert_eq!(batch.segment.prev_digest, before.segment.segment_digest, "segments are chained");
        assert_eq!(batch.segment.journal_id, before.segment.journal_id);
        assert!(batch.next_receipt >= before.next_receipt);
    }
    assert!(batch.rows.iter().map(|row| &row.key).is_sorted_by(|a, b| a < b), "rows stand in the order of their keys");
    assert!(batch.final_receipts.is_sorted_by(|a, b| a.1 + 1 < b.0), "ranges are in order and do not touch");
    assert!(batch.final_receipts.iter().all(|(from, to)| from <= to && *to < batch.next_receipt));
}

async fn leases(State(shared): State<Arc<Shared>>, Json(exchange): Json<LeaseExchange>) -> Response {
    let mut facts = shared.facts.lock().expect("no test panicked with it");
    assert_eq!(exchange.format, FORMAT);
    if let Some((last, answer)) = &facts.last_exchange {
        if last.exchange == exchange.exchange {
            assert_eq!(last, &exchange, "an exchange that is sent again is the same");
            return Json(answer.clone()).into_response();
        }
        if exchange.exchange < last.exchange {
            facts.conflicts += 1;
            return StatusCode::CONFLICT.into_response();
        }
    }
    let facts = &mut *facts;
    let grants = exchange.slots.iter().map(|want| {
        let limit = facts.limits.get(&want.slot.meter).copied().expect("a quota that the test has set");
        let elsewhere = facts.elsewhere;
        let out = facts.granted.entry(want.slot).or_default();
        let run = exchange.run.as_ref().expect("the gateway says which run it is").number;
        let out_to_run = facts.out_to_runs.entry((want.slot, run)).or_default();
        // As the ledger does: what the gateway says that it received counts, so that a grant whose answer it never heard is not out.
        let declared = want.declared.expect("the gateway declares its totals");
        let held_or_spent = declared.granted.clamped() - declared.given_back.clamped();
        *out += held_or_spent - *out_to_run;
        let granted = want.want.clamped().min(limit - *out - elsewhere).max(0);
        *out += granted;
        *out_to_run = held_or_spent + granted;
        LeaseGrant {
            slot: want.slot,
            granted: granted.into(),
            limit: limit.into(),
            used: Micros(0),
            elsewhere: elsewhere.into(),
            outstanding: Some((*out).into()),
            lasts_ms: 60_000,
        }
    });
    let grants = grants.collect();
    let answer = LeaseGrants { ledger_epoch: facts.ledger_epoch, exchange: exchange.exchange, grants };
    facts.exchanges.push(exchange.clone());
    facts.last_exchange = Some((exchange, answer.clone()));
    Json(answer).into_response()
}

async fn status(State(shared): State<Arc<Shared>>, Json(status): Json<GatewayStatus>) -> StatusCode {
    assert_eq!(status.format, FORMAT);
    shared.facts.lock().expect("no test panicked with it").status = Some(status);
    StatusCode::NO_CONTENT
}
