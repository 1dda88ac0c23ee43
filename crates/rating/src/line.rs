//! A rated line with everything that explains it.

use rust_decimal::Decimal;

use crate::{Currency, Money, PriceType, Quantity};

/// The version of [`DetailedLine`]'s JSON.
pub const LINE_VERSION: u16 = 1;

/// One line of an invoice or of an estimate. It is stored as JSON in invoice lines and shown as "explain this charge".
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DetailedLine {
    /// The version of this shape, [`LINE_VERSION`].
    pub version: u16,
    /// What the line is for.
    pub kind: LineKind,
    /// What is charged, in the words of the rate card.
    pub description: String,
    /// The currency of every amount of the line.
    pub currency: Currency,
    /// How the price is computed; absent where the line comes from no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceType>,
    /// The units that this line covers. 1 for a fixed fee, 0 for a minimum.
    pub quantity: Quantity,
    /// The units of the same period that earlier lines covered; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub already_billed: Option<Quantity>,
    /// How many of the units the allowance took.
    pub free_units: Quantity,
    /// The units that the price was applied to: `quantity` without the free units.
    pub billable: Quantity,
    /// The price, step by step. Their amounts sum to `amount`.
    pub steps: Vec<Step>,
    /// What was taken off, in the order in which it was. Their amounts are negative.
    pub adjustments: Vec<Adjustment>,
    /// The sum of the steps.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub amount: Decimal,
    /// The sum of the steps and the adjustments, before rounding.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub unrounded: Decimal,
    /// `total - unrounded`. In a period that is billed in parts, the parts' totals add up to the rounded whole, so that a part may carry up to one
    /// whole smallest unit.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub rounding: Decimal,
    /// What is charged, with exactly the currency's decimals. Negative when a correction lowered what had been billed.
    #[cfg_attr(feature = "utoipa", schema(value_type = String, examples("12.50")))]
    pub total: Decimal,
    /// The whole computation on one line of text.
    pub formula: String,
}

impl DetailedLine {
    /// What is charged.
    pub fn total_money(&self) -> Money {
        Money::of_line(self.total, self.currency)
    }

    /// What one billed unit cost on average, unrounded; absent when no unit was used.
    pub fn average_unit_amount(&self) -> Option<Decimal> {
        self.unrounded.checked_div(self.quantity.units())
    }
}

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum LineKind {
    /// A fixed fee.
    Fee,
    /// Use of a meter.
    Usage,
    /// What a rate card's minimum spend adds to its use.
    MinimumSpend,
    /// What a plan's minimum adds to all its lines.
    PlanMinimum,
}

/// `quantity * unit_amount + flat_amount = amount`, before rounding. Only for a prorated fee `amount` is a share of that.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Step {
    /// What is multiplied.
    #[serde(flatten)]
    pub basis: Basis,
    /// Units, or packages, or 1 for a fee.
    pub quantity: Quantity,
    /// The price of one.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub unit_amount: Decimal,
    /// What the step costs once.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub flat_amount: Decimal,
    /// What the step adds to the line.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub amount: Decimal,
}

/// What a step multiplies.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "basis", rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Basis {
    /// A fee for `days` of the period's `of_days`.
    Fee {
        /// The days served.
        days: u32,
        /// The days of the whole period.
        of_days: u32,
    },
    /// Units at one price.
    Units,
    /// Started packages.
    Packages {
        /// Units in a package.
        size: Quantity,
    },
    /// The units in one tier, or all units at the tier reached (volume).
    Tier {
        /// 1 is the first.
        number: u32,
        /// The tier holds what is above this.
        above: Quantity,
        /// And up to and with this; absent for the last tier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up_to: Option<Quantity>,
    },
    /// A share of the metered amount.
    Percent {
        /// The percentage; `unit_amount` is a hundredth of it.
        #[cfg_attr(feature = "utoipa", schema(value_type = String))]
        percent: Decimal,
    },
}

/// What was taken off a line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Adjustment {
    /// A percentage of the amount.
    PercentageDiscount {
        /// The percentage.
        #[cfg_attr(feature = "utoipa", schema(value_type = String))]
        percent: Decimal,
        /// What it takes off, negative.
        #[cfg_attr(feature = "utoipa", schema(value_type = String))]
        amount: Decimal,
    },
    /// What went beyond the maximum spend.
    MaximumSpend {
        /// The most that the period may cost.
        #[cfg_attr(feature = "utoipa", schema(value_type = String))]
        maximum: Decimal,
        /// What it takes off, negative.
        #[cfg_attr(feature = "utoipa", schema(value_type = String))]
        amount: Decimal,
    },
}

impl Adjustment {
    /// What it adds to the line: negative.
    pub const fn amount(&self) -> Decimal {
        match self {
            Self::PercentageDiscount { amount, .. } | Self::MaximumSpend { amount, .. } => *amount,
        }
    }
}
