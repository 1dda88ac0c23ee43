//! All SQL of this domain.

use calendar::Timestamp;
use ids::{TenantId, UserId};

use super::{Member, Tenant, TenantSettings};
use crate::{db::Tx, error::Result, identity::Role};

macro_rules! tenant {
    ($row:expr) => {
        Tenant {
            id: TenantId::from_uuid($row.id),
            name: $row.name,
            namespace: $row.namespace,
            billing_email: $row.billing_email,
            time_zone: $row.time_zone,
            is_demo: $row.is_demo,
            created_at: $row.created_at,
        }
    };
}

/// Inserts a tenant; false if the namespace is taken.
pub(super) async fn insert(tx: &mut Tx, tenant: &Tenant) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO tenants (id, name, namespace, billing_email, time_zone, is_demo, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (namespace) DO NOTHING",
        tenant.id.uuid(),
        tenant.name,
        tenant.namespace,
        tenant.billing_email,
        tenant.time_zone,
        tenant.is_demo,
        tenant.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn get(tx: &mut Tx, id: TenantId) -> Result<Option<Tenant>> {
    let row =
        sqlx::query!("SELECT id, name, namespace, billing_email, time_zone, is_demo, created_at FROM tenants WHERE id = $1", id.uuid())
            .fetch_optional(&mut **tx)
            .await?;
    Ok(row.map(|row| tenant!(row)))
}

pub(super) async fn lock(tx: &mut Tx, id: TenantId) -> Result<Option<Tenant>> {
    let row = sqlx::query!(
        "SELECT id, name, namespace, billing_email, time_zone, is_demo, created_at FROM tenants WHERE id = $1 FOR NO KEY UPDATE",
        id.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| tenant!(row)))
}

pub(super) async fn all(tx: &mut Tx, limit: i64, offset: i64) -> Result<Vec<Tenant>> {
    let rows = sqlx::query!(
        "SELECT id, name, namespace, billing_email, time_zone, is_demo, created_at FROM tenants
         ORDER BY lower(name), id LIMIT $1 OFFSET $2",
        limit,
        offset,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| tenant!(row)).collect())
}

pub(super) async fn update(tx: &mut Tx, id: TenantId, input: &TenantSettings) -> Result<()> {
    sqlx::query!(
        "UPDATE tenants SET name = $2, billing_email = $3, time_zone = $4 WHERE id = $1",
        id.uuid(),
        input.name,
        input.billing_email,
        input.time_zone,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn memberships_of(tx: &mut Tx, user: UserId) -> Result<i64> {
    let count =
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM memberships WHERE user_id = $1"#, user.uuid()).fetch_one(&mut **tx).await?;
    Ok(count)
}

pub(super) async fn members(tx: &mut Tx, tenant: TenantId) -> Result<Vec<Member>> {
    sqlx::query!(
        "SELECT m.user_id, m.role, m.created_at, u.name, u.email FROM memberships m JOIN users u ON u.id = m.user_id
         WHERE m.tenant_id = $1 ORDER BY lower(u.name), u.id",
        tenant.uuid(),
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Member {
            user_id: UserId::from_uuid(row.user_id),
            name: row.name,
            email: row.email,
            role: Role::parse(&row.role)?,
            created_at: row.created_at,
        })
    })
    .collect()
}

/// Inserts a member; false if the person is one already.
pub(super) async fn insert_member(tx: &mut Tx, tenant: TenantId, user: UserId, role: Role, now: Timestamp) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        tenant.uuid(),
        user.uuid(),
        role.as_str(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn set_role(tx: &mut Tx, tenant: TenantId, user: UserId, role: Role) -> Result<()> {
    sqlx::query!("UPDATE memberships SET role = $3 WHERE tenant_id = $1 AND user_id = $2", tenant.uuid(), user.uuid(), role.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn delete_member(tx: &mut Tx, tenant: TenantId, user: UserId) -> Result<()> {
    sqlx::query!("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2", tenant.uuid(), user.uuid()).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn mark_demo(tx: &mut Tx, id: TenantId) -> Result<()> {
    sqlx::query!("UPDATE tenants SET is_demo = true WHERE id = $1", id.uuid()).execute(&mut **tx).await?;
    Ok(())
}
