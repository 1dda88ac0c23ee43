//! Pages. One area a file; each handler opens its [`call::Call`], calls one domain operation, commits, and renders.
//!
//! Add an area by writing `web/<area>.rs` with `pub fn routes() -> Router<App>` and merging it in [`router`].

use std::time::Duration;

use axum::{
    Router,
    http::{StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
};
use calendar::Timestamp;

use crate::{
    Config,
    api::problem::Problem,
    app::App,
    error::{Error, Kind, Result},
};

mod account;
mod admin_corrections;
mod admin_gateways;
mod admin_invoices;
mod admin_meters;
mod admin_plans;
mod admin_products;
mod admin_reconciliation;
mod admin_tenants;
mod applications;
pub mod assets;
pub mod call;
mod catalog;
mod charges;
mod cost;
pub mod failure;
pub mod form;
pub mod health;
mod home;
mod invitations;
mod invoices;
mod keys;
mod mailbox;
mod members;
mod overview;
pub mod plan_text;
mod reset;
mod security;
pub mod segment;
mod settings;
pub mod shell;
mod sign_in;
mod sign_up;
mod subscribe;
mod subscriptions;
mod tenants;
mod tokens;
mod usage;

/// All pages.
pub fn router(app: &App) -> Router<App> {
    Router::new()
        .merge(health::routes())
        .merge(assets::routes())
        .merge(catalog::routes())
        .merge(admin_products::routes())
        .merge(admin_plans::routes())
        .merge(admin_meters::routes())
        .merge(sign_up::routes())
        .merge(sign_in::routes())
        .merge(reset::routes())
        .merge(mailbox::routes())
        .merge(overview::routes())
        .merge(home::routes())
        .merge(applications::routes())
        .merge(keys::routes())
        .merge(subscriptions::routes())
        .merge(subscribe::routes())
        .merge(tenants::routes())
        .merge(settings::routes())
        .merge(members::routes())
        .merge(invitations::routes())
        .merge(tokens::routes())
        .merge(account::routes())
        .merge(usage::routes())
        .merge(invoices::routes())
        .merge(admin_invoices::routes())
        .merge(admin_gateways::routes())
        .merge(admin_corrections::routes())
        .merge(admin_reconciliation::routes())
        .merge(admin_tenants::routes())
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(app.clone(), security::headers))
}

/// The answer to a path that nothing serves: a problem for programs, a page for people.
async fn unknown(uri: Uri) -> Response {
    let for_programs = ["/api/", "/control/"].iter().any(|prefix| uri.path().starts_with(prefix));
    if for_programs { Problem(Error::not_found("This resource")).into_response() } else { failure::not_found().await.into_response() }
}

/// The name of the session cookie. `__Host-` keeps other hosts of the domain from setting it; it demands https, which a local start does not have.
pub fn session_cookie(config: &Config) -> &'static str {
    if config.secure_cookies() { "__Host-tollkeeper_session" } else { "tollkeeper_session" }
}

/// Answers that hold a person's data are never stored by caches.
pub const NO_STORE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

/// A form that has not been sent yet has no error to show.
pub fn no_error() -> Error {
    Error::new(Kind::Invalid, "")
}

/// The status of a page with a form: that of what is wrong with it, if anything is.
pub fn form_status(error: &Error) -> StatusCode {
    if error.public.is_empty() { StatusCode::OK } else { failure::status_of(error.kind) }
}

/// Whether the person can mend it where they are: the form is shown again, with what they entered.
pub fn belongs_on_form(error: &Error) -> bool {
    matches!(error.kind, Kind::Invalid | Kind::Conflict | Kind::TooManyAttempts { .. })
}

/// What a confirmation posts: the server checks that it was given.
#[derive(Debug, serde::Deserialize)]
pub struct Confirmed {
    #[serde(default)]
    confirm: String,
}

impl Confirmed {
    /// Refuses where the box was not ticked.
    pub fn require(&self) -> Result<()> {
        self.require_phrase("yes")
    }

    /// Refuses where the phrase was not typed.
    pub fn require_phrase(&self, phrase: &str) -> Result<()> {
        if self.confirm.trim() == phrase { Ok(()) } else { Err(Error::invalid("confirm", "Please confirm first.")) }
    }
}

/// The end of something that lasts for a number of days; never if the field is empty.
fn in_days(days: &str, now: Timestamp) -> Result<Option<Timestamp>> {
    if days.trim().is_empty() {
        return Ok(None);
    }
    let days = days.trim().parse::<u64>().ok().filter(|days| (1..=3650).contains(days));
    let days = days.ok_or_else(|| Error::invalid("days", "Enter a number of days from 1 to 3650, or leave it empty."))?;
    Ok(Some(now.plus(Duration::from_secs(days * 86_400))))
}
