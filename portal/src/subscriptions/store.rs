//! All SQL of this domain. Every statement names the tenant.

use calendar::{Anchor, Timestamp};
use ids::{ApplicationId, PlanVersionId, SubscriptionId, TenantId, Uuid};

use super::{Checklist, Filter, State, Subscription};
use crate::{
    db::Tx,
    error::{Error, Result},
};

struct Row {
    tenant_id: Uuid,
    id: Uuid,
    application_id: Uuid,
    application_name: String,
    plan_version_id: Uuid,
    plan_slug: String,
    plan_name: String,
    version: i32,
    state: String,
    anchor_date: String,
    time_zone: String,
    started_at: Timestamp,
    canceled_at: Option<Timestamp>,
}

impl TryFrom<Row> for Subscription {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            tenant: TenantId::from_uuid(row.tenant_id),
            id: SubscriptionId::from_uuid(row.id),
            application: ApplicationId::from_uuid(row.application_id),
            application_name: row.application_name,
            plan_version: PlanVersionId::from_uuid(row.plan_version_id),
            plan_slug: row.plan_slug,
            plan_name: row.plan_name,
            version: row.version,
            state: State::parse(&row.state)?,
            anchor: Anchor {
                date: row.anchor_date.parse().map_err(Error::internal)?,
                zone: row.time_zone.parse().map_err(Error::internal)?,
            },
            started_at: row.started_at,
            canceled_at: row.canceled_at,
        })
    }
}

/// A product that another subscription of the application covers.
pub(super) struct Clash {
    pub product: String,
    pub plan: String,
}

pub(super) async fn list(tx: &mut Tx, tenant: TenantId, filter: Filter, limit: i64) -> Result<Vec<Subscription>> {
    sqlx::query_as!(
        Row,
        r#"SELECT s.tenant_id, s.id, s.application_id, a.name AS application_name, s.plan_version_id, p.slug AS plan_slug, p.name AS plan_name,
                  v.version, s.state, s.anchor_date::text AS "anchor_date!", s.time_zone, s.started_at, s.canceled_at
           FROM subscriptions s
           JOIN applications a ON a.tenant_id = s.tenant_id AND a.id = s.application_id
           JOIN plan_versions v ON v.id = s.plan_version_id JOIN plans p ON p.id = v.plan_id
           WHERE s.tenant_id = $1 AND ($2::uuid IS NULL OR s.application_id = $2) AND ($3 OR s.state <> 'canceled')
             AND ($4::uuid IS NULL OR s.id < $4)
           ORDER BY s.id DESC LIMIT $5"#,
        tenant.uuid(),
        filter.application.map(ApplicationId::uuid),
        filter.with_canceled,
        filter.after.map(SubscriptionId::uuid),
        limit,
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(Subscription::try_from)
    .collect()
}

pub(super) async fn get(tx: &mut Tx, tenant: TenantId, id: SubscriptionId) -> Result<Option<Subscription>> {
    sqlx::query_as!(
        Row,
        r#"SELECT s.tenant_id, s.id, s.application_id, a.name AS application_name, s.plan_version_id, p.slug AS plan_slug, p.name AS plan_name,
                  v.version, s.state, s.anchor_date::text AS "anchor_date!", s.time_zone, s.started_at, s.canceled_at
           FROM subscriptions s
           JOIN applications a ON a.tenant_id = s.tenant_id AND a.id = s.application_id
           JOIN plan_versions v ON v.id = s.plan_version_id JOIN plans p ON p.id = v.plan_id
           WHERE s.tenant_id = $1 AND s.id = $2"#,
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut **tx)
    .await?
    .map(Subscription::try_from)
    .transpose()
}

/// The subscription, which nobody else changes until the transaction ends.
pub(super) async fn lock(tx: &mut Tx, tenant: TenantId, id: SubscriptionId) -> Result<Option<Subscription>> {
    let locked =
        sqlx::query_scalar!("SELECT id FROM subscriptions WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE", tenant.uuid(), id.uuid())
            .fetch_optional(&mut **tx)
            .await?;
    if locked.is_none() {
        return Ok(None);
    }
    get(tx, tenant, id).await
}

pub(super) async fn clashes(tx: &mut Tx, tenant: TenantId, application: ApplicationId, version: PlanVersionId) -> Result<Vec<Clash>> {
    let clashes = sqlx::query_as!(
        Clash,
        "SELECT d.name AS product, p.name AS plan
         FROM subscription_products c
         JOIN plan_version_products n ON n.product_id = c.product_id AND n.plan_version_id = $3
         JOIN api_products d ON d.id = c.product_id
         JOIN subscriptions s ON s.tenant_id = c.tenant_id AND s.id = c.subscription_id
         JOIN plan_versions v ON v.id = s.plan_version_id JOIN plans p ON p.id = v.plan_id
         WHERE c.tenant_id = $1 AND c.application_id = $2 ORDER BY d.name",
        tenant.uuid(),
        application.uuid(),
        version.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(clashes)
}

pub(super) async fn insert(tx: &mut Tx, subscription: &Subscription, open_from: Timestamp) -> Result<()> {
    sqlx::query!(
        "INSERT INTO subscriptions (tenant_id, id, application_id, plan_version_id, state, anchor_date, time_zone, started_at, open_from)
         VALUES ($1, $2, $3, $4, $5, $6::text::date, $7, $8, $9)",
        subscription.tenant.uuid(),
        subscription.id.uuid(),
        subscription.application.uuid(),
        subscription.plan_version.uuid(),
        subscription.state.as_str(),
        subscription.anchor.date.to_string(),
        subscription.anchor.zone.name(),
        subscription.started_at,
        open_from,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "INSERT INTO subscription_products (tenant_id, application_id, product_id, subscription_id)
         SELECT $1, $2, product_id, $3 FROM plan_version_products WHERE plan_version_id = $4",
        subscription.tenant.uuid(),
        subscription.application.uuid(),
        subscription.id.uuid(),
        subscription.plan_version.uuid(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn set_state(tx: &mut Tx, tenant: TenantId, id: SubscriptionId, state: State) -> Result<()> {
    sqlx::query!("UPDATE subscriptions SET state = $3 WHERE tenant_id = $1 AND id = $2", tenant.uuid(), id.uuid(), state.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn end(tx: &mut Tx, tenant: TenantId, id: SubscriptionId, at: Timestamp) -> Result<()> {
    sqlx::query!("DELETE FROM subscription_products WHERE tenant_id = $1 AND subscription_id = $2", tenant.uuid(), id.uuid())
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        "UPDATE subscriptions SET state = 'canceled', canceled_at = $3 WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        at
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn checklist(tx: &mut Tx, tenant: TenantId) -> Result<Checklist> {
    let checklist = sqlx::query_as!(
        Checklist,
        r#"SELECT EXISTS (SELECT FROM applications WHERE tenant_id = $1 AND archived_at IS NULL) AS "application!",
                  EXISTS (SELECT FROM subscriptions WHERE tenant_id = $1) AS "subscription!",
                  EXISTS (SELECT FROM api_keys WHERE tenant_id = $1 AND purpose = 'application') AS "api_key!",
                  EXISTS (SELECT FROM usage_rollup_15m WHERE namespace_id = $1) AS "first_call!""#,
        tenant.uuid(),
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(checklist)
}
