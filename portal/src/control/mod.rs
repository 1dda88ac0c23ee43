//! For gateways: the policy feed, usage, leases, status. [`gateway_control`] describes the calls.
//!
//! Nothing is read or written here without a gateway's own credential (SEMANTICS P6). Errors are RFC 9457 problems.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use gateway_control::usage::MAX_BATCH_BYTES;
use tower_http::decompression::RequestDecompressionLayer;

use crate::app::App;

pub mod call;
mod json;
mod lease;
mod policy;
mod status;
pub mod usage;

/// The largest body of the small calls.
const MAX_SMALL_BYTES: usize = 4 * 1024 * 1024;

/// All endpoints below `/control/v1`.
pub fn router(_app: &App) -> Router<App> {
    let small = Router::new()
        .route("/control/v1/policy", get(policy::watch))
        .route("/control/v1/leases", post(lease::exchange))
        .route("/control/v1/status", post(status::report))
        .layer(DefaultBodyLimit::max(MAX_SMALL_BYTES));
    // The bound holds for what the body unpacks to, so that a small body cannot fill the memory.
    let large = Router::new()
        .route("/control/v1/usage", post(usage::accept))
        .layer(DefaultBodyLimit::max(MAX_BATCH_BYTES))
        .layer(RequestDecompressionLayer::new());
    small.merge(large)
}
