//! For gateways: the policy feed, usage, leases, status. [`gateway_control`] describes the calls.
//!
//! Nothing is read or written here without a gateway's own credential (SEMANTICS P6). Errors are RFC 9457 problems.

use axum::{Router, extract::DefaultBodyLimit};
use gateway_control::usage::MAX_BATCH_BYTES;
use tower_http::decompression::RequestDecompressionLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

pub mod call;
mod document;
mod json;
mod lease;
mod policy;
mod status;
pub mod usage;

/// The largest body of the small calls.
const MAX_SMALL_BYTES: usize = 4 * 1024 * 1024;

/// All endpoints below `/control/v1`, with their descriptions.
fn documented() -> OpenApiRouter<App> {
    let small = OpenApiRouter::new()
        .routes(routes!(policy::watch))
        .routes(routes!(lease::exchange))
        .routes(routes!(status::report))
        .layer(DefaultBodyLimit::max(MAX_SMALL_BYTES));
    // The bound holds for what the body unpacks to, so that a small body cannot fill the memory.
    let large = OpenApiRouter::new()
        .routes(routes!(usage::accept))
        .layer(DefaultBodyLimit::max(MAX_BATCH_BYTES))
        .layer(RequestDecompressionLayer::new());
    OpenApiRouter::with_openapi(document::base()).merge(small).merge(large)
}

/// All endpoints below `/control/v1`.
pub fn router(_app: &App) -> Router<App> {
    documented().split_for_parts().0
}

/// The OpenAPI document of the calls of gateways, as it stands in `openapi/gateway-control.v1.json`.
pub fn openapi_json() -> serde_json::Result<String> {
    let document: OpenApi = document::finish(documented().into_openapi());
    document.to_pretty_json()
}
