//! One rate card and a quantity to lines.

mod late;

use rust_decimal::Decimal;

use crate::{
    Adjustment, Basis, Currency, DetailedLine, InvalidRateCard, LINE_VERSION, LineKind, MoneyError, Price, Proration, Quantity, RateCard,
    Step,
    adjust::{Adjusted, Minimum, adjust, minimum_line},
    money::{add, round, sub},
    text::{number, signed},
};

pub use late::rate_late;

/// What [`rate`] needs to know of one rate card in one period.
#[derive(Debug, Clone, Copy)]
pub struct RateCardInput<'a> {
    /// The words for the line.
    pub description: &'a str,
    /// The terms.
    pub card: &'a RateCard,
    /// The plan's currency.
    pub currency: Currency,
    /// The units of the period so far, those that were already billed included. Of no matter to a flat price.
    pub quantity: Quantity,
    /// The units of the period that earlier lines of this card covered; absent when there are no earlier lines. The period is rated as a whole,
    /// and the difference is billed.
    pub already_billed: Option<Quantity>,
    /// Whether the period ends here: only then are volume prices billed and minimums trued up. An estimate of a running period says yes too.
    pub ends_period: bool,
    /// The share of the period, which fees and minimums are prorated by. The same for all parts of one period.
    pub proration: Proration,
}

/// Why a rate card cannot be rated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// The terms make no sense.
    #[error("the rate card is not valid: {0}")]
    InvalidCard(#[from] InvalidRateCard),
    /// An amount is too large.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// A volume price with units that were billed before.
    #[error("a volume price is billed once, at the end of the period: leave `already_billed` out")]
    VolumeAlreadyBilled,
}

/// Rates one card: at most one line of use or fee, and at the end of the period at most one line that makes up the minimum spend.
///
/// Nothing used and nothing due gives no line. The totals of the parts of a period add up to the total of the whole.
pub fn rate(input: &RateCardInput<'_>) -> Result<Vec<DetailedLine>, RateError> {
    input.card.validate()?;
    if matches!(input.card.price, Price::Volume(_)) {
        if input.already_billed.is_some() {
            return Err(RateError::VolumeAlreadyBilled);
        }
        if !input.ends_period {
            return Ok(Vec::new());
        }
    }
    let whole = Whole::rate(input.card, input.quantity, input.proration)?;
    let before = match input.already_billed {
        Some(quantity) => Whole::rate(input.card, quantity, input.proration)?,
        None => Whole::default(),
    };
    let mut lines: Vec<DetailedLine> = priced_line(input, &whole, &before)?.into_iter().collect();
    if input.ends_period
        && let Some(minimum) = input.card.minimum_spend
    {
        lines.extend(minimum_line(&Minimum {
            kind: LineKind::MinimumSpend,
            description: input.description,
            currency: input.currency,
            minimum,
            proration: input.proration,
            spent: whole.adjusted.left,
        })?);
    }
    Ok(lines)
}

/// A quantity counted from the start of the period, priced. The default is a period in which nothing was billed yet.
#[derive(Debug, Default)]
struct Whole {
    free: Decimal,
    billable: Decimal,
    steps: Vec<Step>,
    amount: Decimal,
    adjusted: Adjusted,
}

impl Whole {
    fn rate(card: &RateCard, quantity: Quantity, proration: Proration) -> Result<Self, MoneyError> {
        let used = quantity.above(Decimal::ZERO);
        let free = card.free_units.unwrap_or_default().units().min(used);
        let billable = used - free;
        let steps = card.price.steps(billable, proration)?;
        let amount = steps.iter().try_fold(Decimal::ZERO, |sum, step| add(sum, step.amount))?;
        Ok(Self { free, billable, steps, amount, adjusted: adjust(card, amount)? })
    }
}

fn priced_line(input: &RateCardInput<'_>, whole: &Whole, before: &Whole) -> Result<Option<DetailedLine>, MoneyError> {
    let card = input.card;
    let is_fee = card.price.is_fee();
    let quantity = if is_fee {
        Quantity::from_units(1)
    } else {
        let already = input.already_billed.unwrap_or_default().units();
        Quantity::new(input.quantity.units().checked_sub(already).ok_or(MoneyError::OutOfRange)?)
    };
    let steps = if input.already_billed.is_some() { difference(&whole.steps, &before.steps)? } else { whole.steps.clone() };
    let amount = sub(whole.amount, before.amount)?;
    let unrounded = sub(whole.adjusted.left, before.adjusted.left)?;
    let total = round(whole.adjusted.left, input.currency) - round(before.adjusted.left, input.currency);
    let nothing_used = quantity.is_zero() || (is_fee && input.already_billed.is_some());
    if nothing_used && amount.is_zero() && total.is_zero() {
        return Ok(None);
    }
    let mut line = DetailedLine {
        version: LINE_VERSION,
        kind: if is_fee { LineKind::Fee } else { LineKind::Usage },
        description: input.description.to_owned(),
        currency: input.currency,
        price: Some(card.price.price_type()),
        quantity,
        already_billed: input.already_billed,
        free_units: Quantity::new(whole.free - before.free),
        billable: if is_fee { quantity } else { Quantity::new(whole.billable - before.billable) },
        steps,
        adjustments: adjustments(card, &whole.adjusted, &before.adjusted),
        amount,
        unrounded,
        rounding: total - unrounded,
        total,
        formula: String::new(),
    };
    line.formula = formula(&line);
    Ok(Some(line))
}

/// What the steps of the whole add to those billed before, and what they take back.
fn difference(whole: &[Step], before: &[Step]) -> Result<Vec<Step>, MoneyError> {
    let same = |steps: &[Step], basis: &Basis| steps.iter().find(|step| step.basis == *basis).cloned();
    let mut steps = Vec::with_capacity(whole.len());
    for step in whole {
        steps.push(match same(before, &step.basis) {
            Some(earlier) => Step {
                quantity: Quantity::new(step.quantity.units() - earlier.quantity.units()),
                flat_amount: step.flat_amount - earlier.flat_amount,
                amount: sub(step.amount, earlier.amount)?,
                ..step.clone()
            },
            None => step.clone(),
        });
    }
    for gone in before.iter().filter(|step| same(whole, &step.basis).is_none()) {
        steps.push(Step {
            quantity: Quantity::new(-gone.quantity.units()),
            flat_amount: -gone.flat_amount,
            amount: -gone.amount,
            ..gone.clone()
        });
    }
    steps.retain(|step| !(step.quantity.is_zero() && step.amount.is_zero()));
    Ok(steps)
}

fn adjustments(card: &RateCard, whole: &Adjusted, before: &Adjusted) -> Vec<Adjustment> {
    let mut adjustments = Vec::new();
    let discount = before.discount - whole.discount;
    if let Some(percent) = card.discount_percent
        && !discount.is_zero()
    {
        adjustments.push(Adjustment::PercentageDiscount { percent, amount: discount });
    }
    let beyond = before.beyond_maximum - whole.beyond_maximum;
    if let Some(maximum) = card.maximum_spend
        && !beyond.is_zero()
    {
        adjustments.push(Adjustment::MaximumSpend { maximum, amount: beyond });
    }
    adjustments
}

fn formula(line: &DetailedLine) -> String {
    let mut text = String::new();
    if !line.free_units.is_zero() {
        text += &format!("{} - {} free = {}; ", line.quantity, line.free_units, line.billable);
    }
    let terms: Vec<String> = line.steps.iter().map(|step| term(step, line.steps.len() > 1)).collect();
    text += if terms.is_empty() { "0".to_owned() } else { terms.join(" + ") }.as_str();
    for adjustment in &line.adjustments {
        text += &signed(adjustment.amount());
        text += &match adjustment {
            Adjustment::PercentageDiscount { percent, .. } => format!(" ({} % discount)", number(*percent)),
            Adjustment::MaximumSpend { maximum, .. } => format!(" (maximum {})", number(*maximum)),
        };
    }
    text + " = " + &number(line.unrounded)
}

fn term(step: &Step, of_many: bool) -> String {
    let unit = number(step.unit_amount);
    match &step.basis {
        Basis::Fee { days, of_days } if days == of_days => unit,
        Basis::Fee { days, of_days } => format!("{unit} × {days}/{of_days} days"),
        Basis::Packages { size } => format!("{} packages of {size} × {unit}", step.quantity),
        Basis::Percent { percent } => format!("{} × {} %", step.quantity, number(*percent)),
        Basis::Units | Basis::Tier { .. } if step.flat_amount.is_zero() => format!("{} × {unit}", step.quantity),
        Basis::Units | Basis::Tier { .. } if step.unit_amount.is_zero() => number(step.flat_amount),
        Basis::Units | Basis::Tier { .. } => {
            let sum = format!("{} × {unit}{}", step.quantity, signed(step.flat_amount));
            if of_many { format!("({sum})") } else { sum }
        }
    }
}

/// What the tables of cases of the price models share.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub fn card(json: &str) -> RateCard {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    /// A tiered price from `(up_to or "", unit_amount, flat_amount)`.
    pub fn tiers(model: &str, table: &[(&str, &str, &str)], terms: &str) -> RateCard {
        let tiers: Vec<String> = table
            .iter()
            .map(|(up_to, unit, flat)| {
                let up_to = if up_to.is_empty() { "null".to_owned() } else { format!("\"{up_to}\"") };
                format!(r#"{{"up_to":{up_to},"unit_amount":"{unit}","flat_amount":"{flat}"}}"#)
            })
            .collect();
        card(&format!(r#"{{"price":{{"type":"{model}","tiers":[{}]}}{terms}}}"#, tiers.join(",")))
    }

    pub fn input<'a>(
        card: &'a RateCard,
        quantity: &str,
        already_billed: Option<&str>,
        ends_period: bool,
        proration: Proration,
    ) -> RateCardInput<'a> {
        let parse = |text: &str| text.parse::<Quantity>().expect("a quantity");
        RateCardInput {
            description: "API calls",
            card,
            currency: Currency::USD,
            quantity: parse(quantity),
            already_billed: already_billed.map(parse),
            ends_period,
            proration,
        }
    }

    pub fn lines(
        card: &RateCard,
        quantity: &str,
        already_billed: Option<&str>,
        ends_period: bool,
        proration: Proration,
    ) -> Vec<DetailedLine> {
        rate(&input(card, quantity, already_billed, ends_period, proration)).expect("a line")
    }

    /// The totals of the lines: `50.00 + 50.00`.
    pub fn totals_of(card: &RateCard, quantity: &str, already_billed: Option<&str>, ends_period: bool, proration: Proration) -> String {
        let lines = lines(card, quantity, already_billed, ends_period, proration);
        lines.iter().map(|line| line.total.to_string()).collect::<Vec<_>>().join(" + ")
    }

    /// Of a whole period that is billed once.
    pub fn totals(card: &RateCard, quantity: &str) -> String {
        totals_of(card, quantity, None, true, Proration::WHOLE)
    }
}

#[cfg(test)]
mod tests;
