//! Registered client programs and their API keys. Invariants: `README.md`.

pub mod api_key;
pub mod job;
mod store;

use calendar::Timestamp;
use ids::{ApplicationId, TenantId};
use serde_json::json;

use crate::{
    audit::{self, Entry},
    db::{self, Tx},
    error::{Error, Result},
    identity::{Actor, Permission},
    text,
};

/// A tenant has at most so many applications that are not archived.
const MAX_APPLICATIONS: i64 = 500;

/// A registered client program of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: ApplicationId,
    /// Its name; no other application of the tenant that is not archived has it.
    pub name: String,
    /// What it is, in a few words.
    pub description: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// What people say about an application.
#[derive(Debug, Clone)]
pub struct ApplicationInput {
    /// 1 to 100 characters.
    pub name: String,
    /// At most 500 characters.
    pub description: String,
}

/// Registers an application.
pub async fn create(tx: &mut Tx, actor: &Actor, tenant: TenantId, input: ApplicationInput, now: Timestamp) -> Result<Application> {
    actor.require(Permission::Develop(tenant))?;
    let ApplicationInput { name, description } = checked(input)?;
    if store::count(tx, tenant).await? >= MAX_APPLICATIONS {
        return Err(Error::conflict(format!("There are {MAX_APPLICATIONS} applications, which is the most. Archive one first.")));
    }
    let application = Application { tenant, id: ApplicationId::new(), name, description, created_at: now, archived_at: None };
    store::insert(tx, &application).await.map_err(name_taken())?;
    let after = json!({ "name": application.name });
    let target = application.id.to_string();
    audit::record(tx, actor, Entry { tenant: Some(tenant), action: "application.created", target, before: None, after: Some(after) }, now)
        .await?;
    Ok(application)
}

/// The applications that are not archived, newest first; `limit` of them after `after`.
pub async fn list(tx: &mut Tx, actor: &Actor, tenant: TenantId, after: Option<ApplicationId>, limit: usize) -> Result<Vec<Application>> {
    actor.require(Permission::View(tenant))?;
    store::list(tx, tenant, after, i64::try_from(limit).unwrap_or(i64::MAX)).await
}

/// One application, archived or not.
pub async fn get(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: ApplicationId) -> Result<Application> {
    actor.require(Permission::View(tenant))?;
    store::get(tx, tenant, id).await?.ok_or_else(not_found)
}

/// Changes name and description.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    tenant: TenantId,
    id: ApplicationId,
    input: ApplicationInput,
    now: Timestamp,
) -> Result<Application> {
    actor.require(Permission::Develop(tenant))?;
    let input = checked(input)?;
    let old = live(tx, tenant, id).await?;
    store::update(tx, tenant, id, &input).await.map_err(name_taken())?;
    let before = json!({ "name": old.name, "description": old.description });
    let after = json!({ "name": input.name, "description": input.description });
    let entry =
        Entry { tenant: Some(tenant), action: "application.updated", target: id.to_string(), before: Some(before), after: Some(after) };
    audit::record(tx, actor, entry, now).await?;
    Ok(Application { name: input.name, description: input.description, ..old })
}

/// Archives an application and revokes its keys. Refused while it has a subscription that has not been canceled, because that one would go on to cost.
pub async fn archive(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: ApplicationId, now: Timestamp) -> Result<()> {
    actor.require(Permission::Develop(tenant))?;
    let application = live(tx, tenant, id).await?;
    if store::has_live_subscription(tx, tenant, id).await? {
        return Err(Error::conflict("The application has a subscription. Cancel it first; then the application can be archived."));
    }
    let revoked = store::revoke_keys_of(tx, tenant, id, now).await?;
    store::archive(tx, tenant, id, now).await?;
    let before = json!({ "name": application.name, "keys_revoked": revoked });
    let entry = Entry { tenant: Some(tenant), action: "application.archived", target: id.to_string(), before: Some(before), after: None };
    audit::record(tx, actor, entry, now).await
}

/// An application that is not archived, locked: what is attached to it meanwhile waits.
async fn live(tx: &mut Tx, tenant: TenantId, id: ApplicationId) -> Result<Application> {
    let application = store::lock(tx, tenant, id).await?.ok_or_else(not_found)?;
    if application.archived_at.is_some() {
        return Err(Error::conflict("The application is archived."));
    }
    Ok(application)
}

/// An application that is not archived, locked, for domains above that attach something to it and have asked the actor's permission.
pub async fn lock_live(tx: &mut Tx, tenant: TenantId, id: ApplicationId) -> Result<Application> {
    live(tx, tenant, id).await
}

fn checked(input: ApplicationInput) -> Result<ApplicationInput> {
    let name = text::name("name", &input.name)?;
    let description = text::bounded("description", &input.description, 0, 500)?;
    Ok(ApplicationInput { name, description })
}

fn name_taken() -> impl FnOnce(sqlx::Error) -> Error {
    db::on_constraint("applications_name_key", || Error::invalid("name", "Another application has this name. Choose another."))
}

fn not_found() -> Error {
    Error::not_found("This application")
}
