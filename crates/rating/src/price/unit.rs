//! Each unit at one price.

use rust_decimal::Decimal;

use crate::{Basis, MoneyError, Quantity, Step, money::mul};

/// Each unit at one price. JSON: `{"type":"unit","unit_amount":"0.05"}`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Unit {
    /// The price of a unit.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub unit_amount: Decimal,
}

impl Unit {
    pub(super) fn steps(&self, billable: Decimal) -> Result<Vec<Step>, MoneyError> {
        Ok(vec![Step {
            basis: Basis::Units,
            quantity: Quantity::new(billable),
            unit_amount: self.unit_amount,
            flat_amount: Decimal::ZERO,
            amount: mul(billable, self.unit_amount)?,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Proration,
        rate::testing::{card, totals, totals_of},
    };

    #[test]
    fn worked_examples() {
        // (row, card without its price, unit amount, quantity, totals of the lines)
        let cases = [
            ("1", "", "0.05", "1000", "50.00"),
            ("3", "", "0.01", "10000", "100.00"),
            ("5", r#","free_units":"900""#, "0.1", "1000", "10.00"),
            ("7", r#","minimum_spend":"100""#, "10", "0", "100.00"),
            ("11", r#","minimum_spend":"100""#, "0.010", "5000", "50.00 + 50.00"),
            ("83", "", "1.33333", "10", "13.33"),
            ("85", "", "0.0201", "20", "0.40"),
            ("free units are not passed", r#","free_units":"900""#, "0.1", "899.5", "0.00"),
            ("nothing used, nothing to say", "", "0.1", "0", ""),
            ("a correction left less than nothing", "", "0.1", "-5", "0.00"),
        ];
        for (row, terms, unit_amount, quantity, expected) in cases {
            let card = card(&format!(r#"{{"price":{{"type":"unit","unit_amount":"{unit_amount}"}}{terms}}}"#));
            assert_eq!(totals(&card, quantity), expected, "{row}");
        }
    }

    /// Row 85: the meter's precise 40.2 cents over 20 units, unit amount 0.0201.
    #[test]
    fn the_average_is_the_unit_amount() {
        let card = card(r#"{"price":{"type":"unit","unit_amount":"0.0201"}}"#);
        let line = &crate::rate::testing::lines(&card, "20", None, true, Proration::WHOLE)[0];
        assert_eq!(line.unrounded.normalize().to_string(), "0.402");
        assert_eq!(line.average_unit_amount().map(|amount| amount.normalize().to_string()), Some("0.0201".into()));
    }

    /// Row 87: 2500 units from 5 March weigh 27 of 31 days.
    #[test]
    fn prices_a_quantity_weighed_by_time() {
        let card = card(r#"{"price":{"type":"unit","unit_amount":"1"}}"#);
        let weighed = Quantity::from_units(2500).checked_share(27, 31).expect("in range");
        assert_eq!(totals(&card, &weighed.to_string()), "2177.42");
    }

    #[test]
    fn a_period_billed_in_parts() {
        // (row, card, already billed, quantity of the whole so far, end of the period, totals)
        let cases = [
            ("9", r#","maximum_spend":"100""#, "7", "12", false, "30.00"),
            ("127", r#","free_units":"10""#, "5", "20", false, "100.00"),
            ("127, the first part", r#","free_units":"10""#, "0", "5", false, "0.00"),
            ("the minimum waits for the end", r#","minimum_spend":"100""#, "2", "5", false, "30.00"),
            ("the minimum counts what was billed", r#","minimum_spend":"100""#, "2", "5", true, "30.00 + 50.00"),
            ("a correction gives back", "", "7", "5", false, "-20.00"),
        ];
        for (row, terms, already, quantity, ends, expected) in cases {
            let card = card(&format!(r#"{{"price":{{"type":"unit","unit_amount":"10"}}{terms}}}"#));
            assert_eq!(totals_of(&card, quantity, Some(already), ends, Proration::WHOLE), expected, "{row}");
        }
    }

    /// Row 107: a minimum of 10.00 over 25 of 28 days, with use for 8.00.
    #[test]
    fn the_minimum_is_prorated() {
        let card = card(r#"{"price":{"type":"unit","unit_amount":"1"},"minimum_spend":"10"}"#);
        let proration = Proration::new(25, 28).expect("25 of 28 days");
        assert_eq!(totals_of(&card, "8", None, true, proration), "8.00 + 0.93");
    }
}
