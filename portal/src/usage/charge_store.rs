//! The SQL of charges: a period's billable units, and what lies behind one charge. Every statement names the tenant.

use calendar::Timestamp;
use ids::{MeterId, PlanVersionId, SubscriptionId, TenantId};

use super::query::{BreakdownRow, Charge, PeriodUnits};
use crate::{db::Tx, error::Result};

/// Billable units per meter and plan version of one period. Nothing is used before its period starts, so that sums of days before that need not be
/// looked at. Distinct values are counted from the rows, because sums cannot hold them.
pub(super) async fn period_units(
    tx: &mut Tx,
    tenant: TenantId,
    subscription: SubscriptionId,
    period_start: Timestamp,
) -> Result<Vec<PeriodUnits>> {
    let rows = sqlx::query!(
        r#"SELECT m.id, u.plan_version_id,
              -- Each sum looks only at the meters that aggregate so.
              CASE m.aggregation WHEN 'count' THEN sum(u.count) FILTER (WHERE m.aggregation = 'count')
                   WHEN 'max' THEN max(u.max) FILTER (WHERE m.aggregation = 'max')
                   WHEN 'latest' THEN (array_agg(u.last ORDER BY u.last_at DESC, u.last DESC) FILTER (WHERE m.aggregation = 'latest'))[1]
                   WHEN 'unique_count' THEN (
                       SELECT count(DISTINCT h)::numeric FROM usage_rows w, unnest(w.uniques) AS h
                       WHERE w.namespace_id = $1 AND w.subscription_id = $2 AND w.period_start = $3 AND w.meter_id = m.id
                         AND w.plan_version_id = u.plan_version_id AND w.uniques IS NOT NULL AND w.mode = 'live' AND w.answered_by = 'upstream'
                         AND w.status = ANY(array_agg(u.status) FILTER (WHERE m.aggregation = 'unique_count')))
                   ELSE sum(u.sum) FILTER (WHERE m.aggregation NOT IN ('count', 'max', 'latest')) END AS "units!"
           FROM usage_route_day u JOIN meters m ON m.id = u.meter_id
           WHERE u.namespace_id = $1 AND u.subscription_id = $2 AND u.period_start = $3 AND u.bucket >= $3 - interval '2 days' AND u.billable
           GROUP BY m.id, u.plan_version_id ORDER BY m.id, u.plan_version_id"#,
        tenant.uuid(),
        subscription.uuid(),
        period_start,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| PeriodUnits {
            meter: MeterId::from_uuid(row.id),
            plan_version: PlanVersionId::from_uuid(row.plan_version_id),
            units: row.units.normalize(),
        })
        .collect())
}

/// A statement over the billable rollups behind a charge, in slots of 15 minutes.
macro_rules! over_charge {
    ($tx:expr, $charge:expr, $sql:literal $(, $argument:expr)*) => {
        sqlx::query!(
            "WITH usage AS (
                SELECT u.*, m.aggregation IN ('max', 'latest') AS is_level, CASE m.aggregation WHEN 'count' THEN u.count::numeric WHEN 'max' THEN u.max WHEN 'latest' THEN u.last ELSE u.sum END AS units
                FROM usage_rollup_15m u JOIN meters m ON m.id = u.meter_id
                WHERE u.namespace_id = $1 AND u.subscription_id = $2 AND u.period_start = $3 AND u.meter_id = $4 AND u.billable
            ) " + $sql,
            $charge.tenant.uuid(),
            $charge.subscription.uuid(),
            $charge.period_start,
            $charge.meter.uuid(),
            $($argument,)*
        )
        .fetch_all(&mut **$tx)
    };
}

pub(super) async fn charge_by_day(tx: &mut Tx, charge: &Charge) -> Result<Vec<BreakdownRow>> {
    let rows = over_charge!(
        tx,
        charge,
        r#"SELECT to_char(bucket AT TIME ZONE $5, 'YYYY-MM-DD') AS "label!", sum(count)::bigint AS "calls!", CASE WHEN bool_or(is_level) THEN max(units) ELSE sum(units) END AS "units!"
           FROM usage GROUP BY 1 ORDER BY 1"#,
        charge.zone.name()
    )
    .await?;
    Ok(rows.into_iter().map(|row| BreakdownRow { label: row.label, calls: row.calls, units: row.units.normalize() }).collect())
}

pub(super) async fn charge_by_route(tx: &mut Tx, charge: &Charge) -> Result<Vec<BreakdownRow>> {
    let rows = over_charge!(
        tx,
        charge,
        r#"SELECT r.method || ' ' || r.path AS "label!", sum(u.count)::bigint AS "calls!", CASE WHEN bool_or(u.is_level) THEN max(u.units) ELSE sum(u.units) END AS "units!"
           FROM usage u JOIN routes r ON r.id = u.route_id GROUP BY r.id ORDER BY 3 DESC, 1"#
    )
    .await?;
    Ok(rows.into_iter().map(|row| BreakdownRow { label: row.label, calls: row.calls, units: row.units.normalize() }).collect())
}

pub(super) async fn charge_by_key(tx: &mut Tx, charge: &Charge) -> Result<Vec<BreakdownRow>> {
    let rows = over_charge!(
        tx,
        charge,
        r#"SELECT k.name || ' (…' || k.hint || ')' AS "label!", sum(u.count)::bigint AS "calls!", CASE WHEN bool_or(u.is_level) THEN max(u.units) ELSE sum(u.units) END AS "units!"
           FROM usage u JOIN api_keys k ON k.tenant_id = u.namespace_id AND k.id = u.api_key_id GROUP BY k.id, k.name, k.hint ORDER BY 3 DESC, 1"#
    )
    .await?;
    Ok(rows.into_iter().map(|row| BreakdownRow { label: row.label, calls: row.calls, units: row.units.normalize() }).collect())
}
