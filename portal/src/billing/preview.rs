//! Cost so far: the running period, rated as if it ended now, and where it is heading.

use calendar::{Period, Timestamp};
use ids::{SubscriptionId, TenantId};
use rating::{DetailedLine, Money, Proration};
use rust_decimal::Decimal;

use super::{
    charges::{Charge, PeriodFacts},
    subscription::BilledSubscription,
    subscription_store,
};
use crate::{
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// A projection from less than this share of the period would be a guess.
const MIN_ELAPSED_SHARE: i64 = 20;

/// What a subscription costs so far.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The subscription.
    pub subscription: BilledSubscription,
    /// The plan version's number.
    pub version: i32,
    /// The running period, up to the cancellation if there is one.
    pub period: Period,
    /// How much of the period has passed, in whole percent.
    pub elapsed_percent: u8,
    /// The lines as they would be invoiced now: fixed fees whole, use so far.
    pub charges: Vec<Charge>,
    /// Their sum.
    pub total: Money,
    /// What the period would come to if use went on as it did, bounded by hard quotas. An estimate; absent early in the period, and when the period is over.
    pub projected: Option<Money>,
    /// A period that has ended and is about to be invoiced.
    pub closing: Option<Period>,
}

impl Preview {
    /// The part of the total that comes of use.
    pub fn usage_total(&self) -> Money {
        let amounts = self.charges.iter().filter(|charge| charge.meter.is_some()).map(|charge| charge.line.total_money());
        Money::sum(self.total.currency(), amounts).unwrap_or(Money::zero(self.total.currency()))
    }

    /// The lines alone.
    pub fn lines(&self) -> impl Iterator<Item = &DetailedLine> {
        self.charges.iter().map(|charge| &charge.line)
    }
}

/// Rates the running period of a subscription. For a canceled one, that is its last period while it is not invoiced yet.
pub async fn preview(tx: &mut Tx, actor: &Actor, tenant: TenantId, subscription: SubscriptionId, now: Timestamp) -> Result<Preview> {
    actor.require(Permission::View(tenant))?;
    let subscription =
        subscription_store::subscription(tx, tenant, subscription).await?.ok_or_else(|| Error::not_found("This subscription"))?;
    rate_running(tx, actor, subscription, now).await
}

/// [`preview`] of every subscription of a tenant that is live or has a period that is not invoiced yet.
pub async fn previews(tx: &mut Tx, actor: &Actor, tenant: TenantId, now: Timestamp) -> Result<Vec<Preview>> {
    actor.require(Permission::View(tenant))?;
    let mut previews = Vec::new();
    for subscription in subscription_store::open_subscriptions(tx, tenant).await? {
        previews.push(rate_running(tx, actor, subscription, now).await?);
    }
    Ok(previews)
}

/// The running period of the tenant's live subscription that began first.
pub async fn running_period(tx: &mut Tx, actor: &Actor, tenant: TenantId, now: Timestamp) -> Result<Option<Period>> {
    actor.require(Permission::View(tenant))?;
    let subscriptions = subscription_store::open_subscriptions(tx, tenant).await?;
    Ok(subscriptions.iter().find(|subscription| subscription.canceled_at.is_none()).map(|subscription| subscription.whole_period_at(now)))
}

async fn rate_running(tx: &mut Tx, actor: &Actor, subscription: BilledSubscription, now: Timestamp) -> Result<Preview> {
    // The instant of a cancellation belongs to the period that it ends.
    let at = subscription
        .canceled_at
        .map_or(now, |canceled| canceled.minus(std::time::Duration::from_micros(1)).min(now))
        .max(subscription.started_at);
    let period = subscription.served(subscription.whole_period_at(at));
    let facts = PeriodFacts::load(tx, actor, &subscription, period).await?;
    let proration = subscription.proration(period)?;
    let charges = facts.rate(&facts.units, proration)?;
    let total = facts.total(&charges)?;
    let projected = project(&facts, period, proration, now)?;
    let closing = subscription.next_to_close().filter(|open| open.from < period.from);
    Ok(Preview {
        version: facts.version().version,
        elapsed_percent: elapsed_percent(period, now),
        subscription,
        period,
        charges,
        total,
        projected,
        closing,
    })
}

fn elapsed_percent(period: Period, now: Timestamp) -> u8 {
    let length = (period.to.seconds() - period.from.seconds()).max(1);
    let elapsed = (now.seconds() - period.from.seconds()).clamp(0, length);
    u8::try_from(elapsed * 100 / length).unwrap_or(100)
}

/// Linear: units so far, times the period's length over what has passed.
fn project(facts: &PeriodFacts, period: Period, proration: Proration, now: Timestamp) -> Result<Option<Money>> {
    let length = period.to.seconds() - period.from.seconds();
    let elapsed = now.seconds() - period.from.seconds();
    if now >= period.to || elapsed * MIN_ELAPSED_SHARE < length {
        return Ok(None);
    }
    let mut units = facts.units.clone();
    for meter in &mut units {
        let Some(projected) =
            meter.units.checked_mul(Decimal::from(length)).and_then(|product| product.checked_div(Decimal::from(elapsed)))
        else {
            return Ok(None);
        };
        let hard_limit = facts
            .version()
            .quotas
            .iter()
            .find(|quota| quota.meter == meter.meter && quota.enforcement == quota::Enforcement::Hard)
            .map(|quota| Decimal::from(quota.limit_units()));
        meter.units = hard_limit.map_or(projected, |limit| projected.min(limit).max(meter.units)).round();
    }
    let charges = facts.rate(&units, proration)?;
    facts.total(&charges).map(Some)
}
