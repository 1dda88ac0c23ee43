//! The SQL that adds accepted rows to the sums.

use calendar::Timestamp;
use ids::Uuid;

use super::watermark::Lag;
use crate::{db::Tx, error::Result};

/// The most segments that one round adds.
const ROUND_SEGMENTS: i64 = 2000;

/// Folding and sorting stay in memory: there is one such transaction at a time. Rows are found by their segments, whatever the server thinks of a table
/// that has just grown by millions of rows; they are folded by hashing, which need not sort them all before it makes a tenth of them.
const FOLDING: &str = "SET LOCAL work_mem = '128MB'; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; \
    SET LOCAL enable_sort = off; SET LOCAL jit = off";

/// What one transaction at a time writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lock {
    /// All tables of sums, and the marks of segments.
    Sums,
    /// Merged histograms of latency.
    Histograms,
}

impl Lock {
    /// Its advisory lock: "sums" and "late" in ASCII.
    const fn key(self) -> i64 {
        match self {
            Self::Sums => 0x73_75_6d_73,
            Self::Histograms => 0x6c_61_74_65,
        }
    }
}

/// Waits until nobody else writes; holds until the transaction ends.
pub(super) async fn lock(tx: &mut Tx, lock: Lock) -> Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", lock.key()).execute(&mut **tx).await?;
    Ok(())
}

/// Whether nobody else writes; if so, holds until the transaction ends.
pub(super) async fn try_lock(tx: &mut Tx, lock: Lock) -> Result<bool> {
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "held!""#, lock.key()).fetch_one(&mut **tx).await?)
}

/// Segments that are to be added together.
#[derive(Debug, Default)]
pub(super) struct Pending {
    journals: Vec<Uuid>,
    streams: Vec<i32>,
    seqs: Vec<i64>,
    rows: i64,
    /// A portal of the release before has added them to the sums by key, and to no others.
    has_sums_by_key: bool,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// The usage rows of the segments, as they were sent.
    pub(super) fn rows_to_add(&self) -> i64 {
        self.rows
    }
}

/// The oldest segments that are not in all sums, as many as hold so many rows together, and at least one: of those that lack the same sums as the oldest.
pub(super) async fn pending(tx: &mut Tx, most_rows: i64) -> Result<Pending> {
    let segments = sqlx::query!(
        r#"SELECT journal_id, stream, seq, rows, rolled_up_at IS NOT NULL AS "has_sums_by_key!" FROM usage_segments
           WHERE rolled_up_by_route_at IS NULL ORDER BY accepted_at LIMIT $1"#,
        ROUND_SEGMENTS
    )
    .fetch_all(&mut **tx)
    .await?;
    let has_sums_by_key = segments.first().is_some_and(|oldest| oldest.has_sums_by_key);
    let mut pending = Pending { has_sums_by_key, ..Pending::default() };
    for segment in segments.into_iter().filter(|segment| segment.has_sums_by_key == has_sums_by_key) {
        let rows = pending.rows + i64::from(segment.rows);
        if rows > most_rows && !pending.is_empty() {
            break;
        }
        pending.rows = rows;
        pending.journals.push(segment.journal_id);
        pending.streams.push(segment.stream);
        pending.seqs.push(segment.seq);
    }
    Ok(pending)
}

/// One round: answers how many segments were added.
pub(super) async fn add_pending(tx: &mut Tx, most_rows: i64, now: Timestamp) -> Result<u64> {
    let pending = pending(tx, most_rows).await?;
    if pending.is_empty() {
        return Ok(0);
    }
    add(tx, &pending, now).await
}

/// Adds the rows of segments to all tables of sums and marks the segments; answers how many were marked.
///
/// Rows are folded once into quarters of an hour by key, and these into everything else. Sums are written in the order of their keys, as everybody who
/// writes them does. Of the latest values the one with the latest event time counts, and of several at the same instant the largest: what arrives in
/// which order does not matter.
pub(super) async fn add(tx: &mut Tx, pending: &Pending, now: Timestamp) -> Result<u64> {
    sqlx::raw_sql(FOLDING).execute(&mut **tx).await?;
    let marked = sqlx::query!(
        "WITH pending AS MATERIALIZED (
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) p (journal_id, stream, seq)
         ), folded AS MATERIALIZED (
             SELECT u.namespace_id, u.subscription_id, u.plan_version_id, u.period_start, date_bin('15 minutes', u.minute, 'epoch') AS bucket,
                 u.application_id, u.api_key_id, u.route_id, u.meter_id, u.status, u.mode, coalesce(u.billable, false) AS billable,
                 sum(u.count)::bigint AS count, sum(u.sum) AS sum, min(u.min) AS min, max(u.max) AS max,
                 max(ARRAY[extract(epoch FROM u.last_at), u.last]) AS latest, max(u.last_at) AS last_at
             FROM pending p JOIN usage_rows u ON u.journal_id = p.journal_id AND u.stream = p.stream AND u.seq = p.seq
             GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
         ), quarters AS (
             INSERT INTO usage_rollup_15m AS t (namespace_id, subscription_id, plan_version_id, period_start, bucket, application_id, api_key_id,
                 route_id, meter_id, status, mode, billable, count, sum, min, max, last, last_at)
             SELECT namespace_id, subscription_id, plan_version_id, period_start, bucket, application_id, api_key_id, route_id, meter_id, status, mode,
                 billable, count, sum, min, max, latest[2], last_at
             FROM folded WHERE NOT $5
             ORDER BY namespace_id, subscription_id, bucket, meter_id, route_id, api_key_id, status, mode, billable, plan_version_id, period_start,
                 application_id
             ON CONFLICT (namespace_id, subscription_id, bucket, meter_id, route_id, api_key_id, status, mode, billable, plan_version_id,
                          period_start, application_id)
             DO UPDATE SET count = t.count + excluded.count, sum = t.sum + excluded.sum,
                 min = least(t.min, excluded.min), max = greatest(t.max, excluded.max),
                 last = CASE WHEN (excluded.last_at, excluded.last) > (t.last_at, t.last) THEN excluded.last ELSE t.last END,
                 last_at = greatest(t.last_at, excluded.last_at)
         ), days AS (
             INSERT INTO usage_rollup_day AS t (namespace_id, subscription_id, plan_version_id, period_start, bucket, application_id, api_key_id,
                 route_id, meter_id, status, mode, billable, count, sum, min, max, last, last_at)
             SELECT namespace_id, subscription_id, plan_version_id, period_start, date_bin('1 day', bucket, 'epoch') AS day, application_id, api_key_id,
                 route_id, meter_id, status, mode, billable, sum(count)::bigint, sum(sum), min(min), max(max), (max(latest))[2], max(last_at)
             FROM folded WHERE NOT $5 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
             ORDER BY namespace_id, subscription_id, day, meter_id, route_id, api_key_id, status, mode, billable, plan_version_id, period_start,
                 application_id
             ON CONFLICT (namespace_id, subscription_id, bucket, meter_id, route_id, api_key_id, status, mode, billable, plan_version_id,
                          period_start, application_id)
             DO UPDATE SET count = t.count + excluded.count, sum = t.sum + excluded.sum,
                 min = least(t.min, excluded.min), max = greatest(t.max, excluded.max),
                 last = CASE WHEN (excluded.last_at, excluded.last) > (t.last_at, t.last) THEN excluded.last ELSE t.last END,
                 last_at = greatest(t.last_at, excluded.last_at)
         ), by_route AS MATERIALIZED (
             SELECT namespace_id, subscription_id, plan_version_id, period_start, date_bin('1 hour', bucket, 'epoch') AS hour, route_id, meter_id, status,
                 mode, billable,
                 coalesce(sum(count) FILTER (WHERE bucket - date_bin('1 hour', bucket, 'epoch') = '0 minutes'), 0)::bigint AS count_00,
                 coalesce(sum(count) FILTER (WHERE bucket - date_bin('1 hour', bucket, 'epoch') = '15 minutes'), 0)::bigint AS count_15,
                 coalesce(sum(count) FILTER (WHERE bucket - date_bin('1 hour', bucket, 'epoch') = '30 minutes'), 0)::bigint AS count_30,
                 coalesce(sum(count) FILTER (WHERE bucket - date_bin('1 hour', bucket, 'epoch') = '45 minutes'), 0)::bigint AS count_45,
                 sum(sum) AS sum, max(max) AS max, max(latest) AS latest, max(last_at) AS last_at
             FROM folded GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
         ), route_hours AS (
             INSERT INTO usage_route_hour AS t (namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode,
                 billable, count_00, count_15, count_30, count_45, sum, max, last, last_at)
             SELECT namespace_id, subscription_id, plan_version_id, period_start, hour, route_id, meter_id, status, mode, billable,
                 count_00, count_15, count_30, count_45, sum, max, latest[2], last_at
             FROM by_route
             ORDER BY namespace_id, subscription_id, hour, meter_id, route_id, status, mode, billable, plan_version_id, period_start
             ON CONFLICT (namespace_id, subscription_id, bucket, meter_id, route_id, status, mode, billable, plan_version_id, period_start)
             DO UPDATE SET count_00 = t.count_00 + excluded.count_00, count_15 = t.count_15 + excluded.count_15,
                 count_30 = t.count_30 + excluded.count_30, count_45 = t.count_45 + excluded.count_45,
                 sum = t.sum + excluded.sum, max = greatest(t.max, excluded.max),
                 last = CASE WHEN (excluded.last_at, excluded.last) > (t.last_at, t.last) THEN excluded.last ELSE t.last END,
                 last_at = greatest(t.last_at, excluded.last_at)
         ), route_days AS (
             INSERT INTO usage_route_day AS t (namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode,
                 billable, count, sum, max, last, last_at)
             SELECT namespace_id, subscription_id, plan_version_id, period_start, date_bin('1 day', hour, 'epoch') AS day, route_id, meter_id, status,
                 mode, billable, sum(count_00 + count_15 + count_30 + count_45)::bigint, sum(sum), max(max), (max(latest))[2], max(last_at)
             FROM by_route GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
             ORDER BY namespace_id, subscription_id, day, meter_id, route_id, status, mode, billable, plan_version_id, period_start
             ON CONFLICT (namespace_id, subscription_id, bucket, meter_id, route_id, status, mode, billable, plan_version_id, period_start)
             DO UPDATE SET count = t.count + excluded.count, sum = t.sum + excluded.sum, max = greatest(t.max, excluded.max),
                 last = CASE WHEN (excluded.last_at, excluded.last) > (t.last_at, t.last) THEN excluded.last ELSE t.last END,
                 last_at = greatest(t.last_at, excluded.last_at)
         )
         UPDATE usage_segments s SET rolled_up_at = coalesce(s.rolled_up_at, $4), rolled_up_by_route_at = $4 FROM pending p
         WHERE s.journal_id = p.journal_id AND s.stream = p.stream AND s.seq = p.seq AND s.rolled_up_by_route_at IS NULL",
        &pending.journals,
        &pending.streams,
        &pending.seqs,
        now,
        pending.has_sums_by_key,
    )
    .execute(&mut **tx)
    .await?;
    Ok(marked.rows_affected())
}

pub(super) async fn lag(tx: &mut Tx) -> Result<Lag> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "segments!", coalesce(sum(rows), 0)::bigint AS "rows!", min(accepted_at) AS since
           FROM usage_segments WHERE rolled_up_by_route_at IS NULL"#
    )
    .fetch_one(&mut **tx)
    .await?;
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Lag { segments: number(row.segments), rows: number(row.rows), since: row.since })
}
