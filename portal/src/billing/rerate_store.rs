//! The SQL of what was billed, by period and rate card: for rating it again, and for what comes late.

use calendar::Timestamp;
use ids::{InvoiceId, PlanVersionId, RateCardId, SubscriptionId, TenantId};
use rust_decimal::Decimal;

use crate::{db::Tx, error::Result};

/// What all lines of a rate card bill of a period.
#[derive(Debug, Clone)]
pub(super) struct BilledCard {
    pub invoice: InvoiceId,
    pub period_from: Timestamp,
    pub card: RateCardId,
    pub plan_version: PlanVersionId,
    pub units: Decimal,
    pub invoiced: Decimal,
}

pub(super) async fn billed_cards(tx: &mut Tx, tenant: TenantId, subscription: SubscriptionId) -> Result<Vec<BilledCard>> {
    let rows = sqlx::query!(
        r#"SELECT coalesce(l.service_from, i.period_from) AS "period_from!", c.id, c.plan_version_id,
               (array_agg(i.id ORDER BY i.created_at, i.id))[1] AS "invoice!",
               coalesce(sum((l.detail ->> 'quantity')::numeric) FILTER (WHERE l.detail ->> 'kind' = 'usage'), 0) AS "units!", sum(l.amount) AS "invoiced!"
           FROM invoices i
           JOIN invoice_lines l ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id
           JOIN rate_cards c ON c.id = l.rate_card_id
           WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.state NOT IN ('draft', 'void')
           GROUP BY 1, c.id, c.plan_version_id ORDER BY 1, c.plan_version_id, c.id"#,
        tenant.uuid(),
        subscription.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| BilledCard {
            invoice: InvoiceId::from_uuid(row.invoice),
            period_from: row.period_from,
            card: RateCardId::from_uuid(row.id),
            plan_version: PlanVersionId::from_uuid(row.plan_version_id),
            units: row.units,
            invoiced: row.invoiced,
        })
        .collect())
}
