//! The SQL that compares rows of usage with the proofs of their segments, and finds the subscriptions whose sums are to be compared.

use calendar::Timestamp;
use ids::{JournalId, NamespaceId, SubscriptionId, Uuid};

use crate::{db::Tx, error::Result};

/// Finds rows by indexes until the transaction ends, wherever there is one. What is avoided counts as very dear, for which statements would be compiled.
pub(super) async fn prefer_indexes(tx: &mut Tx) -> Result<()> {
    sqlx::raw_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off").execute(&mut **tx).await?;
    Ok(())
}

/// Where the stretch of the next `limit` segments after `from` ends, in the order of their acceptance; `None` if fewer are left.
pub(super) async fn end_of_stretch(tx: &mut Tx, from: Timestamp, limit: i64) -> Result<Option<Timestamp>> {
    Ok(sqlx::query_scalar!(
        "SELECT accepted_at FROM usage_segments WHERE accepted_at >= $1 ORDER BY accepted_at OFFSET $2 LIMIT 1",
        from,
        limit
    )
    .fetch_optional(&mut **tx)
    .await?)
}

/// A segment whose rows are not those that were accepted with it.
#[derive(Debug)]
pub(super) struct SegmentRows {
    pub journal: Uuid,
    pub stream: i32,
    pub seq: i64,
    pub accepted_at: Timestamp,
    /// `None`: there is no proof that the segment was taken.
    pub accepted: Option<i32>,
    pub kept: i64,
    pub records: Option<i64>,
    pub numbers: Option<String>,
}

/// Of the segments that were accepted from `from` to before `to`.
pub(super) async fn segment_rows(tx: &mut Tx, from: Timestamp, to: Timestamp) -> Result<Vec<SegmentRows>> {
    let rows = sqlx::query_as!(
        SegmentRows,
        r#"WITH kept AS (
               SELECT journal_id, stream, seq, count(*) AS rows, min(accepted_at) AS accepted_at FROM (
                   SELECT journal_id, stream, seq, accepted_at FROM usage_rows WHERE accepted_at >= $1 AND accepted_at < $2
                   UNION ALL
                   SELECT journal_id, stream, seq, accepted_at FROM usage_unattributed WHERE accepted_at >= $1 AND accepted_at < $2) r
               GROUP BY journal_id, stream, seq),
           accepted AS (SELECT * FROM usage_segments WHERE accepted_at >= $1 AND accepted_at < $2)
           SELECT coalesce(a.journal_id, k.journal_id) AS "journal!", coalesce(a.stream, k.stream) AS "stream!", coalesce(a.seq, k.seq) AS "seq!",
               coalesce(a.accepted_at, k.accepted_at) AS "accepted_at!", a.rows AS "accepted?", coalesce(k.rows, 0) AS "kept!", a.records AS "records?",
               (SELECT string_agg(CASE WHEN f ->> 0 = f ->> 1 THEN f ->> 0 ELSE (f ->> 0) || ' to ' || (f ->> 1) END, ', ')
                FROM (SELECT f FROM jsonb_array_elements(a.final_receipts) WITH ORDINALITY e (f, place) ORDER BY place LIMIT 20) e) AS "numbers?"
           FROM accepted a FULL JOIN kept k ON k.journal_id = a.journal_id AND k.stream = a.stream AND k.seq = a.seq
           WHERE coalesce(a.rows, 0) <> coalesce(k.rows, 0) ORDER BY 1, 2, 3 LIMIT 200"#,
        from,
        to,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

/// The most of the newest usage rows in which subscriptions are looked for.
const NEWEST_ROWS: i64 = 500_000;

/// Subscriptions with usage that was accepted since, and from when to when that usage is: of as many of the newest segments as hold so many rows.
pub(super) async fn changed_since(tx: &mut Tx, since: Timestamp) -> Result<Vec<(NamespaceId, SubscriptionId, Timestamp, Timestamp)>> {
    let rows = sqlx::query!(
        r#"SELECT namespace_id, subscription_id, min(minute) AS "from!", max(minute) AS "to!" FROM usage_rows
           WHERE accepted_at >= greatest($1, (
               SELECT max(accepted_at) FROM (
                   SELECT accepted_at, sum(rows) OVER (ORDER BY accepted_at DESC) AS newer FROM usage_segments WHERE accepted_at >= $1) s
               WHERE newer > $2))
           GROUP BY namespace_id, subscription_id ORDER BY namespace_id, subscription_id"#,
        since,
        NEWEST_ROWS
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (NamespaceId::from_uuid(row.namespace_id), SubscriptionId::from_uuid(row.subscription_id), row.from, row.to))
        .collect())
}

/// The next subscription in the order of their keys.
pub(super) async fn next_subscription(tx: &mut Tx, after: Option<(Uuid, Uuid)>) -> Result<Option<(NamespaceId, SubscriptionId)>> {
    let (namespace, subscription) = after.unzip();
    let row = sqlx::query!(
        "SELECT tenant_id, id FROM subscriptions WHERE $1::uuid IS NULL OR (tenant_id, id) > ($1, $2) ORDER BY tenant_id, id LIMIT 1",
        namespace,
        subscription,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| (NamespaceId::from_uuid(row.tenant_id), SubscriptionId::from_uuid(row.id))))
}

/// What a journal's id is called in a sentence.
pub(super) fn journal_of(row: &SegmentRows) -> JournalId {
    JournalId::from_uuid(row.journal)
}
