//! The sums, and how far they are: every accepted segment is added to them once.
//!
//! The watermark is exact because it is no time but a mark on each segment: `usage_segments.rolled_up_by_route_at` is set in the transaction that adds
//! the segment's rows to the four tables of sums. A late segment is one without the mark, like any other. One transaction at a time adds, under an
//! advisory lock, and what is lost with it is neither marked nor added.
//!
//! Locks are taken in one order: partitions, sums, histograms. Whoever moves rows between partitions and then adds to the sums in one transaction holds the
//! first when it waits for the second, so nobody may wait for the first while holding the second.
//!
//! The more waits, the more rows one round folds into the same sums, so that a round costs less a row the higher the load is.

use std::time::Duration;

use calendar::Timestamp;
use tokio::time::Instant;

use super::{
    latency, partitions,
    watermark_store::{self as store, Lock},
};
use crate::{app::App, db::Tx, error::Result};

/// How soon after a round the next one starts at the earliest: sums are as fresh as that while there is little to add.
const PAUSE: Duration = Duration::from_millis(300);
/// How soon histograms of latency are merged again. The longer a merge takes, the longer the pause: what waits longer is merged in larger pieces.
const LATENCY_PAUSE: Duration = Duration::from_secs(1);
/// The most usage rows that one round adds: it must end well within the time that a statement may take.
const ROUND_ROWS: i64 = 2_000_000;
/// Sums that are further behind than this are an alert.
pub const LAG_ALERT_AFTER: Duration = Duration::from_secs(60);

/// How far the sums are behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Accepted segments that are not in the sums.
    pub segments: u64,
    /// Their usage rows.
    pub rows: u64,
    /// When the oldest of them was accepted.
    pub since: Option<Timestamp>,
}

/// Adds what is accepted and not in the sums yet, until nothing is, histograms of latency included; answers how many segments that were. Waits for
/// whoever does the same.
pub async fn catch_up(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    partitions::hold(tx).await?;
    store::lock(tx, Lock::Sums).await?;
    store::lock(tx, Lock::Histograms).await?;
    let mut segments = 0;
    loop {
        let added = store::add_pending(tx, ROUND_ROWS, now).await?;
        if added == 0 {
            break;
        }
        segments += added;
    }
    while latency::merge_pending(tx).await? > 0 {}
    Ok(segments)
}

/// Whether the sums hold everything that was accepted until an instant.
pub async fn is_past(tx: &mut Tx, at: Timestamp) -> Result<bool> {
    Ok(store::lag(tx).await?.since.is_none_or(|since| since > at))
}

/// How far the sums are behind.
pub async fn lag(tx: &mut Tx) -> Result<Lag> {
    store::lag(tx).await
}

/// Keeps the sums up with what is accepted until the process stops. Any number of processes may run it.
pub async fn run(app: App) {
    tokio::join!(keep_sums(&app), keep_histograms(&app));
}

async fn keep_sums(app: &App) {
    loop {
        let started = Instant::now();
        let more_waits = match round(app).await {
            Ok(rows) => rows > ROUND_ROWS / 2,
            Err(error) => {
                tracing::warn!(?error, "accepted usage could not be added to the sums; trying again");
                false
            }
        };
        // Half of the time is left to those who ask and those who send, unless the sums fall behind.
        let pause = if more_waits { Duration::ZERO } else { PAUSE.max(started.elapsed()) };
        if is_stopped_within(app, pause).await {
            return;
        }
    }
}

async fn keep_histograms(app: &App) {
    loop {
        let started = Instant::now();
        let more_waits = match merge(app).await {
            Ok(pieces) => pieces >= latency::MERGED_AT_ONCE,
            Err(error) => {
                tracing::warn!(?error, "histograms of latency could not be merged; trying again");
                false
            }
        };
        let pause = if more_waits { Duration::ZERO } else { LATENCY_PAUSE.max(started.elapsed() * 8) };
        if is_stopped_within(app, pause).await {
            return;
        }
    }
}

async fn is_stopped_within(app: &App, pause: Duration) -> bool {
    tokio::time::timeout(pause, app.shutdown.cancelled()).await.is_ok()
}

/// One round, if nobody else is at it; answers the number of rows.
async fn round(app: &App) -> Result<i64> {
    let mut tx = app.begin().await?;
    partitions::hold(&mut tx).await?;
    if !store::try_lock(&mut tx, Lock::Sums).await? {
        return Ok(0);
    }
    let pending = store::pending(&mut tx, ROUND_ROWS).await?;
    if pending.is_empty() {
        return Ok(0);
    }
    store::add(&mut tx, &pending, app.now()).await?;
    tx.commit().await?;
    Ok(pending.rows_to_add())
}

/// Merges histograms, if nobody else is at it; answers how many pieces that were.
async fn merge(app: &App) -> Result<usize> {
    let mut tx = app.begin().await?;
    // Before the histograms' lock, as everywhere: who makes partitions may wait for that one.
    partitions::hold(&mut tx).await?;
    if !store::try_lock(&mut tx, Lock::Histograms).await? {
        return Ok(0);
    }
    let merged = latency::merge_pending(&mut tx).await?;
    tx.commit().await?;
    Ok(merged)
}
