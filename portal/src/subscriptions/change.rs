//! Upgrading and downgrading: the subscription ends and another starts, at once.

use calendar::Timestamp;
use ids::{SubscriptionId, TenantId};
use serde_json::json;

use super::{State, Subscription, create::start, lifecycle::end, not_found, store};
use crate::{
    audit::{self, Entry},
    catalog::plan,
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// Puts the application on another plan from now on, and answers the new subscription. The old one is billed to the day before; the day of the change
/// belongs to the new one, which keeps the time zone.
pub async fn change(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: SubscriptionId, plan: &str, now: Timestamp) -> Result<Subscription> {
    actor.require(Permission::Develop(tenant))?;
    let version = plan::published_plan(tx, plan).await?;
    let old = store::lock(tx, tenant, id).await?.ok_or_else(not_found)?;
    match old.state {
        State::Active | State::Paused => {}
        State::PaymentOverdue => {
            return Err(Error::conflict("An invoice of this subscription is overdue. Pay it first; then the plan can be changed."));
        }
        State::Canceled => return Err(Error::conflict("This subscription has ended. Subscribe again instead.")),
    }
    if old.plan_version == version.id {
        return Err(Error::conflict(format!("The subscription is on the plan {} already.", version.plan.name)));
    }
    end(tx, &old, now).await?;
    let new = start(tx, tenant, old.application, &version, old.anchor.zone.clone(), now).await?;
    let before = json!({ "subscription": old.id, "plan": old.plan_slug, "version": old.version });
    let after = json!({ "subscription": new.id, "plan": new.plan_slug, "version": new.version });
    let entry = Entry {
        tenant: Some(tenant),
        action: "subscription.plan_changed",
        target: id.to_string(),
        before: Some(before),
        after: Some(after),
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(new)
}
