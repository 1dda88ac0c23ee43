//! What a plan version offers, and whether it makes sense.

use std::collections::BTreeSet;

use calendar::Cadence;
use gateway_control::policy::BillableRule;
use ids::ApiProductId;
use quota::{QuotaLimit, RateLimit};
use rating::Currency;

use super::store;
use crate::{
    catalog::{check::Problems, rate_card::NewRateCard},
    db::Tx,
    error::Result,
};

/// The most rate cards, limits and products of a version.
const MAX_PARTS: usize = 100;

/// What a plan version offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionTerms {
    /// The currency of all its prices.
    pub currency: Currency,
    /// How long a billing and quota period lasts.
    pub cadence: Cadence,
    /// How fast calls may come.
    pub rate_limits: Vec<RateLimit>,
    /// How much a period allows; at most one for each meter.
    pub quotas: Vec<QuotaLimit>,
    /// Which answers count.
    pub billable: BillableRule,
    /// The API products that it covers; at least one.
    pub products: Vec<ApiProductId>,
    /// What it costs, in the order of the invoice; at most one for each meter. None: free.
    pub rate_cards: Vec<NewRateCard>,
}

impl VersionTerms {
    /// Whether the terms make sense, and name products and meters that exist. The error names every field that does not, as REST has it.
    pub(super) async fn check(&self, tx: &mut Tx) -> Result<()> {
        let mut problems = Problems::default();
        self.check_parts(&mut problems);
        let known = store::known_products(tx, &self.products).await?;
        for (index, product) in self.products.iter().enumerate() {
            if !known.contains(product) {
                problems.add(format!("products[{index}]"), format!("No API product has the id {product}."));
            }
        }
        let meters = store::known_meters(tx).await?;
        let cards =
            self.rate_cards.iter().enumerate().filter_map(|(index, card)| Some((format!("rate_cards[{index}].meter"), card.meter?)));
        let quotas = self.quotas.iter().enumerate().map(|(index, quota)| (format!("quotas[{index}].meter"), quota.meter));
        for (field, meter) in cards.chain(quotas) {
            if !meters.contains(&meter) {
                problems.add(field, format!("No meter has the id {meter}."));
            }
        }
        problems.finish()
    }

    fn check_parts(&self, problems: &mut Problems) {
        let lengths = [
            ("rate_cards", self.rate_cards.len()),
            ("rate_limits", self.rate_limits.len()),
            ("quotas", self.quotas.len()),
            ("products", self.products.len()),
        ];
        for (field, length) in lengths {
            if length > MAX_PARTS {
                problems.add(field, format!("Use at most {MAX_PARTS}."));
            }
        }
        if self.products.is_empty() {
            problems.add("products", "Choose at least one API product that the plan covers.");
        }
        for (index, card) in self.rate_cards.iter().enumerate() {
            card.check(index, problems);
        }
        for (index, limit) in self.rate_limits.iter().enumerate() {
            if let Err(invalid) = limit.validate() {
                problems.add(format!("rate_limits[{index}].{}", invalid.field), format!("It {}.", invalid.fix));
            }
        }
        for (index, quota) in self.quotas.iter().enumerate() {
            if let Err(invalid) = quota.validate() {
                problems.add(format!("quotas[{index}].{}", invalid.field), format!("It {}.", invalid.fix));
            }
        }
        for (index, (low, high)) in self.billable.statuses.iter().enumerate() {
            if low > high || !(100..=599).contains(low) || !(100..=599).contains(high) {
                problems.add(format!("billable.statuses[{index}]"), "Use a range of statuses between 100 and 599, the lower one first.");
            }
        }
        self.check_repeats(problems);
    }

    fn check_repeats(&self, problems: &mut Problems) {
        let mut priced = BTreeSet::new();
        for (index, card) in self.rate_cards.iter().enumerate() {
            if card.meter.is_some_and(|meter| !priced.insert(meter)) {
                problems.add(format!("rate_cards[{index}].meter"), "An earlier line prices this meter already: a unit is billed once.");
            }
        }
        let mut limited = BTreeSet::new();
        for (index, quota) in self.quotas.iter().enumerate() {
            if !limited.insert(quota.meter) {
                problems.add(format!("quotas[{index}].meter"), "An earlier quota limits this meter already.");
            }
        }
        let mut covered = BTreeSet::new();
        for (index, product) in self.products.iter().enumerate() {
            if !covered.insert(*product) {
                problems.add(format!("products[{index}]"), "This API product stands twice in the list.");
            }
        }
    }
}
