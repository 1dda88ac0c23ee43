//! The SQL that compares the quota ledger with the daily sums.

use calendar::Timestamp;
use ids::{NamespaceId, SubscriptionId, Uuid};
use rust_decimal::Decimal;

use crate::{db::Tx, error::Result};

/// A quota whose ledger holds other use than was rolled up.
#[derive(Debug)]
pub(super) struct DifferingUse {
    pub period_start: Timestamp,
    pub meter_id: Uuid,
    pub meter_name: String,
    pub rolled: Decimal,
    pub used: Decimal,
}

/// The ledger is moved in the transaction that takes a segment, the sums follow: what waits to be added to them is counted from its rows, with the billable
/// rule as SQL. Corrections move the ledger by as much as they say, or not at all.
pub(super) async fn differing(tx: &mut Tx, namespace: NamespaceId, subscription: SubscriptionId) -> Result<Vec<DifferingUse>> {
    Ok(sqlx::query_as!(
        DifferingUse,
        r#"WITH expected AS (
               SELECT meter_id, period_start, sum(units) AS units FROM (
                   SELECT meter_id, period_start, sum(sum) AS units FROM usage_rollup_day
                   WHERE namespace_id = $1 AND subscription_id = $2 AND billable GROUP BY meter_id, period_start
                   UNION ALL
                   SELECT u.meter_id, u.period_start, u.sum FROM usage_segments s
                   JOIN usage_rows u ON u.journal_id = s.journal_id AND u.stream = s.stream AND u.seq = s.seq
                   JOIN plan_versions v ON v.id = u.plan_version_id
                   WHERE s.rolled_up_at IS NULL AND u.namespace_id = $1 AND u.subscription_id = $2
                     AND u.mode = 'live' AND u.answered_by = 'upstream' AND (u.status = 101 OR (u.status < 500
                         AND EXISTS (SELECT FROM jsonb_array_elements(v.billable -> 'statuses') b WHERE u.status BETWEEN (b ->> 0)::int AND (b ->> 1)::int)
                         AND NOT v.billable -> 'except' @> to_jsonb(u.status::int)))
                   UNION ALL
                   SELECT meter_id, period_start, coalesce(quota_moved, CASE outcome WHEN 'open_period' THEN units ELSE 0 END) FROM usage_corrections WHERE namespace_id = $1 AND subscription_id = $2) parts
               GROUP BY meter_id, period_start),
           ledger AS (SELECT meter_id, period_start, used FROM quota_ledger WHERE namespace_id = $1 AND subscription_id = $2)
           SELECT period_start AS "period_start!", meter_id AS "meter_id!", m.name AS "meter_name!", coalesce(e.units, 0) AS "rolled!",
               coalesce(l.used, 0) AS "used!"
           FROM expected e FULL JOIN ledger l USING (meter_id, period_start) JOIN meters m ON m.id = meter_id
           WHERE coalesce(e.units, 0) <> coalesce(l.used, 0) ORDER BY 1, 2 LIMIT 100"#,
        namespace.uuid(),
        subscription.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?)
}
