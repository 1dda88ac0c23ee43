//! REST. One endpoint a file; errors are RFC 9457 problems, made in [`problem`] only.

use axum::Router;

use crate::app::App;

pub mod problem;

/// All endpoints below `/api/v1`.
pub fn router(_app: &App) -> Router<App> {
    Router::new()
}
