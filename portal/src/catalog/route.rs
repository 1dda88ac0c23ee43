//! Routes: what the gateway matches, and how a call moves the meters.

use std::collections::BTreeSet;

use calendar::Timestamp;
use gateway_control::{
    options::RouteOptions,
    policy::{RouteMeter, UnitSource},
    units::Micros,
};
use ids::{ApiProductId, MeterId, RouteId};
use serde_json::json;

use super::check::Problems;
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

pub mod by_hand;
mod matching;
pub mod options;
pub(super) mod store;

/// The most meters that one call moves.
const MAX_METERS: usize = 20;

/// The most units that one call may declare.
const MAX_UNITS: Micros = Micros::units(1_000_000_000);

/// A match rule of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its id, which usage names for ever.
    pub id: RouteId,
    /// Upper case; `*` for all.
    pub method: String,
    /// The path as callers use it, the product's slug included. One that was added by hand may do without the slug.
    pub path: String,
    /// `operationId` of the document.
    pub operation_id: Option<String>,
    /// One sentence.
    pub summary: String,
    /// What limits and meters say of it.
    pub settings: RouteSettings,
    /// What else it matches, and how its calls are changed and bounded.
    pub options: RouteOptions,
    /// No document names it: somebody added it.
    pub by_hand: bool,
    /// Since when the document lacks it, or when somebody retired it.
    pub retired_at: Option<Timestamp>,
}

impl Route {
    /// The path without the product's slug, as the document has it. A path that does without the slug is shown whole.
    pub fn path_in_product(&self, slug: &str) -> &str {
        match self.path.strip_prefix('/').and_then(|path| path.strip_prefix(slug)) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => &self.path,
        }
    }

    /// Its method for people.
    pub fn method_text(&self) -> &str {
        if self.method == "*" { "ANY" } else { &self.method }
    }
}

/// What limits and meters say of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSettings {
    /// The group that rate limits may name; 1 to 64 bytes.
    pub rate_group: Option<String>,
    /// How a call moves the meters. None: a call is counted by nothing and never billed.
    pub meters: Vec<RouteMeter>,
}

/// How a route that was just imported is metered: each call is one unit of a meter.
pub fn counts_calls(meter: MeterId) -> RouteMeter {
    RouteMeter { meter, source: UnitSource::Call, default_units: Micros::ONE, max_units: Micros::ONE }
}

/// One route in force of a product.
pub async fn route(tx: &mut Tx, product: ApiProductId, id: RouteId) -> Result<Route> {
    store::route(tx, product, id).await?.ok_or_else(|| Error::not_found("This route"))
}

/// The routes in force of a product, by path and method.
pub async fn routes(tx: &mut Tx, product: ApiProductId) -> Result<Vec<Route>> {
    store::routes(tx, product).await
}

/// Changes how one route is limited and metered, or, with `None`, all routes of the product that are in force. Returns how many were changed.
pub async fn update_routes(
    tx: &mut Tx,
    actor: &Actor,
    product: ApiProductId,
    route: Option<RouteId>,
    settings: RouteSettings,
    now: Timestamp,
) -> Result<u64> {
    actor.require(Permission::Operate)?;
    check(tx, &settings).await?;
    let changed = store::update_route_settings(tx, product, route, &settings).await?;
    if changed == 0 {
        return Err(Error::not_found("This route"));
    }
    let entry = Entry {
        action: "route.updated",
        target: route.map_or_else(|| product.to_string(), |route| route.to_string()),
        after: Some(json!({"rate_group": settings.rate_group, "meters": settings.meters, "routes": changed})),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(changed)
}

async fn check(tx: &mut Tx, settings: &RouteSettings) -> Result<()> {
    let mut problems = Problems::default();
    if let Some(group) = &settings.rate_group {
        let allowed = group.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if group.is_empty() || group.len() > 64 || !allowed {
            problems.add("rate_group", "Use 1 to 64 letters, digits, hyphens, underscores or dots.");
        }
    }
    if settings.meters.len() > MAX_METERS {
        problems.add("meters", format!("Use at most {MAX_METERS} meters."));
    }
    let known: BTreeSet<MeterId> = super::meter::meters(tx).await?.into_iter().map(|meter| meter.id).collect();
    let mut seen = BTreeSet::new();
    for (index, meter) in settings.meters.iter().enumerate() {
        let at = |field: &str| format!("meters[{index}].{field}");
        if !known.contains(&meter.meter) {
            problems.add(at("meter"), format!("No meter has the id {}.", meter.meter));
        } else if !seen.insert(meter.meter) {
            problems.add(at("meter"), "This meter stands twice in the list.");
        }
        if let UnitSource::Header { name } | UnitSource::Trailer { name } = &meter.source
            && (name.bytes().any(|byte| byte.is_ascii_uppercase()) || name.parse::<http::HeaderName>().is_err())
        {
            problems.add(at("source"), "Use the name of a header in lower case, like `x-tokens-used`.");
        }
        if meter.default_units < Micros(0) || meter.default_units > meter.max_units {
            problems.add(at("default_units"), "Use 0 or more units, and no more than the most units of a call.");
        }
        if meter.max_units <= Micros(0) || meter.max_units > MAX_UNITS {
            problems.add(at("max_units"), format!("Use more than 0 and at most {MAX_UNITS} units."));
        }
    }
    problems.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_without_the_slug() {
        let route = |path: &str| Route {
            id: RouteId::new(),
            method: "GET".into(),
            path: path.into(),
            operation_id: None,
            summary: String::new(),
            settings: RouteSettings { rate_group: None, meters: Vec::new() },
            options: RouteOptions::default(),
            by_hand: false,
            retired_at: None,
        };
        for (path, shown) in [
            ("/weather/v1/{city}", "/v1/{city}"),
            ("/weather/", "/"),
            ("/weather", "/"),
            ("/weatherman/v1", "/weatherman/v1"),
            ("/weather.v1.Weather/Get", "/weather.v1.Weather/Get"),
        ] {
            assert_eq!(route(path).path_in_product("weather"), shown);
        }
    }
}
