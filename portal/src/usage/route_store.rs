//! The SQL of `query` over sums by route, for questions that do not ask about keys or applications. Every statement names the tenant.

use calendar::Timestamp;
use ids::{ApiProductId, MeterId, PlanId, RouteId, SubscriptionId, TenantId};

use super::{
    figures::MeterTotal,
    parts::Parts,
    query::Filter,
    query_store::{Cell, mode_name},
};
use crate::{db::Tx, error::Result};

/// The bounds of a question, as statements take them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<'a> {
    pub tenant: TenantId,
    /// Which sums are read from when to when.
    pub parts: Parts,
    pub filter: &'a Filter,
}

/// A statement over the sums of the question that the filter leaves: `usage`, put together by `$chosen` from the sums of each part. Parts that are empty
/// are not looked for. `$1` is the tenant, `$2` to `$7` are the parts' instants, and `$8` to `$12` the filter.
macro_rules! over_routes {
    ($tx:expr, $bounds:expr, $chosen:literal, $sql:literal $(, $argument:expr)*) => {
        sqlx::query!(
            "WITH chosen AS (" + $chosen + "), usage AS (
                SELECT c.* FROM chosen c
                WHERE ($8::uuid IS NULL OR c.route_id IN (SELECT id FROM routes WHERE product_id = $8))
                  AND ($9::uuid IS NULL OR c.plan_version_id IN (SELECT id FROM plan_versions WHERE plan_id = $9))
                  AND ($10::uuid IS NULL OR c.subscription_id = $10)
                  AND ($11::smallint IS NULL OR c.status / 100 = $11)
                  AND ($12::text IS NULL OR c.mode = $12)
            ) " + $sql,
            $bounds.tenant.uuid(),
            $bounds.parts.from,
            $bounds.parts.hours_from,
            $bounds.parts.days_from,
            $bounds.parts.days_to,
            $bounds.parts.hours_to,
            $bounds.parts.to,
            $bounds.filter.product.map(ApiProductId::uuid),
            $bounds.filter.plan.map(PlanId::uuid),
            $bounds.filter.subscription.map(SubscriptionId::uuid),
            $bounds.filter.status_class,
            $bounds.filter.mode.map(mode_name),
            $($argument,)*
        )
        .fetch_all(&mut **$tx)
    };
}

/// The same over calls, each with the number of its slot among `$starts`. Hours hold the calls of their quarters.
macro_rules! over_calls {
    ($tx:expr, $bounds:expr, $starts:expr, $sql:literal) => {
        over_routes!(
            $tx,
            $bounds,
            "SELECT u.bucket AS at, u.subscription_id, u.plan_version_id, u.period_start, u.route_id, u.meter_id, u.status, u.mode, u.count AS calls
             FROM subscriptions s JOIN usage_route_day u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
             WHERE s.tenant_id = $1 AND u.bucket >= $4 AND u.bucket < $5
             UNION ALL
             SELECT u.bucket, u.subscription_id, u.plan_version_id, u.period_start, u.route_id, u.meter_id, u.status, u.mode,
                 u.count_00 + u.count_15 + u.count_30 + u.count_45
             FROM subscriptions s JOIN usage_route_hour u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
             WHERE s.tenant_id = $1 AND u.bucket >= $3 AND u.bucket < $4
             UNION ALL
             SELECT u.bucket, u.subscription_id, u.plan_version_id, u.period_start, u.route_id, u.meter_id, u.status, u.mode,
                 u.count_00 + u.count_15 + u.count_30 + u.count_45
             FROM subscriptions s JOIN usage_route_hour u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
             WHERE s.tenant_id = $1 AND u.bucket >= $5 AND u.bucket < $6
             UNION ALL
             SELECT q.at, u.subscription_id, u.plan_version_id, u.period_start, u.route_id, u.meter_id, u.status, u.mode, q.calls
             FROM subscriptions s JOIN usage_route_hour u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
             CROSS JOIN LATERAL (VALUES (u.bucket, u.count_00), (u.bucket + interval '15 minutes', u.count_15),
                 (u.bucket + interval '30 minutes', u.count_30), (u.bucket + interval '45 minutes', u.count_45)) q (at, calls)
             WHERE s.tenant_id = $1 AND u.bucket > $2::timestamptz - interval '1 hour' AND u.bucket < $3 AND q.at >= $2 AND q.at < $3 AND q.calls > 0
             UNION ALL
             SELECT q.at, u.subscription_id, u.plan_version_id, u.period_start, u.route_id, u.meter_id, u.status, u.mode, q.calls
             FROM subscriptions s JOIN usage_route_hour u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
             CROSS JOIN LATERAL (VALUES (u.bucket, u.count_00), (u.bucket + interval '15 minutes', u.count_15),
                 (u.bucket + interval '30 minutes', u.count_30), (u.bucket + interval '45 minutes', u.count_45)) q (at, calls)
             WHERE s.tenant_id = $1 AND u.bucket >= $6 AND u.bucket < $7 AND q.at < $7 AND q.calls > 0",
            $sql,
            $starts
        )
    };
}

/// The calls of every slot, route and status, in the order of the slots, which begin at `starts`.
pub(super) async fn cells(tx: &mut Tx, bounds: &Bounds<'_>, starts: &[Timestamp]) -> Result<Vec<Cell>> {
    // What is grouped stays in memory.
    sqlx::query!("SET LOCAL work_mem = '32MB'").execute(&mut **tx).await?;
    let rows = over_calls!(
        tx,
        bounds,
        starts as &[Timestamp],
        r#"SELECT width_bucket(at, $13::timestamptz[]) AS "slot!", route_id AS "route_id!", status AS "status!", sum(calls)::bigint AS "calls!" FROM usage
           GROUP BY 1, route_id, status, meter_id ORDER BY 1, 2, 3"#
    )
    .await?;
    // With one meter the calls are its count. Only with several must their counts be held against each other.
    if rows.windows(2).any(|pair| (pair[0].slot, pair[0].route_id, pair[0].status) == (pair[1].slot, pair[1].route_id, pair[1].status)) {
        return cells_of_several_meters(tx, bounds, starts).await;
    }
    Ok(rows.into_iter().filter_map(|row| cell(starts, (row.slot, row.route_id, row.status, row.calls))).collect())
}

async fn cells_of_several_meters(tx: &mut Tx, bounds: &Bounds<'_>, starts: &[Timestamp]) -> Result<Vec<Cell>> {
    let rows = over_calls!(
        tx,
        bounds,
        starts as &[Timestamp],
        r#"SELECT slot AS "slot!", route_id AS "route_id!", status AS "status!", sum(calls)::bigint AS "calls!" FROM (
               SELECT slot, route_id, status, max(calls) AS calls FROM (
                   SELECT width_bucket(at, $13::timestamptz[]) AS slot, subscription_id, plan_version_id, period_start, route_id, status, mode, meter_id,
                       sum(calls)::bigint AS calls
                   FROM usage GROUP BY 1, 2, 3, 4, 5, 6, 7, 8) per_meter
               GROUP BY slot, subscription_id, plan_version_id, period_start, route_id, status, mode) calls
           GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"#
    )
    .await?;
    Ok(rows.into_iter().filter_map(|row| cell(starts, (row.slot, row.route_id, row.status, row.calls))).collect())
}

/// Slots are counted from one. Where nothing but parts of calls were recorded, there is none yet to show.
fn cell(starts: &[Timestamp], (slot, route, status, calls): (i32, ids::Uuid, i16, i64)) -> Option<Cell> {
    let slot = *starts.get(usize::try_from(slot).ok()?.checked_sub(1)?)?;
    (calls > 0).then_some(Cell { slot, route: RouteId::from_uuid(route), status, calls })
}

/// The units of each meter. Days and hours are read by route, and the quarters at the ends by key.
pub(super) async fn totals_by_meter(tx: &mut Tx, bounds: &Bounds<'_>) -> Result<Vec<MeterTotal>> {
    let rows = over_routes!(
        tx,
        bounds,
        "SELECT u.subscription_id, u.plan_version_id, u.route_id, u.meter_id, u.status, u.mode, u.billable, u.count, u.sum, u.max, u.last, u.last_at
         FROM subscriptions s JOIN usage_route_day u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
         WHERE s.tenant_id = $1 AND u.bucket >= $4 AND u.bucket < $5
         UNION ALL
         SELECT u.subscription_id, u.plan_version_id, u.route_id, u.meter_id, u.status, u.mode, u.billable,
             u.count_00 + u.count_15 + u.count_30 + u.count_45, u.sum, u.max, u.last, u.last_at
         FROM subscriptions s JOIN usage_route_hour u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
         WHERE s.tenant_id = $1 AND u.bucket >= $3 AND u.bucket < $4
         UNION ALL
         SELECT u.subscription_id, u.plan_version_id, u.route_id, u.meter_id, u.status, u.mode, u.billable,
             u.count_00 + u.count_15 + u.count_30 + u.count_45, u.sum, u.max, u.last, u.last_at
         FROM subscriptions s JOIN usage_route_hour u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
         WHERE s.tenant_id = $1 AND u.bucket >= $5 AND u.bucket < $6
         UNION ALL
         SELECT u.subscription_id, u.plan_version_id, u.route_id, u.meter_id, u.status, u.mode, u.billable, u.count, u.sum, u.max, u.last, u.last_at
         FROM subscriptions s JOIN usage_rollup_15m u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
         WHERE s.tenant_id = $1 AND u.bucket >= $2 AND u.bucket < $3
         UNION ALL
         SELECT u.subscription_id, u.plan_version_id, u.route_id, u.meter_id, u.status, u.mode, u.billable, u.count, u.sum, u.max, u.last, u.last_at
         FROM subscriptions s JOIN usage_rollup_15m u ON u.namespace_id = s.tenant_id AND u.subscription_id = s.id
         WHERE s.tenant_id = $1 AND u.bucket >= $6 AND u.bucket < $7",
        r#"SELECT m.id, m.name, m.unit,
              -- Each sum looks only at the meters that aggregate so.
              CASE m.aggregation WHEN 'count' THEN sum(u.count) FILTER (WHERE m.aggregation = 'count')
                   WHEN 'max' THEN max(u.max) FILTER (WHERE m.aggregation = 'max')
                   WHEN 'latest' THEN (array_agg(u.last ORDER BY u.last_at DESC, u.last DESC) FILTER (WHERE m.aggregation = 'latest'))[1]
                   ELSE sum(u.sum) FILTER (WHERE m.aggregation NOT IN ('count', 'max', 'latest')) END AS "units!",
              coalesce(CASE m.aggregation WHEN 'count' THEN sum(u.count) FILTER (WHERE m.aggregation = 'count' AND u.billable)
                   WHEN 'max' THEN max(u.max) FILTER (WHERE m.aggregation = 'max' AND u.billable)
                   WHEN 'latest' THEN (array_agg(u.last ORDER BY u.last_at DESC, u.last DESC) FILTER (WHERE m.aggregation = 'latest' AND u.billable))[1]
                   ELSE sum(u.sum) FILTER (WHERE m.aggregation NOT IN ('count', 'max', 'latest') AND u.billable) END, 0) AS "billable!"
           FROM usage u JOIN meters m ON m.id = u.meter_id GROUP BY m.id ORDER BY m.name"#
    )
    .await?;
    let total = |id, name, unit, units: rust_decimal::Decimal, billable: rust_decimal::Decimal| MeterTotal {
        meter: MeterId::from_uuid(id),
        name,
        unit,
        units: units.normalize(),
        billable: billable.normalize(),
    };
    Ok(rows.into_iter().map(|row| total(row.id, row.name, row.unit, row.units, row.billable)).collect())
}
