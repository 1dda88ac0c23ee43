//! The SQL that sums accepted usage again, from its rows, and compares it with the four tables of sums. It shares nothing with what wrote them: the
//! billable rule, the widths of buckets and the sums are Postgres' here, and sums by route are compared with the rows, not with sums by key.

use calendar::Timestamp;
use ids::{NamespaceId, SubscriptionId};
use rust_decimal::Decimal;

use crate::{db::Tx, error::Result};

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
                ORDER BY namespace_id, subscription_id, bucket LIMIT 1),
               (SELECT bucket FROM usage_route_hour WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $3
                ORDER BY namespace_id, subscription_id, bucket LIMIT 1),
               (SELECT bucket FROM usage_route_day WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $3
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
    /// Sums without keys, or those by key.
    pub is_by_route: bool,
    pub at: Timestamp,
    /// How many sums differ; of them, those that are not there, that have no usage behind them, that are a multiple of it, and that have it in other
    /// quarters of the hour.
    pub sums: i64,
    pub lost: i64,
    pub unfounded: i64,
    pub doubled: i64,
    pub moved: i64,
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
                   status, mode, answered_by, sum(count) AS calls, sum(sum) AS units,
                   sum(count) FILTER (WHERE waiting.for_all IS NULL) AS route_calls, sum(sum) FILTER (WHERE waiting.for_all IS NULL) AS route_units
               FROM usage_rows u
               -- What waits to be added to the sums is not in them: not in any, or not in those by route. The marks are set in the transaction that adds.
               LEFT JOIN (SELECT journal_id, stream, seq, rolled_up_at IS NULL AS for_all FROM usage_segments WHERE rolled_up_by_route_at IS NULL) waiting
               USING (journal_id, stream, seq)
               WHERE namespace_id = $1 AND subscription_id = $2 AND minute >= $3 AND minute < $4 AND waiting.for_all IS NOT TRUE
               GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
           accepted AS MATERIALIZED (
               SELECT bucket, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, status, mode,
                   mode = 'live' AND answered_by = 'upstream' AND (status = 101 OR (status < 500
                       AND EXISTS (SELECT FROM jsonb_array_elements(v.billable -> 'statuses') r WHERE status BETWEEN (r ->> 0)::int AND (r ->> 1)::int)
                       AND NOT v.billable -> 'except' @> to_jsonb(status::int))) AS billable,
                   sum(calls) AS calls, sum(units) AS units, sum(route_calls) AS route_calls, sum(route_units) AS route_units
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
           route_hours AS (
               SELECT bucket, a.calls, a.units, a.by_quarter, r.calls AS rolled_calls, r.units AS rolled_units, r.by_quarter AS rolled_by_quarter FROM (
                   SELECT date_bin('1 hour', bucket, '2000-01-01Z') AS bucket, plan_version_id, period_start, route_id, meter_id, status, mode, billable,
                       sum(route_calls) AS calls, sum(route_units) AS units,
                       ARRAY[coalesce(sum(route_calls) FILTER (WHERE extract(epoch FROM bucket)::bigint / 900 % 4 = 0), 0),
                             coalesce(sum(route_calls) FILTER (WHERE extract(epoch FROM bucket)::bigint / 900 % 4 = 1), 0),
                             coalesce(sum(route_calls) FILTER (WHERE extract(epoch FROM bucket)::bigint / 900 % 4 = 2), 0),
                             coalesce(sum(route_calls) FILTER (WHERE extract(epoch FROM bucket)::bigint / 900 % 4 = 3), 0)] AS by_quarter
                   FROM accepted WHERE route_calls IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7, 8) a
               FULL JOIN (
                   SELECT bucket, plan_version_id, period_start, route_id, meter_id, status, mode, billable,
                       count_00::numeric + count_15 + count_30 + count_45 AS calls, sum AS units,
                       ARRAY[count_00, count_15, count_30, count_45]::numeric[] AS by_quarter
                   FROM usage_route_hour WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $3 AND bucket < $4) r
               USING (bucket, plan_version_id, period_start, route_id, meter_id, status, mode, billable)),
           route_days AS (
               SELECT bucket, a.calls, a.units, r.calls AS rolled_calls, r.units AS rolled_units FROM (
                   SELECT date_bin('1 day', bucket, '2000-01-01Z') AS bucket, plan_version_id, period_start, route_id, meter_id, status, mode, billable,
                       sum(route_calls) AS calls, sum(route_units) AS units
                   FROM accepted WHERE route_calls IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7, 8) a
               FULL JOIN (
                   SELECT bucket, plan_version_id, period_start, route_id, meter_id, status, mode, billable, count::numeric AS calls, sum AS units
                   FROM usage_route_day WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $3 AND bucket < $4) r
               USING (bucket, plan_version_id, period_start, route_id, meter_id, status, mode, billable)),
           compared AS (
               SELECT false AS is_day, false AS is_by_route, date_bin('1 hour', bucket, '2000-01-01Z') AS at, calls, units, rolled_calls, rolled_units,
                   NULL::numeric[] AS by_quarter, NULL::numeric[] AS rolled_by_quarter FROM quarters
               UNION ALL
               SELECT true, false, bucket, calls, units, rolled_calls, rolled_units, NULL, NULL FROM days
               UNION ALL
               SELECT false, true, bucket, calls, units, rolled_calls, rolled_units, by_quarter, rolled_by_quarter FROM route_hours
               UNION ALL
               SELECT true, true, bucket, calls, units, rolled_calls, rolled_units, NULL, NULL FROM route_days)
           SELECT is_day AS "is_day!", is_by_route AS "is_by_route!", at AS "at!", count(*) AS "sums!",
               count(*) FILTER (WHERE rolled_calls IS NULL) AS "lost!",
               count(*) FILTER (WHERE calls IS NULL) AS "unfounded!",
               count(*) FILTER (WHERE calls > 0 AND rolled_calls > calls AND rolled_calls % calls = 0 AND rolled_units = units * (rolled_calls / calls))
               AS "doubled!",
               count(*) FILTER (WHERE calls = rolled_calls AND units = rolled_units) AS "moved!",
               coalesce(sum(calls), 0) AS "accepted_calls!", coalesce(sum(rolled_calls), 0) AS "rolled_calls!",
               coalesce(sum(units), 0) AS "accepted_units!", coalesce(sum(rolled_units), 0) AS "rolled_units!"
           FROM compared
           WHERE calls IS DISTINCT FROM rolled_calls OR units IS DISTINCT FROM rolled_units OR by_quarter IS DISTINCT FROM rolled_by_quarter
           GROUP BY is_day, is_by_route, at ORDER BY is_day, is_by_route, at LIMIT 200"#,
        namespace.uuid(),
        subscription.uuid(),
        from,
        to,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}
