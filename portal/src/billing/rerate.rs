//! Rates again what was invoiced, for reconciliation: the units on all lines of a rate card and a period must cost what these lines sum to.

use calendar::Period;
use ids::{InvoiceId, SubscriptionId, TenantId};
use rating::{Quantity, RateCardInput};
use rust_decimal::Decimal;

use super::{rerate_store as store, subscription_store};
use crate::{
    catalog,
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// A rate card whose lines are not what their units cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongRate {
    /// The first invoice that bills the period.
    pub invoice: InvoiceId,
    /// The period.
    pub period: Period,
    /// The rate card's name.
    pub card: String,
    /// What the units cost.
    pub rated: Decimal,
    /// What the lines sum to.
    pub invoiced: Decimal,
}

/// All wrong rates on a subscription's invoices.
pub async fn wrong_rates(tx: &mut Tx, actor: &Actor, tenant: TenantId, subscription: SubscriptionId) -> Result<Vec<WrongRate>> {
    actor.require(Permission::View(tenant))?;
    let Some(subscription) = subscription_store::subscription(tx, tenant, subscription).await? else { return Ok(Vec::new()) };
    let mut wrong = Vec::new();
    let mut version: Option<catalog::PlanVersion> = None;
    for billed in store::billed_cards(tx, tenant, subscription.id).await? {
        let known = match version.take() {
            Some(known) if known.id == billed.plan_version => known,
            _ => catalog::plan::plan_version(tx, billed.plan_version).await?,
        };
        let whole = subscription.whole_period_at(billed.period_from);
        let period = subscription.served(whole);
        if let Some(card) = known.rate_cards.iter().find(|card| card.id == billed.card) {
            let input = RateCardInput {
                description: &card.name,
                card: &card.terms,
                currency: known.currency,
                quantity: Quantity::new(billed.units),
                already_billed: None,
                ends_period: true,
                proration: subscription.proration(period)?,
            };
            let rated: Decimal = rating::rate(&input).map_err(Error::internal)?.iter().map(|line| line.total).sum();
            if rated != billed.invoiced {
                wrong.push(WrongRate { invoice: billed.invoice, period, card: card.name.clone(), rated, invoiced: billed.invoiced });
            }
        }
        version = Some(known);
    }
    Ok(wrong)
}
