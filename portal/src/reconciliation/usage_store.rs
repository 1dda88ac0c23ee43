//! The SQL that sums accepted usage again, from its rows, and compares it with the proofs of its segments and with the rollups. It shares nothing with
//! what wrote them: the billable rule, the widths of buckets and the sums are Postgres' here.

use calendar::Timestamp;
use ids::{JournalId, NamespaceId, SubscriptionId, Uuid};
use rust_decimal::Decimal;

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

/// The first instant from `from` on at which a subscription has usage, or a sum of it.
pub(super) async fn first_use(
    tx: &mut Tx,
    namespace: NamespaceId,
    subscription: SubscriptionId,
    from: Timestamp,
) -> Result<Option<Timestamp>> {
    Ok(sqlx::query_scalar!(
        r#"SELECT least(
               (SELECT minute FROM usage_rows WHERE namespace_id = $1 AND subscription_id = $2 AND minute >= $3
                ORDER BY namespace_id, subscription_id, minute LIMIT 1),
               (SELECT bucket FROM usage_rollup_15m WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $3
                ORDER BY namespace_id, subscription_id, bucket LIMIT 1),
               (SELECT bucket FROM usage_rollup_day WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $3
                ORDER BY namespace_id, subscription_id, bucket LIMIT 1)) AS first"#,
        namespace.uuid(),
        subscription.uuid(),
        from,
    )
    .fetch_one(&mut **tx)
    .await?)
}

/// Sums of one hour, or of one day, that do not agree with the rows.
#[derive(Debug)]
pub(super) struct DifferingSums {
    pub is_day: bool,
    pub at: Timestamp,
    /// How many sums differ; of them, those that are not there, that have no usage behind them, and that are a multiple of it.
    pub sums: i64,
    pub lost: i64,
    pub unfounded: i64,
    pub doubled: i64,
    pub accepted_calls: Decimal,
    pub rolled_calls: Decimal,
    pub accepted_units: Decimal,
    pub rolled_units: Decimal,
}

/// Of a subscription's usage from `from` to before `to`, both the start of a UTC day.
pub(super) async fn differing_sums(
    tx: &mut Tx,
    namespace: NamespaceId,
    subscription: SubscriptionId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<DifferingSums>> {
    let rows = sqlx::query_as!(
        DifferingSums,
        r#"WITH raw AS (
               SELECT date_bin('15 minutes', minute, '2000-01-01Z') AS bucket, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id,
                   status, mode, answered_by, sum(count) AS calls, sum(sum) AS units
               FROM usage_rows u
               -- What waits to be added to the sums is not in them. The mark is set in the transaction that adds them.
               LEFT JOIN (SELECT journal_id, stream, seq FROM usage_segments WHERE rolled_up_at IS NULL) waiting USING (journal_id, stream, seq)
               WHERE namespace_id = $1 AND subscription_id = $2 AND minute >= $3 AND minute < $4 AND waiting IS NULL
               GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
           accepted AS MATERIALIZED (
               SELECT bucket, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, status, mode,
                   mode = 'live' AND answered_by = 'upstream' AND (status = 101 OR (status < 500
                       AND EXISTS (SELECT FROM jsonb_array_elements(v.billable -> 'statuses') r WHERE status BETWEEN (r ->> 0)::int AND (r ->> 1)::int)
                       AND NOT v.billable -> 'except' @> to_jsonb(status::int))) AS billable,
                   sum(calls) AS calls, sum(units) AS units
               FROM raw JOIN plan_versions v ON v.id = raw.plan_version_id GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
           quarters AS (
               SELECT bucket, a.calls, a.units, r.calls AS rolled_calls, r.units AS rolled_units FROM accepted a FULL JOIN (
                   SELECT bucket, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, status, mode, billable,
                       count::numeric AS calls, sum AS units
                   FROM usage_rollup_15m WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $3 AND bucket < $4) r
               USING (bucket, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, status, mode, billable)),
           days AS (
               SELECT bucket, a.calls, a.units, r.calls AS rolled_calls, r.units AS rolled_units FROM (
                   SELECT date_bin('1 day', bucket, '2000-01-01Z') AS bucket, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id,
                       status, mode, billable, sum(calls) AS calls, sum(units) AS units
                   FROM accepted GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) a
               FULL JOIN (
                   SELECT bucket, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, status, mode, billable,
                       count::numeric AS calls, sum AS units
                   FROM usage_rollup_day WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $3 AND bucket < $4) r
               USING (bucket, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, status, mode, billable)),
           compared AS (
               SELECT false AS is_day, date_bin('1 hour', bucket, '2000-01-01Z') AS at, calls, units, rolled_calls, rolled_units FROM quarters
               UNION ALL
               SELECT true, bucket, calls, units, rolled_calls, rolled_units FROM days)
           SELECT is_day AS "is_day!", at AS "at!", count(*) AS "sums!",
               count(*) FILTER (WHERE rolled_calls IS NULL) AS "lost!",
               count(*) FILTER (WHERE calls IS NULL) AS "unfounded!",
               count(*) FILTER (WHERE calls > 0 AND rolled_calls > calls AND rolled_calls % calls = 0 AND rolled_units = units * (rolled_calls / calls))
               AS "doubled!",
               coalesce(sum(calls), 0) AS "accepted_calls!", coalesce(sum(rolled_calls), 0) AS "rolled_calls!",
               coalesce(sum(units), 0) AS "accepted_units!", coalesce(sum(rolled_units), 0) AS "rolled_units!"
           FROM compared WHERE calls IS DISTINCT FROM rolled_calls OR units IS DISTINCT FROM rolled_units
           GROUP BY is_day, at ORDER BY is_day, at LIMIT 200"#,
        namespace.uuid(),
        subscription.uuid(),
        from,
        to,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

/// What a journal's id is called in a sentence.
pub(super) fn journal_of(row: &SegmentRows) -> JournalId {
    JournalId::from_uuid(row.journal)
}
