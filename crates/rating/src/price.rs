//! The price models: one file each, with its table of cases.

mod flat;
mod graduated;
mod package;
mod percentage;
mod unit;
mod volume;

use rust_decimal::Decimal;

pub use self::{flat::Flat, graduated::Graduated, package::Package, percentage::Percentage, unit::Unit, volume::Volume};
use crate::{MoneyError, Proration, Quantity, Step, card::Problems};

/// The most tiers that a price may have.
const MAX_TIERS: usize = 100;

/// How units become money. JSON is tagged by `type`: `{"type":"unit","unit_amount":"0.05"}`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Price {
    /// A fixed fee for the period.
    Flat(Flat),
    /// Each unit at one price.
    Unit(Unit),
    /// Started packages of units.
    Package(Package),
    /// Each unit at the price of its tier.
    Graduated(Graduated),
    /// All units at the price of the tier reached.
    Volume(Volume),
    /// A share of a metered amount of money.
    Percentage(Percentage),
}

/// The `type` of a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum PriceType {
    /// See [`Flat`].
    Flat,
    /// See [`Unit`].
    Unit,
    /// See [`Package`].
    Package,
    /// See [`Graduated`].
    Graduated,
    /// See [`Volume`].
    Volume,
    /// See [`Percentage`].
    Percentage,
}

impl PriceType {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Unit => "unit",
            Self::Package => "package",
            Self::Graduated => "graduated",
            Self::Volume => "volume",
            Self::Percentage => "percentage",
        }
    }
}

impl Price {
    /// Which model it is.
    pub const fn price_type(&self) -> PriceType {
        match self {
            Self::Flat(_) => PriceType::Flat,
            Self::Unit(_) => PriceType::Unit,
            Self::Package(_) => PriceType::Package,
            Self::Graduated(_) => PriceType::Graduated,
            Self::Volume(_) => PriceType::Volume,
            Self::Percentage(_) => PriceType::Percentage,
        }
    }

    /// Whether it is a fee for the period rather than a price of use.
    pub const fn is_fee(&self) -> bool {
        matches!(self, Self::Flat(_))
    }

    /// The steps that `billable` units of the whole period come to. The price is known to be valid.
    pub(crate) fn steps(&self, billable: Decimal, proration: Proration) -> Result<Vec<Step>, MoneyError> {
        match self {
            Self::Flat(flat) => flat.steps(proration),
            Self::Unit(unit) => unit.steps(billable),
            Self::Package(package) => package.steps(billable),
            Self::Graduated(graduated) => graduated.steps(billable),
            Self::Volume(volume) => volume.steps(billable),
            Self::Percentage(percentage) => percentage.steps(billable),
        }
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        match self {
            Self::Flat(flat) => problems.amount("price.amount", flat.amount),
            Self::Unit(unit) => problems.amount("price.unit_amount", unit.unit_amount),
            Self::Package(package) => package.check(problems),
            Self::Graduated(graduated) => check_tiers(&graduated.tiers, problems),
            Self::Volume(volume) => check_tiers(&volume.tiers, problems),
            Self::Percentage(percentage) => problems.percent("price.percent", percentage.percent),
        }
    }
}

/// A stretch of quantities with its price. JSON: `{"up_to":"1000","unit_amount":"0.3","flat_amount":"0"}`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Tier {
    /// The last quantity inside (inclusive); absent for the last tier, which has no end.
    #[serde(default)]
    pub up_to: Option<Quantity>,
    /// The price of each unit.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub unit_amount: Decimal,
    /// What the tier costs once, as soon as a unit falls in it. The first tier's is due without any use.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub flat_amount: Decimal,
}

fn check_tiers(tiers: &[Tier], problems: &mut Problems) {
    let Some(last) = tiers.len().checked_sub(1) else {
        problems.add("price.tiers", "must have at least one tier");
        return;
    };
    if tiers.len() > MAX_TIERS {
        problems.add("price.tiers", "must have at most 100 tiers");
        return;
    }
    let mut above = Quantity::ZERO;
    for (index, tier) in tiers.iter().enumerate() {
        let up_to_field = || format!("price.tiers[{index}].up_to");
        match tier.up_to {
            None if index < last => problems.add(up_to_field(), "must be a quantity: only the last tier has no end"),
            Some(_) if index == last => problems.add(up_to_field(), "must be null: the last tier has no end"),
            Some(up_to) if up_to <= above => problems.add(up_to_field(), format!("must be above {above}, where the tier begins")),
            Some(up_to) => problems.quantity(up_to_field(), up_to),
            None => {}
        }
        above = tier.up_to.unwrap_or(above);
        problems.amount(format!("price.tiers[{index}].unit_amount"), tier.unit_amount);
        problems.amount(format!("price.tiers[{index}].flat_amount"), tier.flat_amount);
    }
}
