//! The SQL that compares invoices with their lines, and billed units with the rollups.

use calendar::Timestamp;
use ids::{NamespaceId, SubscriptionId, Uuid};
use rust_decimal::Decimal;

use crate::{db::Tx, error::Result};

/// An invoice that is not the sum of its lines.
#[derive(Debug)]
pub(super) struct WrongSum {
    pub id: Uuid,
    pub number: Option<i64>,
    pub period_from: Timestamp,
    pub subtotal: Decimal,
    pub tax: Decimal,
    pub total: Decimal,
    pub lines: Decimal,
    pub explained: Decimal,
}

pub(super) async fn wrong_sums(tx: &mut Tx, namespace: NamespaceId, subscription: SubscriptionId) -> Result<Vec<WrongSum>> {
    Ok(sqlx::query_as!(
        WrongSum,
        r#"SELECT i.id, i.number, i.period_from, i.subtotal, i.tax, i.total, l.amount AS "lines!", l.explained AS "explained!"
           FROM invoices i CROSS JOIN LATERAL (
               SELECT coalesce(sum(amount), 0) AS amount, coalesce(sum((detail ->> 'total')::numeric), 0) AS explained
               FROM invoice_lines l WHERE l.tenant_id = i.tenant_id AND l.invoice_id = i.id) l
           WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.state <> 'draft'
             AND (i.subtotal <> l.amount OR l.amount <> l.explained OR i.total <> i.subtotal + i.tax)
           ORDER BY i.period_from LIMIT 100"#,
        namespace.uuid(),
        subscription.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// A rate card whose billed units are not those of the period.
#[derive(Debug)]
pub(super) struct WrongUnits {
    pub period_start: Timestamp,
    pub card: String,
    pub rolled: Decimal,
    /// Of them, those that were surely there when the period was closed.
    pub in_time: Decimal,
    pub invoiced: Decimal,
    pub invoice_id: Uuid,
}

/// Units that add up; [`super::level_store::wrong_units`] compares the others. More than was rolled up must never be billed, and what was accepted before
/// the invoice was made must be on it; what came later is billed later.
pub(super) async fn wrong_units(tx: &mut Tx, namespace: NamespaceId, subscription: SubscriptionId) -> Result<Vec<WrongUnits>> {
    Ok(sqlx::query_as!(
        WrongUnits,
        r#"WITH billed AS (
               SELECT coalesce(l.service_from, i.period_from) AS period_start, c.id, c.name, c.meter_id, c.plan_version_id,
                   sum((l.detail ->> 'quantity')::numeric) AS units
               FROM invoices i JOIN invoice_lines l ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id JOIN rate_cards c ON c.id = l.rate_card_id
               JOIN meters m ON m.id = c.meter_id
               WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.state NOT IN ('draft', 'void') AND l.detail ->> 'kind' = 'usage'
                 AND m.aggregation IN ('count', 'sum')
               GROUP BY 1, 2, 3, 4, 5),
           closed AS (
               SELECT i.period_from, i.id, i.created_at FROM invoices i
               WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.kind = 'period' AND i.state NOT IN ('draft', 'void')),
           rolled AS (
               SELECT u.period_start, u.meter_id, u.plan_version_id, sum(CASE m.aggregation WHEN 'count' THEN u.count ELSE u.sum END) AS units
               FROM usage_rollup_15m u JOIN meters m ON m.id = u.meter_id
               WHERE u.namespace_id = $1 AND u.subscription_id = $2 AND u.billable AND m.aggregation IN ('count', 'sum')
               GROUP BY 1, 2, 3),
           corrected AS (
               SELECT period_start, meter_id, plan_version_id, sum(units) AS units FROM usage_corrections
               WHERE namespace_id = $1 AND subscription_id = $2 GROUP BY 1, 2, 3),
           in_time AS (
               SELECT r.period_start, r.meter_id, r.plan_version_id, sum(CASE m.aggregation WHEN 'count' THEN r.count ELSE r.sum END) AS units
               FROM usage_rows r JOIN meters m ON m.id = r.meter_id JOIN plan_versions v ON v.id = r.plan_version_id
               JOIN closed ON closed.period_from = r.period_start
               WHERE r.namespace_id = $1 AND r.subscription_id = $2 AND r.accepted_at < closed.created_at - interval '2 minutes'
                 AND r.mode = 'live' AND r.answered_by = 'upstream' AND (r.status = 101 OR (r.status < 500
                     AND EXISTS (SELECT FROM jsonb_array_elements(v.billable -> 'statuses') b WHERE r.status BETWEEN (b ->> 0)::int AND (b ->> 1)::int)
                     AND NOT v.billable -> 'except' @> to_jsonb(r.status::int)))
               GROUP BY 1, 2, 3)
           SELECT cards.period_from AS "period_start!", cards.name AS "card!", cards.rolled AS "rolled!", cards.in_time AS "in_time!",
               cards.invoiced AS "invoiced!", cards.id AS "invoice_id!"
           FROM (
               SELECT closed.period_from, closed.id, c.name, coalesce(rolled.units, 0) + coalesce(corrected.units, 0) AS rolled,
                   coalesce(in_time.units, 0) + least(coalesce(corrected.units, 0), 0) AS in_time, coalesce(billed.units, 0) AS invoiced
               FROM closed
               JOIN invoices i ON i.tenant_id = $1 AND i.id = closed.id
               JOIN rate_cards c ON c.plan_version_id = i.plan_version_id AND c.meter_id IS NOT NULL
               JOIN meters m ON m.id = c.meter_id AND m.aggregation IN ('count', 'sum')
               LEFT JOIN rolled ON rolled.period_start = closed.period_from AND rolled.meter_id = c.meter_id AND rolled.plan_version_id = c.plan_version_id
               LEFT JOIN corrected
                   ON corrected.period_start = closed.period_from AND corrected.meter_id = c.meter_id AND corrected.plan_version_id = c.plan_version_id
               LEFT JOIN in_time
                   ON in_time.period_start = closed.period_from AND in_time.meter_id = c.meter_id AND in_time.plan_version_id = c.plan_version_id
               LEFT JOIN billed ON billed.period_start = closed.period_from AND billed.id = c.id) cards
           WHERE cards.invoiced > cards.rolled OR cards.invoiced < cards.in_time ORDER BY 1, 2 LIMIT 100"#,
        namespace.uuid(),
        subscription.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?)
}
