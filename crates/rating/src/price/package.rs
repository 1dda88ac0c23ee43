//! Started packages of units.

use rust_decimal::Decimal;

use crate::{Basis, MoneyError, Quantity, Step, card::Problems, money::mul};

/// Started packages of units: `ceil(units / size) * amount`, 0 at 0. JSON: `{"type":"package","size":"1000","amount":"1.5"}`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Package {
    /// Units in a package.
    pub size: Quantity,
    /// The price of a package.
    #[cfg_attr(feature = "utoipa", schema(value_type = String))]
    pub amount: Decimal,
}

impl Package {
    pub(super) fn steps(&self, billable: Decimal) -> Result<Vec<Step>, MoneyError> {
        let packages = billable.checked_div(self.size.units()).ok_or(MoneyError::OutOfRange)?.ceil();
        Ok(vec![Step {
            basis: Basis::Packages { size: self.size },
            quantity: Quantity::new(packages),
            unit_amount: self.amount,
            flat_amount: Decimal::ZERO,
            amount: mul(packages, self.amount)?,
        }])
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        problems.quantity("price.size", self.size);
        if self.size.is_zero() {
            problems.add("price.size", "must be above 0");
        }
        problems.amount("price.amount", self.amount);
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Proration,
        rate::testing::{card, totals, totals_of},
    };

    #[test]
    fn worked_examples() {
        // (row, size, amount, terms, quantity, totals)
        let cases = [
            ("57", "1000", "1", "", "4500", "5.00"),
            ("59", "10", "100", r#","free_units":"10""#, "121", "1200.00"),
            ("61", "100", "5", r#","free_units":"100""#, "201", "10.00"),
            ("65", "10", "15", r#","minimum_spend":"100""#, "0", "100.00"),
            ("67 at 1", "5", "10", "", "1", "10.00"),
            ("67 at 3", "5", "10", "", "3", "10.00"),
            ("67 at 5", "5", "10", "", "5", "10.00"),
            ("67 at 6", "5", "10", "", "6", "20.00"),
            ("67 at 7", "5", "10", "", "7", "20.00"),
            // Row 69 takes half a package off after rounding up and gives 15; here free units are taken off before the price.
            ("69, by the order of free units before price", "1000", "10", r#","free_units":"500""#, "1400", "10.00"),
            ("a thousandth begins a package", "10", "15", "", "10.001", "30.00"),
            ("nothing used", "10", "15", "", "0", ""),
            ("less than nothing used", "10", "15", "", "-3", "0.00"),
        ];
        for (row, size, amount, terms, quantity, expected) in cases {
            let card = card(&format!(r#"{{"price":{{"type":"package","size":"{size}","amount":"{amount}"}}{terms}}}"#));
            assert_eq!(totals(&card, quantity), expected, "{row}");
        }
    }

    #[test]
    fn a_period_billed_in_parts() {
        // (row, size, amount, already billed, quantity so far, totals)
        let cases = [
            ("63", "10", "15", "17", "22", "15.00"),
            // Row 71: a converter that rounds each part up bills 20 here; what is due is the third package.
            ("71, rated cumulatively", "1000", "10", "1400", "2700", "10.00"),
            ("within the package that was billed", "10", "15", "17", "20", "0.00"),
        ];
        for (row, size, amount, already, quantity, expected) in cases {
            let card = card(&format!(r#"{{"price":{{"type":"package","size":"{size}","amount":"{amount}"}}}}"#));
            assert_eq!(totals_of(&card, quantity, Some(already), false, Proration::WHOLE), expected, "{row}");
        }
    }
}
