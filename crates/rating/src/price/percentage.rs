//! A share of a metered amount of money.

use rust_decimal::Decimal;

use crate::{Basis, MoneyError, Quantity, Step, money::mul};

/// A share of a metered amount of money, such as the value of the orders that an API handled. The meter's unit is one unit of the plan's currency.
/// JSON: `{"type":"percentage","percent":"2.9"}`.
///
/// A fee for each call beside it is a second rate card on a counting meter. Percentages in tiers are a graduated price with hundredths of the
/// percentages as unit amounts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Percentage {
    /// 0 to 100.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub percent: Decimal,
}

impl Percentage {
    pub(super) fn steps(&self, billable: Decimal) -> Result<Vec<Step>, MoneyError> {
        let unit_amount = mul(self.percent, Decimal::new(1, 2))?;
        Ok(vec![Step {
            basis: Basis::Percent { percent: self.percent },
            quantity: Quantity::new(billable),
            unit_amount,
            flat_amount: Decimal::ZERO,
            amount: mul(billable, unit_amount)?,
        }])
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Proration,
        rate::testing::{card, lines, totals},
    };

    #[test]
    fn worked_examples() {
        // (row, percent, terms, quantity, unrounded)
        let cases = [
            ("73", "2.9", "", "4", "0.116"),
            ("77, the sum of 10, 80 and 10000", "2.99", "", "10090", "301.691"),
            ("75, the share of 800 of which the first three events' 400 are free", "1.3", r#","free_units":"400""#, "800", "5.2"),
            ("85, the meter sums the price itself", "100", "", "0.402", "0.402"),
        ];
        for (row, percent, terms, quantity, unrounded) in cases {
            let card = card(&format!(r#"{{"price":{{"type":"percentage","percent":"{percent}"}}{terms}}}"#));
            let line = &lines(&card, quantity, None, true, Proration::WHOLE)[0];
            assert_eq!(line.unrounded.normalize().to_string(), unrounded, "{row}");
        }
    }

    /// Row 75: 1.3 % and 2 for each event after three free ones come from two cards: 5.20 + 2.00.
    #[test]
    fn a_fee_for_each_event_is_a_second_card() {
        assert_eq!(totals(&card(r#"{"price":{"type":"unit","unit_amount":"2"},"free_units":"3"}"#), "4"), "2.00");
    }
}
