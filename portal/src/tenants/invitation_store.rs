//! The SQL of invitations.

use calendar::Timestamp;
use ids::{InvitationId, TenantId, UserId};

use super::invitation::{Invitation, Offer, Outcome};
use crate::{db::Tx, error::Result, identity::Role};

macro_rules! invitation {
    ($row:expr) => {
        Invitation {
            tenant: TenantId::from_uuid($row.tenant_id),
            id: InvitationId::from_uuid($row.id),
            email: $row.email,
            role: Role::parse(&$row.role)?,
            invited_by: $row.invited_by,
            created_at: $row.created_at,
            expires_at: $row.expires_at,
        }
    };
}

pub(super) async fn insert(tx: &mut Tx, invitation: &Invitation, digest: &[u8], invited_by: Option<UserId>) -> Result<()> {
    sqlx::query!(
        "INSERT INTO invitations (tenant_id, id, email, role, digest, invited_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        invitation.tenant.uuid(),
        invitation.id.uuid(),
        invitation.email,
        invitation.role.as_str(),
        digest,
        invited_by.map(UserId::uuid),
        invitation.created_at,
        invitation.expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn pending(tx: &mut Tx, tenant: TenantId, now: Timestamp) -> Result<Vec<Invitation>> {
    sqlx::query!(
        "SELECT i.tenant_id, i.id, i.email, i.role, (SELECT name FROM users WHERE id = i.invited_by) AS invited_by, i.created_at, i.expires_at
           FROM invitations i
           WHERE i.tenant_id = $1 AND i.ended_at IS NULL AND i.expires_at > $2 ORDER BY i.created_at DESC, i.id DESC",
        tenant.uuid(),
        now,
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(|row| Ok(invitation!(row)))
    .collect()
}

/// The open invitation of an address, also one that has expired.
pub(super) async fn open_of_address(tx: &mut Tx, tenant: TenantId, email: &str) -> Result<Option<Invitation>> {
    sqlx::query!(
        "SELECT i.tenant_id, i.id, i.email, i.role, (SELECT name FROM users WHERE id = i.invited_by) AS invited_by, i.created_at, i.expires_at
           FROM invitations i
           WHERE i.tenant_id = $1 AND lower(i.email) = lower($2) AND i.ended_at IS NULL FOR UPDATE",
        tenant.uuid(),
        email,
    )
    .fetch_optional(&mut **tx)
    .await?
    .map(|row| Ok(invitation!(row)))
    .transpose()
}

/// An open invitation, locked, so that it ends once.
pub(super) async fn lock_open(tx: &mut Tx, tenant: TenantId, id: InvitationId) -> Result<Option<Invitation>> {
    sqlx::query!(
        "SELECT i.tenant_id, i.id, i.email, i.role, (SELECT name FROM users WHERE id = i.invited_by) AS invited_by, i.created_at, i.expires_at
           FROM invitations i
           WHERE i.tenant_id = $1 AND i.id = $2 AND i.ended_at IS NULL FOR UPDATE",
        tenant.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut **tx)
    .await?
    .map(|row| Ok(invitation!(row)))
    .transpose()
}

/// What a link invites to. The link is the credential here: its holder is not known to any organization yet.
pub(super) async fn offer_of_digest(tx: &mut Tx, digest: &[u8], now: Timestamp) -> Result<Option<Offer>> {
    sqlx::query!(
        "SELECT i.tenant_id, i.id, i.email, i.role, (SELECT name FROM users WHERE id = i.invited_by) AS invited_by, i.created_at, i.expires_at, t.name AS tenant_name
           FROM invitations i JOIN tenants t ON t.id = i.tenant_id
           WHERE i.digest = $1 AND i.ended_at IS NULL AND i.expires_at > $2",
        digest,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?
    .map(|row| Ok(Offer { invitation: invitation!(row), tenant_name: row.tenant_name }))
    .transpose()
}

/// A person's invitations, whatever the organization, as its memberships are.
pub(super) async fn offers_of_address(tx: &mut Tx, email: &str, now: Timestamp) -> Result<Vec<Offer>> {
    sqlx::query!(
        "SELECT i.tenant_id, i.id, i.email, i.role, (SELECT name FROM users WHERE id = i.invited_by) AS invited_by, i.created_at, i.expires_at, t.name AS tenant_name
           FROM invitations i JOIN tenants t ON t.id = i.tenant_id
           WHERE lower(i.email) = lower($1) AND i.ended_at IS NULL AND i.expires_at > $2 ORDER BY i.created_at DESC, i.id DESC LIMIT 100",
        email,
        now,
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(|row| Ok(Offer { invitation: invitation!(row), tenant_name: row.tenant_name }))
    .collect()
}

pub(super) async fn end(tx: &mut Tx, tenant: TenantId, id: InvitationId, outcome: Outcome, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "UPDATE invitations SET ended_at = $3, outcome = $4 WHERE tenant_id = $1 AND id = $2 AND ended_at IS NULL",
        tenant.uuid(),
        id.uuid(),
        now,
        outcome.as_str(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes the organization's invitations that ended or expired long ago.
pub(super) async fn remove_old(tx: &mut Tx, tenant: TenantId, before: Timestamp) -> Result<()> {
    sqlx::query!("DELETE FROM invitations WHERE tenant_id = $1 AND coalesce(ended_at, expires_at) < $2", tenant.uuid(), before)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
