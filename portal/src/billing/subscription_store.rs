//! The SQL of subscriptions as billing sees them: what is open, and what may be due.

use calendar::{Anchor, TimeZone, Timestamp};
use ids::{ApplicationId, PlanVersionId, SubscriptionId, TenantId, Uuid};

use super::subscription::BilledSubscription;
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// How many subscriptions one look takes.
const DUE_PAGE: i64 = 500;

struct SubscriptionRow {
    tenant_id: Uuid,
    id: Uuid,
    application_id: Uuid,
    application_name: String,
    plan_version_id: Uuid,
    plan_name: String,
    cadence: String,
    anchor_date: String,
    time_zone: String,
    started_at: Timestamp,
    canceled_at: Option<Timestamp>,
    open_from: Timestamp,
}

impl SubscriptionRow {
    fn into_subscription(self) -> Result<BilledSubscription> {
        let zone: TimeZone = self.time_zone.parse().map_err(Error::internal)?;
        let date = self.anchor_date.parse().map_err(Error::internal)?;
        Ok(BilledSubscription {
            tenant: TenantId::from_uuid(self.tenant_id),
            id: SubscriptionId::from_uuid(self.id),
            application: ApplicationId::from_uuid(self.application_id),
            application_name: self.application_name,
            plan_version: PlanVersionId::from_uuid(self.plan_version_id),
            plan_name: self.plan_name,
            cadence: self.cadence.parse().map_err(Error::internal)?,
            anchor: Anchor { date, zone },
            started_at: self.started_at,
            canceled_at: self.canceled_at,
            open_from: self.open_from,
        })
    }
}

macro_rules! subscriptions {
    ($sql:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            SubscriptionRow,
            r#"SELECT s.tenant_id, s.id, s.application_id, a.name AS application_name, s.plan_version_id, p.name AS plan_name, v.cadence,
                  s.anchor_date::text AS "anchor_date!", s.time_zone, s.started_at, s.canceled_at, s.open_from
               FROM subscriptions s
               JOIN applications a ON a.tenant_id = s.tenant_id AND a.id = s.application_id
               JOIN plan_versions v ON v.id = s.plan_version_id JOIN plans p ON p.id = v.plan_id "# + $sql
            $(, $argument)*
        )
    };
}

pub(super) async fn subscription(tx: &mut Tx, tenant: TenantId, id: SubscriptionId) -> Result<Option<BilledSubscription>> {
    let row = subscriptions!("WHERE s.tenant_id = $1 AND s.id = $2", tenant.uuid(), id.uuid()).fetch_optional(&mut **tx).await?;
    row.map(SubscriptionRow::into_subscription).transpose()
}

/// Locks the subscription's row until the transaction ends, and reads it under the lock.
pub(super) async fn lock_subscription(tx: &mut Tx, tenant: TenantId, id: SubscriptionId) -> Result<Option<BilledSubscription>> {
    let row =
        subscriptions!("WHERE s.tenant_id = $1 AND s.id = $2 FOR UPDATE OF s", tenant.uuid(), id.uuid()).fetch_optional(&mut **tx).await?;
    row.map(SubscriptionRow::into_subscription).transpose()
}

/// Live subscriptions, and canceled ones whose last period is not closed.
pub(super) async fn open_subscriptions(tx: &mut Tx, tenant: TenantId) -> Result<Vec<BilledSubscription>> {
    let rows = subscriptions!(
        "WHERE s.tenant_id = $1 AND (s.canceled_at IS NULL OR s.open_from < s.canceled_at) ORDER BY s.started_at, s.id LIMIT 200",
        tenant.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(SubscriptionRow::into_subscription).collect()
}

/// Subscriptions whose open period may have ended before `ended_before`: the shortest length of its cadence has passed, or it was canceled.
pub(super) async fn maybe_due(
    tx: &mut Tx,
    after: Option<(TenantId, SubscriptionId)>,
    ended_before: Timestamp,
) -> Result<Vec<(TenantId, SubscriptionId)>> {
    let (after_tenant, after_id) = after.unzip();
    let rows = sqlx::query!(
        "SELECT s.tenant_id, s.id FROM subscriptions s JOIN plan_versions v ON v.id = s.plan_version_id
         WHERE ($1::uuid IS NULL OR (s.tenant_id, s.id) > ($1, $2))
           AND ((s.canceled_at > s.open_from AND s.canceled_at <= $3)
             OR ((s.canceled_at IS NULL OR s.canceled_at > s.open_from)
               AND s.open_from <= $3 - CASE v.cadence WHEN 'day' THEN interval '22 hours' WHEN 'week' THEN interval '6 days'
                   WHEN 'month' THEN interval '27 days' WHEN 'quarter' THEN interval '88 days' ELSE interval '364 days' END))
         ORDER BY s.tenant_id, s.id LIMIT $4",
        after_tenant.map(TenantId::uuid),
        after_id.map(SubscriptionId::uuid),
        ended_before,
        DUE_PAGE,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (TenantId::from_uuid(row.tenant_id), SubscriptionId::from_uuid(row.id))).collect())
}

pub(super) async fn set_open_from(tx: &mut Tx, tenant: TenantId, id: SubscriptionId, open_from: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE subscriptions SET open_from = $3 WHERE tenant_id = $1 AND id = $2", tenant.uuid(), id.uuid(), open_from)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
