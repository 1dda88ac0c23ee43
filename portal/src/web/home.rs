//! The start page.

use axum::{Router, response::Redirect, routing::get};

use super::{call::Visit, failure::Failure};
use crate::{app::App, tenants::invitation};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/", get(home))
}

/// Members see how things stand, those who are invited to their first organization what they are invited to; everybody else sees what is on offer.
async fn home(mut visit: Visit) -> Result<Redirect, Failure> {
    let without_tenant = visit.session.as_ref().is_some_and(|session| session.verified && session.tenants.is_empty());
    if without_tenant && !invitation::of_person(&mut visit.tx, &visit.actor, visit.now).await?.is_empty() {
        return Ok(Redirect::to("/invitations"));
    }
    Ok(Redirect::to(match &visit.session {
        None => "/catalog",
        Some(session) if !session.verified => "/verify",
        Some(session) if session.tenants.is_empty() && session.is_operator => "/admin/products",
        Some(session) if session.tenants.is_empty() => "/tenants/new",
        Some(_) => "/overview",
    }))
}
