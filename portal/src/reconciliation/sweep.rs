//! Goes through everything, a step at a time: streams, segments, sums, invoices; and through what has just come before all else.
//!
//! A step looks at one thing in one snapshot, so that usage which arrives meanwhile is on both sides or on neither, and settles it in the same
//! transaction. A pass takes as many steps as its time allows and leaves a cursor; a small installation is gone through whole at every pass.

use std::time::{Duration, Instant};

use calendar::Timestamp;
use ids::{JournalId, NamespaceId, SubscriptionId, Uuid};
use serde::{Deserialize, Serialize};

use super::{
    compare_invoices, compare_ledger, compare_streams, compare_usage, difference_store as differences,
    finding::{Finding, Scope},
    state_store as state, stream_store, usage_store,
};
use crate::{
    App,
    db::Tx,
    error::{Error, Result},
    identity::Actor,
    usage::{partitions, watermark},
};

/// How long the steps of a pass may take together.
const PASS_BUDGET: Duration = Duration::from_secs(6);
/// How much of that goes to what has just come.
const RECENT_BUDGET: Duration = Duration::from_secs(2);
/// How many usage rows wait to be summed where much usage arrives: then taking it comes first, and a pass takes a fourth of its time.
const BUSY_ROWS: u64 = 200_000;
/// How far behind its acceptance usage may be committed.
const COMMIT_LAG: Duration = Duration::from_secs(60);
/// How late after a call its segment may come and still be compared with its rows where old rows are dropped.
const LATEST: Duration = Duration::from_secs(32 * 86_400);
/// Where sums begin: nothing is metered before.
const BEGINNING: Timestamp = Timestamp::UNIX_EPOCH;

/// Where a sweep goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
enum Cursor {
    /// After this stream.
    Streams { after: Option<(Uuid, i32)> },
    /// With the segments accepted from here on.
    Segments { from: Timestamp },
    /// With this subscription's sums from here on.
    Sums { namespace: Uuid, subscription: Uuid, from: Timestamp },
    /// With the subscription after this one.
    Subscriptions { after: Option<(Uuid, Uuid)> },
}

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// How many steps it took.
    pub steps: usize,
    /// Whether a sweep came to its end.
    pub finished: bool,
}

/// One pass.
pub(super) async fn pass(app: &App, now: Timestamp) -> Result<Pass> {
    let started = Instant::now();
    let mut done = Pass::default();
    let mut tx = app.begin().await?;
    let share = if watermark::lag(&mut tx).await?.rows > BUSY_ROWS { 4 } else { 1 };
    tx.commit().await?;
    recent(app, (started, RECENT_BUDGET / share), now, &mut done).await?;
    let mut tx = app.begin().await?;
    let known = state::state(&mut tx).await?;
    tx.commit().await?;
    let mut cursor = match known.cursor {
        // A cursor that an older release left, and that is not read any more, begins a sweep anew.
        Some(cursor) => serde_json::from_value(cursor).unwrap_or(Cursor::Streams { after: None }),
        None => Cursor::Streams { after: None },
    };
    let sweep_started_at = known.sweep_started_at.unwrap_or(now);
    loop {
        let mut tx = begin(app).await?;
        let next = step(&mut tx, &cursor, now).await?;
        let json = next.as_ref().map(serde_json::to_value).transpose()?;
        state::set_cursor(&mut tx, json.as_ref(), sweep_started_at, now).await?;
        tx.commit().await?;
        done.steps += 1;
        match next {
            None => {
                done.finished = true;
                return Ok(done);
            }
            Some(_) if started.elapsed() > PASS_BUDGET / share => return Ok(done),
            Some(next) => cursor = next,
        }
    }
}

/// Sums of what was accepted since the last pass.
async fn recent(app: &App, (started, budget): (Instant, Duration), now: Timestamp, done: &mut Pass) -> Result<()> {
    let mut tx = app.begin().await?;
    let since = state::state(&mut tx).await?.recent_through.unwrap_or(now).minus(COMMIT_LAG);
    let changed = usage_store::changed_since(&mut tx, since).await?;
    tx.commit().await?;
    let mut tx = app.begin().await?;
    let rows_from = partitions::rows_from(&mut tx).await?.unwrap_or(BEGINNING);
    tx.commit().await?;
    for (namespace, subscription, from, to) in changed {
        if started.elapsed() > budget {
            // The sweep comes by what is left.
            tracing::debug!("more usage came than could be compared at once");
            break;
        }
        let mut tx = begin(app).await?;
        let (scope, findings) =
            compare_usage::sums_between(&mut tx, (namespace, subscription), from.max(rows_from), to.plus(Duration::from_secs(60))).await?;
        settle(&mut tx, &scope, &findings, now).await?;
        tx.commit().await?;
        done.steps += 1;
    }
    let mut tx = app.begin().await?;
    state::set_recent(&mut tx, now).await?;
    tx.commit().await?;
    Ok(())
}

/// A transaction during which no rows move between partitions. Rows are found by their keys, whatever the server thinks of a table that has just grown by
/// millions of rows.
async fn begin(app: &App) -> Result<Tx> {
    let mut tx = app.begin().await?;
    usage_store::prefer_indexes(&mut tx).await?;
    partitions::hold(&mut tx).await?;
    Ok(tx)
}

/// Looks at what the cursor names, and answers where to go on; `None` after the last.
async fn step(tx: &mut Tx, cursor: &Cursor, now: Timestamp) -> Result<Option<Cursor>> {
    match cursor {
        Cursor::Streams { after } => {
            let Some(key) = stream_store::next_stream(tx, *after).await? else {
                // Where old rows were dropped, only segments that can have none of them are compared with theirs.
                let from = partitions::rows_from(tx).await?.map_or(BEGINNING, |from| from.plus(LATEST));
                return Ok(Some(Cursor::Segments { from }));
            };
            let (scope, findings) = compare_streams::compare(tx, key, now).await?;
            settle(tx, &scope, &findings, now).await?;
            Ok(Some(Cursor::Streams { after: Some((JournalId::uuid(key.journal), key.stream)) }))
        }
        Cursor::Segments { from } => {
            let (scope, findings, next) = compare_usage::compare_segments(tx, *from, now).await?;
            settle(tx, &scope, &findings, now).await?;
            Ok(Some(next.map_or(Cursor::Subscriptions { after: None }, |from| Cursor::Segments { from })))
        }
        Cursor::Subscriptions { after } => {
            let Some((namespace, subscription)) = usage_store::next_subscription(tx, *after).await? else { return Ok(None) };
            let (scope, findings) = compare_invoices::compare(tx, &Actor::system(), (namespace, subscription)).await?;
            settle(tx, &scope, &findings, now).await?;
            let (scope, findings) = compare_ledger::compare(tx, (namespace, subscription), now).await?;
            settle(tx, &scope, &findings, now).await?;
            let from = partitions::rows_from(tx).await?.unwrap_or(BEGINNING);
            Ok(Some(Cursor::Sums { namespace: namespace.uuid(), subscription: subscription.uuid(), from }))
        }
        Cursor::Sums { namespace, subscription, from } => {
            let of = (NamespaceId::from_uuid(*namespace), SubscriptionId::from_uuid(*subscription));
            let Some((scope, findings, next)) = compare_usage::compare_sums(tx, of, *from).await? else {
                settle(tx, &compare_usage::rest_of_sums(of, *from), &[], now).await?;
                return Ok(Some(Cursor::Subscriptions { after: Some((*namespace, *subscription)) }));
            };
            settle(tx, &scope, &findings, now).await?;
            Ok(Some(Cursor::Sums { namespace: *namespace, subscription: *subscription, from: next }))
        }
    }
}

async fn settle(tx: &mut Tx, scope: &Scope, findings: &[Finding], now: Timestamp) -> Result<(), Error> {
    for (kind, detail) in differences::settle(tx, scope, findings, now).await? {
        tracing::error!(kind = kind.as_str(), detail, "reconciliation found a difference");
    }
    Ok(())
}
