//! Each unit at the price of its tier.

use rust_decimal::Decimal;

use super::Tier;
use crate::{
    Basis, MoneyError, Quantity, Step,
    money::{add, mul},
};

/// Each unit at the price of its tier. JSON: `{"type":"graduated","tiers":[{"up_to":"1000","unit_amount":"0.3","flat_amount":"0"},{"up_to":null,..}]}`.
///
/// `up_to` is inclusive. The first tier's flat amount is due without any use, a later tier's as soon as a unit, or a part of one, falls in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Graduated {
    /// From the first unit up; the last has no end.
    pub tiers: Vec<Tier>,
}

impl Graduated {
    pub(super) fn steps(&self, billable: Decimal) -> Result<Vec<Step>, MoneyError> {
        let mut steps = Vec::with_capacity(self.tiers.len());
        let mut above = Decimal::ZERO;
        for (number, tier) in (1_u32..).zip(&self.tiers) {
            let end = tier.up_to.map_or(billable, |up_to| up_to.units().min(billable));
            let units = end - above;
            steps.push(Step {
                basis: Basis::Tier { number, above: Quantity::new(above), up_to: tier.up_to },
                quantity: Quantity::new(units),
                unit_amount: tier.unit_amount,
                flat_amount: tier.flat_amount,
                amount: add(mul(units, tier.unit_amount)?, tier.flat_amount)?,
            });
            above = end;
            if tier.up_to.is_none_or(|up_to| billable <= up_to.units()) {
                break;
            }
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Basis, Proration,
        rate::testing::{card, lines, tiers, totals, totals_of},
    };

    const G1: &[(&str, &str, &str)] = &[("10", "10", "2"), ("20", "5", "3"), ("", "5", "3")];
    const G2: &[(&str, &str, &str)] = &[("5", "0", "100"), ("10", "0", "50"), ("15", "5", "0"), ("", "1", "0")];
    const G3: &[(&str, &str, &str)] = &[("5", "0", "100"), ("10", "0", "50"), ("15", "10", "0"), ("", "5", "0")];
    const KONG: &[(&str, &str, &str)] = &[("1000", "0.3", "0"), ("5000", "0.2", "0"), ("", "0.1", "0")];
    const FIRST_COSTS: &[(&str, &str, &str)] = &[("1", "500", "0"), ("1000", "0", "0"), ("", "0.1", "0")];
    const ZUPLO: &[(&str, &str, &str)] = &[("1000000", "0", "499"), ("", "0.0005", "0")];
    const STRIPE: &[(&str, &str, &str)] = &[("5", "7", "0"), ("10", "6.5", "0"), ("", "6", "0")];
    const LAGO: &[(&str, &str, &str)] = &[("100", "1", "0"), ("200", "0.5", "0"), ("", "0.1", "0")];
    const ADJACENT: &[(&str, &str, &str)] = &[("0.1", "10", "0"), ("1", "5", "0"), ("", "2", "0")];
    /// Percentages of a metered amount: 1 % is 0.01 for each unit of money.
    const PERCENT: &[(&str, &str, &str)] = &[("10", "0.01", "200"), ("20", "0.02", "300"), ("", "0.03", "400")];

    #[test]
    fn worked_examples() {
        // (row, tiers, quantity, total)
        let cases = [
            ("13", G1, "1", "12.00"),
            ("15", G1, "11", "110.00"),
            ("17", G1, "21", "163.00"),
            ("19", ADJACENT, "0.5", "3.00"),
            ("25 at 0", G3, "0", "100.00"),
            ("25 at 3", G3, "3", "100.00"),
            ("25 at 5", G3, "5", "100.00"),
            ("27", G3, "12", "170.00"),
            ("29", KONG, "6000", "1200.00"),
            ("31 at 2000", FIRST_COSTS, "2000", "600.00"),
            ("33", ZUPLO, "1200000", "599.00"),
            ("35 at 1", STRIPE, "1", "7.00"),
            ("35 at 6", STRIPE, "6", "41.50"),
            ("35 at 20", STRIPE, "20", "127.50"),
            ("35 at 25", STRIPE, "25", "157.50"),
            ("37", LAGO, "250", "155.00"),
            ("81 at 0", PERCENT, "0", "200.00"),
            ("81 at 1", PERCENT, "1", "200.01"),
            ("81 at 10", PERCENT, "10", "200.10"),
            ("81 at 11", PERCENT, "11", "500.12"),
            ("81 at 12", PERCENT, "12", "500.14"),
            ("81 at 21", PERCENT, "21", "900.33"),
            ("a part of a unit in the second tier owes its flat fee", G2, "5.001", "150.00"),
            ("the end of a tier is inside", G1, "10", "102.00"),
        ];
        for (row, table, quantity, total) in cases {
            assert_eq!(totals(&tiers("graduated", table, ""), quantity), total, "{row}");
        }
        assert_eq!(totals(&tiers("graduated", FIRST_COSTS, ""), "0"), "", "31 at 0: nothing is due");
    }

    /// Row 17's unit amount.
    #[test]
    fn the_average_price_of_a_unit() {
        let line = &lines(&tiers("graduated", G1, ""), "21", None, true, Proration::WHOLE)[0];
        assert_eq!(line.average_unit_amount().map(|amount| amount.round_dp(2).to_string()), Some("7.76".into()));
        assert_eq!(line.formula, "(10 × 10 + 2) + (10 × 5 + 3) + (1 × 5 + 3) = 163");
    }

    #[test]
    fn a_period_billed_in_parts() {
        // (row, terms, already billed, quantity so far, amounts of the steps, total)
        let cases = [
            ("21", "", "12", "22", "15 + 7", "22.00"),
            ("23", r#","maximum_spend":"170""#, "12", "22", "15 + 7", "10.00"),
            ("the flat fee of the first tier was billed", "", "0", "3", "", "0.00"),
            ("the flat fee of the second tier was not", "", "3", "6", "50", "50.00"),
        ];
        for (row, terms, already, quantity, steps, total) in cases {
            let line = &lines(&tiers("graduated", G2, terms), quantity, Some(already), false, Proration::WHOLE)[0];
            let amounts: Vec<String> =
                line.steps.iter().filter(|step| !step.amount.is_zero()).map(|step| step.amount.normalize().to_string()).collect();
            assert_eq!(amounts.join(" + "), steps, "{row}");
            assert_eq!(line.total.to_string(), total, "{row}");
        }
    }

    #[test]
    fn steps_say_which_tier_they_are() {
        let line = &lines(&tiers("graduated", KONG, ""), "1500", None, true, Proration::WHOLE)[0];
        let bounds: Vec<String> = line
            .steps
            .iter()
            .map(|step| match &step.basis {
                Basis::Tier { number, above, up_to } => format!("{number}: {above} {up_to:?}, {} units", step.quantity),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(bounds, ["1: 0 Some(Quantity(1000)), 1000 units", "2: 1000 Some(Quantity(5000)), 500 units"]);
    }

    #[test]
    fn free_units_come_before_the_tiers() {
        let card =
            card(r#"{"price":{"type":"graduated","tiers":[{"up_to":"10","unit_amount":"1"},{"unit_amount":"2"}]},"free_units":"5"}"#);
        assert_eq!(totals(&card, "16"), "12.00");
        assert_eq!(totals_of(&card, "16", Some("12"), true, Proration::WHOLE), "5.00");
    }
}
