//! All SQL of this domain. Every statement names the tenant.

use std::collections::BTreeMap;

use calendar::Timestamp;
use ids::{ApiKeyId, ApplicationId, TenantId, UserId};

use super::{
    Application, ApplicationInput,
    api_key::{ApiKey, Mode, Of, Purpose},
};
use crate::{
    db::Tx,
    error::{Error, Result},
};

macro_rules! application {
    ($row:expr) => {
        Application {
            tenant: TenantId::from_uuid($row.tenant_id),
            id: ApplicationId::from_uuid($row.id),
            name: $row.name,
            description: $row.description,
            created_at: $row.created_at,
            archived_at: $row.archived_at,
        }
    };
}

pub(super) async fn insert(tx: &mut Tx, application: &Application) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO applications (tenant_id, id, name, description, created_at) VALUES ($1, $2, $3, $4, $5)",
        application.tenant.uuid(),
        application.id.uuid(),
        application.name,
        application.description,
        application.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn count(tx: &mut Tx, tenant: TenantId) -> Result<i64> {
    let count =
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM applications WHERE tenant_id = $1 AND archived_at IS NULL"#, tenant.uuid())
            .fetch_one(&mut **tx)
            .await?;
    Ok(count)
}

pub(super) async fn list(tx: &mut Tx, tenant: TenantId, after: Option<ApplicationId>, limit: i64) -> Result<Vec<Application>> {
    let rows = sqlx::query!(
        "SELECT tenant_id, id, name, description, created_at, archived_at FROM applications
         WHERE tenant_id = $1 AND archived_at IS NULL AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        tenant.uuid(),
        after.map(ApplicationId::uuid),
        limit,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| application!(row)).collect())
}

pub(super) async fn get(tx: &mut Tx, tenant: TenantId, id: ApplicationId) -> Result<Option<Application>> {
    let row = sqlx::query!(
        "SELECT tenant_id, id, name, description, created_at, archived_at FROM applications WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| application!(row)))
}

pub(super) async fn lock(tx: &mut Tx, tenant: TenantId, id: ApplicationId) -> Result<Option<Application>> {
    let row = sqlx::query!(
        "SELECT tenant_id, id, name, description, created_at, archived_at FROM applications WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE",
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| application!(row)))
}

pub(super) async fn update(tx: &mut Tx, tenant: TenantId, id: ApplicationId, input: &ApplicationInput) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE applications SET name = $3, description = $4 WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        input.name,
        input.description,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn archive(tx: &mut Tx, tenant: TenantId, id: ApplicationId, now: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE applications SET archived_at = $3 WHERE tenant_id = $1 AND id = $2", tenant.uuid(), id.uuid(), now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn has_live_subscription(tx: &mut Tx, tenant: TenantId, id: ApplicationId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM subscriptions WHERE tenant_id = $1 AND application_id = $2 AND state <> 'canceled') AS "found!""#,
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

pub(super) async fn revoke_keys_of(tx: &mut Tx, tenant: TenantId, application: ApplicationId, now: Timestamp) -> Result<u64> {
    let done = sqlx::query!(
        "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND application_id = $2 AND revoked_at IS NULL",
        tenant.uuid(),
        application.uuid(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn insert_key(tx: &mut Tx, key: &ApiKey, purpose: Purpose, digest: &[u8]) -> Result<()> {
    sqlx::query!(
        "INSERT INTO api_keys (tenant_id, id, application_id, name, mode, purpose, digest, hint, created_by, created_at, expires_at, replaces)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        key.tenant.uuid(),
        key.id.uuid(),
        key.application.uuid(),
        key.name,
        key.mode.as_str(),
        purpose.as_str(),
        digest,
        key.hint,
        key.created_by.map(UserId::uuid),
        key.created_at,
        key.expires_at,
        key.replaces.map(ApiKeyId::uuid),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An application's own keys, newest first. Those that ended long ago are not needed by anybody: 1,000 are plenty.
pub(super) async fn keys(tx: &mut Tx, of: Of) -> Result<Vec<ApiKey>> {
    sqlx::query!(
        r#"SELECT k.id, k.name, k.mode, k.hint, k.created_by, k.created_at, k.expires_at, k.revoked_at, k.replaces, k.last_used_at,
                  EXISTS (SELECT FROM api_keys n WHERE n.tenant_id = k.tenant_id AND n.application_id = k.application_id AND n.replaces = k.id)
                      AS "is_replaced!"
           FROM api_keys k WHERE k.tenant_id = $1 AND k.application_id = $2 AND k.purpose = 'application'
           ORDER BY k.created_at DESC, k.id DESC LIMIT 1000"#,
        of.tenant.uuid(),
        of.application.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(|row| {
        let mode = Mode::parse(&row.mode).ok_or_else(|| Error::internal(anyhow::anyhow!("unknown mode {}", row.mode)))?;
        Ok(ApiKey {
            tenant: of.tenant,
            id: ApiKeyId::from_uuid(row.id),
            application: of.application,
            name: row.name,
            mode,
            hint: row.hint,
            created_by: row.created_by.map(UserId::from_uuid),
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            replaces: row.replaces.map(ApiKeyId::from_uuid),
            last_used_at: row.last_used_at,
            is_replaced: row.is_replaced,
        })
    })
    .collect()
}

pub(super) async fn live_key_counts(tx: &mut Tx, tenant: TenantId, now: Timestamp) -> Result<BTreeMap<ApplicationId, usize>> {
    let rows = sqlx::query!(
        r#"SELECT application_id, count(*) AS "count!" FROM api_keys
           WHERE tenant_id = $1 AND purpose = 'application' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
           GROUP BY application_id"#,
        tenant.uuid(),
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (ApplicationId::from_uuid(row.application_id), usize::try_from(row.count).unwrap_or(0))).collect())
}

pub(super) async fn revoke_key(tx: &mut Tx, tenant: TenantId, id: ApiKeyId, now: Timestamp) -> Result<bool> {
    let done = sqlx::query!(
        "UPDATE api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL",
        tenant.uuid(),
        id.uuid(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn set_key_expiry(tx: &mut Tx, tenant: TenantId, id: ApiKeyId, expires_at: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE api_keys SET expires_at = $3 WHERE tenant_id = $1 AND id = $2", tenant.uuid(), id.uuid(), expires_at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A person's live keys of the API reference, newest first.
pub(super) async fn live_try_it_keys(tx: &mut Tx, tenant: TenantId, user: UserId, now: Timestamp) -> Result<Vec<ApiKeyId>> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM api_keys
         WHERE tenant_id = $1 AND created_by = $2 AND purpose = 'try_it' AND revoked_at IS NULL AND expires_at > $3
         ORDER BY created_at DESC, id DESC",
        tenant.uuid(),
        user.uuid(),
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(ApiKeyId::from_uuid).collect())
}

pub(super) async fn remove_try_it_keys(tx: &mut Tx, expired_before: Timestamp) -> Result<u64> {
    let done = sqlx::query!("DELETE FROM api_keys WHERE purpose = 'try_it' AND expires_at < $1", expired_before).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}
