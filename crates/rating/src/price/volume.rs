//! All units at the price of the tier reached.

use rust_decimal::Decimal;

use super::Tier;
use crate::{
    Basis, MoneyError, Quantity, Step,
    money::{add, mul},
};

/// All units at the price of the tier in which the quantity ends. JSON as of [`super::Graduated`], with `"type":"volume"`.
///
/// Because one more unit can make all of them cheaper, it is billed at the end of the period only.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Volume {
    /// From the first unit up; the last has no end.
    pub tiers: Vec<Tier>,
}

impl Volume {
    pub(super) fn steps(&self, billable: Decimal) -> Result<Vec<Step>, MoneyError> {
        let reached = self.tiers.iter().position(|tier| tier.up_to.is_none_or(|up_to| billable <= up_to.units()));
        let Some((index, tier)) = reached.and_then(|index| Some((index, self.tiers.get(index)?))) else {
            return Ok(Vec::new());
        };
        let above = index.checked_sub(1).and_then(|before| self.tiers.get(before)?.up_to).unwrap_or_default();
        Ok(vec![Step {
            basis: Basis::Tier { number: u32::try_from(index + 1).unwrap_or(u32::MAX), above, up_to: tier.up_to },
            quantity: Quantity::new(billable),
            unit_amount: tier.unit_amount,
            flat_amount: tier.flat_amount,
            amount: add(mul(billable, tier.unit_amount)?, tier.flat_amount)?,
        }])
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Proration, RateError,
        rate::testing::{input, tiers, totals, totals_of},
    };

    const V1: &[(&str, &str, &str)] = &[("100", "2", "10"), ("200", "1", "0"), ("", "0.5", "50")];
    const V2: &[(&str, &str, &str)] = &[("5", "0", "100"), ("10", "0", "150"), ("15", "10", "0"), ("", "5", "0")];
    const KONG: &[(&str, &str, &str)] = &[("1000", "0.3", "0"), ("5000", "0.2", "0"), ("", "0.1", "0")];
    const ZUPLO: &[(&str, &str, &str)] = &[("1000", "0.10", "0"), ("10000", "0.05", "0"), ("", "0.01", "0")];

    #[test]
    fn worked_examples() {
        // (row, tiers, terms, quantity, totals)
        let cases = [
            ("39", V1, "", "1", "12.00"),
            ("41", V1, "", "100.5", "100.50"),
            ("43", V1, "", "200", "200.00"),
            ("47 at 0", V2, "", "0", "100.00"),
            ("47 at 3", V2, "", "3", "100.00"),
            ("47 at 5", V2, "", "5", "100.00"),
            ("49 at 0", V2, r#","minimum_spend":"150""#, "0", "100.00 + 50.00"),
            ("49 at 5", V2, r#","minimum_spend":"150""#, "5", "100.00 + 50.00"),
            ("53", KONG, "", "6000", "600.00"),
            ("55", ZUPLO, "", "15000", "150.00"),
            ("the end of a tier is inside", V1, "", "100", "210.00"),
            ("beyond the last bound", V1, "", "201", "150.50"),
        ];
        for (row, table, terms, quantity, expected) in cases {
            assert_eq!(totals(&tiers("volume", table, terms), quantity), expected, "{row}");
        }
    }

    /// Row 51.
    #[test]
    fn nothing_is_billed_before_the_end_of_the_period() {
        let card = tiers("volume", V2, r#","minimum_spend":"150""#);
        assert_eq!(totals_of(&card, "12", None, false, Proration::WHOLE), "");
        let refused = crate::rate(&input(&card, "12", Some("5"), true, Proration::WHOLE));
        assert_eq!(refused, Err(RateError::VolumeAlreadyBilled));
    }
}
