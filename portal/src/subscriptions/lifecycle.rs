//! Pausing, resuming and canceling.

use calendar::Timestamp;
use ids::{SubscriptionId, TenantId};
use serde_json::json;

use super::{State, Subscription, not_found, store};
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// Ends a subscription at once. What it used until now is billed with its last invoice.
pub async fn cancel(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: SubscriptionId, now: Timestamp) -> Result<()> {
    let old = locked(tx, actor, tenant, id).await?;
    if old.state == State::Canceled {
        return Err(Error::conflict("This subscription has ended already."));
    }
    end(tx, &old, now).await?;
    record(tx, actor, &old, ("subscription.canceled", State::Canceled), now).await
}

/// Refuses calls until it is resumed. Fixed fees go on: the plan's terms are kept for it.
pub async fn pause(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: SubscriptionId, now: Timestamp) -> Result<()> {
    let old = locked(tx, actor, tenant, id).await?;
    if old.state != State::Active {
        return Err(Error::conflict("Only an active subscription can be paused."));
    }
    store::set_state(tx, tenant, id, State::Paused).await?;
    record(tx, actor, &old, ("subscription.paused", State::Paused), now).await
}

/// Serves calls again.
pub async fn resume(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: SubscriptionId, now: Timestamp) -> Result<()> {
    let old = locked(tx, actor, tenant, id).await?;
    if old.state != State::Paused {
        return Err(Error::conflict("Only a paused subscription can be resumed."));
    }
    store::set_state(tx, tenant, id, State::Active).await?;
    record(tx, actor, &old, ("subscription.resumed", State::Active), now).await
}

/// Ends a locked subscription and frees its products for another.
pub(super) async fn end(tx: &mut Tx, old: &Subscription, now: Timestamp) -> Result<()> {
    store::end(tx, old.tenant, old.id, now.max(old.started_at)).await
}

async fn locked(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: SubscriptionId) -> Result<Subscription> {
    actor.require(Permission::Develop(tenant))?;
    store::lock(tx, tenant, id).await?.ok_or_else(not_found)
}

async fn record(tx: &mut Tx, actor: &Actor, old: &Subscription, (action, new): (&'static str, State), now: Timestamp) -> Result<()> {
    let state = |state: State| Some(json!({ "state": state.as_str(), "plan": old.plan_slug }));
    let entry = Entry { tenant: Some(old.tenant), action, target: old.id.to_string(), before: state(old.state), after: state(new) };
    audit::record(tx, actor, entry, now).await
}
