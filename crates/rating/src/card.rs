//! The terms of one meter or fixed fee.

use std::fmt;

use rust_decimal::Decimal;

use crate::{Price, Quantity};

/// The decimals that a price may have: a ten-thousandth of a cent, and six more.
const MAX_AMOUNT_DECIMALS: u32 = 12;
/// The decimals of a quantity: micro-units.
const MAX_QUANTITY_DECIMALS: u32 = 6;
/// The largest amount or quantity that a card may name.
const MAX_VALUE: Decimal = Decimal::from_parts(3_567_587_328, 232, 0, false, 0);

/// The terms of one meter or fixed fee. JSON:
/// `{"price":{"type":"unit","unit_amount":"0.05"},"free_units":"1000","discount_percent":"10","minimum_spend":"20","maximum_spend":"500"}`, where
/// only `price` is required. Amounts and quantities are decimal strings. The currency is the plan's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RateCard {
    /// How units become money.
    pub price: Price,
    /// The allowance: units of a period that cost nothing. It is not prorated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_units: Option<Quantity>,
    /// A percentage off the price, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<String>))]
    pub discount_percent: Option<Decimal>,
    /// The least that a whole period costs. It is prorated by day, as fixed fees are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<String>))]
    pub minimum_spend: Option<Decimal>,
    /// The most that a period costs. It is not prorated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<String>))]
    pub maximum_spend: Option<Decimal>,
}

impl RateCard {
    /// A price and nothing else.
    pub const fn new(price: Price) -> Self {
        Self { price, free_units: None, discount_percent: None, minimum_spend: None, maximum_spend: None }
    }

    /// Whether the terms make sense; the error names every field that does not, and the fix.
    pub fn validate(&self) -> Result<(), InvalidRateCard> {
        let mut problems = Problems::default();
        self.price.check(&mut problems);
        if let Some(free) = self.free_units {
            problems.quantity("free_units", free);
            if matches!(self.price, Price::Flat(_)) && !free.is_zero() {
                problems.add("free_units", "must be left out of a flat price, which counts no units");
            }
        }
        if let Some(percent) = self.discount_percent {
            problems.percent("discount_percent", percent);
        }
        if let Some(minimum) = self.minimum_spend {
            problems.amount("minimum_spend", minimum);
        }
        if let Some(maximum) = self.maximum_spend {
            problems.amount("maximum_spend", maximum);
            if self.minimum_spend.is_some_and(|minimum| minimum > maximum) {
                problems.add("maximum_spend", "must not be below `minimum_spend`");
            }
        }
        problems.finish()
    }
}

/// A field of a rate card that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Where it is, as JSON names it: `price.tiers[1].up_to`.
    pub field: String,
    /// What it must be.
    pub fix: String,
}

/// A rate card that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidRateCard {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for InvalidRateCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "`{}` {}", problem.field, problem.fix)?;
        }
        Ok(())
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub fn add(&mut self, field: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Problem { field: field.into(), fix: fix.into() });
    }

    /// An amount of money: zero or more, within what amounts may have of digits.
    pub fn amount(&mut self, field: impl Into<String>, amount: Decimal) {
        if amount < Decimal::ZERO {
            self.add(field, "must not be negative");
        } else if amount > MAX_VALUE {
            self.add(field, "must not pass 1000000000000 (10^12)");
        } else if amount.normalize().scale() > MAX_AMOUNT_DECIMALS {
            self.add(field, "must have at most 12 decimals");
        }
    }

    /// A quantity: zero or more, in micro-units.
    pub fn quantity(&mut self, field: impl Into<String>, quantity: Quantity) {
        let units = quantity.units();
        if units < Decimal::ZERO {
            self.add(field, "must not be negative");
        } else if units > MAX_VALUE {
            self.add(field, "must not pass 1000000000000 (10^12)");
        } else if units.normalize().scale() > MAX_QUANTITY_DECIMALS {
            self.add(field, "must have at most 6 decimals");
        }
    }

    pub fn percent(&mut self, field: impl Into<String>, percent: Decimal) {
        if percent < Decimal::ZERO || percent > Decimal::ONE_HUNDRED {
            self.add(field, "must be between 0 and 100");
        } else if percent.normalize().scale() > MAX_QUANTITY_DECIMALS {
            self.add(field, "must have at most 6 decimals");
        }
    }

    pub fn finish(self) -> Result<(), InvalidRateCard> {
        if self.0.is_empty() { Ok(()) } else { Err(InvalidRateCard { problems: self.0 }) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(card: Value) -> Vec<String> {
        let card: RateCard = serde_json::from_value(card).expect("the shape of a card");
        card.validate().err().map_or_else(Vec::new, |invalid| invalid.problems.into_iter().map(|problem| problem.field).collect())
    }

    /// The first version of each price, as plans store it. These texts are never edited.
    #[test]
    fn json_of_the_first_version_is_read_and_written_for_ever() {
        let goldens = [
            json!({"price": {"type": "flat", "amount": "49.00"}}),
            json!({"price": {"type": "unit", "unit_amount": "0.05"}, "free_units": "1000", "discount_percent": "10", "minimum_spend": "20", "maximum_spend": "500"}),
            json!({"price": {"type": "package", "size": "1000", "amount": "1.5"}}),
            json!({"price": {"type": "graduated", "tiers": [{"up_to": "1000", "unit_amount": "0.3", "flat_amount": "0"}, {"up_to": null, "unit_amount": "0.1", "flat_amount": "5"}]}}),
            json!({"price": {"type": "volume", "tiers": [{"up_to": "0.5", "unit_amount": "2", "flat_amount": "10"}, {"up_to": null, "unit_amount": "1", "flat_amount": "0"}]}}),
            json!({"price": {"type": "percentage", "percent": "2.9"}}),
        ];
        for golden in goldens {
            let card: RateCard = serde_json::from_value(golden.clone()).expect("the golden JSON");
            assert_eq!(card.validate(), Ok(()));
            assert_eq!(serde_json::to_value(&card).expect("a card is JSON"), golden);
        }
    }

    #[test]
    fn a_tier_may_leave_out_what_it_does_not_use() {
        let short: Price = serde_json::from_value(json!({"type": "graduated", "tiers": [{"unit_amount": "0.3"}]})).expect("a short tier");
        let long: Price =
            serde_json::from_value(json!({"type": "graduated", "tiers": [{"up_to": null, "unit_amount": "0.3", "flat_amount": "0"}]}))
                .expect("the same in full");
        assert_eq!(short, long);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for unknown in [
            json!({"price": {"type": "graduated_v2", "tiers": []}}),
            json!({"price": {"type": "unit", "unit_amount": "0.05", "per": "2"}}),
            json!({"price": {"type": "unit", "unit_amount": 0.05}}),
            json!({"price": {"type": "unit", "unit_amount": "0.05"}, "maximum": "5"}),
            json!({"price": {"type": "volume", "tiers": [{"up_to": null, "unit_amount": "1", "flat": "0"}]}}),
        ] {
            assert!(serde_json::from_value::<RateCard>(unknown.clone()).is_err(), "{unknown}");
        }
    }

    #[test]
    fn problems_name_the_field() {
        let cases = [
            (json!({"price": {"type": "flat", "amount": "-1"}, "free_units": "1"}), vec!["price.amount", "free_units"]),
            (json!({"price": {"type": "unit", "unit_amount": "0.0000000000001"}}), vec!["price.unit_amount"]),
            (json!({"price": {"type": "package", "size": "0", "amount": "1"}}), vec!["price.size"]),
            (json!({"price": {"type": "percentage", "percent": "101"}}), vec!["price.percent"]),
            (json!({"price": {"type": "graduated", "tiers": []}}), vec!["price.tiers"]),
            (
                json!({"price": {"type": "graduated", "tiers": [{"up_to": "10"}, {"up_to": "10"}, {"up_to": "20"}]}}),
                vec!["price.tiers[1].up_to", "price.tiers[2].up_to"],
            ),
            (json!({"price": {"type": "volume", "tiers": [{"up_to": null}, {"up_to": null}]}}), vec!["price.tiers[0].up_to"]),
            (
                json!({"price": {"type": "volume", "tiers": [{"up_to": "0"}, {"unit_amount": "-1", "flat_amount": "1000000000001"}]}}),
                vec!["price.tiers[0].up_to", "price.tiers[1].unit_amount", "price.tiers[1].flat_amount"],
            ),
            (
                json!({"price": {"type": "unit", "unit_amount": "1"}, "free_units": "0.0000001", "discount_percent": "-1", "minimum_spend": "2", "maximum_spend": "1"}),
                vec!["free_units", "discount_percent", "maximum_spend"],
            ),
        ];
        for (card, fields) in cases {
            assert_eq!(problems(card.clone()), fields, "{card}");
        }
        let invalid = RateCard::new(Price::Flat(crate::Flat { amount: Decimal::NEGATIVE_ONE })).validate().expect_err("a negative fee");
        assert_eq!(invalid.to_string(), "`price.amount` must not be negative");
    }
}
