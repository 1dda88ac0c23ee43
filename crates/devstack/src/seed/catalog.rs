//! What the demo sells: three API products, imported from their documents, three meters, and the plans Free, Pro and Scale.

use anyhow::Context;
use calendar::Timestamp;
use gateway_control::policy::{RouteMeter, UnitSource};
use gateway_control::units::Micros;
use ids::{ApiProductId, MeterId};
use portal::{
    catalog::{
        Aggregation, Meter, NewMeter, NewPlan, NewRateCard, VersionTerms,
        api_product::{self, UpdateProduct},
        import::{self, Import},
        meter, plan,
        route::{self, Route, RouteSettings},
        service::ServiceSettings,
    },
    db::Tx,
    identity::Actor,
};
use serde_json::{Value, json};

/// The products, by slug, with their documents.
const PRODUCTS: [(&str, &str); 3] = [
    ("weather", include_str!("../../demo/weather.yaml")),
    ("textgen", include_str!("../../demo/textgen.yaml")),
    ("quotes", include_str!("../../demo/quotes.yaml")),
];
/// The header or trailer in which text generation says how many tokens a call used.
const TOKENS_TRAILER: &str = "x-usage-tokens";

/// What the demo's history needs to know.
#[derive(Debug)]
pub struct Catalog {
    /// Calls.
    pub requests: MeterId,
    /// Tokens of text generation.
    pub tokens: MeterId,
    /// Messages of the stream of quotes.
    pub messages: MeterId,
    /// All routes.
    pub routes: Vec<Route>,
}

impl Catalog {
    /// The route of an operation.
    pub fn route(&self, operation: &str) -> anyhow::Result<&Route> {
        let found = self.routes.iter().find(|route| route.operation_id.as_deref() == Some(operation));
        found.with_context(|| format!("the demo's documents have no operation {operation}"))
    }
}

/// Writes products, meters and plans.
pub async fn write(tx: &mut Tx, actor: &Actor, demo_api: &str, gateway: &str, now: Timestamp) -> anyhow::Result<Catalog> {
    let requests = meter::requests_meter(tx, now).await?.id;
    let tokens = new_meter(tx, actor, ("tokens", "Tokens", "token"), now).await?.id;
    let messages = new_meter(tx, actor, ("messages", "Messages", "message"), now).await?.id;
    let mut products = Vec::new();
    let mut routes = Vec::new();
    for (slug, source) in PRODUCTS {
        // The documents show calls as they work on this installation.
        let source = source.replace("//localhost:8081", &format!("//{gateway}"));
        let id = product(tx, actor, slug, &source, demo_api, now).await?;
        routes.extend(route::routes(tx, id).await?);
        products.push(id);
    }
    let mut catalog = Catalog { requests, tokens, messages, routes };
    let generate = RouteSettings {
        rate_group: Some("generation".into()),
        meters: vec![
            route::counts_calls(requests),
            RouteMeter {
                meter: tokens,
                source: UnitSource::Trailer { name: TOKENS_TRAILER.into() },
                default_units: Micros(0),
                // A call that starts reserves this much of a hard quota: what the model takes at most.
                max_units: Micros::units(4_096),
            },
        ],
    };
    let stream = RouteSettings {
        rate_group: None,
        meters: vec![RouteMeter {
            meter: messages,
            source: UnitSource::Messages,
            default_units: Micros(0),
            // Of one record, which a stream writes every few seconds: this much of a hard quota is reserved at a time.
            max_units: Micros::units(500),
        }],
    };
    for (operation, product, settings) in [("generate", products[1], generate), ("streamQuotes", products[2], stream)] {
        let id = catalog.route(operation)?.id;
        route::update_routes(tx, actor, product, Some(id), settings.clone(), now).await?;
        if let Some(route) = catalog.routes.iter_mut().find(|route| route.id == id) {
            route.settings = settings;
        }
    }
    for terms in plans(&catalog) {
        offer(tx, actor, &products, terms, now).await?;
    }
    Ok(catalog)
}

/// Sends the products' calls to where the demo upstreams are now: their port may be another than at the last start.
pub async fn point_to(tx: &mut Tx, actor: &Actor, demo_api: &str, now: Timestamp) -> anyhow::Result<()> {
    for (slug, _) in PRODUCTS {
        let Ok((product, service)) = api_product::product(tx, actor, slug).await else { continue };
        let wanted = upstream(demo_api, slug, service.settings.clone());
        // An operator who sent the product elsewhere meant it.
        let is_ours = service.settings.upstream_url.starts_with("http://127.0.0.1:") && service.settings.upstream_url.ends_with(slug);
        if is_ours && wanted != service.settings {
            let input = UpdateProduct { name: product.name, summary: product.summary, description: product.description, service: wanted };
            api_product::update_product(tx, actor, slug, input, now).await?;
        }
    }
    Ok(())
}

fn upstream(demo_api: &str, slug: &str, settings: ServiceSettings) -> ServiceSettings {
    ServiceSettings { upstream_url: format!("{demo_api}/{slug}"), sandbox_url: Some(format!("{demo_api}/sandbox/{slug}")), ..settings }
}

async fn new_meter(tx: &mut Tx, actor: &Actor, (slug, name, unit): (&str, &str, &str), now: Timestamp) -> anyhow::Result<Meter> {
    let known = meter::meters(tx).await?.into_iter().find(|meter| meter.slug == slug);
    if let Some(known) = known {
        return Ok(known);
    }
    let input = NewMeter { slug: slug.into(), name: name.into(), unit: unit.into(), aggregation: Aggregation::Sum };
    Ok(meter::create_meter(tx, actor, input, now).await?)
}

async fn product(tx: &mut Tx, actor: &Actor, slug: &str, source: &str, demo_api: &str, now: Timestamp) -> anyhow::Result<ApiProductId> {
    let (source, document) = import::read(source.as_bytes().to_vec(), None).await.with_context(|| format!("the demo's document {slug}"))?;
    let input =
        Import { slug: slug.into(), name: None, upstream_url: Some(format!("{demo_api}/{slug}")), source_url: None, source, document };
    let imported = import::import(tx, actor, input, now).await?;
    let (product, service) = api_product::product(tx, actor, slug).await?;
    let input = UpdateProduct {
        name: product.name,
        summary: product.summary,
        description: product.description,
        service: upstream(demo_api, slug, service.settings),
    };
    api_product::update_product(tx, actor, slug, input, now).await?;
    api_product::set_product_published(tx, actor, slug, true, now).await?;
    Ok(imported.product.id)
}

/// A plan and its first version.
struct Offer {
    slug: &'static str,
    name: &'static str,
    summary: &'static str,
    position: i32,
    rate_limits: Value,
    quotas: Value,
    /// Name, meter and terms.
    cards: Vec<(&'static str, Option<MeterId>, Value)>,
}

fn plans(catalog: &Catalog) -> Vec<Offer> {
    let Catalog { requests, tokens, messages, .. } = catalog;
    let quota = |meter: &MeterId, units: i64, enforcement: &str| json!({ "meter": meter, "limit_microunits": units * 1_000_000, "enforcement": enforcement });
    let limit = |requests: u32, seconds: u32, burst: u32| json!({ "requests": requests, "per_seconds": seconds, "burst": burst, "scope": "subscription" });
    vec![
        Offer {
            slug: "free",
            name: "Free",
            summary: "To try everything out. No card, no charge.",
            position: 1,
            rate_limits: json!([limit(120, 60, 20)]),
            quotas: json!([quota(requests, 1_000, "hard"), quota(tokens, 20_000, "hard"), quota(messages, 2_000, "hard")]),
            cards: Vec::new(),
        },
        Offer {
            slug: "pro",
            name: "Pro",
            summary: "For products with users: generous allowances, and a lower price for every further call.",
            position: 2,
            rate_limits: json!([limit(50, 1, 100)]),
            quotas: json!([quota(requests, 1_000_000, "soft")]),
            cards: vec![
                ("Pro plan", None, json!({ "price": { "type": "flat", "amount": "29" } })),
                (
                    "Requests",
                    Some(*requests),
                    json!({ "price": { "type": "graduated", "tiers": [
                        { "up_to": "50000", "unit_amount": "0.0008" },
                        { "up_to": "250000", "unit_amount": "0.0006" },
                        { "unit_amount": "0.0004" },
                    ] }, "free_units": "50000" }),
                ),
                ("Tokens", Some(*tokens), json!({ "price": { "type": "unit", "unit_amount": "0.00002" }, "free_units": "250000" })),
                (
                    "Messages",
                    Some(*messages),
                    json!({ "price": { "type": "package", "size": "10000", "amount": "0.5" }, "free_units": "50000" }),
                ),
            ],
        },
        Offer {
            slug: "scale",
            name: "Scale",
            summary: "For heavy use: high limits, and one price for all calls that falls with the volume.",
            position: 3,
            rate_limits: json!([limit(500, 1, 1_000)]),
            quotas: json!([]),
            cards: vec![
                ("Scale plan", None, json!({ "price": { "type": "flat", "amount": "299" } })),
                (
                    "Requests",
                    Some(*requests),
                    json!({ "price": { "type": "volume", "tiers": [
                        { "up_to": "1000000", "unit_amount": "0.0003" },
                        { "up_to": "10000000", "unit_amount": "0.0002" },
                        { "unit_amount": "0.0001" },
                    ] } }),
                ),
                (
                    "Tokens",
                    Some(*tokens),
                    json!({ "price": { "type": "package", "size": "1000000", "amount": "9" }, "free_units": "5000000", "maximum_spend": "900" }),
                ),
                ("Messages", Some(*messages), json!({ "price": { "type": "package", "size": "100000", "amount": "3" } })),
            ],
        },
    ]
}

async fn offer(tx: &mut Tx, actor: &Actor, products: &[ApiProductId], offer: Offer, now: Timestamp) -> anyhow::Result<()> {
    let new = NewPlan { slug: offer.slug.into(), name: offer.name.into(), summary: offer.summary.into(), position: offer.position };
    let created = plan::create_plan(tx, actor, new, now).await?;
    let cards = offer.cards.into_iter().map(|(name, meter, terms)| {
        let terms = serde_json::from_value(terms).with_context(|| format!("the price of {name}"))?;
        anyhow::Ok(NewRateCard { name: name.into(), meter, terms })
    });
    let terms = VersionTerms {
        currency: rating::Currency::USD,
        cadence: calendar::Cadence::Month,
        rate_limits: serde_json::from_value(offer.rate_limits)?,
        quotas: serde_json::from_value(offer.quotas)?,
        billable: gateway_control::policy::BillableRule::default(),
        products: products.to_vec(),
        rate_cards: cards.collect::<anyhow::Result<_>>()?,
    };
    let version = plan::create_version(tx, actor, created.id, terms, now).await?;
    plan::publish_version(tx, actor, version.id, now).await?;
    Ok(())
}
