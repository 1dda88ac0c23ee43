//! What a minimum adds: a line of its own.

use rust_decimal::Decimal;

use super::Proration;
use crate::{
    Currency, DetailedLine, LINE_VERSION, LineKind, Money, MoneyError, Quantity,
    money::{round, sub},
    text::number,
};

/// A minimum and what was spent of it.
pub(crate) struct Minimum<'a> {
    pub kind: LineKind,
    pub description: &'a str,
    pub currency: Currency,
    /// Of a whole period.
    pub minimum: Decimal,
    pub proration: Proration,
    /// What the period's lines come to, before rounding.
    pub spent: Decimal,
}

/// What is missing to the prorated minimum; nothing when nothing is. Rounded sides are subtracted, so that the lines add up to the rounded minimum.
pub(crate) fn minimum_line(input: &Minimum<'_>) -> Result<Option<DetailedLine>, MoneyError> {
    let due = input.proration.of(input.minimum)?;
    let unrounded = sub(due, input.spent)?;
    let total = round(due, input.currency) - round(input.spent, input.currency);
    if total <= Decimal::ZERO {
        return Ok(None);
    }
    let minimum = if input.proration.is_whole() {
        number(input.minimum)
    } else {
        format!("{} × {}/{} days", number(input.minimum), input.proration.days(), input.proration.of_days())
    };
    Ok(Some(DetailedLine {
        version: LINE_VERSION,
        kind: input.kind,
        description: input.description.to_owned(),
        currency: input.currency,
        price: None,
        quantity: Quantity::ZERO,
        already_billed: None,
        free_units: Quantity::ZERO,
        billable: Quantity::ZERO,
        steps: Vec::new(),
        adjustments: Vec::new(),
        amount: unrounded,
        unrounded,
        rounding: total - unrounded,
        total,
        formula: format!("{minimum} - {} spent = {}", number(input.spent), number(unrounded)),
    }))
}

/// The true-up of a plan's minimum commitment over the totals of all lines of one period, those that were billed before its end included.
/// Nothing is returned when the lines reach the minimum.
pub fn plan_minimum(
    description: &str,
    minimum: Money,
    proration: Proration,
    billed: impl IntoIterator<Item = Money>,
) -> Result<Option<DetailedLine>, MoneyError> {
    let currency = minimum.currency();
    let spent = Money::sum(currency, billed)?.amount();
    minimum_line(&Minimum { kind: LineKind::PlanMinimum, description, currency, minimum: minimum.amount(), proration, spent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::testing::{card, totals_of};

    /// Rows 109 and 111: a plan of 1000 with a commitment of 10,000 on the same card.
    #[test]
    fn a_commitment_over_a_fee() {
        let card = card(r#"{"price":{"type":"flat","amount":"1000"},"minimum_spend":"10000"}"#);
        for (row, days, of_days, expected) in [("109", 25, 28, "892.86 + 8035.71"), ("111", 56, 90, "622.22 + 5600.00")] {
            let proration = Proration::new(days, of_days).expect("days within the period");
            assert_eq!(totals_of(&card, "0", None, true, proration), expected, "{row}");
        }
    }

    /// Row 113: a plan of 100 with use of 10 + 10 + 10, all in arrears.
    #[test]
    fn a_commitment_over_all_lines_of_a_plan() {
        let usd = |cents| Money::from_minor_units(cents, Currency::USD).expect("in range");
        let line = plan_minimum("Commitment", usd(1_000_000), Proration::WHOLE, [10_000, 1_000, 1_000, 1_000].map(usd))
            .expect("one currency")
            .expect("something is missing");
        assert_eq!(line.total.to_string(), "9870.00");
        assert_eq!(line.formula, "10000 - 130 spent = 9870");
        assert_eq!(line.kind, LineKind::PlanMinimum);
        assert_eq!(plan_minimum("Commitment", usd(100), Proration::WHOLE, [usd(100)]), Ok(None));
        let euros = Money::from_minor_units(100, Currency::EUR).expect("in range");
        assert!(plan_minimum("Commitment", usd(100), Proration::WHOLE, [euros]).is_err());
    }
}
