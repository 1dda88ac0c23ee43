//! A fixed fee for the period, prorated by calendar day.

use rust_decimal::Decimal;

use crate::{Basis, MoneyError, Proration, Quantity, Step};

/// A fixed fee for the period. JSON: `{"type":"flat","amount":"49"}`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Flat {
    /// The fee of a whole period.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub amount: Decimal,
}

impl Flat {
    pub(super) fn steps(&self, proration: Proration) -> Result<Vec<Step>, MoneyError> {
        Ok(vec![Step {
            basis: Basis::Fee { days: proration.days(), of_days: proration.of_days() },
            quantity: Quantity::from_units(1),
            unit_amount: self.amount,
            flat_amount: Decimal::ZERO,
            amount: proration.of(self.amount)?,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::testing::{card, totals_of};

    #[test]
    fn worked_examples() {
        // (row, fee of the whole period, days served, days of the period, total)
        let cases = [
            ("97, the old plan's share", "20", 15, 30, "10.00"),
            ("97, the new plan's share", "50", 15, 30, "25.00"),
            ("99, before 20 % tax", "50", 24, 31, "38.71"),
            ("101, before 20 % tax", "50", 22, 28, "39.29"),
            ("101, the credit before tax", "50", 21, 28, "37.50"),
            ("103", "910", 32, 91, "320.00"),
            ("105, the credit before tax", "160", 29, 30, "154.67"),
            ("109, the plan's share", "1000", 25, 28, "892.86"),
            ("a whole period", "49.99", 1, 1, "49.99"),
            ("no day", "49.99", 0, 31, "0.00"),
        ];
        for (row, amount, days, of_days, total) in cases {
            let card = card(&format!(r#"{{"price":{{"type":"flat","amount":"{amount}"}}}}"#));
            let proration = Proration::new(days, of_days).expect("days within the period");
            assert_eq!(totals_of(&card, "0", None, true, proration), total, "{row}");
        }
    }
}
