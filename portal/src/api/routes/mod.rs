//! `/api/v1/products/{slug}/routes`: which calls a product takes, and what the gateway does with them.

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    catalog::route::{Route, by_hand::HandRoute},
};

mod convert;
mod create;
mod get;
mod list;
mod put;
mod put_settings;
mod retire;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list::list_routes, create::create_route))
        .routes(routes!(get::get_route, put::put_route, retire::retire_route))
        .routes(routes!(put_settings::put_route_settings))
}

fn shown(route: Route) -> portal_api::Route {
    let Route { id, method, path, operation_id, summary, settings, options, by_hand, retired_at: _ } = route;
    let method = Some(method).filter(|method| method != "*");
    portal_api::Route { id, method, path, summary, operation_id, by_hand, settings: convert::shown(settings, options) }
}

fn hand_route(calls: portal_api::RouteMatch) -> HandRoute {
    HandRoute { method: calls.method.unwrap_or_else(|| "*".to_owned()), path: calls.path, summary: calls.summary }
}
