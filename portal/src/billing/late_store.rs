//! The SQL of what closed periods owe.

use calendar::Timestamp;
use ids::{InvoiceId, MeterId, PlanVersionId, SubscriptionId, TenantId};

use crate::{db::Tx, error::Result, usage::query::PeriodUnits};

/// How many subscriptions one look takes.
const PAGE: i64 = 500;

/// The starts of closed periods that have billable usage or corrections. A period whose invoice was taken back is not billed again.
pub(super) async fn closed_periods_with_use(
    tx: &mut Tx,
    tenant: TenantId,
    subscription: SubscriptionId,
    open_from: Timestamp,
) -> Result<Vec<Timestamp>> {
    Ok(sqlx::query_scalar!(
        r#"SELECT p.period_start AS "period_start!" FROM (
               SELECT period_start FROM usage_rollup_day WHERE namespace_id = $1 AND subscription_id = $2 AND period_start < $3 AND billable
               UNION SELECT period_start FROM usage_corrections WHERE namespace_id = $1 AND subscription_id = $2 AND period_start < $3) p
           WHERE NOT EXISTS (SELECT FROM invoices i WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.period_from = p.period_start
                             AND i.kind = 'period' AND i.state = 'void')
           ORDER BY 1"#,
        tenant.uuid(),
        subscription.uuid(),
        open_from,
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// What corrections since a period's last line of the same meter and plan version add to it: they are not billed yet. Those of the period while it was open
/// were rated with it.
pub(super) async fn corrected_since_billed(
    tx: &mut Tx,
    tenant: TenantId,
    subscription: SubscriptionId,
    period_start: Timestamp,
) -> Result<Vec<PeriodUnits>> {
    let rows = sqlx::query!(
        r#"SELECT c.meter_id, c.plan_version_id, sum(c.units) AS "units!" FROM usage_corrections c
           WHERE c.namespace_id = $1 AND c.subscription_id = $2 AND c.period_start = $3 AND c.outcome <> 'open_period'
             AND NOT EXISTS (SELECT FROM invoices i
                             JOIN invoice_lines l ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id
                             JOIN rate_cards r ON r.id = l.rate_card_id
                             WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.state NOT IN ('draft', 'void')
                               AND (i.finalized_at > c.created_at OR i.id = c.credit_note_id)
                               AND coalesce(l.service_from, i.period_from) = $3 AND r.meter_id = c.meter_id AND r.plan_version_id = c.plan_version_id)
           GROUP BY c.meter_id, c.plan_version_id ORDER BY c.meter_id, c.plan_version_id"#,
        tenant.uuid(),
        subscription.uuid(),
        period_start,
    )
    .fetch_all(&mut **tx)
    .await?;
    let units = rows.into_iter().map(|row| PeriodUnits {
        meter: MeterId::from_uuid(row.meter_id),
        plan_version: PlanVersionId::from_uuid(row.plan_version_id),
        units: row.units,
    });
    Ok(units.collect())
}

/// The meters of distinct values of which rows of a period were dropped: what they come to cannot be counted any more.
pub(super) async fn uncountable_meters(tx: &mut Tx, period_start: Timestamp) -> Result<Vec<MeterId>> {
    let ids = sqlx::query_scalar!(
        "SELECT m.id FROM meters m CROSS JOIN usage_retention r WHERE m.aggregation = 'unique_count' AND r.rows_from > $1 ORDER BY m.id",
        period_start
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(MeterId::from_uuid).collect())
}

/// The invoice that a period was closed into.
pub(super) async fn invoice_of_period(
    tx: &mut Tx,
    tenant: TenantId,
    subscription: SubscriptionId,
    period_start: Timestamp,
) -> Result<Option<InvoiceId>> {
    let id = sqlx::query_scalar!(
        "SELECT id FROM invoices WHERE tenant_id = $1 AND subscription_id = $2 AND period_from = $3 AND kind = 'period'",
        tenant.uuid(),
        subscription.uuid(),
        period_start,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(id.map(InvoiceId::from_uuid))
}

/// Whether the invoice of a period was taken back.
pub(super) async fn is_void(tx: &mut Tx, tenant: TenantId, subscription: SubscriptionId, period_start: Timestamp) -> Result<bool> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM invoices WHERE tenant_id = $1 AND subscription_id = $2 AND period_from = $3 AND kind = 'period' AND state = 'void')
           AS "void!""#,
        tenant.uuid(),
        subscription.uuid(),
        period_start,
    )
    .fetch_one(&mut **tx)
    .await?)
}

/// Subscriptions that were canceled since, and of which all is closed.
pub(super) async fn canceled(
    tx: &mut Tx,
    after: Option<(TenantId, SubscriptionId)>,
    since: Timestamp,
) -> Result<Vec<(TenantId, SubscriptionId)>> {
    let (tenant, id) = after.unzip();
    let rows = sqlx::query!(
        "SELECT tenant_id, id FROM subscriptions
         WHERE ($1::uuid IS NULL OR (tenant_id, id) > ($1, $2)) AND canceled_at >= $3 AND open_from >= canceled_at
         ORDER BY tenant_id, id LIMIT $4",
        tenant.map(TenantId::uuid),
        id.map(SubscriptionId::uuid),
        since,
        PAGE,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (TenantId::from_uuid(row.tenant_id), SubscriptionId::from_uuid(row.id))).collect())
}

pub(super) async fn tenant_name(tx: &mut Tx, tenant: TenantId) -> Result<String> {
    Ok(sqlx::query_scalar!("SELECT name FROM tenants WHERE id = $1", tenant.uuid()).fetch_one(&mut **tx).await?)
}
