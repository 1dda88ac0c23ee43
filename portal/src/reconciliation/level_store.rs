//! The SQL that compares largest, last and distinct values, which no sum tells: of rollups with their rows, and of invoices with both. Like
//! [`super::usage_store`] it shares nothing with what wrote them.

use calendar::Timestamp;
use ids::{NamespaceId, SubscriptionId, Uuid};
use rust_decimal::Decimal;

use super::invoice_store::WrongUnits;
use crate::{db::Tx, error::Result};

/// The meters whose units do not add up.
pub(super) async fn meters(tx: &mut Tx) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!("SELECT id FROM meters WHERE aggregation IN ('max', 'latest', 'unique_count') ORDER BY id")
        .fetch_all(&mut **tx)
        .await?)
}

/// Rollups of one hour, or of one day, whose largest or last values are not those of the rows.
#[derive(Debug)]
pub(super) struct DifferingLevels {
    pub is_day: bool,
    /// Rollups without keys, or those by key.
    pub is_by_route: bool,
    pub at: Timestamp,
    /// How many rollups differ.
    pub rollups: i64,
    /// The largest of the values that should stand there, and of those that do.
    pub accepted: Decimal,
    pub rolled: Decimal,
}

/// Of a subscription's usage of these meters from `from` to before `to`, both the start of a UTC day. Rollups that are not there, or have no usage behind
/// them, are found by their sums.
pub(super) async fn differing(
    tx: &mut Tx,
    (namespace, subscription): (NamespaceId, SubscriptionId),
    meters: &[Uuid],
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<DifferingLevels>> {
    Ok(sqlx::query_as!(
        DifferingLevels,
        r#"WITH used AS MATERIALIZED (
               SELECT u.*, m.aggregation, waiting.for_all FROM usage_rows u JOIN meters m ON m.id = u.meter_id
               -- What waits to be added to the sums is not in them: not in any, or not in those by route. The marks are set in the transaction that adds.
               LEFT JOIN (SELECT journal_id, stream, seq, rolled_up_at IS NULL AS for_all FROM usage_segments WHERE rolled_up_by_route_at IS NULL) waiting
               USING (journal_id, stream, seq)
               WHERE u.namespace_id = $1 AND u.subscription_id = $2 AND u.minute >= $4 AND u.minute < $5 AND u.meter_id = ANY($3)
                 AND m.aggregation IN ('max', 'latest') AND waiting.for_all IS NOT TRUE),
           accepted AS (
               SELECT w.is_day, w.is_by_route, date_bin(w.width, minute, '2000-01-01Z') AS bucket, plan_version_id, period_start,
                   CASE WHEN NOT w.is_by_route THEN ARRAY[application_id, api_key_id] ELSE '{}' END AS key, route_id, meter_id, aggregation, status, mode,
                   CASE aggregation WHEN 'max' THEN max(max) ELSE (array_agg(last ORDER BY last_at DESC, last DESC))[1] END AS level
               FROM used CROSS JOIN (VALUES (false, false, interval '15 minutes'), (true, false, interval '1 day'), (false, true, interval '1 hour'),
                   (true, true, interval '1 day')) w (is_day, is_by_route, width)
               WHERE NOT w.is_by_route OR for_all IS NULL
               GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
           kept AS (
               SELECT false AS is_day, false AS is_by_route, namespace_id, subscription_id, bucket, plan_version_id, period_start,
                   ARRAY[application_id, api_key_id] AS key, route_id, meter_id, status, mode, max, last, last_at FROM usage_rollup_15m
               UNION ALL
               SELECT true, false, namespace_id, subscription_id, bucket, plan_version_id, period_start,
                   ARRAY[application_id, api_key_id], route_id, meter_id, status, mode, max, last, last_at FROM usage_rollup_day
               UNION ALL
               SELECT false, true, namespace_id, subscription_id, bucket, plan_version_id, period_start,
                   '{}', route_id, meter_id, status, mode, max, last, last_at FROM usage_route_hour
               UNION ALL
               SELECT true, true, namespace_id, subscription_id, bucket, plan_version_id, period_start,
                   '{}', route_id, meter_id, status, mode, max, last, last_at FROM usage_route_day),
           rolled AS (
               SELECT is_day, is_by_route, bucket, plan_version_id, period_start, key, route_id, meter_id, m.aggregation, status, mode,
                   CASE m.aggregation WHEN 'max' THEN max(max) ELSE (array_agg(last ORDER BY last_at DESC, last DESC))[1] END AS level
               FROM kept r JOIN meters m ON m.id = r.meter_id
               WHERE namespace_id = $1 AND subscription_id = $2 AND bucket >= $4 AND bucket < $5 AND meter_id = ANY($3)
                 AND m.aggregation IN ('max', 'latest')
               GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
           SELECT is_day AS "is_day!", is_by_route AS "is_by_route!",
               CASE WHEN is_day THEN bucket ELSE date_bin('1 hour', bucket, '2000-01-01Z') END AS "at!", count(*) AS "rollups!",
               max(a.level) AS "accepted!", max(r.level) AS "rolled!"
           FROM accepted a JOIN rolled r
               USING (is_day, is_by_route, bucket, plan_version_id, period_start, key, route_id, meter_id, aggregation, status, mode)
           WHERE a.level <> r.level GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT 200"#,
        namespace.uuid(),
        subscription.uuid(),
        meters,
        from,
        to,
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// Invoiced quantities of these meters against what the rollups hold now, and the rows held before the invoice was made. A maximum and a number of distinct
/// values only grow, so that what is invoiced lies between the two; a last value is compared where nothing came since. Distinct values are in no rollup:
/// they are counted from the rows, where these are there since the period began.
pub(super) async fn wrong_units(
    tx: &mut Tx,
    (namespace, subscription): (NamespaceId, SubscriptionId),
    meters: &[Uuid],
    rows_from: Option<Timestamp>,
) -> Result<Vec<WrongUnits>> {
    Ok(sqlx::query_as!(
        WrongUnits,
        r#"WITH closed AS (
               SELECT i.period_from, i.id, i.created_at, i.plan_version_id FROM invoices i
               WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.kind = 'period' AND i.state NOT IN ('draft', 'void')
                 AND ($4::timestamptz IS NULL OR i.period_from >= $4)),
           billed AS (
               SELECT coalesce(l.service_from, i.period_from) AS period_start, l.rate_card_id, sum((l.detail ->> 'quantity')::numeric) AS units
               FROM invoices i JOIN invoice_lines l ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id
               WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.state NOT IN ('draft', 'void') AND l.detail ->> 'kind' = 'usage'
               GROUP BY 1, 2),
           rolled AS (
               SELECT u.period_start, u.meter_id, u.plan_version_id, max(u.max) AS largest, (array_agg(u.last ORDER BY u.last_at DESC, u.last DESC))[1] AS latest
               FROM usage_rollup_15m u WHERE u.namespace_id = $1 AND u.subscription_id = $2 AND u.billable AND u.meter_id = ANY($3) GROUP BY 1, 2, 3),
           counted AS MATERIALIZED (
               SELECT r.period_start, r.meter_id, r.plan_version_id, r.max, r.last, r.last_at, r.uniques,
                   r.accepted_at < closed.created_at - interval '2 minutes' AS in_time
               FROM usage_rows r JOIN plan_versions v ON v.id = r.plan_version_id JOIN closed ON closed.period_from = r.period_start
               WHERE r.namespace_id = $1 AND r.subscription_id = $2 AND r.meter_id = ANY($3)
                 AND r.mode = 'live' AND r.answered_by = 'upstream' AND (r.status = 101 OR (r.status < 500
                     AND EXISTS (SELECT FROM jsonb_array_elements(v.billable -> 'statuses') b WHERE r.status BETWEEN (b ->> 0)::int AND (b ->> 1)::int)
                     AND NOT v.billable -> 'except' @> to_jsonb(r.status::int)))),
           in_time AS (
               SELECT period_start, meter_id, plan_version_id, max(max) AS largest, (array_agg(last ORDER BY last_at DESC, last DESC))[1] AS latest
               FROM counted WHERE in_time GROUP BY 1, 2, 3),
           distinct_values AS (
               SELECT period_start, meter_id, plan_version_id, count(DISTINCT h)::numeric AS known, (count(DISTINCT h) FILTER (WHERE in_time))::numeric AS in_time
               FROM counted, unnest(uniques) h GROUP BY 1, 2, 3),
           corrected AS (
               SELECT period_start, meter_id, plan_version_id, sum(units) AS units FROM usage_corrections
               WHERE namespace_id = $1 AND subscription_id = $2 GROUP BY 1, 2, 3),
           cards AS (
               SELECT closed.period_from, closed.id, c.name, m.aggregation, coalesce(corrected.units, 0) AS corrected, coalesce(billed.units, 0) AS invoiced,
                   coalesce(CASE m.aggregation WHEN 'max' THEN rolled.largest WHEN 'latest' THEN rolled.latest ELSE d.known END, 0) AS rolled,
                   coalesce(CASE m.aggregation WHEN 'max' THEN t.largest WHEN 'latest' THEN t.latest ELSE d.in_time END, 0) AS in_time
               FROM closed
               JOIN rate_cards c ON c.plan_version_id = closed.plan_version_id AND c.meter_id = ANY($3)
               JOIN meters m ON m.id = c.meter_id
               LEFT JOIN rolled ON (rolled.period_start, rolled.meter_id, rolled.plan_version_id) = (closed.period_from, c.meter_id, c.plan_version_id)
               LEFT JOIN in_time t ON (t.period_start, t.meter_id, t.plan_version_id) = (closed.period_from, c.meter_id, c.plan_version_id)
               LEFT JOIN distinct_values d ON (d.period_start, d.meter_id, d.plan_version_id) = (closed.period_from, c.meter_id, c.plan_version_id)
               LEFT JOIN corrected ON (corrected.period_start, corrected.meter_id, corrected.plan_version_id) = (closed.period_from, c.meter_id, c.plan_version_id)
               LEFT JOIN billed ON billed.period_start = closed.period_from AND billed.rate_card_id = c.id)
           SELECT period_from AS "period_start!", name AS "card!", rolled + corrected AS "rolled!", in_time + least(corrected, 0) AS "in_time!",
               invoiced AS "invoiced!", id AS "invoice_id!"
           FROM cards
           WHERE CASE aggregation WHEN 'latest' THEN rolled = in_time AND corrected = 0 AND invoiced <> rolled
                      ELSE invoiced > rolled + corrected OR invoiced < in_time + least(corrected, 0) END
           ORDER BY 1, 2 LIMIT 100"#,
        namespace.uuid(),
        subscription.uuid(),
        meters,
        rows_from as Option<Timestamp>,
    )
    .fetch_all(&mut **tx)
    .await?)
}
