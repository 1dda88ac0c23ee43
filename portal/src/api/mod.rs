//! REST. One endpoint a file `api/<noun>/<verb>.rs`; errors are RFC 9457 problems, made in [`problem`] only.
//!
//! An endpoint takes [`call::ApiCall`] first, then what it reads with the extractors of [`extract`], calls one domain operation, commits, and
//! answers with a type of the crate `portal-api`. Add a noun by writing `api/<noun>/mod.rs` with `pub fn routes() -> OpenApiRouter<App>` and merging
//! it in `documented`. What every operation has in common (security, the tenant's header, problems) is added to the document by [`document`].

use axum::{Json, Router, routing::get};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

mod applications;
pub mod call;
mod corrections;
pub(crate) mod document;
pub mod extract;
mod gateways;
mod invitations;
mod invoices;
mod keys;
mod meters;
mod plans;
pub mod problem;
mod products;
mod reconciliation;
mod routes;
mod service;
mod subscriptions;
mod tokens;
mod usage;

/// All endpoints below `/api/v1`, with their descriptions.
fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(document::base()).nest(
        "/api/v1",
        OpenApiRouter::new()
            .merge(applications::routes())
            .merge(corrections::routes())
            .merge(gateways::routes())
            .merge(invitations::routes())
            .merge(keys::routes())
            .merge(meters::routes())
            .merge(plans::routes())
            .merge(products::routes())
            .merge(reconciliation::routes())
            .merge(routes::routes())
            .merge(service::routes())
            .merge(subscriptions::routes())
            .merge(tokens::routes())
            .merge(usage::routes())
            .merge(invoices::routes()),
    )
}

/// All endpoints below `/api/v1`.
pub fn router(_app: &App) -> Router<App> {
    let (router, document) = documented().split_for_parts();
    let document = document::finish(document);
    router.route("/api/v1/openapi.json", get(async move || Json(document))).route("/api/v1/{*rest}", axum::routing::any(problem::not_found))
}

/// The OpenAPI document of the REST API.
pub fn openapi() -> OpenApi {
    document::finish(documented().into_openapi())
}

/// [`openapi`] as it stands in `openapi/portal.v1.json`.
pub fn openapi_json() -> serde_json::Result<String> {
    openapi().to_pretty_json()
}
