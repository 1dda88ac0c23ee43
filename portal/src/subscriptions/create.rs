//! Subscribing an application to a plan.

use calendar::{Anchor, TimeZone, Timestamp};
use ids::{ApplicationId, SubscriptionId, TenantId};
use serde_json::json;

use super::{State, Subscription, store};
use crate::{
    applications,
    audit::{self, Entry},
    catalog::plan::{self, PlanVersion},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
    tenants,
};

/// What a new subscription is.
#[derive(Debug, Clone)]
pub struct CreateSubscription {
    /// Who is to call.
    pub application: ApplicationId,
    /// The plan, by its slug: its newest published version is taken.
    pub plan: String,
}

/// Subscribes. Refused where another live subscription of the application covers one of the plan's products: it would be open which of them a call
/// is counted on.
pub async fn create(tx: &mut Tx, actor: &Actor, tenant: TenantId, input: CreateSubscription, now: Timestamp) -> Result<Subscription> {
    actor.require(Permission::Develop(tenant))?;
    let version = plan::published_plan(tx, &input.plan).await?;
    let zone = tenants::get(tx, actor, tenant).await?.zone()?;
    let subscription = start(tx, tenant, input.application, &version, zone, now).await?;
    let after = json!({ "application": subscription.application, "plan": version.plan.slug, "version": version.version });
    let target = subscription.id.to_string();
    let entry = Entry { tenant: Some(tenant), action: "subscription.created", target, before: None, after: Some(after) };
    audit::record(tx, actor, entry, now).await?;
    Ok(subscription)
}

/// Starts a subscription at the beginning of the current day in its zone: the day on which a subscription starts belongs to it.
pub(super) async fn start(
    tx: &mut Tx,
    tenant: TenantId,
    application: ApplicationId,
    version: &PlanVersion,
    zone: TimeZone,
    now: Timestamp,
) -> Result<Subscription> {
    // The lock on the application's row makes two subscriptions at the same time wait for each other.
    let application = applications::lock_live(tx, tenant, application).await?;
    let clashes = store::clashes(tx, tenant, application.id, version.id).await?;
    if let Some(clash) = clashes.first() {
        return Err(Error::conflict(format!(
            "The application {} has the API {} already, by its subscription to the plan {}. Change the plan of that subscription, cancel it, or use \
             another application.",
            application.name, clash.product, clash.plan
        )));
    }
    let subscription = Subscription {
        tenant,
        id: SubscriptionId::new(),
        application: application.id,
        application_name: application.name,
        plan_version: version.id,
        plan_slug: version.plan.slug.clone(),
        plan_name: version.plan.name.clone(),
        version: version.version,
        state: State::Active,
        anchor: Anchor::at(now, zone),
        started_at: now,
        canceled_at: None,
    };
    let open_from = subscription.anchor.period(version.cadence, 0).from;
    store::insert(tx, &subscription, open_from).await?;
    Ok(subscription)
}
