//! What closed periods owe: usage that came after their collection cutoff, and corrections of them (SEMANTICS M10, M11).
//!
//! A closed period is rated whole, by its own version and tiers, as it is known now; the difference to what all its lines bill so far is what it owes.
//! So nothing is remembered of what came late: it is what the sums hold and the lines do not.

use std::collections::BTreeMap;

use calendar::{Period, Timestamp};
use ids::{InvoiceId, MeterId, PlanVersionId, RateCardId, SubscriptionId, TenantId};
use rating::{Money, Quantity, RateCardInput};
use rust_decimal::Decimal;

use super::{
    charges::{Charge, PeriodFacts},
    close::{self, Document},
    late_store as store,
    rerate_store::{self, BilledCard},
    store::InvoiceKind,
    subscription::BilledSubscription,
    subscription_store,
};
use crate::{
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
    usage::query::PeriodUnits,
};

/// A charge of an earlier period than its invoice's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateCharge {
    /// The period that it is about.
    pub period: Period,
    /// The charge.
    pub charge: Charge,
}

/// Units that are not kept yet, to see what they would do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub meter: MeterId,
    pub plan_version: PlanVersionId,
    pub units: Decimal,
}

/// What a closed period costs as it is known, and what of that is not billed.
#[derive(Debug)]
pub(super) struct Owed {
    pub cost: Money,
    pub charges: Vec<LateCharge>,
}

impl Owed {
    /// What is not billed; negative if too much is.
    pub fn total(&self) -> Result<Money> {
        total(&self.charges, self.cost.currency())
    }
}

fn total(charges: &[LateCharge], currency: rating::Currency) -> Result<Money> {
    Money::sum(currency, charges.iter().map(|late| late.charge.line.total_money())).map_err(Error::internal)
}

/// What all closed periods of a subscription owe, the oldest first.
pub(super) async fn pending(tx: &mut Tx, actor: &Actor, subscription: &BilledSubscription) -> Result<Vec<LateCharge>> {
    let mut charges = Vec::new();
    let billed = rerate_store::billed_cards(tx, subscription.tenant, subscription.id).await?;
    for start in store::closed_periods_with_use(tx, subscription.tenant, subscription.id, subscription.open_from).await? {
        charges.extend(owed_by(tx, actor, subscription, start, &billed, None).await?.charges);
    }
    Ok(charges)
}

/// What one closed period owes, with a change that is not kept yet.
pub(super) async fn owed(
    tx: &mut Tx,
    actor: &Actor,
    subscription: &BilledSubscription,
    period_start: Timestamp,
    change: Option<Change>,
) -> Result<Owed> {
    let billed = rerate_store::billed_cards(tx, subscription.tenant, subscription.id).await?;
    owed_by(tx, actor, subscription, period_start, &billed, change).await
}

async fn owed_by(
    tx: &mut Tx,
    actor: &Actor,
    subscription: &BilledSubscription,
    period_start: Timestamp,
    billed: &[BilledCard],
    change: Option<Change>,
) -> Result<Owed> {
    let whole = subscription.whole_period_at(period_start);
    let period = Period { from: period_start, ..subscription.served(whole) };
    let facts = PeriodFacts::load_for(tx, actor, subscription, period, change.map(|change| change.plan_version)).await?;
    let mut units = facts.units.clone();
    let mut corrected = store::corrected_since_billed(tx, subscription.tenant, subscription.id, period_start).await?;
    if let Some(change) = change {
        apply(&mut units, change);
        apply(&mut corrected, change);
    }
    let billed: BTreeMap<RateCardId, Quantity> =
        billed.iter().filter(|card| card.period_from == period_start).map(|card| (card.card, Quantity::new(card.units))).collect();
    let proration = subscription.proration(Period { from: whole.from, ..period })?;
    let zone = &subscription.anchor.zone;
    let dates = (zone.date_at(period.from), zone.date_at(period.to.minus(std::time::Duration::from_micros(1))));
    // What was billed of distinct values stands where the rows that they are counted from were dropped.
    let uncountable = store::uncountable_meters(tx, period_start).await?;
    let mut charges = Vec::new();
    for priced in facts.cards().filter(|priced| priced.card.meter.is_some_and(|meter| !uncountable.contains(&meter))) {
        let quantity = priced.quantity(&units);
        // Of a version that is not the subscription's own, nothing is billed where nothing was used.
        let already_billed = billed.get(&priced.card.id).copied().or_else(|| priced.is_own.then_some(Quantity::ZERO));
        if already_billed.is_none() && quantity.is_zero() {
            continue;
        }
        let more = quantity.units() - already_billed.unwrap_or(Quantity::ZERO).units();
        let what = words(more, priced.quantity(&corrected).units());
        let description = format!("{} ({what} {} to {})", priced.name(), dates.0, dates.1);
        let input = RateCardInput {
            description: &description,
            card: &priced.card.terms,
            currency: priced.currency,
            quantity,
            already_billed,
            ends_period: true,
            proration,
        };
        let lines = rating::rate_late(&input).map_err(Error::internal)?;
        charges.extend(lines.into_iter().map(|line| LateCharge { period, charge: facts.charge(&priced, line) }));
    }
    let cost = facts.total(&facts.rate(&units, proration)?)?;
    Ok(Owed { cost, charges })
}

/// What a line is about that bills `more` units than are billed already, `corrected` of them by corrections: the rest came late.
fn words(more: Decimal, corrected: Decimal) -> &'static str {
    if more <= corrected {
        "correction of"
    } else if corrected.is_zero() {
        "late usage of"
    } else {
        "late usage and correction of"
    }
}

pub(super) fn apply(units: &mut Vec<PeriodUnits>, change: Change) {
    match units.iter_mut().find(|known| known.meter == change.meter && known.plan_version == change.plan_version) {
        Some(known) => known.units += change.units,
        None => units.push(PeriodUnits { meter: change.meter, plan_version: change.plan_version, units: change.units }),
    }
}

/// Issues a credit note over what a closed period was billed too much.
pub(super) async fn credit(
    tx: &mut Tx,
    actor: &Actor,
    subscription: &BilledSubscription,
    owed: &Owed,
    now: Timestamp,
) -> Result<Option<InvoiceId>> {
    let Some(first) = owed.charges.first() else { return Ok(None) };
    let corrects = store::invoice_of_period(tx, subscription.tenant, subscription.id, first.period.from).await?;
    let document = Document { kind: InvoiceKind::CreditNote, period: first.period, corrects, charges: &[], late: &owed.charges };
    close::issue(tx, actor, subscription, &document, owed.total()?, now).await.map(Some)
}

/// Bills, or credits, what came after the last period of a canceled subscription was closed: there is no next invoice that it could be on.
pub async fn settle_canceled(
    tx: &mut Tx,
    actor: &Actor,
    tenant: TenantId,
    subscription: SubscriptionId,
    now: Timestamp,
) -> Result<Option<InvoiceId>> {
    actor.require(Permission::Operate)?;
    let Some(subscription) = subscription_store::lock_subscription(tx, tenant, subscription).await? else {
        return Err(Error::not_found("This subscription"));
    };
    if subscription.next_to_close().is_some() {
        return Ok(None);
    }
    let charges = pending(tx, actor, &subscription).await?;
    let Some(first) = charges.first() else { return Ok(None) };
    let total = total(&charges, first.charge.line.currency)?;
    let (kind, corrects) = if total.amount() < Decimal::ZERO {
        (InvoiceKind::CreditNote, store::invoice_of_period(tx, tenant, subscription.id, first.period.from).await?)
    } else {
        (InvoiceKind::Final, None)
    };
    let period = Period { from: first.period.from, to: charges.last().map_or(first.period.to, |last| last.period.to) };
    let document = Document { kind, period, corrects, charges: &[], late: &charges };
    close::issue(tx, actor, &subscription, &document, total, now).await.map(Some)
}

/// Canceled subscriptions that may owe something: all that ended in the last months, of which all is closed.
pub async fn canceled(
    tx: &mut Tx,
    actor: &Actor,
    after: Option<(TenantId, SubscriptionId)>,
    since: Timestamp,
) -> Result<Vec<(TenantId, SubscriptionId)>> {
    actor.require(Permission::Operate)?;
    store::canceled(tx, after, since).await
}
