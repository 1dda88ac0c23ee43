//! Plans in words: what they cost, include and allow, for the catalog, the price list and whoever offers a plan.

use std::collections::BTreeMap;

use calendar::Cadence;
use gateway_control::units::Micros;
use ids::{ApiProductId, MeterId};
use quota::{Enforcement, QuotaLimit, RateLimit, Scope};
use rating::{Currency, Price, Quantity, Tier};
use rust_decimal::Decimal;

use crate::{
    catalog::{ApiProduct, Meter, PlanVersion, RateCard, api_product, meter},
    db::Tx,
    error::Result,
};

/// A plan as a card of `templates/components/plans.html` shows it.
#[derive(Debug, Clone)]
pub struct PlanView {
    /// For links.
    pub slug: String,
    /// The plan's name.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// The sum of its fixed fees, such as `49.00`; `None` if there are none.
    pub fee: Option<String>,
    /// Whether nothing of it ever costs anything.
    is_free: bool,
    /// ISO 4217.
    pub currency: String,
    /// `month`
    pub period: &'static str,
    /// What is included, allowed and paid, a line each.
    pub features: Vec<String>,
    /// Prices in tiers, which need a table.
    pub tables: Vec<TierTable>,
    /// The products that it covers, as far as they are published: slug and name.
    pub products: Vec<(String, String)>,
}

/// A price in tiers.
#[derive(Debug, Clone)]
pub struct TierTable {
    /// The rate card's name.
    pub name: String,
    /// How the tiers are meant.
    pub note: String,
    /// `per request`
    pub unit: String,
    /// Whether any tier has a fee of its own.
    pub has_fees: bool,
    /// The tiers.
    pub rows: Vec<TierRow>,
}

/// A tier.
#[derive(Debug, Clone)]
pub struct TierRow {
    /// `1 to 1,000`
    pub range: String,
    /// The price of a unit, with the currency.
    pub unit_amount: String,
    /// The fee for reaching it, with the currency.
    pub flat_amount: String,
}

/// Puts plans into words.
pub async fn views(tx: &mut Tx, versions: &[PlanVersion]) -> Result<Vec<PlanView>> {
    let meters: BTreeMap<MeterId, Meter> = meter::meters(tx).await?.into_iter().map(|meter| (meter.id, meter)).collect();
    let mut ids: Vec<ApiProductId> = versions.iter().flat_map(|version| version.products.iter().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    let products = api_product::products_by_ids(tx, &ids).await?;
    Ok(versions.iter().map(|version| view(version, &meters, &products)).collect())
}

/// Puts a plan into words.
pub fn view(version: &PlanVersion, meters: &BTreeMap<MeterId, Meter>, products: &[ApiProduct]) -> PlanView {
    let words = Words { currency: version.currency, period: period(version.cadence), meters };
    let fees: Vec<(&RateCard, Decimal)> = version
        .rate_cards
        .iter()
        .filter_map(|card| if let Price::Flat(flat) = &card.terms.price { Some((card, flat.amount)) } else { None })
        .collect();
    let mut features = Vec::new();
    if fees.len() > 1 {
        features.extend(fees.iter().map(|(card, amount)| format!("{}: {} a {}", card.name, words.money(*amount), words.period)));
    }
    for card in version.rate_cards.iter().filter(|card| !card.terms.price.is_fee()) {
        features.extend(words.card(card));
    }
    features.extend(version.quotas.iter().map(|quota| words.quota(quota)));
    features.extend(version.rate_limits.iter().map(rate_limit));
    let covered = products.iter().filter(|product| product.is_published() && version.covers(product.id));
    PlanView {
        slug: version.plan.slug.clone(),
        name: version.plan.name.clone(),
        summary: version.plan.summary.clone(),
        fee: fees
            .iter()
            .any(|(_, amount)| !amount.is_zero())
            .then(|| decimal(fees.iter().map(|(_, amount)| *amount).sum(), version.currency)),
        is_free: version.rate_cards.iter().all(|card| costs_nothing(&card.terms)),
        currency: version.currency.code().to_owned(),
        period: words.period,
        features,
        tables: version.rate_cards.iter().filter_map(|card| words.table(card)).collect(),
        products: covered.map(|product| (product.slug.clone(), product.name.clone())).collect(),
    }
}

impl PlanView {
    /// Whether nothing of it ever costs anything.
    pub const fn is_free(&self) -> bool {
        self.is_free
    }
}

struct Words<'a> {
    currency: Currency,
    period: &'static str,
    meters: &'a BTreeMap<MeterId, Meter>,
}

impl Words<'_> {
    fn money(&self, amount: Decimal) -> String {
        money(amount, self.currency)
    }

    fn unit(&self, meter: Option<MeterId>) -> &str {
        meter.and_then(|id| self.meters.get(&id)).map_or("unit", |meter| meter.unit.as_str())
    }

    fn units(&self, meter: Option<MeterId>, quantity: Quantity) -> String {
        let unit = self.unit(meter);
        let name = if quantity == Quantity::from_units(1) { unit.to_owned() } else { meter::plural(unit) };
        format!("{} {name}", grouped(&quantity.to_string()))
    }

    fn card(&self, card: &RateCard) -> Vec<String> {
        let terms = &card.terms;
        let unit = self.unit(card.meter);
        let free = terms.free_units.filter(|free| !free.is_zero());
        let price = match &terms.price {
            Price::Flat(flat) => self.money(flat.amount),
            Price::Unit(price) if price.unit_amount.is_zero() && free.is_none() => {
                format!("{} at no charge", capitalized(&meter::plural(unit)))
            }
            Price::Unit(price) => format!("{} per {unit}", self.money(price.unit_amount)),
            Price::Package(price) => format!("{} per started {}", self.money(price.amount), self.units(card.meter, price.size)),
            Price::Graduated(price) => tiers_in_words(&price.tiers, self, unit, "by tier"),
            Price::Volume(price) => tiers_in_words(&price.tiers, self, unit, "by volume"),
            Price::Percentage(price) => format!("{} % of {}", price.percent.normalize(), card.name.to_lowercase()),
        };
        let mut lines = Vec::new();
        match free {
            Some(free) => {
                lines.push(format!("{} included a {}", self.units(card.meter, free), self.period));
                let is_free = matches!(&terms.price, Price::Unit(price) if price.unit_amount.is_zero());
                if !is_free {
                    lines.push(format!("Then {price}"));
                }
            }
            None => lines.push(price),
        }
        if let Some(percent) = terms.discount_percent.filter(|percent| !percent.is_zero()) {
            lines.push(format!("{} % off {}", percent.normalize(), card.name.to_lowercase()));
        }
        if let Some(minimum) = terms.minimum_spend.filter(|amount| !amount.is_zero()) {
            lines.push(format!("At least {} a {} for {}", self.money(minimum), self.period, card.name.to_lowercase()));
        }
        if let Some(maximum) = terms.maximum_spend {
            lines.push(format!("At most {} a {} for {}", self.money(maximum), self.period, card.name.to_lowercase()));
        }
        lines
    }

    fn quota(&self, quota: &QuotaLimit) -> String {
        let units = self.units(Some(quota.meter), Quantity::from_micros(quota.limit_microunits));
        match quota.enforcement {
            Enforcement::Hard => format!("Up to {units} a {}", self.period),
            Enforcement::Soft => format!("A warning at {units} a {}", self.period),
        }
    }

    fn table(&self, card: &RateCard) -> Option<TierTable> {
        let (tiers, note) = match &card.terms.price {
            Price::Graduated(price) => (&price.tiers, "Each unit costs what its tier says."),
            Price::Volume(price) => (&price.tiers, "All units cost what the tier says that is reached."),
            _ => return None,
        };
        let mut above: Option<Quantity> = None;
        let rows = tiers
            .iter()
            .map(|tier| {
                let range = range(above, tier.up_to);
                above = tier.up_to;
                TierRow { range, unit_amount: self.money(tier.unit_amount), flat_amount: self.money(tier.flat_amount) }
            })
            .collect();
        let free = card.terms.free_units.filter(|free| !free.is_zero());
        let note =
            free.map_or_else(|| note.to_owned(), |free| format!("{note} The {} included are not counted.", self.units(card.meter, free)));
        let has_fees = tiers.iter().any(|tier| !tier.flat_amount.is_zero());
        Some(TierTable { name: card.name.clone(), note, unit: format!("per {}", self.unit(card.meter)), has_fees, rows })
    }
}

fn tiers_in_words(tiers: &[Tier], words: &Words<'_>, unit: &str, how: &str) -> String {
    let lowest = tiers.iter().map(|tier| tier.unit_amount).min().unwrap_or_default();
    let highest = tiers.iter().map(|tier| tier.unit_amount).max().unwrap_or_default();
    if lowest == highest {
        return format!("{} per {unit}, and fees {how}", words.money(lowest));
    }
    format!("{} to {} per {unit}, {how}", decimal(lowest, words.currency), words.money(highest))
}

fn costs_nothing(terms: &rating::RateCard) -> bool {
    let of_tiers = |tiers: &[Tier]| tiers.iter().all(|tier| tier.unit_amount.is_zero() && tier.flat_amount.is_zero());
    let price = match &terms.price {
        Price::Flat(price) => price.amount.is_zero(),
        Price::Unit(price) => price.unit_amount.is_zero(),
        Price::Package(price) => price.amount.is_zero(),
        Price::Graduated(price) => of_tiers(&price.tiers),
        Price::Volume(price) => of_tiers(&price.tiers),
        Price::Percentage(price) => price.percent.is_zero(),
    };
    price && terms.minimum_spend.is_none_or(|amount| amount.is_zero())
}

/// `1 to 1,000`, `1,001 to 5,000`, `more than 5,000`; with fractions `more than 0.5 up to 1`.
fn range(above: Option<Quantity>, up_to: Option<Quantity>) -> String {
    let text = |quantity: Quantity| grouped(&quantity.to_string());
    let Some(end) = up_to else {
        return above.map_or_else(|| "All".to_owned(), |start| format!("More than {}", text(start)));
    };
    let start = above.unwrap_or_default();
    if start.units().fract().is_zero() && end.units().fract().is_zero() {
        return format!("{} to {}", text(Quantity::new(start.units() + Decimal::ONE)), text(end));
    }
    format!("More than {} up to {}", text(start), text(end))
}

/// A rate limit in words: `10 requests a second for each key, in bursts of up to 20`.
pub fn rate_limit(limit: &RateLimit) -> String {
    let requests = if limit.requests == 1 { "request" } else { "requests" };
    let whose = match limit.scope {
        Scope::Namespace => "for all of your organization",
        Scope::Subscription => "for each subscription",
        Scope::Application => "for each application",
        Scope::ApiKey => "for each key",
    };
    let window = match limit.per_seconds {
        1 => "a second".to_owned(),
        60 => "a minute".to_owned(),
        3_600 => "an hour".to_owned(),
        86_400 => "a day".to_owned(),
        seconds => format!("in {seconds} seconds"),
    };
    let mut text = format!("{} {requests} {window} {whose}", grouped(&limit.requests.to_string()));
    if let Some(burst) = limit.burst.filter(|burst| *burst != limit.requests) {
        text.push_str(&format!(", in bursts of up to {}", grouped(&burst.to_string())));
    }
    if let Some(group) = &limit.route_group {
        text.push_str(&format!(", on the routes of {group}"));
    }
    text
}

/// `month`
pub const fn period(cadence: Cadence) -> &'static str {
    cadence.as_str()
}

/// An amount with the currency's decimals or, where it is finer, its own: `49.00`, `0.0004`.
pub fn decimal(amount: Decimal, currency: Currency) -> String {
    let mut amount = amount.normalize();
    if amount.scale() < currency.exponent() {
        amount.rescale(currency.exponent());
    }
    grouped(&amount.to_string())
}

/// [`decimal`] with the currency's code.
pub fn money(amount: Decimal, currency: Currency) -> String {
    format!("{} {}", decimal(amount, currency), currency.code())
}

/// Units of a limit, without trailing zeros.
pub fn micros(value: i64) -> String {
    Micros::from(value).to_string()
}

/// A decimal number with commas between thousands.
pub fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_amounts_keep_their_decimals() {
        for (number, text) in [("0", "0"), ("999", "999"), ("1000", "1,000"), ("-1234567.5", "-1,234,567.5"), ("0.0001", "0.0001")] {
            assert_eq!(grouped(number), text);
        }
        for (amount, code, text) in
            [("49", "USD", "49.00 USD"), ("0.00040", "USD", "0.0004 USD"), ("1200", "JPY", "1,200 JPY"), ("1.5", "KWD", "1.500 KWD")]
        {
            assert_eq!(money(amount.parse().expect("a decimal"), code.parse().expect("a currency")), text);
        }
    }

    #[test]
    fn tiers_are_ranges_without_gaps() {
        let units = |text: &str| Some(text.parse::<Quantity>().expect("a quantity"));
        assert_eq!(range(None, units("1000")), "1 to 1,000");
        assert_eq!(range(units("1000"), units("5000")), "1,001 to 5,000");
        assert_eq!(range(units("5000"), None), "More than 5,000");
        assert_eq!(range(units("0.5"), units("1")), "More than 0.5 up to 1");
        assert_eq!(range(None, None), "All");
    }

    #[test]
    fn limits_are_sentences() {
        let limit = RateLimit { requests: 10, per_seconds: 1, burst: Some(20), scope: Scope::ApiKey, route_group: Some("search".into()) };
        assert_eq!(rate_limit(&limit), "10 requests a second for each key, in bursts of up to 20, on the routes of search");
        let limit = RateLimit { requests: 1, per_seconds: 90, burst: None, scope: Scope::Subscription, route_group: None };
        assert_eq!(rate_limit(&limit), "1 request in 90 seconds for each subscription");
    }
}
