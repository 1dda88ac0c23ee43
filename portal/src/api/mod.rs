//! REST. One endpoint a file; errors are RFC 9457 problems, made in [`problem`] only.

use axum::Router;

use crate::app::App;

pub mod problem;

/// All endpoints below `/api/v1`.
pub fn router(_app: &App) -> Router<App> {
    Router::new()
}

/// The OpenAPI document of the REST API, as it stands in `openapi/portal.v1.json`.
pub fn openapi_json() -> serde_json::Result<String> {
    serde_json::to_string_pretty(&serde_json::json!({ "openapi": "3.1.0", "info": { "title": "Tollkeeper", "version": "1" }, "paths": {} }))
}
