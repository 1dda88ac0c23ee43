//! Routes that no document names: those of gRPC, WebSockets, and whatever else OpenAPI cannot say.

use calendar::Timestamp;
use gateway_control::{options::RouteOptions, path::PathTemplate, rules};
use ids::RouteId;
use serde_json::json;

use super::{
    Route, RouteSettings, check, counts_calls,
    matching::{self, Candidate},
    options::renamed,
    store,
};
use crate::{
    audit::{self, Entry},
    catalog::{ApiProduct, check::Problems, meter, store as products},
    db::Tx,
    error::{Error, Kind, Result},
    identity::{Actor, Permission},
};

/// What calls a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandRoute {
    /// Upper case; `*` for all.
    pub method: String,
    /// As callers use it: `/weather/v1/{city}`, or without the product's slug, such as `/weather.v1.Weather/{method}`; `{*rest}` takes all that follows.
    pub path: String,
    /// At most 300 characters.
    pub summary: String,
}

/// Adds a route. Without settings each call is one request.
pub async fn add_route(
    tx: &mut Tx,
    actor: &Actor,
    product: &ApiProduct,
    input: HandRoute,
    (settings, options): (Option<RouteSettings>, RouteOptions),
    now: Timestamp,
) -> Result<Route> {
    actor.require(Permission::Operate)?;
    // One after the other, so that two who add the same route meet.
    products::lock_product(tx, &product.slug).await?;
    let settings = match settings {
        Some(settings) => settings,
        None => RouteSettings { rate_group: None, meters: vec![counts_calls(meter::requests_meter(tx, now).await?.id)] },
    };
    check(tx, &settings).await?;
    let route = candidate(tx, product, None, input, options).await?;
    let route = Route { settings, ..route };
    let service = products::service_of(tx, product.id)
        .await?
        .ok_or_else(|| Error::internal(anyhow::anyhow!("product {} has no service", product.id)))?;
    store::insert_by_hand(tx, product.id, service.id, &route).await?;
    let entry = Entry { action: "route.added", target: route.id.to_string(), after: Some(told(&route)), ..Entry::default() };
    audit::record(tx, actor, entry, now).await?;
    Ok(route)
}

/// Changes which calls a route by hand takes.
pub async fn edit_route(tx: &mut Tx, actor: &Actor, product: &ApiProduct, id: RouteId, input: HandRoute, now: Timestamp) -> Result<Route> {
    actor.require(Permission::Operate)?;
    products::lock_product(tx, &product.slug).await?;
    let before = by_hand(tx, product, id).await?;
    let options = match input.path.parse::<PathTemplate>() {
        Ok(path) => renamed(&before.options, &before.path, &path),
        Err(_) => before.options.clone(),
    };
    let after = candidate(tx, product, Some(id), input, options).await?;
    let after = Route { settings: before.settings.clone(), ..after };
    store::update_by_hand(tx, &after).await?;
    let entry = Entry {
        action: "route.edited",
        target: id.to_string(),
        before: Some(told(&before)),
        after: Some(told(&after)),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(after)
}

/// Retires a route by hand: gateways forget it, usage goes on naming it.
pub async fn retire_route(tx: &mut Tx, actor: &Actor, product: &ApiProduct, id: RouteId, now: Timestamp) -> Result<Route> {
    actor.require(Permission::Operate)?;
    let route = by_hand(tx, product, id).await?;
    store::retire_routes(tx, product.id, &[id], now).await?;
    let entry = Entry { action: "route.retired", target: id.to_string(), before: Some(told(&route)), ..Entry::default() };
    audit::record(tx, actor, entry, now).await?;
    Ok(route)
}

async fn by_hand(tx: &mut Tx, product: &ApiProduct, id: RouteId) -> Result<Route> {
    let route = store::route(tx, product.id, id).await?.ok_or_else(|| Error::not_found("This route"))?;
    if !route.by_hand {
        let message = "The document describes this route: import an edition that describes it otherwise, or not at all.";
        return Err(Error::new(Kind::Conflict, message));
    }
    Ok(route)
}

fn told(route: &Route) -> serde_json::Value {
    json!({"method": route.method, "path": route.path, "summary": route.summary, "options": route.options})
}

/// The route as it would be, without settings.
async fn candidate(tx: &mut Tx, product: &ApiProduct, id: Option<RouteId>, input: HandRoute, options: RouteOptions) -> Result<Route> {
    let mut problems = Problems::default();
    let HandRoute { method, path, summary } = input;
    let known = method == "*" || method.parse::<http::Method>().is_ok_and(|_| method.bytes().all(|byte| byte.is_ascii_uppercase()));
    if !known || ["CONNECT", "TRACE"].contains(&method.as_str()) || method.len() > 32 {
        problems.add("method", "Use a method in capitals, like `GET`, or `*` for all.");
    }
    problems.text("summary", &summary, 0, 300);
    match path.parse::<PathTemplate>() {
        Ok(parsed) => {
            problems.faults(rules::route_faults(&options, &parsed));
            let candidate = Candidate { id, method: &method, path: &parsed, options: &options };
            matching::check_territory(tx, product, &candidate, "path", &mut problems).await?;
            matching::check_rivals(tx, &candidate, "path", &mut problems).await?;
        }
        Err(error) => problems.add("path", format!("The path {error}.")),
    }
    problems.finish()?;
    Ok(Route {
        id: id.unwrap_or_else(RouteId::new),
        method,
        path,
        operation_id: None,
        summary,
        settings: RouteSettings { rate_group: None, meters: Vec::new() },
        options,
        by_hand: true,
        retired_at: None,
    })
}
