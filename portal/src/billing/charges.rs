//! From a plan version and the units of a period to rated lines. All arithmetic is `rating`'s.

use std::collections::BTreeMap;

use calendar::Period;
use ids::{MeterId, PlanVersionId, RateCardId};
use rating::{Basis, DetailedLine, Money, Proration, Quantity, RateCardInput};

use super::subscription::BilledSubscription;
use crate::{
    catalog::{self, Meter, PlanVersion},
    db::Tx,
    error::{Error, Result},
    identity::Actor,
    usage::query::{self, PeriodUnits},
};

/// A rated line and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Charge {
    /// The rate card.
    pub rate_card: RateCardId,
    /// The meter; absent for a fixed fee.
    pub meter: Option<MeterId>,
    /// What one unit of the meter is called; empty for a fixed fee.
    pub unit: String,
    /// The allowance of the card in units; absent where there is none.
    pub allowance: Option<Quantity>,
    /// The line with all that explains it.
    pub line: DetailedLine,
}

impl Charge {
    /// How much of the allowance is used, in whole percent.
    pub fn allowance_percent(&self) -> Option<u8> {
        let allowance = self.allowance?.units();
        let used = self.line.free_units.units().checked_mul(rust_decimal::Decimal::ONE_HUNDRED)?.checked_div(allowance)?;
        u8::try_from(used.trunc()).ok()
    }

    /// The tier that the quantity reached, where the price has tiers.
    pub fn tier_reached(&self) -> Option<u32> {
        self.line
            .steps
            .iter()
            .filter_map(|step| match step.basis {
                Basis::Tier { number, .. } => Some(number),
                _ => None,
            })
            .max()
    }
}

/// What rating one period needs.
#[derive(Debug)]
pub(super) struct PeriodFacts {
    /// The plan version of the subscription, and every other one that calls of the period were admitted under.
    versions: Vec<PlanVersion>,
    meters: Vec<Meter>,
    pub units: Vec<PeriodUnits>,
}

impl PeriodFacts {
    /// Reads the units of the period and the versions that price them. The subscription's own version comes first.
    pub async fn load(tx: &mut Tx, actor: &Actor, subscription: &BilledSubscription, period: Period) -> Result<Self> {
        let units = query::period_units(tx, actor, subscription.tenant, subscription.id, period.from).await?;
        let mut ids = vec![subscription.plan_version];
        ids.extend(units.iter().map(|units| units.plan_version).filter(|version| *version != subscription.plan_version));
        ids.dedup();
        let mut versions = Vec::with_capacity(ids.len());
        for id in ids {
            versions.push(catalog::plan::plan_version(tx, id).await?);
        }
        Ok(Self { versions, meters: catalog::meter::meters(tx).await?, units })
    }

    /// The subscription's own version.
    pub fn version(&self) -> &PlanVersion {
        &self.versions[0]
    }

    /// The lines of the period: the subscription's own version with its fees, and the use under other versions at their prices (SEMANTICS M9).
    pub fn rate(&self, units: &[PeriodUnits], proration: Proration) -> Result<Vec<Charge>> {
        let mut charges = Vec::new();
        for (index, version) in self.versions.iter().enumerate() {
            let quantities = quantities_of(units, version.id);
            for card in version.rate_cards.iter().filter(|card| index == 0 || card.meter.is_some()) {
                let quantity = card.meter.and_then(|meter| quantities.get(&meter).copied()).unwrap_or_default();
                if index > 0 && quantity.is_zero() {
                    continue;
                }
                let description = if index == 0 {
                    card.name.clone()
                } else {
                    format!("{} ({} version {})", card.name, version.plan.name, version.version)
                };
                let input = RateCardInput {
                    description: &description,
                    card: &card.terms,
                    currency: version.currency,
                    quantity,
                    already_billed: None,
                    ends_period: true,
                    proration,
                };
                let lines = rating::rate(&input).map_err(Error::internal)?;
                charges.extend(lines.into_iter().map(|line| Charge {
                    rate_card: card.id,
                    meter: card.meter,
                    unit: card.meter.and_then(|meter| self.unit(meter)).unwrap_or_default(),
                    allowance: card.terms.free_units.filter(|free| !free.is_zero()),
                    line,
                }));
            }
        }
        Ok(charges)
    }

    fn unit(&self, meter: MeterId) -> Option<String> {
        self.meters.iter().find(|known| known.id == meter).map(|meter| meter.unit.clone())
    }

    /// The sum of lines.
    pub fn total(&self, charges: &[Charge]) -> Result<Money> {
        let amounts = charges.iter().map(|charge| charge.line.total_money());
        Money::sum(self.version().currency, amounts).map_err(Error::internal)
    }
}

fn quantities_of(units: &[PeriodUnits], version: PlanVersionId) -> BTreeMap<MeterId, Quantity> {
    units.iter().filter(|units| units.plan_version == version).map(|units| (units.meter, Quantity::new(units.units))).collect()
}
