//! Organizations that sign up, hold keys and pay, and their members. Invariants: `README.md`.

pub mod invitation;
mod invitation_store;
mod letter;
mod member;
mod store;

use calendar::{TimeZone, Timestamp};
use ids::{NamespaceId, TenantId};
use serde_json::json;

pub use invitation::{Invitation, NewInvitation, Offer};
pub use member::{Member, change_role, members, remove_member};

use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Kind, Result},
    identity::{Actor, Permission, Role},
    text,
};

/// A person belongs to at most so many organizations.
const MAX_MEMBERSHIPS: i64 = 50;
/// So many organizations of one name have namespaces that are made of it.
const MAX_NAMESAKES: u32 = 50;

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// The name of its namespace: a DNS label.
    pub namespace: String,
    /// Where invoices go.
    pub billing_email: String,
    /// The time zone in which new subscriptions count their periods.
    pub time_zone: String,
    /// Whether its usage was generated for demonstration.
    pub is_demo: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a new organization is.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// 1 to 100 characters.
    pub name: String,
    /// A DNS label that no other has; empty for one that is made of the name.
    pub namespace: String,
    /// Where invoices go.
    pub billing_email: String,
    /// An IANA name.
    pub time_zone: String,
}

/// What its owners may change. The namespace stays: gateways and clusters know it.
#[derive(Debug, Clone)]
pub struct TenantSettings {
    /// 1 to 100 characters.
    pub name: String,
    /// Where invoices go.
    pub billing_email: String,
    /// An IANA name.
    pub time_zone: String,
}

impl Tenant {
    /// Its isolation scope.
    pub fn namespace_id(&self) -> NamespaceId {
        NamespaceId::of(self.id)
    }

    /// Its time zone.
    pub fn zone(&self) -> Result<TimeZone> {
        self.time_zone.parse().map_err(Error::internal)
    }
}

/// Creates an organization; its creator is its first owner.
pub async fn create(tx: &mut Tx, actor: &Actor, input: NewTenant, now: Timestamp) -> Result<Tenant> {
    actor.require(Permission::SignedIn)?;
    let owner = actor.user_id().ok_or_else(Error::forbidden)?;
    let chosen = !input.namespace.trim().is_empty();
    let (namespace, settings) = (
        text::dns_label("namespace", if chosen { &input.namespace } else { "made-of-the-name" }),
        TenantSettings { name: input.name, billing_email: input.billing_email, time_zone: input.time_zone },
    );
    let (namespace, settings) = match (namespace, checked(settings)) {
        (Ok(namespace), Ok(settings)) => (namespace, settings),
        (namespace, settings) => return Err(all_fields([namespace.err(), settings.err()])),
    };
    if store::memberships_of(tx, owner).await? >= MAX_MEMBERSHIPS {
        return Err(Error::conflict(format!("You are a member of {MAX_MEMBERSHIPS} organizations, which is the most.")));
    }
    let TenantSettings { name, billing_email, time_zone } = settings;
    let mut tenant = Tenant { id: TenantId::new(), name, namespace, billing_email, time_zone, is_demo: false, created_at: now };
    if chosen {
        if !store::insert(tx, &tenant).await? {
            return Err(Error::invalid("namespace", "Another organization has this namespace. Choose another name for it."));
        }
    } else {
        insert_under_free_name(tx, &mut tenant).await?;
    }
    store::insert_member(tx, tenant.id, owner, Role::Owner, now).await?;
    let after =
        json!({ "name": tenant.name, "namespace": tenant.namespace, "billing_email": tenant.billing_email, "time_zone": tenant.time_zone });
    let entry =
        Entry { tenant: Some(tenant.id), action: "tenant.created", target: tenant.id.to_string(), before: None, after: Some(after) };
    audit::record(tx, actor, entry, now).await?;
    Ok(tenant)
}

/// Inserts an organization under a namespace that is made of its name: `acme`, or `acme-2` where that is taken, and so on.
async fn insert_under_free_name(tx: &mut Tx, tenant: &mut Tenant) -> Result<()> {
    let name = text::suggest_dns_label(&tenant.name);
    for number in 1..=MAX_NAMESAKES {
        tenant.namespace = text::numbered_dns_label(&name, number);
        if store::insert(tx, tenant).await? {
            return Ok(());
        }
    }
    Err(Error::invalid("namespace", "Many organizations have this name. Choose a namespace for yours."))
}

/// Shows an organization to its members.
pub async fn get(tx: &mut Tx, actor: &Actor, id: TenantId) -> Result<Tenant> {
    actor.require(Permission::View(id))?;
    store::get(tx, id).await?.ok_or_else(|| Error::not_found("This organization"))
}

/// Changes name, billing address and time zone. Subscriptions keep the time zone that they started in.
pub async fn update(tx: &mut Tx, actor: &Actor, id: TenantId, input: TenantSettings, now: Timestamp) -> Result<()> {
    actor.require(Permission::Own(id))?;
    let input = checked(input)?;
    let old = store::lock(tx, id).await?.ok_or_else(|| Error::not_found("This organization"))?;
    store::update(tx, id, &input).await?;
    let before = json!({ "name": old.name, "billing_email": old.billing_email, "time_zone": old.time_zone });
    let after = json!({ "name": input.name, "billing_email": input.billing_email, "time_zone": input.time_zone });
    let entry = Entry { tenant: Some(id), action: "tenant.updated", target: id.to_string(), before: Some(before), after: Some(after) };
    audit::record(tx, actor, entry, now).await
}

/// All organizations, for operators.
pub async fn all(tx: &mut Tx, actor: &Actor, limit: i64, offset: i64) -> Result<Vec<Tenant>> {
    actor.require(Permission::Operate)?;
    store::all(tx, limit, offset).await
}

/// Says of an organization that its usage is made up, so that pages say so too. It is never taken back.
pub async fn mark_demo(tx: &mut Tx, actor: &Actor, id: TenantId, now: Timestamp) -> Result<()> {
    actor.require(Permission::Operate)?;
    store::lock(tx, id).await?.ok_or_else(|| Error::not_found("This organization"))?;
    store::mark_demo(tx, id).await?;
    let entry = Entry { tenant: Some(id), action: "tenant.marked_demo", target: id.to_string(), ..Entry::default() };
    audit::record(tx, actor, entry, now).await
}

/// The IANA time zones that may be chosen, by name.
pub fn time_zones() -> Vec<String> {
    let mut names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).filter(|name| is_place(name)).collect();
    names.sort();
    names
}

/// Zones of places, and UTC; the rest of the database are old names and fixed offsets.
fn is_place(name: &str) -> bool {
    const REGIONS: [&str; 9] = ["Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian"];
    name == "UTC" || name.split_once('/').is_some_and(|(region, _)| REGIONS.contains(&region) || region == "Pacific")
}

fn checked(input: TenantSettings) -> Result<TenantSettings> {
    let name = text::name("name", &input.name);
    let billing_email = text::email("billing_email", &input.billing_email);
    let zone = input.time_zone.parse::<TimeZone>();
    let time_zone = zone.map(|_| input.time_zone).map_err(|error| Error::invalid("time_zone", format!("{error}.")));
    match (name, billing_email, time_zone) {
        (Ok(name), Ok(billing_email), Ok(time_zone)) => Ok(TenantSettings { name, billing_email, time_zone }),
        (name, billing_email, time_zone) => Err(all_fields([name.err(), billing_email.err(), time_zone.err()])),
    }
}

/// One error that names every field at fault.
fn all_fields<const N: usize>(errors: [Option<Error>; N]) -> Error {
    let fields = errors.into_iter().flatten().flat_map(|error| error.fields).collect();
    Error { fields, ..Error::new(Kind::Invalid, "Please correct the marked fields.") }
}
