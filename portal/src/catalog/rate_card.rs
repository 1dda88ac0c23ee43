//! A meter or a fixed fee with its price, as a plan version holds it. What a card costs is computed by [`rating`] alone.

use ids::{MeterId, RateCardId};

use super::check::Problems;

/// A line of a plan version's price list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateCard {
    /// Its id, which invoice lines name.
    pub id: RateCardId,
    /// Its name on invoices: "Requests", "Base fee".
    pub name: String,
    /// What is priced; `None` for a fixed fee.
    pub meter: Option<MeterId>,
    /// Price, allowance, discount, minimum and maximum spend.
    pub terms: rating::RateCard,
}

/// What a new rate card is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRateCard {
    /// 1 to 100 characters.
    pub name: String,
    /// What is priced; `None` for a fixed fee, whose price is flat.
    pub meter: Option<MeterId>,
    /// Price, allowance, discount, minimum and maximum spend.
    pub terms: rating::RateCard,
}

impl From<&RateCard> for NewRateCard {
    fn from(card: &RateCard) -> Self {
        Self { name: card.name.clone(), meter: card.meter, terms: card.terms.clone() }
    }
}

impl NewRateCard {
    /// Adds what makes no sense, under `rate_cards[index]`.
    pub(super) fn check(&self, index: usize, problems: &mut Problems) {
        let at = |field: &str| format!("rate_cards[{index}].{field}");
        problems.text(&at("name"), &self.name, 1, 100);
        match (self.meter, self.terms.price.is_fee()) {
            (None, false) => problems.add(at("meter"), "Choose the meter that this price counts, or make the price flat."),
            (Some(_), true) => {
                problems.add(at("meter"), "A flat fee counts no meter: leave the meter out, or choose another kind of price.")
            }
            _ => {}
        }
        if let Err(invalid) = self.terms.validate() {
            for problem in invalid.problems {
                problems.add(at(&problem.field), format!("It {}.", problem.fix));
            }
        }
    }
}
