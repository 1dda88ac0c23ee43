//! Routes that no document names: adding, editing and retiring them.

use askama::Template;
use axum::{
    extract::Path,
    response::{Html, IntoResponse, Response},
};
use gateway_control::options::RouteOptions;
use ids::RouteId;
use serde::Deserialize;

use super::{lines, routes};
use crate::{
    catalog::{
        ApiProduct, api_product,
        route::{
            Route,
            by_hand::{self, HandRoute},
        },
    },
    error::{Error, Result},
    web::{belongs_on_form, call::UserCall, failure::Failure, form::Posted, form_status, no_error, shell::Shell},
};

/// The methods that the form offers: the value, and its words.
const METHODS: [(&str, &str); 8] = [
    ("*", "All"),
    ("GET", "GET"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("DELETE", "DELETE"),
    ("HEAD", "HEAD"),
    ("OPTIONS", "OPTIONS"),
];

/// The fields of the form, as they were entered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HandForm {
    method: String,
    path: String,
    summary: String,
    hosts: String,
}

impl HandForm {
    fn read(&self) -> HandRoute {
        let trimmed = |text: &str| text.trim().to_owned();
        HandRoute { method: trimmed(&self.method), path: trimmed(&self.path), summary: trimmed(&self.summary) }
    }
}

#[derive(Template)]
#[template(path = "pages/admin/products/by_hand.html")]
struct FormPage {
    shell: Shell,
    product: ApiProduct,
    /// The route that is edited; absent for a new one.
    route: Option<Route>,
    form: HandForm,
    error: Error,
}

impl FormPage {
    fn at(&self, field: &str) -> &str {
        self.error.field(field).unwrap_or_default()
    }

    /// Where the form goes.
    fn action(&self) -> String {
        match &self.route {
            Some(route) => format!("/admin/products/{}/routes/{}/calls", self.product.slug, route.id),
            None => format!("/admin/products/{}/routes/new", self.product.slug),
        }
    }
}

async fn page(mut call: UserCall, product: ApiProduct, route: Option<Route>, form: HandForm, error: Error) -> Result<Response, Failure> {
    let status = form_status(&error);
    let shell = call.shell(if route.is_some() { "Method and path" } else { "Add a route" }, "admin-products").await?;
    Ok((status, Html(FormPage { shell, product, route, form, error }.render()?)).into_response())
}

pub(super) async fn form(mut call: UserCall, Path(slug): Path<String>) -> Result<Response, Failure> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let form = HandForm { method: "POST".to_owned(), path: format!("/{slug}/"), ..HandForm::default() };
    page(call, product, None, form, no_error()).await
}

pub(super) async fn add(Path(slug): Path<String>, Posted(mut call, form): Posted<UserCall, HandForm>) -> Result<Response, Failure> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let options = RouteOptions { hosts: lines::names(&form.hosts), ..RouteOptions::default() };
    match by_hand::add_route(&mut call.tx, &call.actor, &product, form.read(), (None, options), call.now).await {
        Ok(route) => {
            let to = format!("/admin/products/{slug}/routes/{}", route.id);
            let text = "The route is added: each call counts as one request. Change here what it is measured by.";
            Ok(call.commit_and_go(&to, "success", text).await?.into_response())
        }
        Err(error) if belongs_on_form(&error) => page(call, product, None, form, error).await,
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn edit_form(mut call: UserCall, Path((slug, id)): Path<(String, RouteId)>) -> Result<Response, Failure> {
    let (product, route) = hand_route(&mut call, &slug, id).await?;
    let form = HandForm { method: route.method.clone(), path: route.path.clone(), summary: route.summary.clone(), ..HandForm::default() };
    page(call, product, Some(route), form, no_error()).await
}

pub(super) async fn edit(
    Path((slug, id)): Path<(String, RouteId)>,
    Posted(mut call, form): Posted<UserCall, HandForm>,
) -> Result<Response, Failure> {
    let (product, route) = hand_route(&mut call, &slug, id).await?;
    match by_hand::edit_route(&mut call.tx, &call.actor, &product, id, form.read(), call.now).await {
        Ok(_) => Ok(call.commit_and_go(&format!("/admin/products/{slug}/routes"), "success", "The route is saved.").await?.into_response()),
        Err(error) if belongs_on_form(&error) => page(call, product, Some(route), form, error).await,
        Err(error) => Err(error.into()),
    }
}

/// What a document describes has no such page.
async fn hand_route(call: &mut UserCall, slug: &str, id: RouteId) -> Result<(ApiProduct, Route)> {
    let (product, route) = routes::find(call, slug, id).await?;
    if route.by_hand { Ok((product, route)) } else { Err(Error::not_found("This page")) }
}

/// What a confirmation sends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Confirmed {
    confirm: String,
}

pub(super) async fn retire(
    Path((slug, id)): Path<(String, RouteId)>,
    Posted(mut call, sent): Posted<UserCall, Confirmed>,
) -> Result<Response, Failure> {
    let (product, _) = hand_route(&mut call, &slug, id).await?;
    if sent.confirm != "yes" {
        let to = format!("/admin/products/{slug}/routes/{id}/calls");
        return Ok(call.commit_and_go(&to, "error", "Please confirm that the route shall be retired.").await?.into_response());
    }
    let route = by_hand::retire_route(&mut call.tx, &call.actor, &product, id, call.now).await?;
    let text = format!("{} {} is retired.", route.method_text(), route.path);
    Ok(call.commit_and_go(&format!("/admin/products/{slug}/routes"), "success", text).await?.into_response())
}
