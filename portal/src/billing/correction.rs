//! Corrections of usage: what one would do to its period's cost, and making it (SEMANTICS M11).

use calendar::{Period, Timestamp};
use ids::{CorrectionId, MeterId, SubscriptionId, TenantId};
use rating::Money;
use rust_decimal::Decimal;

use super::{
    charges::PeriodFacts,
    late::{self, Change, LateCharge},
    late_store,
    subscription::BilledSubscription,
    subscription_store,
};
use crate::{
    catalog::{self, meter::Aggregation},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
    usage::corrections::{self, Correction, NewCorrection, Outcome},
};

/// The most units of one correction.
const MAX_UNITS: i64 = 1_000_000_000_000;

/// What is to be corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectUsage {
    /// Whose usage.
    pub tenant: TenantId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The start of the period.
    pub period_start: Timestamp,
    /// The meter.
    pub meter: MeterId,
    /// Units to add; negative to take off.
    pub units: Decimal,
    /// Why: 1 to 500 characters.
    pub reason: String,
    /// What it goes back to, a ticket or a mail: 1 to 200 characters.
    pub reference: String,
    /// The same key makes the same correction once: 1 to 100 characters.
    pub idempotency_key: String,
}

/// What a correction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The period.
    pub period: Period,
    /// Its billable units without the correction.
    pub units_before: Decimal,
    /// Its billable units with it.
    pub units_after: Decimal,
    /// What the period costs without it.
    pub before: Money,
    /// What the period costs with it.
    pub after: Money,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Whether the use of the running period's quota moves, too.
    pub moves_quota: bool,
    /// The lines of the credit note, or those that will stand on an invoice; none for an open period, which is rated as a whole.
    pub lines: Vec<LateCharge>,
}

impl Effect {
    /// By how much the period's cost changes.
    pub fn difference(&self) -> Result<Money> {
        let amount = self.after.amount() - self.before.amount();
        Money::new(amount, self.after.currency()).map_err(Error::internal)
    }
}

/// Shows what a correction would do, and changes nothing.
pub async fn preview(tx: &mut Tx, actor: &Actor, input: &CorrectUsage, now: Timestamp) -> Result<Effect> {
    actor.require(Permission::Operate)?;
    let subscription = subscription_store::subscription(tx, input.tenant, input.subscription).await?;
    let subscription = subscription.ok_or_else(|| Error::not_found("This subscription"))?;
    effect(tx, actor, &subscription, input, now).await
}

/// Makes a correction: an open period is rated with it, a closed one gets a line on the next invoice, or a credit note. Made again under the same key,
/// it answers the one that is there.
///
/// # Errors
/// `Invalid` names the field; `Conflict` is the same key with other content, or a period whose invoice was taken back.
pub async fn correct(tx: &mut Tx, actor: &Actor, input: &CorrectUsage, now: Timestamp) -> Result<Correction> {
    actor.require(Permission::Operate)?;
    // The row's lock keeps the period from being closed meanwhile, and two of the same key apart.
    let subscription = subscription_store::lock_subscription(tx, input.tenant, input.subscription).await?;
    let subscription = subscription.ok_or_else(|| Error::not_found("This subscription"))?;
    if let Some(made) = corrections::by_key(tx, actor, input.tenant, input.idempotency_key.trim()).await? {
        return same(made, input);
    }
    let effect = effect(tx, actor, &subscription, input, now).await?;
    let credit_note = if effect.outcome == Outcome::CreditNote {
        late::credit(tx, actor, &subscription, &late::Owed { cost: effect.after, charges: effect.lines.clone() }, now).await?
    } else {
        None
    };
    let new = NewCorrection {
        id: CorrectionId::new(),
        tenant: input.tenant,
        subscription: input.subscription,
        plan_version: subscription.plan_version,
        period_start: input.period_start,
        meter: input.meter,
        units: input.units,
        reason: input.reason.trim().to_owned(),
        reference: input.reference.trim().to_owned(),
        idempotency_key: input.idempotency_key.trim().to_owned(),
        outcome: effect.outcome,
        cost_before: effect.before,
        cost_after: effect.after,
        credit_note,
        moves_quota: effect.moves_quota,
    };
    corrections::keep(tx, actor, &new, now).await?;
    let made = corrections::by_key(tx, actor, input.tenant, &new.idempotency_key).await?;
    made.ok_or_else(|| Error::internal(anyhow::anyhow!("the correction {} was made and is not there", new.id)))
}

fn same(made: Correction, input: &CorrectUsage) -> Result<Correction> {
    let is_same = made.subscription == input.subscription
        && made.period_start == input.period_start
        && made.meter == input.meter
        && made.units == input.units.normalize()
        && made.reason == input.reason.trim()
        && made.reference == input.reference.trim();
    if is_same { Ok(made) } else { Err(Error::conflict("Another correction was made under this idempotency key. Choose a new key.")) }
}

async fn effect(tx: &mut Tx, actor: &Actor, subscription: &BilledSubscription, input: &CorrectUsage, now: Timestamp) -> Result<Effect> {
    check_texts(input)?;
    let whole = subscription.whole_period_at(input.period_start);
    if whole.from != input.period_start || whole.from > now || whole.to <= subscription.started_at {
        return Err(Error::invalid("period_start", "This is not the start of a period that the subscription has had."));
    }
    if late_store::is_void(tx, input.tenant, input.subscription, input.period_start).await? {
        return Err(Error::conflict("The invoice of this period was taken back: nothing is billed of it, and nothing can be corrected."));
    }
    let period = subscription.served(whole);
    let change = Change { meter: input.meter, plan_version: subscription.plan_version, units: input.units };
    let facts = PeriodFacts::load(tx, actor, subscription, period).await?;
    let meter = facts.meter(input.meter).ok_or_else(|| Error::invalid("meter", "Choose a meter."))?;
    let units_before: Decimal = facts
        .units
        .iter()
        .filter(|units| units.meter == input.meter && units.plan_version == subscription.plan_version)
        .map(|units| units.units)
        .sum();
    let units_after = units_before + input.units;
    if units_after < Decimal::ZERO {
        return Err(Error::invalid("units", format!("The period has {units_before} units: no more can be taken off.")));
    }
    let proration = subscription.proration(period)?;
    let before = facts.total(&facts.rate(&facts.units, proration)?)?;
    if input.period_start >= subscription.open_from {
        let mut units = facts.units.clone();
        late::apply(&mut units, change);
        let after = facts.total(&facts.rate(&units, proration)?)?;
        // Units of a quota add up.
        let moves_quota = period.contains(now) && matches!(meter.aggregation, Aggregation::Count | Aggregation::Sum);
        let (outcome, lines) = (Outcome::OpenPeriod, Vec::new());
        return Ok(Effect { period, units_before, units_after, before, after, outcome, moves_quota, lines });
    }
    let owed = late::owed(tx, actor, subscription, input.period_start, Some(change)).await?;
    let outcome = match owed.total()?.amount() {
        owed if owed < Decimal::ZERO => Outcome::CreditNote,
        owed if owed.is_zero() => Outcome::NoCharge,
        _ if subscription.next_to_close().is_none() => Outcome::FinalInvoice,
        _ => Outcome::NextInvoice,
    };
    Ok(Effect { period, units_before, units_after, before, after: owed.cost, outcome, moves_quota: false, lines: owed.charges })
}

fn check_texts(input: &CorrectUsage) -> Result<()> {
    let units = input.units.normalize();
    if units.is_zero() || units.abs() > Decimal::from(MAX_UNITS) || units.scale() > 6 {
        return Err(Error::invalid(
            "units",
            "Give the units to add, or with a minus those to take off: not 0, with at most 6 decimals, below 10^12.",
        ));
    }
    for (field, text, most) in
        [("reason", &input.reason, 500), ("reference", &input.reference, 200), ("idempotency_key", &input.idempotency_key, 100)]
    {
        if text.trim().is_empty() || text.trim().chars().count() > most || text.contains('\0') {
            return Err(Error::invalid(field, format!("Use 1 to {most} characters.")));
        }
    }
    Ok(())
}

/// What of a subscription can be corrected, for a form.
#[derive(Debug, Clone)]
pub struct Correctable {
    /// The tenant's name.
    pub tenant_name: String,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The application's name.
    pub application_name: String,
    /// The last periods, the newest first: the start, and words for it.
    pub periods: Vec<(String, String)>,
    /// The meters: the id, and the name.
    pub meters: Vec<(String, String)>,
}

/// How many periods a form offers.
const OFFERED_PERIODS: usize = 24;

/// What of a subscription can be corrected.
pub async fn correctable(
    tx: &mut Tx,
    actor: &Actor,
    tenant: TenantId,
    subscription: SubscriptionId,
    now: Timestamp,
) -> Result<Correctable> {
    actor.require(Permission::Operate)?;
    let subscription =
        subscription_store::subscription(tx, tenant, subscription).await?.ok_or_else(|| Error::not_found("This subscription"))?;
    let zone = &subscription.anchor.zone;
    let mut periods = Vec::new();
    let end = subscription.canceled_at.map_or(now, |canceled| canceled.minus(std::time::Duration::from_micros(1)).min(now));
    let mut whole = subscription.whole_period_at(end.max(subscription.started_at));
    while periods.len() < OFFERED_PERIODS && whole.to > subscription.started_at {
        let last = zone.date_at(whole.to.minus(std::time::Duration::from_micros(1)));
        let state = if whole.from >= subscription.open_from { "open" } else { "closed" };
        periods.push((whole.from.to_string(), format!("{} to {last}, {state}", zone.date_at(whole.from))));
        whole = subscription.whole_period_at(whole.from.minus(std::time::Duration::from_micros(1)));
    }
    let meters = catalog::meter::meters(tx).await?;
    Ok(Correctable {
        tenant_name: late_store::tenant_name(tx, tenant).await?,
        subscription: subscription.id,
        application_name: subscription.application_name.clone(),
        periods,
        meters: meters.iter().map(|meter| (meter.id.to_string(), format!("{} ({})", meter.name, meter.unit))).collect(),
    })
}
