//! The SQL that compares the quota ledger with the daily sums, and with the rows.

use calendar::Timestamp;
use ids::{NamespaceId, SubscriptionId, Uuid};
use quota::{Enforcement, QuotaLimit};
use rust_decimal::Decimal;

use crate::{db::Tx, error::Result};

/// A quota whose ledger holds other use than was accepted.
#[derive(Debug)]
pub(super) struct DifferingUse {
    pub period_start: Timestamp,
    pub meter_id: Uuid,
    pub meter_name: String,
    pub accepted: Decimal,
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
           SELECT period_start AS "period_start!", meter_id AS "meter_id!", m.name AS "meter_name!", coalesce(e.units, 0) AS "accepted!",
               coalesce(l.used, 0) AS "used!"
           FROM expected e FULL JOIN ledger l USING (meter_id, period_start) JOIN meters m ON m.id = meter_id
           WHERE coalesce(e.units, 0) <> coalesce(l.used, 0) ORDER BY 1, 2 LIMIT 100"#,
        namespace.uuid(),
        subscription.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// The same of some periods, with the rows themselves from a UTC day on, and the daily sums before it.
pub(super) async fn differing_from_rows(
    tx: &mut Tx,
    of: (NamespaceId, SubscriptionId),
    periods: &[Timestamp],
    from: Timestamp,
) -> Result<Vec<DifferingUse>> {
    Ok(sqlx::query_as!(
        DifferingUse,
        r#"WITH expected AS (
               SELECT meter_id, period_start, sum(units) AS units FROM (
                   SELECT meter_id, period_start, sum AS units FROM usage_rollup_day
                   WHERE namespace_id = $1 AND subscription_id = $2 AND billable AND period_start = ANY($3) AND bucket < $4
                   UNION ALL
                   SELECT u.meter_id, u.period_start, u.sum FROM usage_rows u JOIN plan_versions v ON v.id = u.plan_version_id
                   WHERE u.namespace_id = $1 AND u.subscription_id = $2 AND u.period_start = ANY($3) AND u.minute >= $4
                     AND u.mode = 'live' AND u.answered_by = 'upstream' AND (u.status = 101 OR (u.status < 500
                         AND EXISTS (SELECT FROM jsonb_array_elements(v.billable -> 'statuses') b WHERE u.status BETWEEN (b ->> 0)::int AND (b ->> 1)::int)
                         AND NOT v.billable -> 'except' @> to_jsonb(u.status::int)))
                   UNION ALL
                   SELECT meter_id, period_start, coalesce(quota_moved, CASE outcome WHEN 'open_period' THEN units ELSE 0 END) FROM usage_corrections
                   WHERE namespace_id = $1 AND subscription_id = $2 AND period_start = ANY($3)) parts
               GROUP BY meter_id, period_start),
           ledger AS (SELECT meter_id, period_start, used FROM quota_ledger
                      WHERE namespace_id = $1 AND subscription_id = $2 AND period_start = ANY($3))
           SELECT period_start AS "period_start!", meter_id AS "meter_id!", m.name AS "meter_name!", coalesce(e.units, 0) AS "accepted!",
               coalesce(l.used, 0) AS "used!"
           FROM expected e FULL JOIN ledger l USING (meter_id, period_start) JOIN meters m ON m.id = meter_id
           WHERE coalesce(e.units, 0) <> coalesce(l.used, 0) ORDER BY 1, 2 LIMIT 100"#,
        of.0.uuid(),
        of.1.uuid(),
        periods as &[Timestamp],
        from,
    )
    .fetch_all(&mut **tx)
    .await?)
}

/// A lease of which the ledger takes other units for proven than were accepted.
#[derive(Debug)]
pub(super) struct DifferingProof {
    pub period_start: Timestamp,
    pub meter_id: Uuid,
    pub meter_name: String,
    pub journal_id: Uuid,
    pub proven: Decimal,
    pub accepted: Decimal,
}

/// What a lease is proven by, is the billable usage in the segments of its gateway's present run: those from the seqs on that the gateway named at its last
/// exchange. Usage under plan versions without a hard quota of the meter proves a lease only if there is one by then.
pub(super) async fn differing_proofs(
    tx: &mut Tx,
    of: (NamespaceId, SubscriptionId),
    ended_since: Timestamp,
    rows_from: Option<Timestamp>,
) -> Result<Vec<DifferingProof>> {
    let is_leased = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM quota_leases WHERE namespace_id = $1 AND subscription_id = $2 AND expires_at >= $3) AS "is!""#,
        of.0.uuid(),
        of.1.uuid(),
        ended_since,
    );
    if !is_leased.fetch_one(&mut **tx).await? {
        return Ok(Vec::new());
    }
    let (mut versions, mut meters) = (Vec::new(), Vec::new());
    for row in sqlx::query!("SELECT id, quotas FROM plan_versions WHERE quotas <> '[]'").fetch_all(&mut **tx).await? {
        let quotas: Vec<QuotaLimit> = serde_json::from_value(row.quotas)?;
        for quota in quotas.iter().filter(|quota| quota.enforcement == Enforcement::Hard) {
            versions.push(row.id);
            meters.push(quota.meter.uuid());
        }
    }
    Ok(sqlx::query_as!(
        DifferingProof,
        r#"WITH held AS (
               SELECT l.meter_id, l.period_start, l.journal_id, l.proven, x.first_seqs
               FROM quota_leases l JOIN quota_exchanges x ON x.journal_id = l.journal_id AND x.run = l.run
               WHERE l.namespace_id = $1 AND l.subscription_id = $2 AND l.expires_at >= $3 AND l.run > 0 AND ($4::timestamptz IS NULL OR l.period_start >= $4)),
           accepted AS (
               SELECT h.meter_id, h.period_start, h.journal_id, sum(u.sum) AS units,
                   sum(u.sum) FILTER (WHERE (u.plan_version_id, u.meter_id) IN (SELECT * FROM unnest($5::uuid[], $6::uuid[]))) AS hard
               FROM held h CROSS JOIN jsonb_array_elements(h.first_seqs) f
               JOIN usage_rows u ON u.namespace_id = $1 AND u.subscription_id = $2 AND u.minute >= h.period_start AND u.period_start = h.period_start
                   AND u.meter_id = h.meter_id AND u.journal_id = h.journal_id AND u.stream = (f ->> 0)::int AND u.seq >= (f ->> 1)::bigint
               JOIN plan_versions v ON v.id = u.plan_version_id
               WHERE u.mode = 'live' AND u.answered_by = 'upstream' AND (u.status = 101 OR (u.status < 500
                   AND EXISTS (SELECT FROM jsonb_array_elements(v.billable -> 'statuses') b WHERE u.status BETWEEN (b ->> 0)::int AND (b ->> 1)::int)
                   AND NOT v.billable -> 'except' @> to_jsonb(u.status::int)))
               GROUP BY h.meter_id, h.period_start, h.journal_id)
           SELECT h.period_start, h.meter_id, m.name AS meter_name, h.journal_id, h.proven, coalesce(a.units, 0) AS "accepted!"
           FROM held h JOIN meters m ON m.id = h.meter_id LEFT JOIN accepted a USING (meter_id, period_start, journal_id)
           WHERE h.proven NOT BETWEEN coalesce(a.hard, 0) AND coalesce(a.units, 0) ORDER BY 1, 2, 4 LIMIT 100"#,
        of.0.uuid(),
        of.1.uuid(),
        ended_since,
        rows_from as Option<Timestamp>,
        &versions,
        &meters,
    )
    .fetch_all(&mut **tx)
    .await?)
}
