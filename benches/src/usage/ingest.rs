//! How many usage rows a second one portal takes.
//!
//! A **usage row** is one row of a batch, as it is stored in `usage_rows`: the calls of one key, route, status and minute in one segment. Simulated
//! gateways fold calls that are drawn as [`Tenants`] says into real batches, latency histograms included, and send them as gateways do, as JSON to
//! `POST /control/v1/usage`, each stream in order. Load, portal and Postgres share the machine's cores.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use calendar::{Clock as _, SystemClock, Timestamp};
use gateway_control::{
    FORMAT,
    credential::KeyDigest,
    units::Micros,
    usage::{BatchAck, FOLD_VERSION, LatencyRow, RowKey, SegmentRef, UsageBatch, UsageRow, latency_bucket},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;

use super::{
    stand::{Stand, all_cores},
    tenants::{Dice, Tenants, gateway_credential, journal_id},
};
use crate::{process::Process, runs::say};

/// How many different batches are folded before the run; streams send them in turns, each time with the present minute and a segment of its own.
const FOLDED: usize = 48;
/// How long the load runs before anything counts.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long sums may take to follow after the load has ended.
const FOLLOW_WITHIN: Duration = Duration::from_secs(120);

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Tenants.
    pub tenants: usize,
    /// Simulated gateways.
    pub gateways: usize,
    /// Streams of each.
    pub streams: usize,
    /// Usage rows of a batch.
    pub rows: usize,
}

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ingest {
    /// Cores that load, portal and Postgres shared.
    pub cores: usize,
    /// How long was counted.
    pub seconds: f64,
    /// Tenants, gateways, streams of each, rows of a batch.
    pub shape: (usize, usize, usize, usize),
    /// Batches that were acknowledged while it was counted.
    pub batches: u64,
    /// Their usage rows.
    pub rows: u64,
    /// Their latency histograms.
    pub latency_rows: u64,
    /// Usage rows in a second.
    pub rows_per_second: f64,
    /// The slowest ten seconds of it.
    pub slowest_rows_per_second: f64,
    /// Batches that were not taken at the first attempt.
    pub refused: u64,
    /// Milliseconds from sending a batch to its acknowledgement.
    pub p50_millis: u64,
    /// The same, of the slowest in a hundred.
    pub p99_millis: u64,
    /// Processor seconds a second of the portal, Postgres, and the load.
    pub busy: (f64, f64, f64),
    /// Milliseconds until the sums had all rows, after the last batch.
    pub follow_millis: u64,
    /// Bytes of rows and of their indexes, for each usage row.
    pub bytes_per_row: (f64, f64),
}

#[derive(Debug, Default)]
struct Counts {
    batches: AtomicU64,
    rows: AtomicU64,
    latency_rows: AtomicU64,
    refused: AtomicU64,
    calls: AtomicU64,
}

/// What the simulated gateways share.
#[derive(Debug)]
struct Load {
    shape: Shape,
    folded: Vec<(Vec<UsageRow>, Vec<LatencyRow>)>,
    written: Vec<Mutex<Option<Written>>>,
    url: String,
    client: reqwest::Client,
    counts: Counts,
    stop: AtomicBool,
}

/// Runs it.
///
/// # Errors
/// When something does not start, or the sums are not exact.
pub async fn run(folder: &Path, shape: Shape, duration: Duration) -> anyhow::Result<Ingest> {
    let stand = Stand::start(folder).await?;
    let tenants = Tenants::new(shape.tenants);
    tenants.write(&stand.pool, shape.gateways).await?;
    let portal = stand.portal("portal")?;
    let folded = (0..FOLDED).map(|number| fold(&tenants, shape.rows, 1 + number as u64)).collect();
    let written = (0..FOLDED).map(|_| Mutex::default()).collect();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build()?;
    let url = format!("http://{}/control/v1/usage", portal.address);
    let load = Arc::new(Load { shape, folded, written, url, client, counts: Counts::default(), stop: AtomicBool::new(false) });
    let senders: Vec<_> = (0..shape.gateways)
        .flat_map(|gateway| (0..shape.streams).map(move |stream| (gateway, stream)))
        .map(|(gateway, stream)| tokio::spawn(send_stream(load.clone(), gateway, stream)))
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let found = measure(&stand, &portal, &load, duration).await?;
    load.stop.store(true, Relaxed);
    let mut latencies = Vec::new();
    for sender in senders {
        latencies.extend(sender.await??);
    }
    let follow_millis = wait_for_sums(&stand.pool).await?;
    check(&stand.pool, &load.counts).await?;
    for line in stand.slowest_statements().await? {
        say(&line);
    }
    latencies.sort_unstable();
    let at = |per_hundred: usize| latencies.get((latencies.len() * per_hundred / 100).min(latencies.len() - 1)).copied().unwrap_or(0);
    let (heap, indexes) = super::stand::table_bytes(&stand.pool, "usage_rows").await?;
    let stored = load.counts.rows.load(Relaxed) as f64;
    let bytes_per_row = (heap as f64 / stored, indexes as f64 / stored);
    let found = Ingest { follow_millis, p50_millis: at(50), p99_millis: at(99), bytes_per_row, ..found };
    drop(portal);
    stand.postgres.stop().await?;
    Ok(found)
}

/// Folds calls until there are so many rows.
fn fold(tenants: &Tenants, rows: usize, seed: u64) -> (Vec<UsageRow>, Vec<LatencyRow>) {
    let mut dice = Dice(seed);
    let mut sums: BTreeMap<RowKey, u64> = BTreeMap::new();
    let mut latency: BTreeMap<_, BTreeMap<u16, u64>> = BTreeMap::new();
    while sums.len() < rows {
        let key = tenants.call(&mut dice, Timestamp::UNIX_EPOCH);
        // From 2 ms to a few hundred.
        let micros = (2_000.0 / (1.0 - dice.unit() * 0.99)) as u64;
        *latency.entry((key.namespace, key.subscription, key.route)).or_default().entry(latency_bucket(micros)).or_default() += 1;
        *sums.entry(key).or_default() += 1;
    }
    let row = |(key, calls): (RowKey, u64)| UsageRow {
        key,
        count: calls,
        incomplete: 0,
        sum: Micros(i128::from(calls) * 1_000_000),
        min: Micros::ONE,
        max: Micros::ONE,
        last: Micros::ONE,
        last_at: Timestamp::UNIX_EPOCH,
        uniques: Vec::new(),
    };
    let histogram = |((namespace, subscription, route), buckets): (_, BTreeMap<u16, u64>)| LatencyRow {
        namespace,
        subscription,
        route,
        minute: Timestamp::UNIX_EPOCH,
        histogram: buckets.into_iter().collect(),
    };
    (sums.into_iter().map(row).collect(), latency.into_iter().map(histogram).collect())
}

/// The end of a batch's JSON if it has no rows.
const WITHOUT_ROWS: &str = "\"rows\":[],\"latency\":[]}";

/// A folded batch's rows and histograms in one minute as JSON: writing them anew for each segment would take as long as the portal takes to read them.
#[derive(Debug, Clone)]
struct Written {
    minute: Timestamp,
    json: bytes::Bytes,
}

/// A segment's batch, as a gateway would send it now.
struct Segment {
    body: bytes::Bytes,
    rows: u64,
    latency_rows: u64,
    calls: u64,
}

fn segment(load: &Load, gateway: usize, stream: usize, seq: u64, first_receipt: u64) -> anyhow::Result<Segment> {
    let at = (gateway * 31 + stream * 7 + seq as usize) % load.folded.len();
    let (rows, latency) = &load.folded[at];
    let digest = |seq: u64| KeyDigest(Sha256::digest(format!("{gateway} {stream} {seq}")).into());
    let calls: u64 = rows.iter().map(|row| row.count).sum();
    let batch = UsageBatch {
        format: FORMAT,
        fold_version: FOLD_VERSION,
        segment: SegmentRef {
            journal_id: journal_id(gateway),
            stream: u16::try_from(stream)?,
            seq,
            segment_digest: digest(seq),
            prev_digest: seq.checked_sub(1).map_or(KeyDigest([0; 32]), digest),
        },
        next_receipt: first_receipt + calls,
        final_receipts: vec![(first_receipt, first_receipt + calls - 1)],
        records: calls,
        rows: Vec::new(),
        latency: Vec::new(),
        run: None,
    };
    let head = serde_json::to_string(&batch)?;
    let head = head.strip_suffix(WITHOUT_ROWS).context("a batch ends with its rows")?;
    let tail = written(load, at)?;
    let mut body = Vec::with_capacity(head.len() + tail.len());
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(&tail);
    Ok(Segment { body: body.into(), rows: rows.len() as u64, latency_rows: latency.len() as u64, calls })
}

fn written(load: &Load, at: usize) -> anyhow::Result<bytes::Bytes> {
    let now = SystemClock.now();
    let minute = now.floor_minute();
    let kept = load.written[at].lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(kept) = kept.filter(|kept| kept.minute == minute) {
        return Ok(kept.json);
    }
    let (rows, latency) = &load.folded[at];
    let rows: Vec<_> = rows.iter().map(|row| UsageRow { key: RowKey { minute, ..row.key.clone() }, last_at: now, ..row.clone() }).collect();
    let latency: Vec<_> = latency.iter().map(|row| LatencyRow { minute, ..row.clone() }).collect();
    let json: bytes::Bytes =
        format!("\"rows\":{},\"latency\":{}}}", serde_json::to_string(&rows)?, serde_json::to_string(&latency)?).into();
    *load.written[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(Written { minute, json: json.clone() });
    Ok(json)
}

/// Sends the segments of one stream, one after the other, and answers with the milliseconds that each took.
async fn send_stream(load: Arc<Load>, gateway: usize, stream: usize) -> anyhow::Result<Vec<u64>> {
    let credential = gateway_credential(gateway);
    let (mut seq, mut receipt, mut latencies) = (0, 1, Vec::new());
    while !load.stop.load(Relaxed) {
        let segment = segment(&load, gateway, stream, seq, receipt)?;
        let started = Instant::now();
        loop {
            let request = load.client.post(&load.url).bearer_auth(credential.reveal()).header("content-type", "application/json");
            let answer = request.body(segment.body.clone()).send().await.context("the portal does not answer")?;
            if answer.status().is_success() {
                let ack: BatchAck = answer.json().await?;
                ensure!(ack.accepted_through == Some(seq), "segment {seq} was not the last one taken: {ack:?}");
                break;
            }
            ensure!(answer.status().as_u16() == 503, "{}: {}", answer.status(), answer.text().await?);
            load.counts.refused.fetch_add(1, Relaxed);
        }
        latencies.push(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        load.counts.batches.fetch_add(1, Relaxed);
        load.counts.rows.fetch_add(segment.rows, Relaxed);
        load.counts.latency_rows.fetch_add(segment.latency_rows, Relaxed);
        load.counts.calls.fetch_add(segment.calls, Relaxed);
        (seq, receipt) = (seq + 1, receipt + segment.calls);
    }
    Ok(latencies)
}

async fn measure(stand: &Stand, portal: &Process, load: &Load, duration: Duration) -> anyhow::Result<Ingest> {
    let counts = || [&load.counts.batches, &load.counts.rows, &load.counts.latency_rows].map(|count| count.load(Relaxed));
    let cpu = || [portal.cpu(), stand.postgres_cpu(), own_cpu()];
    let (before, cpu_before, started) = (counts(), cpu(), Instant::now());
    let (mut marks, mut ticks) = (vec![before[1]], tokio::time::interval(Duration::from_secs(1)));
    ticks.tick().await;
    while started.elapsed() < duration {
        ticks.tick().await;
        marks.push(counts()[1]);
        let behind: i64 = sqlx::query_scalar("SELECT count(*) FROM usage_segments").fetch_one(&stand.pool).await?;
        say(&format!("{:3} s: {} rows/s, {behind} segments", marks.len() - 1, marks[marks.len() - 1] - marks[marks.len() - 2]));
    }
    let (after, cpu_after, seconds) = (counts(), cpu(), started.elapsed().as_secs_f64());
    let span = 10.min(marks.len() - 1);
    let slowest = marks.windows(span + 1).map(|window| window[span] - window[0]).min().unwrap_or(0);
    let share = |at: usize| (cpu_after[at].saturating_sub(cpu_before[at])).as_secs_f64() / seconds;
    let shape = load.shape;
    Ok(Ingest {
        cores: all_cores().len(),
        seconds,
        shape: (shape.tenants, shape.gateways, shape.streams, shape.rows),
        batches: after[0] - before[0],
        rows: after[1] - before[1],
        latency_rows: after[2] - before[2],
        rows_per_second: (after[1] - before[1]) as f64 / seconds,
        slowest_rows_per_second: slowest as f64 / span.max(1) as f64,
        refused: load.counts.refused.load(Relaxed),
        p50_millis: 0,
        p99_millis: 0,
        busy: (share(0), share(1), share(2)),
        follow_millis: 0,
        bytes_per_row: (0.0, 0.0),
    })
}

fn own_cpu() -> Duration {
    let usage = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = usage.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
}

/// Waits until the sums per day hold all calls that the rows hold, and says how long that took.
async fn wait_for_sums(pool: &PgPool) -> anyhow::Result<u64> {
    let started = Instant::now();
    loop {
        let behind: bool = sqlx::query_scalar(
            "SELECT (SELECT coalesce(sum(count), 0) FROM usage_rollup_day) < (SELECT coalesce(sum(records), 0) FROM usage_segments)",
        )
        .fetch_one(pool)
        .await?;
        if !behind {
            return Ok(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
        ensure!(started.elapsed() < FOLLOW_WITHIN, "the sums do not follow");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// What was acknowledged is what the tables hold: rows, all sums, the ledger.
async fn check(pool: &PgPool, counts: &Counts) -> anyhow::Result<()> {
    let (rows, calls): (i64, i64) = sqlx::query_as("SELECT count(*), sum(count)::bigint FROM usage_rows").fetch_one(pool).await?;
    ensure!(rows as u64 == counts.rows.load(Relaxed), "{rows} rows are stored");
    ensure!(calls as u64 == counts.calls.load(Relaxed), "{calls} calls are stored");
    for (table, count) in [
        ("usage_rollup_15m", "count"),
        ("usage_rollup_day", "count"),
        ("usage_route_hour", "count_00 + count_15 + count_30 + count_45"),
        ("usage_route_day", "count"),
    ] {
        let sums = format!("SELECT sum({count})::bigint, (sum(sum) FILTER (WHERE billable))::bigint, count(*) FROM {table}");
        let (summed, billable, sums): (i64, i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(sums)).fetch_one(pool).await?;
        let used: i64 = sqlx::query_scalar("SELECT sum(used)::bigint FROM quota_ledger").fetch_one(pool).await?;
        ensure!(summed == calls, "{table} holds {summed} of {calls} calls");
        ensure!(billable == used, "{table} holds {billable} billable units, and the ledger {used}");
        say(&format!("{table}: {sums} sums of {rows} rows"));
    }
    Ok(())
}
