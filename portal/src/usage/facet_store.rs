//! The SQL of what surrounds a question: the tenant's time zone, whether there is anything to ask about, and what may be chosen.

use ids::{ApiKeyId, ApiProductId, ApplicationId, PlanId, TenantId};

use super::query::Facets;
use crate::{db::Tx, error::Result};

pub(super) async fn time_zone(tx: &mut Tx, tenant: TenantId) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!("SELECT time_zone FROM tenants WHERE id = $1", tenant.uuid()).fetch_optional(&mut **tx).await?)
}

pub(super) async fn any(tx: &mut Tx, tenant: TenantId) -> Result<bool> {
    Ok(sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM usage_rollup_day WHERE namespace_id = $1) AS "any!""#, tenant.uuid())
        .fetch_one(&mut **tx)
        .await?)
}

pub(super) async fn sample_path(tx: &mut Tx, tenant: TenantId) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        "SELECT r.path FROM subscription_products s JOIN routes r ON r.product_id = s.product_id
         WHERE s.tenant_id = $1 AND r.method = 'GET' AND r.retired_at IS NULL
           AND NOT EXISTS (SELECT FROM jsonb_array_elements(r.meters) m WHERE m -> 'source' ->> 'from' = 'messages')
         ORDER BY length(r.path) - length(replace(r.path, '{', '')), r.path LIMIT 1",
        tenant.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?)
}

pub(super) async fn facets(tx: &mut Tx, tenant: TenantId) -> Result<Facets> {
    let products = sqlx::query!(
        "SELECT DISTINCT p.id, p.name FROM subscriptions s JOIN plan_version_products v ON v.plan_version_id = s.plan_version_id
         JOIN api_products p ON p.id = v.product_id WHERE s.tenant_id = $1 ORDER BY p.name, p.id",
        tenant.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    let applications = sqlx::query!("SELECT id, name FROM applications WHERE tenant_id = $1 ORDER BY lower(name), id", tenant.uuid())
        .fetch_all(&mut **tx)
        .await?;
    let api_keys = sqlx::query!(
        "SELECT id, name, hint FROM api_keys WHERE tenant_id = $1 AND (purpose = 'application' OR last_used_at IS NOT NULL)
         ORDER BY created_at DESC, id LIMIT 200",
        tenant.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    let plans = sqlx::query!(
        "SELECT DISTINCT p.id, p.name, p.position FROM subscriptions s JOIN plan_versions v ON v.id = s.plan_version_id JOIN plans p ON p.id = v.plan_id
         WHERE s.tenant_id = $1 ORDER BY p.position, p.id",
        tenant.uuid()
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(Facets {
        products: products.into_iter().map(|row| (ApiProductId::from_uuid(row.id), row.name)).collect(),
        applications: applications.into_iter().map(|row| (ApplicationId::from_uuid(row.id), row.name)).collect(),
        api_keys: api_keys.into_iter().map(|row| (ApiKeyId::from_uuid(row.id), format!("{} (…{})", row.name, row.hint))).collect(),
        plans: plans.into_iter().map(|row| (PlanId::from_uuid(row.id), row.name)).collect(),
    })
}
