//! Takes a batch once (SEMANTICS M3 to M5).
//!
//! One transaction, of one batch or of several, holds the proof that a segment was taken, its rows and the quota's use; the sums follow (`watermark`). Transactions lock in one
//! order: the segment, the quotas in the order of their keys, the stream last. Many batches move the same quotas and streams, so these come last,
//! right before the commit.

use std::collections::{BTreeMap, HashMap};

use calendar::Timestamp;
use gateway_control::usage::{BatchAck, LatencyRow, SegmentRef, UsageBatch, UsageRow};
use ids::{ApiKeyId, JournalId, NamespaceId};

use super::{
    check::{check, is_plausible, receipts},
    ingest_lookup_store::{self as lookup, Known},
    ingest_store as store,
    last_used::LastUsed,
    quota_store::{self, Proof},
    rollup::{LedgerKey, used_by},
};
use crate::{
    db::Tx,
    error::{Error, Kind, Result},
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
    /// When each key was used last, to be written after the commit with [`super::last_used::record`].
    pub last_used: Vec<LastUsed>,
}

/// A row that is kept, but belongs to nobody.
#[derive(Debug)]
pub(super) struct Unattributed<'a> {
    pub row: &'a UsageRow,
    pub reason: String,
}

/// A batch, who sent it, and when it came.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// The gateway.
    pub gateway: &'a Authenticated,
    /// The batch.
    pub batch: &'a UsageBatch,
    /// When it was received.
    pub now: Timestamp,
}

/// Takes a batch. The same segment sent again changes nothing, whatever its fold version; the same segment key with other bytes is a conflict.
///
/// # Errors
/// `Invalid` names the field of a malformed batch; `Conflict` is the same key with other bytes; `Forbidden` another gateway's journal.
pub async fn accept(tx: &mut Tx, gateway: &Authenticated, batch: &UsageBatch, now: Timestamp) -> Result<Accepted> {
    let taken = accept_all(tx, &[Offered { gateway, batch, now }]).await?;
    taken.into_iter().next().unwrap_or_else(|| Err(Error::internal(anyhow::anyhow!("a batch came to no end"))))
}

/// Takes batches together, which spares most of what each costs alone: a quota that several of them move is moved once, and one commit serves all.
/// Answers for each in their order, as [`accept`] does; what is refused leaves nothing behind and keeps nothing else.
///
/// # Errors
/// When the database fails: then none is taken, and each may be tried alone.
pub async fn accept_all(tx: &mut Tx, offered: &[Offered<'_>]) -> Result<Vec<Result<Accepted>>> {
    store::commit_on_standby(tx).await?;
    // Everybody locks segments in this order.
    let mut order: Vec<usize> = (0..offered.len()).collect();
    order.sort_by_key(|at| key(offered[*at].batch));
    let mut answers: Vec<Option<Result<Accepted>>> = offered.iter().map(|_| None).collect();
    let mut new = Vec::new();
    for at in order {
        match begin(tx, &offered[at]).await {
            Ok(None) => new.push(at),
            Ok(Some(duplicate)) => answers[at] = Some(Ok(duplicate)),
            Err(error) if matches!(error.kind, Kind::Invalid | Kind::Conflict | Kind::Forbidden) => answers[at] = Some(Err(error)),
            Err(error) => return Err(error),
        }
    }
    let batches: Vec<Offered<'_>> = new.iter().map(|at| offered[*at]).collect();
    for (at, accepted) in new.iter().zip(take(tx, &batches).await?) {
        answers[*at] = Some(Ok(accepted));
    }
    let none = || Err(Error::internal(anyhow::anyhow!("a batch came to no end")));
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(none)).collect())
}

fn key(batch: &UsageBatch) -> (JournalId, u16, u64) {
    (batch.segment.journal_id, batch.segment.stream, batch.segment.seq)
}

/// Checks a batch and writes its proof; the answer if it had been taken before.
async fn begin(tx: &mut Tx, offered: &Offered<'_>) -> Result<Option<Accepted>> {
    let Offered { gateway, batch, now } = *offered;
    check(batch)?;
    gateways::bind_journal(tx, gateway, batch.segment.journal_id, now).await?;
    if !store::insert_segment(tx, batch, now).await? {
        return taken_before(tx, &batch.segment).await.map(Some);
    }
    check_chain(tx, &batch.segment).await?;
    Ok(None)
}

/// The rows of a batch that belong to somebody, each with whether it counts.
struct Sorted<'a> {
    offered: Offered<'a>,
    rows: Vec<(&'a UsageRow, bool)>,
    unattributed: usize,
}

/// Takes new batches, whose proofs are written and which stand in the order of their segments.
async fn take(tx: &mut Tx, batches: &[Offered<'_>]) -> Result<Vec<Accepted>> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let known = lookup::known(tx, batches.iter().flat_map(|it| &it.batch.rows)).await?;
    let mut sorted = Vec::with_capacity(batches.len());
    let mut latency = Vec::new();
    for offered in batches {
        let Offered { gateway, batch, now } = *offered;
        let is_known = |row: &&LatencyRow| gateway.serves(row.namespace) && known.has_subscription(row.namespace, row.subscription);
        latency.extend(batch.latency.iter().filter(is_known).filter(|row| is_plausible(row.minute, now)));
        sorted.push(sort(tx, *offered, &known).await?);
    }
    let rows: Vec<_> = sorted.iter().map(|it| (&it.offered.batch.segment, it.offered.now, it.rows.as_slice())).collect();
    store::insert_rows(tx, &rows).await?;
    store::insert_latency(tx, &latency).await?;
    let used: Vec<_> = sorted.iter().map(|it| used_by(it.rows.iter().copied())).collect();
    quota_store::move_used(tx, &merged(&used)).await?;
    for (it, used) in sorted.iter().zip(&used) {
        let hard = it
            .rows
            .iter()
            .filter(|(row, _)| known.is_hard(row.key.plan_version, row.key.meter))
            .map(|(row, _)| LedgerKey::of(row))
            .collect();
        let batch = it.offered.batch;
        quota_store::prove(tx, &Proof { segment: &batch.segment, run: batch.run.map(Into::into), used, hard: &hard }, it.offered.now)
            .await?;
    }
    let mut accepted = Vec::with_capacity(sorted.len());
    for it in &sorted {
        let ack = store::advance_stream(tx, it.offered.batch, receipts(it.offered.batch)).await?;
        accepted.push(Accepted { ack, duplicate: false, unattributed: it.unattributed, last_used: latest_uses(&it.rows) });
    }
    Ok(accepted)
}

/// Tells the rows that belong to somebody from those that do not, which are kept apart.
async fn sort<'a>(tx: &mut Tx, offered: Offered<'a>, known: &Known) -> Result<Sorted<'a>> {
    let Offered { gateway, batch, now } = offered;
    let mut rows = Vec::with_capacity(batch.rows.len());
    let mut unattributed = Vec::new();
    for row in &batch.rows {
        match reason_against(row, gateway, known, now) {
            None => rows.push((row, known.bills(row))),
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
    Ok(Sorted { offered, rows, unattributed: unattributed.len() })
}

fn merged(used: &[BTreeMap<LedgerKey, i128>]) -> BTreeMap<LedgerKey, i128> {
    let mut sums = BTreeMap::new();
    for (key, units) in used.iter().flatten() {
        *sums.entry(*key).or_default() += units;
    }
    sums
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

fn latest_uses(rows: &[(&UsageRow, bool)]) -> Vec<LastUsed> {
    let mut latest: HashMap<(NamespaceId, ApiKeyId), Timestamp> = HashMap::new();
    for (row, _) in rows {
        let at = latest.entry((row.key.namespace, row.key.api_key)).or_insert(row.last_at);
        *at = (*at).max(row.last_at);
    }
    latest.into_iter().map(|((namespace, api_key), at)| LastUsed { namespace, api_key, at }).collect()
}
