//! For gateways: the policy feed, usage, leases, status.

use axum::Router;

use crate::app::App;

/// All endpoints below `/control/v1`.
pub fn router(_app: &App) -> Router<App> {
    Router::new()
}
