//! Files that pages load.

use axum::Router;

use crate::app::App;

/// `/assets/`.
pub fn routes() -> Router<App> {
    Router::new()
}

/// The address of an asset by its plain name.
pub fn asset_url(name: &str) -> String {
    format!("/assets/{name}")
}
