//! SQL of REST tokens.

use calendar::Timestamp;
use ids::{ApiTokenId, TenantId, UserId};

use crate::{
    db::Tx,
    error::Result,
    identity::{Role, api_token::ApiToken},
};

pub(in crate::identity) struct FoundToken {
    pub id: ApiTokenId,
    pub user_id: UserId,
    pub tenant_id: Option<TenantId>,
    pub last_used_at: Option<Timestamp>,
    pub is_operator: bool,
    pub is_verified: bool,
}

/// Lets one operation at a time count what a person has.
pub(in crate::identity) async fn lock_user(tx: &mut Tx, user: UserId) -> Result<()> {
    sqlx::query!("SELECT id FROM users WHERE id = $1 FOR UPDATE", user.uuid()).fetch_optional(&mut **tx).await?;
    Ok(())
}

pub(in crate::identity) async fn insert_api_token(tx: &mut Tx, token: &ApiToken, digest: &[u8]) -> Result<()> {
    sqlx::query!(
        "INSERT INTO api_tokens (id, user_id, tenant_id, name, digest, hint, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        token.id.uuid(),
        token.user_id.uuid(),
        token.tenant_id.map(TenantId::uuid),
        token.name,
        digest,
        token.hint,
        token.created_at,
        token.expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn api_tokens(tx: &mut Tx, user: UserId) -> Result<Vec<ApiToken>> {
    let rows = sqlx::query!(
        "SELECT id, user_id, tenant_id, name, hint, created_at, expires_at, revoked_at, last_used_at
         FROM api_tokens WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT 500",
        user.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ApiToken {
            id: ApiTokenId::from_uuid(row.id),
            user_id: UserId::from_uuid(row.user_id),
            tenant_id: row.tenant_id.map(TenantId::from_uuid),
            name: row.name,
            hint: row.hint,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
        })
        .collect())
}

pub(in crate::identity) async fn revoke_api_token(tx: &mut Tx, user: UserId, id: ApiTokenId, now: Timestamp) -> Result<bool> {
    let done = sqlx::query!(
        "UPDATE api_tokens SET revoked_at = $3 WHERE user_id = $1 AND id = $2 AND revoked_at IS NULL",
        user.uuid(),
        id.uuid(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(in crate::identity) async fn api_token_by_digest(tx: &mut Tx, digest: &[u8], now: Timestamp) -> Result<Option<FoundToken>> {
    let row = sqlx::query!(
        "SELECT t.id, t.user_id, t.tenant_id, t.last_used_at, u.is_operator, u.verified_at
         FROM api_tokens t JOIN users u ON u.id = t.user_id
         WHERE t.digest = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $2)",
        digest,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| FoundToken {
        id: ApiTokenId::from_uuid(row.id),
        user_id: UserId::from_uuid(row.user_id),
        tenant_id: row.tenant_id.map(TenantId::from_uuid),
        last_used_at: row.last_used_at,
        is_operator: row.is_operator,
        is_verified: row.verified_at.is_some(),
    }))
}

pub(in crate::identity) async fn touch_api_token(tx: &mut Tx, id: ApiTokenId, now: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE api_tokens SET last_used_at = $2 WHERE id = $1", id.uuid(), now).execute(&mut **tx).await?;
    Ok(())
}

pub(in crate::identity) async fn memberships(tx: &mut Tx, user: UserId) -> Result<Vec<(TenantId, Role)>> {
    sqlx::query!("SELECT tenant_id, role FROM memberships WHERE user_id = $1", user.uuid())
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(|row| Ok((TenantId::from_uuid(row.tenant_id), Role::parse(&row.role)?)))
        .collect()
}
