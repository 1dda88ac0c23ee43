//! From a plan version and the units of a period to rated lines. All arithmetic is `rating`'s.

use calendar::Period;
use ids::{MeterId, PlanVersionId, RateCardId};
use rating::{Basis, Currency, DetailedLine, Money, Proration, Quantity, RateCardInput};

use super::subscription::BilledSubscription;
use crate::{
    catalog::{self, Meter, PlanVersion, RateCard},
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
        Self::load_for(tx, actor, subscription, period, None).await
    }

    /// [`Self::load`], with one more version that units may be of.
    pub async fn load_for(
        tx: &mut Tx,
        actor: &Actor,
        subscription: &BilledSubscription,
        period: Period,
        also: Option<PlanVersionId>,
    ) -> Result<Self> {
        let units = query::period_units(tx, actor, subscription.tenant, subscription.id, period.from).await?;
        let mut ids = vec![subscription.plan_version];
        for id in units.iter().map(|units| units.plan_version).chain(also) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
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
        for priced in self.cards() {
            let quantity = priced.quantity(units);
            if !priced.is_own && quantity.is_zero() {
                continue;
            }
            let input = RateCardInput {
                description: &priced.name(),
                card: &priced.card.terms,
                currency: priced.currency,
                quantity,
                already_billed: None,
                ends_period: true,
                proration,
            };
            let lines = rating::rate(&input).map_err(Error::internal)?;
            charges.extend(lines.into_iter().map(|line| self.charge(&priced, line)));
        }
        Ok(charges)
    }

    /// The rate cards that apply: all of the subscription's own version, and those of other versions that price a meter.
    pub fn cards(&self) -> impl Iterator<Item = PricedCard<'_>> {
        self.versions.iter().enumerate().flat_map(|(index, version)| {
            let is_own = index == 0;
            let cards = version.rate_cards.iter().filter(move |card| is_own || card.meter.is_some());
            cards.map(move |card| PricedCard { card, version, is_own, currency: version.currency })
        })
    }

    /// A line of a card as a charge.
    pub fn charge(&self, priced: &PricedCard<'_>, line: DetailedLine) -> Charge {
        Charge {
            rate_card: priced.card.id,
            meter: priced.card.meter,
            unit: priced.card.meter.and_then(|meter| self.unit(meter)).unwrap_or_default(),
            allowance: priced.card.terms.free_units.filter(|free| !free.is_zero()),
            line,
        }
    }

    fn unit(&self, meter: MeterId) -> Option<String> {
        self.meter(meter).map(|meter| meter.unit.clone())
    }

    /// A meter.
    pub fn meter(&self, meter: MeterId) -> Option<&Meter> {
        self.meters.iter().find(|known| known.id == meter)
    }

    /// The sum of lines.
    pub fn total(&self, charges: &[Charge]) -> Result<Money> {
        let amounts = charges.iter().map(|charge| charge.line.total_money());
        Money::sum(self.version().currency, amounts).map_err(Error::internal)
    }
}

/// A rate card and the version that it is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct PricedCard<'a> {
    pub card: &'a RateCard,
    version: &'a PlanVersion,
    /// Whether that is the subscription's own.
    pub is_own: bool,
    pub currency: Currency,
}

impl PricedCard<'_> {
    /// What it is called on a line.
    pub fn name(&self) -> String {
        if self.is_own {
            self.card.name.clone()
        } else {
            format!("{} ({} version {})", self.card.name, self.version.plan.name, self.version.version)
        }
    }

    /// The units that it prices; none for a fixed fee.
    pub fn quantity(&self, units: &[PeriodUnits]) -> Quantity {
        let of_card = |units: &&PeriodUnits| Some(units.meter) == self.card.meter && units.plan_version == self.version.id;
        units.iter().find(of_card).map_or(Quantity::ZERO, |units| Quantity::new(units.units))
    }
}
