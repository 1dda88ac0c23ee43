//! Rated lines as pages show them: "explain this charge".

use rating::{Adjustment, Basis, DetailedLine, LineKind, PriceType, Quantity, Step};

use crate::{billing::Charge, catalog::meter::plural, usage::corrections::Correction};

/// A line with all that explains it, as text.
#[derive(Debug, Clone)]
pub struct LineView {
    /// What is charged.
    pub description: String,
    /// `50,000 requests`, or empty for a fee.
    pub quantity: String,
    /// The unit's name for that quantity; empty for a fee.
    pub unit: String,
    /// How the price works, in a sentence.
    pub model: &'static str,
    /// The allowance that was used of this line; absent where there is none.
    pub free: Option<String>,
    /// The units that were priced.
    pub billable: String,
    /// The price step by step.
    pub steps: Vec<StepView>,
    /// What was taken off: words and amount.
    pub adjustments: Vec<(String, String)>,
    /// The computation on one line.
    pub formula: String,
    /// Before rounding, where rounding changed it.
    pub unrounded: Option<String>,
    /// What is charged.
    pub total: String,
    /// In which currency.
    pub currency: String,
    /// The allowance of the card and how much of it is used, in percent.
    pub allowance: Option<AllowanceView>,
    /// What operators added to the usage behind it, or took off, the oldest first.
    pub corrections: Vec<Correction>,
}

/// The use of an allowance.
#[derive(Debug, Clone)]
pub struct AllowanceView {
    /// Units used of it.
    pub used: String,
    /// Units that it has.
    pub of: String,
    /// 0 to 100.
    pub percent: u8,
}

/// A step of a price.
#[derive(Debug, Clone)]
pub struct StepView {
    /// `Tier 2: above`, 50000, `up to`, 200000: words and quantities in turn.
    pub label: Vec<(String, String)>,
    /// What is multiplied.
    pub quantity: String,
    /// The price of one.
    pub unit_amount: String,
    /// What the step costs once; empty where nothing.
    pub flat_amount: String,
    /// What it comes to.
    pub amount: String,
}

impl LineView {
    /// A line and the unit of its meter; the unit is empty for a fee.
    pub fn new(line: &DetailedLine, unit: &str) -> Self {
        let is_usage = line.kind == LineKind::Usage;
        Self {
            description: line.description.clone(),
            quantity: if is_usage { line.quantity.to_string() } else { String::new() },
            unit: if is_usage { unit_for(line.quantity, unit) } else { String::new() },
            model: model(line),
            free: (!line.free_units.is_zero()).then(|| line.free_units.to_string()),
            billable: line.billable.to_string(),
            steps: line.steps.iter().map(StepView::new).collect(),
            adjustments: line.adjustments.iter().map(adjustment).collect(),
            formula: line.formula.clone(),
            unrounded: (!line.rounding.is_zero()).then(|| line.unrounded.normalize().to_string()),
            total: line.total.to_string(),
            currency: line.currency.to_string(),
            allowance: None,
            corrections: Vec::new(),
        }
    }

    /// A charge of a running period, with its allowance.
    pub fn of_charge(charge: &Charge) -> Self {
        let allowance = charge.allowance.zip(charge.allowance_percent()).map(|(of, percent)| AllowanceView {
            used: charge.line.free_units.to_string(),
            of: of.to_string(),
            percent,
        });
        Self { allowance, ..Self::new(&charge.line, &charge.unit) }
    }

    /// Whether anything but a plain fee is to be explained.
    pub fn is_explained(&self) -> bool {
        !self.quantity.is_empty() || self.unrounded.is_some() || !self.adjustments.is_empty() || !self.corrections.is_empty()
    }
}

impl StepView {
    fn new(step: &Step) -> Self {
        let words = |words: &str| (words.to_owned(), String::new());
        let quantity = |words: String, quantity: &Quantity| (words, quantity.to_string());
        let label = match &step.basis {
            Basis::Fee { days, of_days } if days == of_days => vec![words("The whole period")],
            Basis::Fee { days, of_days } => vec![words(&format!("{days} of {of_days} days"))],
            Basis::Units => vec![words("Every unit")],
            Basis::Packages { size } => vec![quantity("Started packages of".into(), size)],
            Basis::Tier { number, above, up_to: Some(up_to) } if above.is_zero() => vec![quantity(format!("Tier {number}: up to"), up_to)],
            Basis::Tier { number, above, up_to: Some(up_to) } => {
                vec![quantity(format!("Tier {number}: above"), above), quantity("up to".into(), up_to)]
            }
            Basis::Tier { number, above, up_to: None } => vec![quantity(format!("Tier {number}: above"), above)],
            Basis::Percent { percent } => vec![words(&format!("{} % of the metered amount", percent.normalize()))],
        };
        Self {
            label,
            quantity: step.quantity.to_string(),
            unit_amount: step.unit_amount.normalize().to_string(),
            flat_amount: if step.flat_amount.is_zero() { String::new() } else { step.flat_amount.normalize().to_string() },
            amount: step.amount.normalize().to_string(),
        }
    }
}

/// The unit's name for a quantity.
pub fn unit_for(quantity: Quantity, unit: &str) -> String {
    if unit.is_empty() || quantity.units() == rust_decimal::Decimal::ONE { unit.to_owned() } else { plural(unit) }
}

fn model(line: &DetailedLine) -> &'static str {
    match (line.kind, line.price) {
        (LineKind::MinimumSpend, _) => "The use came to less than the minimum of this price, which this line makes up.",
        (LineKind::PlanMinimum, _) => "All lines came to less than the minimum of the plan, which this line makes up.",
        (_, Some(PriceType::Flat)) => "A fixed fee for the period.",
        (_, Some(PriceType::Unit)) => "Every unit beyond the allowance costs the same.",
        (_, Some(PriceType::Package)) => "Units beyond the allowance are sold in packages; a started package counts whole.",
        (_, Some(PriceType::Graduated)) => "Each unit is priced in the tier that it falls into.",
        (_, Some(PriceType::Volume)) => "All units have the price of the tier that the period reached.",
        (_, Some(PriceType::Percentage)) => "A share of the metered amount.",
        (_, None) => "",
    }
}

fn adjustment(adjustment: &Adjustment) -> (String, String) {
    let words = match adjustment {
        Adjustment::PercentageDiscount { percent, .. } => format!("Discount of {} %", percent.normalize()),
        Adjustment::MaximumSpend { maximum, .. } => format!("Beyond the maximum of {}", maximum.normalize()),
    };
    (words, adjustment.amount().normalize().to_string())
}
