//! SQL of sessions.

use calendar::Timestamp;
use ids::{TenantId, UserId};

use crate::{
    db::Tx,
    error::Result,
    identity::{
        Role,
        session::{Flash, NewSession, Session, SessionInfo, SessionTenant},
    },
};

pub(in crate::identity) async fn insert_session(
    tx: &mut Tx,
    digest: &[u8],
    csrf_secret: &[u8],
    input: &NewSession,
    now: Timestamp,
) -> Result<()> {
    let user_agent = input.user_agent.as_deref().map(|text| text.chars().take(300).collect::<String>());
    sqlx::query!(
        "INSERT INTO sessions (digest, user_id, csrf_secret, created_at, last_seen_at, expires_at, user_agent, ip)
         VALUES ($1, $2, $3, $4, $4, $5, $6, $7)",
        digest,
        input.user_id.uuid(),
        csrf_secret,
        now,
        input.expires_at,
        user_agent,
        input.ip,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn session_by_digest(tx: &mut Tx, digest: &[u8], now: Timestamp) -> Result<Option<Session>> {
    let Some(row) = sqlx::query!(
        r#"SELECT s.user_id, s.tenant_id, s.csrf_secret, s.created_at, s.last_seen_at, s.flash IS NOT NULL AS "has_flash!", u.name, u.email, u.is_operator,
                  u.verified_at
           FROM sessions s JOIN users u ON u.id = s.user_id
           WHERE s.digest = $1 AND s.expires_at > $2"#,
        digest,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?
    else {
        return Ok(None);
    };
    let tenants = sqlx::query!(
        "SELECT t.id, t.name, t.is_demo, m.role
         FROM memberships m JOIN tenants t ON t.id = m.tenant_id
         WHERE m.user_id = $1 ORDER BY lower(t.name), t.id",
        row.user_id,
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(|tenant| {
        Ok(SessionTenant {
            id: TenantId::from_uuid(tenant.id),
            name: tenant.name,
            role: Role::parse(&tenant.role)?,
            is_demo: tenant.is_demo,
        })
    })
    .collect::<Result<_>>()?;
    Ok(Some(Session {
        digest: digest.to_vec(),
        user_id: UserId::from_uuid(row.user_id),
        user_name: row.name,
        user_email: row.email,
        verified: row.verified_at.is_some(),
        is_operator: row.is_operator,
        tenant_id: row.tenant_id.map(TenantId::from_uuid),
        csrf_secret: row.csrf_secret,
        created_at: row.created_at,
        last_seen_at: row.last_seen_at,
        has_flash: row.has_flash,
        tenants,
    }))
}

pub(in crate::identity) async fn touch_session(tx: &mut Tx, digest: &[u8], expires_at: Timestamp, now: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE sessions SET last_seen_at = $2, expires_at = $3 WHERE digest = $1", digest, now, expires_at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(in crate::identity) async fn delete_session(tx: &mut Tx, digest: &[u8]) -> Result<()> {
    sqlx::query!("DELETE FROM sessions WHERE digest = $1", digest).execute(&mut **tx).await?;
    Ok(())
}

pub(in crate::identity) async fn set_flash(tx: &mut Tx, digest: &[u8], flash: Option<&Flash>) -> Result<()> {
    let flash = flash.map(serde_json::to_value).transpose()?;
    sqlx::query!("UPDATE sessions SET flash = $2 WHERE digest = $1", digest, flash).execute(&mut **tx).await?;
    Ok(())
}

pub(in crate::identity) async fn take_flash(tx: &mut Tx, digest: &[u8]) -> Result<Option<Flash>> {
    let taken = sqlx::query_scalar!(
        r#"UPDATE sessions s SET flash = NULL FROM sessions old
           WHERE s.digest = $1 AND old.digest = s.digest AND old.flash IS NOT NULL
           RETURNING old.flash AS "flash!""#,
        digest
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(taken.map(serde_json::from_value).transpose()?)
}

pub(in crate::identity) async fn set_session_tenant(tx: &mut Tx, digest: &[u8], tenant: TenantId) -> Result<()> {
    sqlx::query!("UPDATE sessions SET tenant_id = $2 WHERE digest = $1", digest, tenant.uuid()).execute(&mut **tx).await?;
    Ok(())
}

pub(in crate::identity) async fn sessions_of(tx: &mut Tx, user: UserId, now: Timestamp) -> Result<Vec<SessionInfo>> {
    let rows = sqlx::query!(
        "SELECT digest, created_at, last_seen_at, user_agent, ip FROM sessions
         WHERE user_id = $1 AND expires_at > $2 ORDER BY last_seen_at DESC LIMIT 200",
        user.uuid(),
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SessionInfo {
            digest: row.digest,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            user_agent: row.user_agent,
            ip: row.ip,
        })
        .collect())
}

pub(in crate::identity) async fn delete_session_of(tx: &mut Tx, user: UserId, digest: &[u8]) -> Result<bool> {
    let done = sqlx::query!("DELETE FROM sessions WHERE user_id = $1 AND digest = $2", user.uuid(), digest).execute(&mut **tx).await?;
    Ok(done.rows_affected() == 1)
}

pub(in crate::identity) async fn delete_sessions_but(tx: &mut Tx, user: UserId, kept: &[u8]) -> Result<u64> {
    let done = sqlx::query!("DELETE FROM sessions WHERE user_id = $1 AND digest <> $2", user.uuid(), kept).execute(&mut **tx).await?;
    Ok(done.rows_affected())
}
