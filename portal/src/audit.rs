//! Who did what, to what, when and from where. Every operation that changes something calls [`record`] in its own transaction, so that a change
//! and its entry are committed together or not at all.

use calendar::Timestamp;
use ids::{AuditId, TenantId, Uuid};
use serde_json::Value;

use crate::{db::Tx, error::Result};

/// The performer of a change. `identity` makes it of an `Actor`.
#[derive(Debug, Clone)]
pub struct Who {
    /// `user`, `api_token` or `system`.
    pub kind: &'static str,
    /// The id of the user or token.
    pub id: Option<Uuid>,
    /// The address of the caller.
    pub ip: Option<String>,
}

/// A change. `before` and `after` hold what a reader needs to understand it, and never a secret.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The tenant that it concerns, if any: its members see the entry.
    pub tenant: Option<TenantId>,
    /// What was done: a noun and a verb in the past tense, such as `api_key.revoked`.
    pub action: &'static str,
    /// The id of what it was done to, as people see it.
    pub target: String,
    /// What was there.
    pub before: Option<Value>,
    /// What is there now.
    pub after: Option<Value>,
}

/// An entry as the page of a tenant shows it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The entry's id.
    pub id: AuditId,
    /// The person's address, the token's name, or `system`.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// What was there.
    pub before: Option<Value>,
    /// What is there now.
    pub after: Option<Value>,
    /// When.
    pub at: Timestamp,
    /// From where.
    pub ip: Option<String>,
}

/// Writes an entry.
pub async fn record(tx: &mut Tx, who: impl Into<Who>, entry: Entry, now: Timestamp) -> Result<()> {
    let who = who.into();
    sqlx::query!(
        "INSERT INTO audit_log (id, tenant_id, actor_kind, actor_id, action, target, before, after, at, ip)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        AuditId::new().uuid(),
        entry.tenant.map(TenantId::uuid),
        who.kind,
        who.id,
        entry.action,
        entry.target,
        entry.before,
        entry.after,
        now,
        who.ip,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The entries of a tenant, newest first. Whoever calls has asked the actor's permission.
pub async fn of_tenant(tx: &mut Tx, tenant: TenantId, limit: i64, offset: i64) -> Result<Vec<Recorded>> {
    let rows = sqlx::query!(
        r#"SELECT a.id, a.action, a.target, a.before, a.after, a.at, a.ip,
                  CASE a.actor_kind
                      WHEN 'user' THEN coalesce(u.email, 'a former user')
                      WHEN 'api_token' THEN coalesce('token ' || k.name, 'a former token')
                      ELSE 'system'
                  END AS "actor!"
           FROM audit_log a
           LEFT JOIN users u ON a.actor_kind = 'user' AND u.id = a.actor_id
           LEFT JOIN api_tokens k ON a.actor_kind = 'api_token' AND k.id = a.actor_id
           WHERE a.tenant_id = $1 ORDER BY a.at DESC, a.id DESC LIMIT $2 OFFSET $3"#,
        tenant.uuid(),
        limit,
        offset,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Recorded {
            id: AuditId::from_uuid(row.id),
            actor: row.actor,
            action: row.action,
            target: row.target,
            before: row.before,
            after: row.after,
            at: row.at,
            ip: row.ip,
        })
        .collect())
}

/// How many entries a tenant has.
pub async fn count_of_tenant(tx: &mut Tx, tenant: TenantId) -> Result<i64> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM audit_log WHERE tenant_id = $1"#, tenant.uuid())
        .fetch_one(&mut **tx)
        .await?;
    Ok(count)
}
