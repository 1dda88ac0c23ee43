//! The SQL of `query`: reads of the rollups. Every statement names the tenant.

use calendar::Timestamp;
use gateway_control::usage::Mode;
use ids::{ApiKeyId, ApiProductId, ApplicationId, MeterId, PlanId, RouteId, SubscriptionId, TenantId};

use super::query::{Filter, MeterTotal};
use crate::{db::Tx, error::Result};

/// The bounds of a question, as statements take them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<'a> {
    pub tenant: TenantId,
    pub from: Timestamp,
    pub to: Timestamp,
    pub unit: &'static str,
    pub zone: &'a str,
    pub daily: bool,
    pub filter: &'a Filter,
}

/// The calls of one slot, route and status.
#[derive(Debug)]
pub(super) struct Cell {
    pub slot: Timestamp,
    pub route: RouteId,
    pub status: i16,
    pub calls: i64,
}

/// A route and its API product.
#[derive(Debug, Clone)]
pub(super) struct RouteName {
    pub route: RouteId,
    pub slug: String,
    pub product: String,
    pub method: String,
    pub path: String,
}

pub(super) const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "live",
        Mode::Test => "test",
    }
}

/// A statement over the rows of the question: `usage` are the rollups with their slot, `calls` the calls (the largest count over a route's meters).
/// Either table of rollups is read, by `$6`; the other arm is not executed.
macro_rules! over_usage {
    ($tx:expr, $bounds:expr, $sql:literal $(, $argument:expr)*) => {
        sqlx::query!(
            "WITH chosen AS (
                SELECT u.* FROM usage_rollup_15m u
                JOIN subscriptions s ON s.tenant_id = u.namespace_id AND s.id = u.subscription_id
                WHERE NOT $6 AND u.namespace_id = $1 AND u.bucket >= $2 AND u.bucket < $3
                UNION ALL
                SELECT u.* FROM usage_rollup_day u
                JOIN subscriptions s ON s.tenant_id = u.namespace_id AND s.id = u.subscription_id
                WHERE $6 AND u.namespace_id = $1 AND u.bucket >= $2 AND u.bucket < $3
            ), usage AS (
                -- Where the sums' own buckets, or hours of UTC, are the slots, they need not be looked up in a time zone.
                SELECT c.*, CASE WHEN $6 OR $4 = 'minute' THEN c.bucket WHEN $4 = 'hour' AND $5 = 'UTC' THEN date_bin('1 hour', c.bucket, 'epoch')
                    ELSE date_trunc($4, c.bucket, $5) END AS slot
                FROM chosen c
                WHERE ($7::uuid IS NULL OR c.route_id IN (SELECT id FROM routes WHERE product_id = $7))
                  AND ($8::uuid IS NULL OR c.application_id = $8)
                  AND ($9::uuid IS NULL OR c.api_key_id = $9)
                  AND ($10::uuid IS NULL OR c.plan_version_id IN (SELECT id FROM plan_versions WHERE plan_id = $10))
                  AND ($11::uuid IS NULL OR c.subscription_id = $11)
                  AND ($12::smallint IS NULL OR c.status / 100 = $12)
                  AND ($13::text IS NULL OR c.mode = $13)
            ), per_meter AS (
                SELECT slot, subscription_id, plan_version_id, period_start, api_key_id, route_id, status, mode, meter_id, sum(count)::bigint AS calls
                FROM usage GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
            ), calls AS (
                SELECT slot, route_id, status, max(calls) AS calls
                FROM per_meter GROUP BY slot, subscription_id, plan_version_id, period_start, api_key_id, route_id, status, mode
            ) " + $sql,
            $bounds.tenant.uuid(),
            $bounds.from,
            $bounds.to,
            $bounds.unit,
            $bounds.zone,
            $bounds.daily,
            $bounds.filter.product.map(ApiProductId::uuid),
            $bounds.filter.application.map(ApplicationId::uuid),
            $bounds.filter.api_key.map(ApiKeyId::uuid),
            $bounds.filter.plan.map(PlanId::uuid),
            $bounds.filter.subscription.map(SubscriptionId::uuid),
            $bounds.filter.status_class,
            $bounds.filter.mode.map(mode_name),
            $($argument,)*
        )
        .fetch_all(&mut **$tx)
    };
}

/// The start of every slot of the range, in order.
pub(super) async fn slots(tx: &mut Tx, bounds: &Bounds<'_>) -> Result<Vec<Timestamp>> {
    Ok(sqlx::query_scalar!(
        r#"SELECT DISTINCT date_trunc($3, at, $4) AS "slot!"
           FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 microsecond', interval '15 minutes') AS at ORDER BY 1"#,
        bounds.from,
        bounds.to,
        bounds.unit,
        bounds.zone,
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// The calls of every slot, route and status, in the order of the slots.
pub(super) async fn cells(tx: &mut Tx, bounds: &Bounds<'_>) -> Result<Vec<Cell>> {
    // What is grouped stays in memory.
    sqlx::query!("SET LOCAL work_mem = '32MB'").execute(&mut **tx).await?;
    let rows = over_usage!(
        tx,
        bounds,
        r#"SELECT slot AS "slot!", route_id AS "route_id!", status AS "status!", sum(count)::bigint AS "calls!" FROM usage
           GROUP BY slot, route_id, status, meter_id ORDER BY 1, 2, 3"#
    )
    .await?;
    // With one meter the calls are its count. Only with several must their counts be held against each other, key by key.
    if rows.windows(2).any(|pair| (pair[0].slot, pair[0].route_id, pair[0].status) == (pair[1].slot, pair[1].route_id, pair[1].status)) {
        return cells_of_several_meters(tx, bounds).await;
    }
    Ok(rows
        .into_iter()
        .map(|row| Cell { slot: row.slot, route: RouteId::from_uuid(row.route_id), status: row.status, calls: row.calls })
        .collect())
}

async fn cells_of_several_meters(tx: &mut Tx, bounds: &Bounds<'_>) -> Result<Vec<Cell>> {
    let rows = over_usage!(
        tx,
        bounds,
        r#"SELECT slot AS "slot!", route_id AS "route_id!", status AS "status!", sum(calls)::bigint AS "calls!" FROM calls GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"#
    )
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Cell { slot: row.slot, route: RouteId::from_uuid(row.route_id), status: row.status, calls: row.calls })
        .collect())
}

/// What routes are called.
pub(super) async fn routes(tx: &mut Tx, ids: &[RouteId]) -> Result<Vec<RouteName>> {
    let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT r.id, p.slug, p.name, r.method, r.path FROM routes r JOIN api_products p ON p.id = r.product_id WHERE r.id = ANY($1)",
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let name = |it: RouteId, slug, product, method, path| RouteName { route: it, slug, product, method, path };
    Ok(rows.into_iter().map(|row| name(RouteId::from_uuid(row.id), row.slug, row.name, row.method, row.path)).collect())
}

pub(super) async fn totals_by_meter(tx: &mut Tx, bounds: &Bounds<'_>) -> Result<Vec<MeterTotal>> {
    let rows = over_usage!(
        tx,
        bounds,
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
    Ok(rows
        .into_iter()
        .map(|row| MeterTotal {
            meter: MeterId::from_uuid(row.id),
            name: row.name,
            unit: row.unit,
            units: row.units.normalize(),
            billable: row.billable.normalize(),
        })
        .collect())
}

/// One line of the export.
#[derive(Debug)]
pub(super) struct ExportRow {
    pub slot: Timestamp,
    pub product: String,
    pub method: String,
    pub path: String,
    pub application: String,
    pub key_name: String,
    pub key_hint: String,
    pub plan: String,
    pub status: i16,
    pub mode: String,
    pub meter: String,
    pub unit: String,
    pub calls: i64,
    pub units: rust_decimal::Decimal,
    pub billable: rust_decimal::Decimal,
}

pub(super) async fn export(tx: &mut Tx, bounds: &Bounds<'_>) -> Result<Vec<ExportRow>> {
    let rows = over_usage!(
        tx,
        bounds,
        r#"SELECT u.slot AS "slot!", p.slug AS product, r.method, r.path, a.name AS application, k.name AS key_name, k.hint AS key_hint, pl.slug AS plan,
              u.status AS "status!", u.mode AS "mode!", m.slug AS meter, m.unit, sum(u.count)::bigint AS "calls!", sum(u.sum) AS "units!",
              coalesce(sum(u.sum) FILTER (WHERE u.billable), 0) AS "billable!"
           FROM usage u JOIN routes r ON r.id = u.route_id JOIN api_products p ON p.id = r.product_id JOIN meters m ON m.id = u.meter_id
           JOIN applications a ON a.tenant_id = u.namespace_id AND a.id = u.application_id
           JOIN api_keys k ON k.tenant_id = u.namespace_id AND k.id = u.api_key_id
           JOIN plan_versions v ON v.id = u.plan_version_id JOIN plans pl ON pl.id = v.plan_id
           GROUP BY u.slot, p.slug, r.method, r.path, a.name, k.id, k.name, k.hint, pl.slug, u.status, u.mode, m.slug, m.unit
           ORDER BY u.slot, p.slug, r.path, r.method, a.name, k.name, k.id, u.status, u.mode, m.slug"#
    )
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ExportRow {
            slot: row.slot,
            product: row.product,
            method: row.method,
            path: row.path,
            application: row.application,
            key_name: row.key_name,
            key_hint: row.key_hint,
            plan: row.plan,
            status: row.status,
            mode: row.mode,
            meter: row.meter,
            unit: row.unit,
            calls: row.calls,
            units: row.units.normalize(),
            billable: row.billable.normalize(),
        })
        .collect())
}
