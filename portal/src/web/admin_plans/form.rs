//! The form of a plan version: rows of texts, and what they mean. A row whose leading field is empty is left out.

use std::collections::HashMap;

use calendar::Cadence;
use gateway_control::{policy::BillableRule, units::Micros};
use ids::{ApiProductId, MeterId};
use quota::{Enforcement, QuotaLimit, RateLimit, Scope, WhenUnreachable};
use rating::{Currency, Flat, Graduated, Package, Percentage, Price, Tier, Unit, Volume};
use rust_decimal::Decimal;

use super::reader::Reader;
use crate::{
    catalog::{NewRateCard, VersionTerms},
    error::{Error, Kind, Result},
};

/// The most rows of a kind that a form may have.
const MAX_ROWS: usize = 100;

/// A line of the price list.
#[derive(Debug, Default, Clone)]
pub struct CardRow {
    pub name: String,
    /// Empty for a fixed fee.
    pub meter: String,
    /// The `type` of the price.
    pub model: String,
    /// The one amount or percentage of a price without tiers.
    pub amount: String,
    /// Units of a package.
    pub size: String,
    /// A tier a line: `up to`, price of a unit, and perhaps a fee; `*` for the last one's end.
    pub tiers: String,
    pub free_units: String,
    pub discount_percent: String,
    pub minimum_spend: String,
    pub maximum_spend: String,
}

/// A rate limit.
#[derive(Debug, Default, Clone)]
pub struct LimitRow {
    pub requests: String,
    pub per_seconds: String,
    pub burst: String,
    pub scope: String,
    pub route_group: String,
}

/// A quota.
#[derive(Debug, Default, Clone)]
pub struct QuotaRow {
    pub meter: String,
    pub limit: String,
    pub enforcement: String,
    /// Units that may be admitted without the portal; empty for none.
    pub allow_unreachable: String,
}

/// The whole form.
#[derive(Debug, Default, Clone)]
pub struct TermsForm {
    pub currency: String,
    pub cadence: String,
    pub products: Vec<String>,
    pub cards: Vec<CardRow>,
    pub limits: Vec<LimitRow>,
    pub quotas: Vec<QuotaRow>,
    pub statuses: String,
    pub except: String,
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

impl CardRow {
    fn of(card: &NewRateCard) -> Self {
        let mut row = Self {
            name: card.name.clone(),
            meter: optional(card.meter),
            model: card.terms.price.price_type().as_str().to_owned(),
            free_units: optional(card.terms.free_units),
            discount_percent: optional(card.terms.discount_percent),
            minimum_spend: optional(card.terms.minimum_spend),
            maximum_spend: optional(card.terms.maximum_spend),
            ..Self::default()
        };
        match &card.terms.price {
            Price::Flat(price) => row.amount = price.amount.to_string(),
            Price::Unit(price) => row.amount = price.unit_amount.to_string(),
            Price::Package(price) => (row.amount, row.size) = (price.amount.to_string(), price.size.to_string()),
            Price::Graduated(price) => row.tiers = tiers_text(&price.tiers),
            Price::Volume(price) => row.tiers = tiers_text(&price.tiers),
            Price::Percentage(price) => row.amount = price.percent.to_string(),
        }
        row
    }

    fn read(&self, read: &mut Reader, index: usize) -> NewRateCard {
        let at = |field: &str| format!("rate_cards[{index}].{field}");
        let price = match self.model.as_str() {
            "flat" => Price::Flat(Flat { amount: read.amount(at("price.amount"), &self.amount) }),
            "unit" => Price::Unit(Unit { unit_amount: read.amount(at("price.unit_amount"), &self.amount) }),
            "package" => Price::Package(Package {
                size: read.value(at("price.size"), &self.size, "Enter how many units a package has, like 1000."),
                amount: read.amount(at("price.amount"), &self.amount),
            }),
            "graduated" => Price::Graduated(Graduated { tiers: read.tiers(at("price.tiers"), &self.tiers) }),
            "volume" => Price::Volume(Volume { tiers: read.tiers(at("price.tiers"), &self.tiers) }),
            "percentage" => Price::Percentage(Percentage { percent: read.amount(at("price.percent"), &self.amount) }),
            _ => {
                read.wrong(at("price.type"), "Choose a kind of price.");
                Price::Flat(Flat { amount: Decimal::ZERO })
            }
        };
        let amount = "Enter a decimal number, like 12.50, or nothing.";
        NewRateCard {
            name: self.name.trim().to_owned(),
            meter: read.optional(at("meter"), &self.meter, "Choose a meter."),
            terms: rating::RateCard {
                price,
                free_units: read.optional(at("free_units"), &self.free_units, "Enter a number of units, or nothing."),
                discount_percent: read.optional(at("discount_percent"), &self.discount_percent, "Enter a percentage, or nothing."),
                minimum_spend: read.optional(at("minimum_spend"), &self.minimum_spend, amount),
                maximum_spend: read.optional(at("maximum_spend"), &self.maximum_spend, amount),
            },
        }
    }
}

fn tiers_text(tiers: &[Tier]) -> String {
    let line = |tier: &Tier| {
        let end = tier.up_to.map_or_else(|| "*".to_owned(), |up_to| up_to.to_string());
        if tier.flat_amount.is_zero() {
            format!("{end} {}", tier.unit_amount)
        } else {
            format!("{end} {} {}", tier.unit_amount, tier.flat_amount)
        }
    };
    tiers.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl LimitRow {
    fn of(limit: &RateLimit) -> Self {
        Self {
            requests: limit.requests.to_string(),
            per_seconds: limit.per_seconds.to_string(),
            burst: optional(limit.burst),
            scope: limit.scope.as_str().to_owned(),
            route_group: limit.route_group.clone().unwrap_or_default(),
        }
    }

    fn read(&self, read: &mut Reader, index: usize) -> RateLimit {
        let at = |field: &str| format!("rate_limits[{index}].{field}");
        let scope = [Scope::Namespace, Scope::Subscription, Scope::Application, Scope::ApiKey]
            .into_iter()
            .find(|scope| scope.as_str() == self.scope);
        if scope.is_none() {
            read.wrong(at("scope"), "Choose whose requests share the limit.");
        }
        RateLimit {
            requests: read.value(at("requests"), &self.requests, "Enter a whole number of requests."),
            per_seconds: read.value(at("per_seconds"), &self.per_seconds, "Enter a whole number of seconds."),
            burst: read.optional(at("burst"), &self.burst, "Enter a whole number, or nothing."),
            scope: scope.unwrap_or(Scope::Subscription),
            route_group: Some(self.route_group.trim().to_owned()).filter(|group| !group.is_empty()),
        }
    }
}

impl QuotaRow {
    fn of(quota: &QuotaLimit) -> Self {
        Self {
            meter: quota.meter.to_string(),
            limit: Micros::from(quota.limit_microunits).to_string(),
            enforcement: if quota.enforcement == Enforcement::Hard { "hard" } else { "soft" }.to_owned(),
            allow_unreachable: match quota.when_unreachable {
                WhenUnreachable::Deny => String::new(),
                WhenUnreachable::Allow { max_microunits } => Micros::from(max_microunits).to_string(),
            },
        }
    }

    fn read(&self, read: &mut Reader, index: usize) -> Option<QuotaLimit> {
        let at = |field: &str| format!("quotas[{index}].{field}");
        let meter: Option<MeterId> = read.optional(at("meter"), &self.meter, "Choose a meter.");
        let limit = read.value(at("limit_microunits"), &self.limit, "Enter a number of units, like 10000.");
        let allowed: Option<Micros> =
            read.optional(at("when_unreachable.max_microunits"), &self.allow_unreachable, "Enter a number of units, or nothing.");
        let enforcement = match self.enforcement.as_str() {
            "hard" => Enforcement::Hard,
            "soft" => Enforcement::Soft,
            _ => {
                read.wrong(at("enforcement"), "Choose what happens when it is used up.");
                Enforcement::Hard
            }
        };
        Some(QuotaLimit {
            meter: meter?,
            limit_microunits: Micros::clamped(limit),
            enforcement,
            when_unreachable: allowed.map_or(WhenUnreachable::Deny, |units| WhenUnreachable::Allow { max_microunits: units.clamped() }),
        })
    }
}

impl TermsForm {
    /// The form of terms that stand.
    pub fn of(terms: &VersionTerms) -> Self {
        Self {
            currency: terms.currency.code().to_owned(),
            cadence: terms.cadence.as_str().to_owned(),
            products: terms.products.iter().map(ToString::to_string).collect(),
            cards: terms.rate_cards.iter().map(CardRow::of).collect(),
            limits: terms.rate_limits.iter().map(LimitRow::of).collect(),
            quotas: terms.quotas.iter().map(QuotaRow::of).collect(),
            statuses: terms
                .billable
                .statuses
                .iter()
                .map(|(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") })
                .collect::<Vec<_>>()
                .join(", "),
            except: terms.billable.except.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    }

    /// The form as it was sent: `card_0_name`, `limit_0_requests`, `quota_0_meter`, `product_<id>`.
    pub fn sent(fields: &HashMap<String, String>) -> Self {
        let text = |name: &str| fields.get(name).map(|text| text.trim().to_owned()).unwrap_or_default();
        let card = |i: usize| CardRow {
            name: text(&format!("card_{i}_name")),
            meter: text(&format!("card_{i}_meter")),
            model: text(&format!("card_{i}_model")),
            amount: text(&format!("card_{i}_amount")),
            size: text(&format!("card_{i}_size")),
            tiers: text(&format!("card_{i}_tiers")),
            free_units: text(&format!("card_{i}_free_units")),
            discount_percent: text(&format!("card_{i}_discount_percent")),
            minimum_spend: text(&format!("card_{i}_minimum_spend")),
            maximum_spend: text(&format!("card_{i}_maximum_spend")),
        };
        let limit = |i: usize| LimitRow {
            requests: text(&format!("limit_{i}_requests")),
            per_seconds: text(&format!("limit_{i}_per_seconds")),
            burst: text(&format!("limit_{i}_burst")),
            scope: text(&format!("limit_{i}_scope")),
            route_group: text(&format!("limit_{i}_route_group")),
        };
        let quota = |i: usize| QuotaRow {
            meter: text(&format!("quota_{i}_meter")),
            limit: text(&format!("quota_{i}_limit")),
            enforcement: text(&format!("quota_{i}_enforcement")),
            allow_unreachable: text(&format!("quota_{i}_allow_unreachable")),
        };
        let mut products: Vec<String> = fields.keys().filter_map(|name| name.strip_prefix("product_")).map(str::to_owned).collect();
        products.sort_unstable();
        Self {
            currency: text("currency"),
            cadence: text("cadence"),
            products,
            cards: (0..MAX_ROWS).map(card).filter(|row| !row.name.is_empty()).collect(),
            limits: (0..MAX_ROWS).map(limit).filter(|row| !row.requests.is_empty()).collect(),
            quotas: (0..MAX_ROWS).map(quota).filter(|row| !row.meter.is_empty()).collect(),
            statuses: text("statuses"),
            except: text("except"),
        }
    }

    /// An empty row of each kind to fill in, with the choices that are most likely meant.
    pub fn add_spare_rows(&mut self) {
        self.cards.push(CardRow { model: "unit".to_owned(), ..CardRow::default() });
        self.limits.push(LimitRow { per_seconds: "1".to_owned(), scope: Scope::Subscription.as_str().to_owned(), ..LimitRow::default() });
        self.quotas.push(QuotaRow { enforcement: "hard".to_owned(), ..QuotaRow::default() });
    }

    /// Whether a product's box is ticked.
    pub fn covers(&self, product: &ApiProductId) -> bool {
        self.products.iter().any(|id| *id == product.to_string())
    }

    /// What the texts mean; the error names every field that means nothing.
    pub fn read(&self) -> Result<VersionTerms> {
        let mut read = Reader::default();
        let currency = read.value::<Option<Currency>>("currency".to_owned(), &self.currency, "Enter the code of a currency, like USD.");
        let cadence = read.value::<Option<Cadence>>("cadence".to_owned(), &self.cadence, "Choose how long a period lasts.");
        let statuses = read.list("billable.statuses", &self.statuses, range, "Enter statuses and ranges of them, like 200-299, 404.");
        let except = read.list("billable.except", &self.except, |text| text.parse().ok(), "Enter statuses, like 401, 403.");
        let products = read.list("products", &self.products.join(","), |text| text.parse().ok(), "Choose products of the list.");
        let rate_cards = self.cards.iter().enumerate().map(|(index, row)| row.read(&mut read, index)).collect();
        let rate_limits = self.limits.iter().enumerate().map(|(index, row)| row.read(&mut read, index)).collect();
        let quotas = self.quotas.iter().enumerate().filter_map(|(index, row)| row.read(&mut read, index)).collect();
        match (currency, cadence) {
            (Some(currency), Some(cadence)) if read.problems.is_empty() => Ok(VersionTerms {
                currency,
                cadence,
                rate_limits,
                quotas,
                billable: BillableRule { statuses, except },
                products,
                rate_cards,
            }),
            _ => Err(Error { fields: read.problems, ..Error::new(Kind::Invalid, "Please correct the marked fields.") }),
        }
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    match text.split_once('-') {
        Some((low, high)) => Some((low.trim().parse().ok()?, high.trim().parse().ok()?)),
        None => text.parse().ok().map(|status| (status, status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_shows_it_reads_back() {
        let meter = MeterId::new();
        let tiers = vec![
            Tier { up_to: "1000".parse().ok(), unit_amount: Decimal::new(3, 1), flat_amount: Decimal::ZERO },
            Tier { up_to: None, unit_amount: Decimal::new(1, 1), flat_amount: Decimal::new(5, 0) },
        ];
        let price = |price| rating::RateCard { free_units: "10".parse().ok(), ..rating::RateCard::new(price) };
        let cards = [
            rating::RateCard::new(Price::Flat(Flat { amount: Decimal::new(4900, 2) })),
            price(Price::Unit(Unit { unit_amount: Decimal::new(5, 2) })),
            price(Price::Package(Package { size: rating::Quantity::from_units(1000), amount: Decimal::new(15, 1) })),
            price(Price::Graduated(Graduated { tiers: tiers.clone() })),
            price(Price::Volume(Volume { tiers })),
            price(Price::Percentage(Percentage { percent: Decimal::new(29, 1) })),
        ];
        let terms = VersionTerms {
            currency: Currency::EUR,
            cadence: Cadence::Quarter,
            rate_limits: vec![RateLimit {
                requests: 10,
                per_seconds: 1,
                burst: Some(20),
                scope: Scope::ApiKey,
                route_group: Some("search".into()),
            }],
            quotas: vec![QuotaLimit {
                meter,
                limit_microunits: 1_500_000,
                enforcement: Enforcement::Hard,
                when_unreachable: WhenUnreachable::Allow { max_microunits: 1_000_000 },
            }],
            billable: BillableRule { statuses: vec![(200, 299), (404, 404)], except: vec![204] },
            products: vec![ApiProductId::new()],
            rate_cards: cards
                .into_iter()
                .map(|terms| NewRateCard { name: "Line".into(), meter: (!terms.price.is_fee()).then_some(meter), terms })
                .collect(),
        };
        assert_eq!(TermsForm::of(&terms).read().expect("terms"), terms);
    }

    #[test]
    fn what_means_nothing_is_named() {
        let form = TermsForm {
            currency: "XXXX".into(),
            cadence: "fortnight".into(),
            cards: vec![CardRow {
                name: "Requests".into(),
                model: "graduated".into(),
                tiers: "1000 0.3\nmore 0.1".into(),
                free_units: "ten".into(),
                ..CardRow::default()
            }],
            limits: vec![LimitRow { requests: "many".into(), per_seconds: "1".into(), scope: "nobody".into(), ..LimitRow::default() }],
            statuses: "2xx".into(),
            ..TermsForm::default()
        };
        let fields: Vec<String> = form.read().expect_err("an error").fields.into_iter().map(|field| field.field.into_owned()).collect();
        assert_eq!(
            fields,
            [
                "currency",
                "cadence",
                "billable.statuses",
                "rate_cards[0].price.tiers",
                "rate_cards[0].free_units",
                "rate_limits[0].scope",
                "rate_limits[0].requests"
            ]
        );
    }
}
