//! Whether the process lives, and whether it can serve.

use axum::{Router, extract::State, http::StatusCode, routing::get};

use crate::app::App;

/// `/healthz` and `/readyz`.
pub fn routes() -> Router<App> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

/// Ready when Postgres answers.
async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    match sqlx::query("SELECT 1").execute(&app.pool).await {
        Ok(_) => (StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::warn!(%error, "not ready: Postgres does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
        }
    }
}
