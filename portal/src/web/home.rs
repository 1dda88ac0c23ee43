//! The start page.

use axum::{Router, response::Redirect, routing::get};

use super::call::Visit;
use crate::app::App;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/", get(home))
}

/// Members see how things stand; everybody else sees what is on offer.
async fn home(visit: Visit) -> Redirect {
    Redirect::to(match &visit.session {
        None => "/catalog",
        Some(session) if !session.verified => "/verify",
        Some(session) if session.tenants.is_empty() && session.is_operator => "/admin/products",
        Some(session) if session.tenants.is_empty() => "/tenants/new",
        Some(_) => "/overview",
    })
}
