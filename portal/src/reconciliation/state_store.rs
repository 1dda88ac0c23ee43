//! The SQL of where the comparison stands, and of both sides' figures for its page.

use calendar::Timestamp;
use ids::{GatewayId, JournalId, MeterId, NamespaceId, SubscriptionId};
use rust_decimal::Decimal;
use serde_json::Value;

use super::{MeterAccount, Progress, StreamAccount};
use crate::{db::Tx, error::Result};

/// What a pass starts from.
#[derive(Debug)]
pub(super) struct State {
    pub cursor: Option<Value>,
    pub sweep_started_at: Option<Timestamp>,
    pub recent_through: Option<Timestamp>,
}

pub(super) async fn state(tx: &mut Tx) -> Result<State> {
    Ok(sqlx::query_as!(
        State,
        r#"SELECT cursor AS "cursor?", sweep_started_at AS "sweep_started_at?", recent_through AS "recent_through?" FROM reconciliation_state"#
    )
    .fetch_one(&mut **tx)
    .await?)
}

pub(super) async fn set_recent(tx: &mut Tx, through: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE reconciliation_state SET recent_through = $1", through).execute(&mut **tx).await?;
    Ok(())
}

/// The sweep goes on at the cursor; without one it has come to its end, and the next begins anew.
pub(super) async fn set_cursor(tx: &mut Tx, cursor: Option<&Value>, started_at: Timestamp, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "UPDATE reconciliation_state SET cursor = $1, passed_at = $3,
             sweep_started_at = CASE WHEN $1::jsonb IS NULL THEN NULL ELSE $2::timestamptz END,
             full_started_at = CASE WHEN $1::jsonb IS NULL THEN $2 ELSE full_started_at END,
             full_finished_at = CASE WHEN $1::jsonb IS NULL THEN $3 ELSE full_finished_at END",
        cursor,
        started_at,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn progress(tx: &mut Tx) -> Result<Progress> {
    Ok(sqlx::query_as!(
        Progress,
        r#"SELECT passed_at AS "passed_at?", full_started_at AS "full_started_at?", full_finished_at AS "full_finished_at?",
               sweep_started_at AS "sweep_started_at?", created_at FROM reconciliation_state"#
    )
    .fetch_one(&mut **tx)
    .await?)
}

/// Both sides of every stream, the ones heard of last first.
pub(super) async fn streams(tx: &mut Tx, limit: i64) -> Result<Vec<StreamAccount>> {
    let rows = sqlx::query!(
        r#"SELECT j.gateway_id, g.name, j.journal_id, coalesce(s.stream, r.stream) AS "stream!",
               (greatest(s.next_receipt, r.next_receipt, 1) - 1 - coalesce(r.skipped, 0))::bigint AS "admitted!", coalesce(s.recorded, 0) AS "recorded!", r.open AS "open?",
               r.broken AS "broken?", r.broken_before AS "broken_before?", r.broken_numbers AS "broken_numbers?", r.reported_at AS "reported_at?",
               (SELECT coalesce(sum(upper(p) - lower(p)), 0) FROM unnest(r.pending) p)::bigint AS "pending!",
               (SELECT count(*) FROM reconciliation_differences d
                WHERE d.resolved_at IS NULL AND d.journal_id = j.journal_id AND d.stream = coalesce(s.stream, r.stream)) AS "differences!"
           FROM usage_streams s FULL JOIN gateway_streams r ON r.journal_id = s.journal_id AND r.stream = s.stream
           JOIN gateway_journals j ON j.journal_id = coalesce(s.journal_id, r.journal_id) JOIN gateways g ON g.id = j.gateway_id
           ORDER BY j.last_seen_at DESC NULLS LAST, g.name, j.journal_id, 4 LIMIT $1"#,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(rows
        .into_iter()
        .map(|row| StreamAccount {
            gateway: GatewayId::from_uuid(row.gateway_id),
            gateway_name: row.name,
            journal: JournalId::from_uuid(row.journal_id),
            stream: u16::try_from(row.stream).unwrap_or(u16::MAX),
            admitted: number(row.admitted),
            recorded: number(row.recorded),
            open: row.open.map(number),
            broken: row.broken.map(|now| Decimal::from(now) + row.broken_before.unwrap_or_default()),
            broken_numbers: row.broken_numbers.unwrap_or_default(),
            pending_segments: number(row.pending),
            reported_at: row.reported_at,
            differences: number(row.differences),
        })
        .collect())
}

/// Each meter of a subscription's last periods, from the rows, from the sums, and from the invoices.
pub(super) async fn meters(
    tx: &mut Tx,
    namespace: NamespaceId,
    subscription: SubscriptionId,
    since: Timestamp,
) -> Result<Vec<MeterAccount>> {
    let rows = sqlx::query!(
        r#"WITH accepted AS (
               SELECT r.period_start, r.meter_id, sum(CASE m.aggregation WHEN 'count' THEN r.count ELSE r.sum END) AS units
               FROM usage_rows r JOIN meters m ON m.id = r.meter_id
               LEFT JOIN (SELECT journal_id, stream, seq FROM usage_segments WHERE rolled_up_at IS NULL) waiting USING (journal_id, stream, seq)
               WHERE r.namespace_id = $1 AND r.subscription_id = $2 AND r.period_start >= $3 AND waiting IS NULL GROUP BY 1, 2),
           rolled AS (
               SELECT u.period_start, u.meter_id, sum(CASE m.aggregation WHEN 'count' THEN u.count ELSE u.sum END) AS units,
                   sum(CASE m.aggregation WHEN 'count' THEN u.count ELSE u.sum END) FILTER (WHERE u.billable) AS billable
               FROM usage_rollup_15m u JOIN meters m ON m.id = u.meter_id
               WHERE u.namespace_id = $1 AND u.subscription_id = $2 AND u.period_start >= $3 GROUP BY 1, 2),
           corrected AS (
               SELECT period_start, meter_id, sum(units) AS units FROM usage_corrections
               WHERE namespace_id = $1 AND subscription_id = $2 AND period_start >= $3 GROUP BY 1, 2),
           billed AS (
               SELECT coalesce(l.service_from, i.period_from) AS period_start, l.meter_id, sum((l.detail ->> 'quantity')::numeric) AS units
               FROM invoices i JOIN invoice_lines l ON l.tenant_id = i.tenant_id AND l.invoice_id = i.id
               WHERE i.tenant_id = $1 AND i.subscription_id = $2 AND i.state NOT IN ('draft', 'void') AND l.detail ->> 'kind' = 'usage'
                 AND l.meter_id IS NOT NULL
                 -- A meter with several prices is billed once by each; its units are those of any of them.
                 AND l.rate_card_id = (SELECT c.id FROM rate_cards c JOIN rate_cards own ON own.id = l.rate_card_id
                                       WHERE c.plan_version_id = own.plan_version_id AND c.meter_id = l.meter_id ORDER BY c.position LIMIT 1)
               GROUP BY 1, 2)
           SELECT period_start AS "period_start!", meter_id AS "meter_id!", m.name, m.unit, coalesce(a.units, 0) AS "accepted!",
               coalesce(r.units, 0) AS "rolled!", coalesce(r.billable, 0) AS "billable!", coalesce(c.units, 0) AS "corrected!", b.units AS "invoiced?"
           FROM accepted a FULL JOIN rolled r USING (period_start, meter_id) FULL JOIN corrected c USING (period_start, meter_id)
           LEFT JOIN billed b USING (period_start, meter_id)
           JOIN meters m ON m.id = meter_id
           WHERE m.aggregation IN ('count', 'sum') ORDER BY period_start DESC, m.name, meter_id LIMIT 100"#,
        namespace.uuid(),
        subscription.uuid(),
        since,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| MeterAccount {
            period_start: row.period_start,
            meter: MeterId::from_uuid(row.meter_id),
            name: row.name,
            unit: row.unit,
            accepted: row.accepted.normalize(),
            rolled_up: row.rolled.normalize(),
            billable: row.billable.normalize(),
            corrected: row.corrected.normalize(),
            invoiced: row.invoiced.map(|units| units.normalize()),
        })
        .collect())
}
