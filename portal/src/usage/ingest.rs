//! Takes a batch once (SEMANTICS M3 to M5).
//!
//! One transaction holds the proof that a segment was taken, its rows, its sums and the quota's use. Transactions lock in one order: the segment, the
//! sums and the quotas in the order of their keys, the stream last.

use std::collections::HashMap;

use calendar::Timestamp;
use gateway_control::usage::{BatchAck, LatencyRow, SegmentRef, UsageBatch, UsageRow};
use ids::{ApiKeyId, NamespaceId};

use super::{
    check::{check, is_plausible, receipts},
    ingest_lookup_store::{self as lookup, Known},
    ingest_store as store,
    quota_store::{self, Proof},
    rollup::{LedgerKey, roll_up},
    rollup_store,
};
use crate::{
    db::Tx,
    error::{Error, Result},
    gateways::{self, Authenticated},
};

/// What became of a batch that was not refused.
#[derive(Debug)]
pub struct Accepted {
    /// What the gateway is told once the transaction is committed.
    pub ack: BatchAck,
    /// Whether the segment had been taken before, so that nothing has changed.
    pub duplicate: bool,
    /// How many rows name something that the portal does not know.
    pub unattributed: usize,
    /// When each key was used last, to be written after the commit with [`record_last_used`].
    pub last_used: Vec<LastUsed>,
}

/// When a key was used last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastUsed {
    /// The key's namespace.
    pub namespace: NamespaceId,
    /// The key.
    pub api_key: ApiKeyId,
    /// The event time of its latest call in a batch.
    pub at: Timestamp,
}

/// A row that is kept, but belongs to nobody.
#[derive(Debug)]
pub(super) struct Unattributed<'a> {
    pub row: &'a UsageRow,
    pub reason: String,
}

/// Takes a batch. The same segment sent again changes nothing, whatever its fold version; the same segment key with other bytes is a conflict.
///
/// # Errors
/// `Invalid` names the field of a malformed batch; `Conflict` is the same key with other bytes; `Forbidden` another gateway's journal.
pub async fn accept(tx: &mut Tx, gateway: &Authenticated, batch: &UsageBatch, now: Timestamp) -> Result<Accepted> {
    check(batch)?;
    gateways::bind_journal(tx, gateway, batch.segment.journal_id, now).await?;
    store::commit_on_standby(tx).await?;
    if !store::insert_segment(tx, batch, now).await? {
        return taken_before(tx, &batch.segment).await;
    }
    check_chain(tx, &batch.segment).await?;
    let known = lookup::known(tx, &batch.rows).await?;
    let mut attributed = Vec::with_capacity(batch.rows.len());
    let mut unattributed = Vec::new();
    for row in &batch.rows {
        match reason_against(row, gateway, &known, now) {
            None => attributed.push(row),
            Some(reason) => unattributed.push(Unattributed { row, reason }),
        }
    }
    if let Some(first) = unattributed.first() {
        tracing::error!(
            gateway = %gateway.id, journal = %batch.segment.journal_id, stream = batch.segment.stream, seq = batch.segment.seq,
            rows = unattributed.len(), reason = first.reason, "usage was taken that belongs to nobody"
        );
        store::insert_unattributed(tx, &batch.segment, &unattributed, now).await?;
    }
    store::insert_rows(tx, &batch.segment, &attributed, now).await?;
    let is_known = |row: &&LatencyRow| gateway.serves(row.namespace) && known.has_subscription(row.namespace, row.subscription);
    let latency: Vec<_> = batch.latency.iter().filter(is_known).filter(|row| is_plausible(row.minute, now)).collect();
    store::insert_latency(tx, &batch.segment, &latency).await?;
    let rollup = roll_up(attributed.iter().copied(), &known.rules);
    rollup_store::add_quarter_hours(tx, &rollup.quarter_hours).await?;
    rollup_store::add_days(tx, &rollup.days).await?;
    let hard = attributed.iter().filter(|row| known.is_hard(row.key.plan_version, row.key.meter)).map(|row| LedgerKey::of(row)).collect();
    let proof = Proof { segment: &batch.segment, run: batch.run.map(Into::into), used: &rollup.used, hard: &hard };
    quota_store::add_used(tx, &proof, now).await?;
    let ack = store::advance_stream(tx, batch, receipts(batch)).await?;
    Ok(Accepted { ack, duplicate: false, unattributed: unattributed.len(), last_used: last_used(&attributed) })
}

async fn taken_before(tx: &mut Tx, segment: &SegmentRef) -> Result<Accepted> {
    let digest = store::segment_digest(tx, segment).await?;
    if digest != Some(segment.segment_digest) {
        tracing::error!(
            journal = %segment.journal_id, stream = segment.stream, seq = segment.seq, sent = ?segment.segment_digest, taken = ?digest,
            "a segment was sent again with other bytes and is refused"
        );
        return Err(Error::conflict("This segment was taken before with other bytes. It must be set aside at the gateway."));
    }
    let ack = store::ack(tx, segment.journal_id, segment.stream).await?;
    Ok(Accepted { ack, duplicate: true, unattributed: 0, last_used: Vec::new() })
}

/// A segment names the digest of the one before it. Where that was taken and differs, the usage is taken all the same, and somebody must look.
async fn check_chain(tx: &mut Tx, segment: &SegmentRef) -> Result<()> {
    let Some(seq) = segment.seq.checked_sub(1) else { return Ok(()) };
    let before = store::segment_digest(tx, &SegmentRef { seq, ..*segment }).await?;
    if before.is_some_and(|before| before != segment.prev_digest) {
        tracing::error!(
            journal = %segment.journal_id, stream = segment.stream, seq = segment.seq,
            "a segment does not follow the one that was taken before it"
        );
    }
    Ok(())
}

/// Why a row cannot be attributed to the subscription that it names. A key that is not there any more (those of the API reference are removed some time
/// after they expired) is no reason: it is the subscription that is charged.
fn reason_against(row: &UsageRow, gateway: &Authenticated, known: &Known, now: Timestamp) -> Option<String> {
    let key = &row.key;
    if !gateway.serves(key.namespace) {
        return Some(format!("the gateway does not serve the namespace {}", key.namespace));
    }
    if !known.has_subscription(key.namespace, key.subscription) {
        return Some(format!("the subscription {} is unknown in {}", key.subscription, key.namespace));
    }
    if !known.rules.contains_key(&key.plan_version) {
        return Some(format!("the plan version {} is unknown", key.plan_version));
    }
    if !known.applications.contains(&(key.namespace, key.application)) {
        return Some(format!("the application {} is unknown in {}", key.application, key.namespace));
    }
    if !known.routes.contains(&key.route) {
        return Some(format!("the route {} is unknown", key.route));
    }
    if !known.meters.contains(&key.meter) {
        return Some(format!("the meter {} is unknown", key.meter));
    }
    (!is_plausible(key.minute, now)).then(|| format!("the minute {} cannot be right", key.minute))
}

fn last_used(rows: &[&UsageRow]) -> Vec<LastUsed> {
    let mut latest: HashMap<(NamespaceId, ApiKeyId), Timestamp> = HashMap::new();
    for row in rows {
        let at = latest.entry((row.key.namespace, row.key.api_key)).or_insert(row.last_at);
        *at = (*at).max(row.last_at);
    }
    latest.into_iter().map(|((namespace, api_key), at)| LastUsed { namespace, api_key, at }).collect()
}

/// Writes when keys were used last, each at most once a minute. In a transaction of its own, after the usage is committed: it may fail or be skipped
/// without harm.
pub async fn record_last_used(tx: &mut Tx, uses: &[LastUsed]) -> Result<()> {
    store::set_last_used(tx, uses).await
}
