//! Members of an organization. There is always an owner.

use calendar::Timestamp;
use ids::{TenantId, UserId};
use serde_json::json;

use super::store;
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission, Role},
};

/// A person in an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The person.
    pub user_id: UserId,
    /// The person's name.
    pub name: String,
    /// The person's address.
    pub email: String,
    /// The person's role.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
}

/// The members, by name.
pub async fn members(tx: &mut Tx, actor: &Actor, tenant: TenantId) -> Result<Vec<Member>> {
    actor.require(Permission::View(tenant))?;
    store::members(tx, tenant).await
}

/// Gives a member another role.
pub async fn change_role(tx: &mut Tx, actor: &Actor, tenant: TenantId, user: UserId, role: Role, now: Timestamp) -> Result<()> {
    actor.require(Permission::Own(tenant))?;
    let old = locked_role(tx, tenant, user).await?;
    if old == role {
        return Ok(());
    }
    require_other_owner(tx, tenant, old).await?;
    store::set_role(tx, tenant, user, role).await?;
    record(tx, actor, tenant, user, ("member.role_changed", Some(old), Some(role)), now).await
}

/// Removes a member. Everybody may leave; owners may remove others.
pub async fn remove_member(tx: &mut Tx, actor: &Actor, tenant: TenantId, user: UserId, now: Timestamp) -> Result<()> {
    let leaves = actor.user_id() == Some(user);
    actor.require(if leaves { Permission::View(tenant) } else { Permission::Own(tenant) })?;
    let old = locked_role(tx, tenant, user).await?;
    require_other_owner(tx, tenant, old).await?;
    store::delete_member(tx, tenant, user).await?;
    record(tx, actor, tenant, user, ("member.removed", Some(old), None), now).await
}

/// The member's role, with the tenant locked, so that two owners cannot both cease to be one at the same time.
async fn locked_role(tx: &mut Tx, tenant: TenantId, user: UserId) -> Result<Role> {
    store::lock(tx, tenant).await?.ok_or_else(|| Error::not_found("This organization"))?;
    let members = store::members(tx, tenant).await?;
    let member = members.iter().find(|member| member.user_id == user);
    member.map(|member| member.role).ok_or_else(|| Error::not_found("This member"))
}

async fn require_other_owner(tx: &mut Tx, tenant: TenantId, old: Role) -> Result<()> {
    let owners = store::members(tx, tenant).await?.iter().filter(|member| member.role == Role::Owner).count();
    if old == Role::Owner && owners == 1 {
        return Err(Error::conflict("This is the only owner. Make somebody else an owner first."));
    }
    Ok(())
}

async fn record(
    tx: &mut Tx,
    actor: &Actor,
    tenant: TenantId,
    user: UserId,
    (action, before, after): (&'static str, Option<Role>, Option<Role>),
    now: Timestamp,
) -> Result<()> {
    let role = |role: Role| json!({ "role": role });
    let entry = Entry { tenant: Some(tenant), action, target: user.to_string(), before: before.map(role), after: after.map(role) };
    audit::record(tx, actor, entry, now).await
}
