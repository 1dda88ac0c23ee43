//! The SQL of accounts: tenants with their sums.

use calendar::Timestamp;
use ids::TenantId;
use rating::Money;

use super::account::Account;
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// Tenants without their sums of money. Calls are the largest count over a route's meters, as `usage::query` counts them.
pub(super) async fn accounts(
    tx: &mut Tx,
    tenant: Option<TenantId>,
    search: &str,
    since: Timestamp,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Account>, i64)> {
    let rows = sqlx::query!(
        r#"WITH found AS (
               SELECT t.*, count(*) OVER () AS total FROM tenants t
               WHERE ($1::uuid IS NULL OR t.id = $1)
                 AND ($2 = '' OR strpos(lower(t.name || ' ' || t.namespace || ' ' || t.billing_email), lower($2)) > 0)
           )
           SELECT t.id, t.name, t.namespace, t.billing_email, t.time_zone, t.is_demo, t.created_at, t.total AS "total!",
              (SELECT count(*) FROM memberships m WHERE m.tenant_id = t.id) AS "members!",
              (SELECT count(*) FROM subscriptions s WHERE s.tenant_id = t.id AND s.canceled_at IS NULL) AS "subscriptions!",
              coalesce((SELECT sum(k.calls) FROM (
                  SELECT max(m.calls) AS calls FROM (
                      SELECT u.bucket, u.subscription_id, u.route_id, u.api_key_id, u.status, u.mode, u.plan_version_id, u.period_start, u.meter_id,
                             sum(u.count) AS calls
                      FROM usage_rollup_day u WHERE u.namespace_id = t.id AND u.bucket >= $3 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9) m
                  GROUP BY m.bucket, m.subscription_id, m.route_id, m.api_key_id, m.status, m.mode, m.plan_version_id, m.period_start) k), 0)::bigint
              AS "calls!"
           FROM found t ORDER BY "calls!" DESC, t.created_at DESC, t.id LIMIT $4 OFFSET $5"#,
        tenant.map(TenantId::uuid),
        search,
        since,
        limit,
        offset,
    )
    .fetch_all(&mut **tx)
    .await?;
    let total = rows.first().map_or(0, |row| row.total);
    let accounts = rows
        .into_iter()
        .map(|row| Account {
            tenant: TenantId::from_uuid(row.id),
            name: row.name,
            namespace: row.namespace,
            billing_email: row.billing_email,
            time_zone: row.time_zone,
            is_demo: row.is_demo,
            created_at: row.created_at,
            members: row.members,
            subscriptions: row.subscriptions,
            calls: row.calls,
            invoiced: Vec::new(),
            open: Vec::new(),
        })
        .collect();
    Ok((accounts, total))
}

/// What was invoiced and not taken back, per currency.
pub(super) async fn invoiced_since(tx: &mut Tx, tenant: TenantId, since: Timestamp) -> Result<Vec<Money>> {
    let rows = sqlx::query!(
        r#"SELECT currency, sum(total) AS "total!" FROM invoices
           WHERE tenant_id = $1 AND finalized_at >= $2 AND state <> 'void' GROUP BY currency ORDER BY currency"#,
        tenant.uuid(),
        since
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| Money::new(row.total, row.currency.parse().map_err(Error::internal)?).map_err(Error::internal)).collect()
}
