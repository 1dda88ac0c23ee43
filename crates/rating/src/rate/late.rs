//! What a period owes that was billed to its end.

use rust_decimal::Decimal;

use super::{RateCardInput, RateError, Whole, priced_line, rate};
use crate::{
    DetailedLine, LineKind, Quantity,
    adjust::{Minimum, minimum_line},
};

/// Rates units of a period that became known after it was billed to its end, or were taken off it: the period is rated whole as it is known now, and the
/// difference to what was billed is charged, or owed back. `already_billed` is what was billed; where nothing was, this is [`rate`] at the period's end.
///
/// Unlike [`rate`], which bills parts of a running period, this prices volume and trues up minimums again: what was billed and what is late add up to
/// what the whole would have cost.
pub fn rate_late(input: &RateCardInput<'_>) -> Result<Vec<DetailedLine>, RateError> {
    let Some(billed) = input.already_billed else { return rate(&RateCardInput { ends_period: true, ..*input }) };
    input.card.validate()?;
    let whole = Whole::rate(input.card, input.quantity, input.proration)?;
    let before = Whole::rate(input.card, billed, input.proration)?;
    let mut lines: Vec<DetailedLine> = priced_line(input, &whole, &before)?.into_iter().collect();
    if let Some(minimum) = input.card.minimum_spend {
        let trued_up = |spent: Decimal| {
            minimum_line(&Minimum {
                kind: LineKind::MinimumSpend,
                description: input.description,
                currency: input.currency,
                minimum,
                proration: input.proration,
                spent,
            })
        };
        lines.extend(difference(trued_up(whole.adjusted.left)?, trued_up(before.adjusted.left)?));
    }
    Ok(lines)
}

/// What the minimum adds now, less what it added before.
fn difference(now: Option<DetailedLine>, before: Option<DetailedLine>) -> Option<DetailedLine> {
    let template = now.clone().or_else(|| before.clone())?;
    let of = |line: &Option<DetailedLine>, amount: fn(&DetailedLine) -> Decimal| line.as_ref().map(amount).unwrap_or_default();
    let total = of(&now, |line| line.total) - of(&before, |line| line.total);
    if total.is_zero() {
        return None;
    }
    let unrounded = of(&now, |line| line.unrounded) - of(&before, |line| line.unrounded);
    let formula = |line: &Option<DetailedLine>| line.as_ref().map_or_else(|| "0".to_owned(), |line| format!("({})", line.formula));
    Some(DetailedLine {
        already_billed: Some(Quantity::ZERO),
        amount: unrounded,
        unrounded,
        rounding: total - unrounded,
        total,
        formula: format!("{} - {} billed before", formula(&now), formula(&before)),
        ..template
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Currency, Proration,
        rate::testing::{card, input, tiers},
    };

    fn totals(lines: &[DetailedLine]) -> String {
        lines.iter().map(|line| line.total.to_string()).collect::<Vec<_>>().join(" + ")
    }

    #[test]
    fn late_units_continue_in_the_tier_that_was_reached() {
        let graduated = tiers("graduated", &[("100", "1", "0"), ("", "0.5", "10")], "");
        let late = |now, billed| rate_late(&input(&graduated, now, Some(billed), true, Proration::WHOLE)).expect("lines");
        assert_eq!(totals(&late("90", "80")), "10.00");
        assert_eq!(totals(&late("120", "90")), "30.00", "ten units at 1, the flat fee of the second tier, twenty at 0.5");
        assert_eq!(totals(&late("90", "120")), "-30.00", "and back");
        let volume = tiers("volume", &[("100", "1", "0"), ("", "0.5", "0")], "");
        let late = |now, billed| rate_late(&input(&volume, now, Some(billed), true, Proration::WHOLE)).expect("lines");
        assert_eq!(totals(&late("110", "90")), "-35.00", "all units move to the cheaper tier");
    }

    #[test]
    fn late_units_use_up_what_a_minimum_had_added() {
        let card = card(r#"{"price":{"type":"unit","unit_amount":"1"},"minimum_spend":"100"}"#);
        let late = |now, billed| rate_late(&input(&card, now, Some(billed), true, Proration::WHOLE)).expect("lines");
        assert_eq!(totals(&late("80", "30")), "50.00 + -50.00");
        assert_eq!(totals(&late("130", "30")), "100.00 + -70.00");
        assert_eq!(totals(&late("130", "120")), "10.00");
        assert_eq!(totals(&late("30", "30")), "");
    }

    fn any_price() -> impl Strategy<Value = (String, &'static str)> {
        let tier = (1_i64..40, 0_i64..300, 0_i64..500);
        (proptest::collection::vec(tier, 1..4), any::<bool>()).prop_map(|(widths, volume)| {
            let mut up_to = 0;
            let last = widths.len() - 1;
            let rows: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(index, (width, unit, flat))| {
                    up_to += width;
                    let bound = if index == last { "null".to_owned() } else { format!("\"{up_to}\"") };
                    format!(r#"{{"up_to":{bound},"unit_amount":"0.{unit:03}","flat_amount":"{flat}"}}"#)
                })
                .collect();
            (rows.join(","), if volume { "volume" } else { "graduated" })
        })
    }

    proptest! {
        /// What was billed and what is late is what the whole would have cost, however often something comes late or is taken off.
        #[test]
        fn billed_and_late_cost_what_the_whole_does(
            (tiers, model) in any_price(),
            free in 0_i64..20,
            minimum in prop::option::of(0_i64..2000),
            quantities in prop::collection::vec(0_i64..150, 1..6),
            days in 1_u32..=31,
        ) {
            let minimum = minimum.map(|minimum| format!(r#","minimum_spend":"{minimum}""#)).unwrap_or_default();
            let card = card(&format!(r#"{{"price":{{"type":"{model}","tiers":[{tiers}]}},"free_units":"{free}"{minimum}}}"#));
            let proration = Proration::new(days, 31).expect("days of a month");
            let at = |quantity: i64, already_billed: Option<i64>| RateCardInput {
                description: "Calls",
                card: &card,
                currency: Currency::USD,
                quantity: Quantity::from_units(quantity),
                already_billed: already_billed.map(Quantity::from_units),
                ends_period: true,
                proration,
            };
            let sum = |lines: Vec<DetailedLine>| lines.iter().map(|line| line.total).sum::<Decimal>();
            let mut billed = sum(rate(&at(quantities[0], None)).expect("lines"));
            for pair in quantities.windows(2) {
                let lines = rate_late(&at(pair[1], Some(pair[0]))).expect("lines");
                for line in &lines {
                    prop_assert_eq!(line.unrounded + line.rounding, line.total);
                }
                billed += sum(lines);
            }
            let whole = sum(rate(&at(*quantities.last().expect("one at least"), None)).expect("lines"));
            prop_assert_eq!(billed, whole);
        }
    }
}
