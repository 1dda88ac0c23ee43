use proptest::prelude::*;
use serde_json::json;

use super::{testing::*, *};
use crate::{Flat, Graduated, Package, Percentage, Tier, Unit, Volume};

/// The first version of a line, as invoices store it. This text is never edited.
#[test]
fn json_of_the_first_version_is_read_and_written_for_ever() {
    let card = tiers(
        "graduated",
        &[("10", "10", "2"), ("", "5", "3")],
        r#","free_units":"1","discount_percent":"10","minimum_spend":"200","maximum_spend":"300""#,
    );
    let found = lines(&card, "12", Some("3"), true, Proration::WHOLE);
    let golden = json!([
        {
            "version": 1, "kind": "usage", "description": "API calls", "currency": "USD", "price": "graduated",
            "quantity": "9", "already_billed": "3", "free_units": "0", "billable": "9",
            "steps": [
                {"basis": "tier", "number": 1, "above": "0", "up_to": "10", "quantity": "8", "unit_amount": "10", "flat_amount": "0", "amount": "80"},
                {"basis": "tier", "number": 2, "above": "10", "quantity": "1", "unit_amount": "5", "flat_amount": "3", "amount": "8"}
            ],
            "adjustments": [{"kind": "percentage_discount", "percent": "10", "amount": "-8.80"}],
            "amount": "88", "unrounded": "79.20", "rounding": "0.00", "total": "79.20",
            "formula": "8 × 10 + (1 × 5 + 3) - 8.8 (10 % discount) = 79.2"
        },
        {
            "version": 1, "kind": "minimum_spend", "description": "API calls", "currency": "USD",
            "quantity": "0", "free_units": "0", "billable": "0", "steps": [], "adjustments": [],
            "amount": "101.00", "unrounded": "101.00", "rounding": "0.00", "total": "101.00",
            "formula": "200 - 99 spent = 101"
        }
    ]);
    assert_eq!(serde_json::to_value(&found).expect("lines are JSON"), golden);
    assert_eq!(serde_json::from_value::<Vec<DetailedLine>>(golden).expect("the golden JSON"), found);
}

#[test]
fn formulas_show_the_whole_computation() {
    let cases = [
        (r#"{"price":{"type":"unit","unit_amount":"0.1"},"free_units":"900"}"#, "1000", "1000 - 900 free = 100; 100 × 0.1 = 10"),
        (r#"{"price":{"type":"package","size":"100","amount":"5"}}"#, "201", "3 packages of 100 × 5 = 15"),
        (r#"{"price":{"type":"percentage","percent":"2.9"}}"#, "4", "4 × 2.9 % = 0.116"),
        (
            r#"{"price":{"type":"flat","amount":"50"},"discount_percent":"50","maximum_spend":"20"}"#,
            "0",
            "50 - 25 (50 % discount) - 5 (maximum 20) = 20",
        ),
        (r#"{"price":{"type":"volume","tiers":[{"unit_amount":"2","flat_amount":"10"}]}}"#, "3", "3 × 2 + 10 = 16"),
        (r#"{"price":{"type":"graduated","tiers":[{"up_to":"5","flat_amount":"100"},{"unit_amount":"1"}]}}"#, "7", "100 + 2 × 1 = 102"),
    ];
    for (json, quantity, formula) in cases {
        assert_eq!(lines(&card(json), quantity, None, true, Proration::WHOLE)[0].formula, formula, "{json}");
    }
    let fee = card(r#"{"price":{"type":"flat","amount":"50"}}"#);
    let prorated = lines(&fee, "0", None, true, Proration::new(22, 28).expect("days"));
    assert_eq!(prorated[0].formula, "50 × 22/28 days = 39.285714285714…");
}

#[test]
fn a_fee_is_billed_once_in_a_period() {
    let fee = card(r#"{"price":{"type":"flat","amount":"50"},"minimum_spend":"60"}"#);
    assert_eq!(totals_of(&fee, "0", None, false, Proration::WHOLE), "50.00");
    assert_eq!(totals_of(&fee, "0", Some("0"), true, Proration::WHOLE), "10.00", "only what is missing to the minimum");
}

#[test]
fn rounds_to_the_currency() {
    let card = card(r#"{"price":{"type":"unit","unit_amount":"0.0005"}}"#);
    for (code, quantity, total) in
        [("USD", "1", "0.00"), ("USD", "10", "0.01"), ("JPY", "999", "0"), ("JPY", "1000", "1"), ("KWD", "1", "0.001")]
    {
        let currency = code.parse().expect(code);
        let lines = rate(&RateCardInput { currency, ..input(&card, quantity, None, true, Proration::WHOLE) }).expect("a line");
        assert_eq!(lines[0].total.to_string(), total, "{quantity} in {code}");
        assert_eq!(lines[0].rounding, lines[0].total - lines[0].unrounded);
    }
}

#[test]
fn what_cannot_be_rated_is_an_error() {
    let no_tiers = RateCard::new(Price::Graduated(Graduated { tiers: Vec::new() }));
    let error = rate(&input(&no_tiers, "1", None, true, Proration::WHOLE)).expect_err("no tiers");
    assert_eq!(error.to_string(), "the rate card is not valid: `price.tiers` must have at least one tier");
    let dear = card(r#"{"price":{"type":"unit","unit_amount":"1000000000000"}}"#);
    let error = rate(&input(&dear, "1000", None, true, Proration::WHOLE)).expect_err("too much");
    assert_eq!(error, RateError::Money(MoneyError::OutOfRange));
    let huge = rate(&input(&dear, "79228162514264337593543950335", Some("-1"), true, Proration::WHOLE));
    assert_eq!(huge, Err(RateError::Money(MoneyError::OutOfRange)));
}

fn amount() -> impl Strategy<Value = Decimal> {
    (0_i64..10_000_000, 0_u32..7).prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale))
}

fn quantity() -> impl Strategy<Value = Quantity> {
    prop_oneof![(0_i64..2_000).prop_map(Quantity::from_units), (0_i64..2_000_000_000).prop_map(Quantity::from_micros)]
}

fn tier_table() -> impl Strategy<Value = Vec<Tier>> {
    proptest::collection::vec((1_i64..500_000_000, amount(), amount()), 1..6).prop_map(|rows| {
        let last = rows.len() - 1;
        let mut end = 0;
        rows.into_iter()
            .enumerate()
            .map(|(index, (width, unit_amount, flat_amount))| {
                end += width;
                Tier { up_to: (index < last).then(|| Quantity::from_micros(end)), unit_amount, flat_amount }
            })
            .collect()
    })
}

/// Prices whose amount never falls when the quantity rises.
fn rising_price() -> impl Strategy<Value = Price> {
    prop_oneof![
        amount().prop_map(|amount| Price::Flat(Flat { amount })),
        amount().prop_map(|unit_amount| Price::Unit(Unit { unit_amount })),
        (1_i64..10_000_000, amount()).prop_map(|(size, amount)| Price::Package(Package { size: Quantity::from_micros(size), amount })),
        tier_table().prop_map(|tiers| Price::Graduated(Graduated { tiers })),
        (0_i64..=10_000).prop_map(|bp| Price::Percentage(Percentage { percent: Decimal::new(bp, 2) })),
    ]
}

fn rising_card() -> impl Strategy<Value = RateCard> {
    let free = proptest::option::of(quantity());
    let percent = proptest::option::of((0_i64..=1000).prop_map(|tenths| Decimal::new(tenths, 1)));
    let spend = (proptest::option::of(amount()), proptest::option::of(amount()));
    (rising_price(), free, percent, spend).prop_map(|(price, free, discount_percent, (minimum_spend, above))| {
        let free_units = free.filter(|_| !price.is_fee());
        let maximum_spend = above.map(|above| above + minimum_spend.unwrap_or_default());
        RateCard { price, free_units, discount_percent, minimum_spend, maximum_spend }
    })
}

fn sum(lines: &[DetailedLine]) -> Decimal {
    lines.iter().map(|line| line.total).sum()
}

fn rated(
    card: &RateCard,
    quantity: Quantity,
    already_billed: Option<Quantity>,
    ends_period: bool,
    proration: Proration,
) -> Vec<DetailedLine> {
    let input = RateCardInput { description: "Any", card, currency: Currency::USD, quantity, already_billed, ends_period, proration };
    rate(&input).expect("within range")
}

proptest! {
    #[test]
    fn more_use_never_costs_less(card in rising_card(), a in quantity(), b in quantity(), ends_period: bool) {
        let (less, more) = (a.min(b), a.max(b));
        let whole = |quantity| sum(&rated(&card, quantity, None, ends_period, Proration::WHOLE));
        prop_assert!(whole(less) <= whole(more));
    }

    #[test]
    fn parts_add_up_to_the_whole(card in rising_card(), mut parts in proptest::collection::vec(quantity(), 1..5), days in 1_u32..=31) {
        parts.sort();
        let proration = Proration::new(days, 31).expect("days of a month");
        let last = parts.len() - 1;
        let mut billed = Decimal::ZERO;
        for (index, part) in parts.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| parts[before]);
            let lines = rated(&card, *part, before, index == last, proration);
            prop_assert!(lines.iter().all(|line| line.total >= Decimal::ZERO));
            billed += sum(&lines);
        }
        prop_assert_eq!(billed, sum(&rated(&card, parts[last], None, true, proration)));
    }

    #[test]
    fn a_line_adds_up(card in rising_card(), quantity in quantity(), before in proptest::option::of(quantity())) {
        for line in rated(&card, quantity, before, true, Proration::WHOLE) {
            let adjustments: Decimal = line.adjustments.iter().map(Adjustment::amount).sum();
            if line.kind != LineKind::MinimumSpend {
                prop_assert_eq!(line.steps.iter().map(|step| step.amount).sum::<Decimal>(), line.amount);
                prop_assert_eq!(line.quantity.units() , line.free_units.units() + line.billable.units());
            }
            prop_assert_eq!(line.amount + adjustments, line.unrounded);
            prop_assert_eq!(line.unrounded + line.rounding, line.total);
            prop_assert_eq!(line.total.scale(), 2);
            prop_assert!(line.rounding.abs() <= Decimal::new(1, 2));
            for step in &line.steps {
                prop_assert_eq!(step.quantity.units() * step.unit_amount + step.flat_amount, step.amount);
            }
        }
    }

    #[test]
    fn minimum_and_maximum_hold(card in rising_card(), quantity in quantity()) {
        let total = sum(&rated(&card, quantity, None, true, Proration::WHOLE));
        if let Some(minimum) = card.minimum_spend {
            prop_assert!(total >= crate::money::round(minimum, Currency::USD));
        }
        if let Some(maximum) = card.maximum_spend {
            prop_assert!(total <= crate::money::round(maximum, Currency::USD));
        }
    }

    /// The tiers against unit by unit: whole units, each priced alone.
    #[test]
    fn graduated_prices_each_unit_in_its_tier(widths in proptest::collection::vec((1_i64..20, 0_i64..1000, 0_i64..1000), 1..5), units in 0_i64..120) {
        let last = widths.len() - 1;
        let mut end = 0;
        let bounds: Vec<(Option<i64>, i64, i64)> = widths
            .iter()
            .enumerate()
            .map(|(index, (width, unit, flat))| {
                end += width;
                ((index < last).then_some(end), *unit, *flat)
            })
            .collect();
        let tier_of = |unit: i64| bounds.iter().position(|(end, ..)| end.is_none_or(|end| unit <= end)).expect("the last has no end");
        let mut cents = bounds[0].2;
        for unit in 1..=units {
            let tier = tier_of(unit);
            cents += bounds[tier].1;
            if tier > 0 && (unit == 1 || tier_of(unit - 1) != tier) {
                cents += bounds[tier].2;
            }
        }
        let amount = |cents: i64| Decimal::new(cents, 2);
        let tiers = bounds
            .iter()
            .map(|(end, unit, flat)| Tier { up_to: end.map(Quantity::from_units), unit_amount: amount(*unit), flat_amount: amount(*flat) })
            .collect();
        let card = RateCard::new(Price::Graduated(Graduated { tiers }));
        prop_assert_eq!(sum(&rated(&card, Quantity::from_units(units), None, true, Proration::WHOLE)), amount(cents));
    }

    #[test]
    fn volume_prices_all_units_at_one_tier(tiers in tier_table(), quantity in quantity()) {
        let reached = tiers.iter().find(|tier| tier.up_to.is_none_or(|up_to| quantity <= up_to)).expect("the last has no end").clone();
        let card = RateCard::new(Price::Volume(Volume { tiers }));
        let expected = crate::money::round(quantity.units() * reached.unit_amount + reached.flat_amount, Currency::USD);
        prop_assert_eq!(sum(&rated(&card, quantity, None, true, Proration::WHOLE)), expected);
        prop_assert!(rated(&card, quantity, None, false, Proration::WHOLE).is_empty());
    }

    #[test]
    fn json_round_trips(card in rising_card(), quantity in quantity(), before in proptest::option::of(quantity())) {
        let json = serde_json::to_string(&card).expect("a card is JSON");
        prop_assert_eq!(&serde_json::from_str::<RateCard>(&json).expect("the JSON just written"), &card);
        let lines = rated(&card, quantity, before, true, Proration::WHOLE);
        let json = serde_json::to_string(&lines).expect("lines are JSON");
        prop_assert_eq!(serde_json::from_str::<Vec<DetailedLine>>(&json).expect("the JSON just written"), lines);
    }
}
