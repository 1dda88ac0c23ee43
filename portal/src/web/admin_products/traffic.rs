//! `/admin/products/{slug}/routes/{route}/traffic`: what else a route matches, and how its calls are changed and bounded.

use std::str::FromStr;

use askama::Template;
use axum::{
    extract::Path,
    response::{Html, IntoResponse, Response},
};
use gateway_control::options::{Cors, HeaderEdits, RouteOptions, RouteTimeouts};
use ids::RouteId;
use serde::Deserialize;

use super::{lines, routes};
use crate::{
    catalog::{
        ApiProduct,
        route::{Route, options},
    },
    error::{Error, FieldError, Kind, Result},
    web::{belongs_on_form, call::UserCall, failure::Failure, form::Posted, form_status, no_error, shell::Shell},
};

/// What a list of routes says of one, in a few words.
pub(super) fn notes(route: &Route) -> Vec<String> {
    let options = &route.options;
    let mut notes = Vec::new();
    let mut note = |holds: bool, text: &str| {
        if holds {
            notes.push(text.to_owned());
        }
    };
    note(route.by_hand, "By hand");
    note(options::is_conditional(options), "Conditions");
    note(options.rewrite.is_some(), "Rewritten");
    note(options.cors.is_some(), "CORS");
    notes
}

/// The fields of the form, as they were entered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TrafficForm {
    hosts: String,
    headers: String,
    query: String,
    rewrite: String,
    request_remove: String,
    request_set: String,
    response_remove: String,
    response_set: String,
    connect_ms: String,
    first_byte_ms: String,
    idle_ms: String,
    total_ms: String,
    max_request_body_bytes: String,
    origins: String,
    credentials: Option<String>,
    expose: String,
    max_age_s: String,
    max_policy_age_s: String,
}

fn text<N: ToString>(value: Option<N>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

impl TrafficForm {
    fn of(options: &RouteOptions) -> Self {
        let cors = options.cors.clone().unwrap_or_default();
        Self {
            hosts: lines::of_names(&options.hosts),
            headers: lines::of_conditions(&options.headers, ": "),
            query: lines::of_conditions(&options.query, "="),
            rewrite: options.rewrite.clone().unwrap_or_default(),
            request_remove: lines::of_names(&options.request_headers.remove),
            request_set: lines::of_fields(&options.request_headers.set),
            response_remove: lines::of_names(&options.response_headers.remove),
            response_set: lines::of_fields(&options.response_headers.set),
            connect_ms: text(options.timeouts.connect_ms),
            first_byte_ms: text(options.timeouts.first_byte_ms),
            idle_ms: text(options.timeouts.idle_ms),
            total_ms: text(options.timeouts.total_ms),
            max_request_body_bytes: text(options.max_request_body_bytes),
            origins: lines::of_names(&cors.origins),
            credentials: cors.credentials.then(|| "on".to_owned()),
            expose: lines::of_names(&cors.expose),
            max_age_s: text(cors.max_age_s),
            max_policy_age_s: text(options.max_policy_age_s),
        }
    }

    fn read(&self) -> Result<RouteOptions> {
        let mut problems = Vec::new();
        let mut millis = |field, text| number(field, text, &mut problems);
        let timeouts = RouteTimeouts {
            connect_ms: millis("timeouts.connect_ms", &self.connect_ms),
            first_byte_ms: millis("timeouts.first_byte_ms", &self.first_byte_ms),
            idle_ms: millis("timeouts.idle_ms", &self.idle_ms),
            total_ms: millis("timeouts.total_ms", &self.total_ms),
        };
        let edits = |remove: &str, set: &str| HeaderEdits { remove: lines::names(remove), set: lines::fields(set) };
        let cors = Cors {
            origins: lines::names(&self.origins),
            credentials: self.credentials.is_some(),
            expose: lines::names(&self.expose),
            max_age_s: number("cors.max_age_s", &self.max_age_s, &mut problems),
        };
        let options = RouteOptions {
            hosts: lines::names(&self.hosts),
            headers: lines::header_conditions(&self.headers),
            query: lines::query_conditions(&self.query),
            rewrite: Some(self.rewrite.trim().to_owned()).filter(|rewrite| !rewrite.is_empty()),
            request_headers: edits(&self.request_remove, &self.request_set),
            response_headers: edits(&self.response_remove, &self.response_set),
            timeouts,
            max_request_body_bytes: number("max_request_body_bytes", &self.max_request_body_bytes, &mut problems),
            cors: (cors != Cors::default()).then_some(cors),
            max_policy_age_s: number("max_policy_age_s", &self.max_policy_age_s, &mut problems),
        };
        if problems.is_empty() {
            return Ok(options);
        }
        Err(Error { fields: problems, ..Error::new(Kind::Invalid, "Please correct the marked fields.") })
    }
}

/// A number that may be left out.
pub(super) fn number<N: FromStr>(field: &'static str, text: &str, problems: &mut Vec<FieldError>) -> Option<N> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let read = text.parse().ok();
    if read.is_none() {
        problems.push(FieldError { field: field.into(), message: format!("`{text}` is no whole number that fits here.") });
    }
    read
}

#[derive(Template)]
#[template(path = "pages/admin/products/traffic.html")]
struct ShowPage {
    shell: Shell,
    product: ApiProduct,
    route: Route,
    form: TrafficForm,
    error: Error,
}

impl ShowPage {
    fn at(&self, field: &str) -> &str {
        self.error.field(field).unwrap_or_default()
    }
}

pub(super) async fn show(mut call: UserCall, Path((slug, route)): Path<(String, RouteId)>) -> Result<Response, Failure> {
    let (product, route) = routes::find(&mut call, &slug, route).await?;
    let form = TrafficForm::of(&route.options);
    show_page(call, product, route, form, no_error()).await
}

async fn show_page(mut call: UserCall, product: ApiProduct, route: Route, form: TrafficForm, error: Error) -> Result<Response, Failure> {
    let status = form_status(&error);
    let shell = call.shell(format!("{} {}", route.method_text(), route.path_in_product(&product.slug)), "admin-products").await?;
    Ok((status, Html(ShowPage { shell, product, route, form, error }.render()?)).into_response())
}

pub(super) async fn update(
    Path((slug, id)): Path<(String, RouteId)>,
    Posted(mut call, form): Posted<UserCall, TrafficForm>,
) -> Result<Response, Failure> {
    let (product, route) = routes::find(&mut call, &slug, id).await?;
    let updated = match form.read() {
        Ok(said) => options::update_options(&mut call.tx, &call.actor, &product, id, said, call.now).await,
        Err(error) => Err(error),
    };
    match updated {
        Ok(_) => {
            let to = format!("/admin/products/{slug}/routes/{id}/traffic");
            Ok(call.commit_and_go(&to, "success", "Saved. Gateways know it within a second.").await?.into_response())
        }
        Err(error) if belongs_on_form(&error) => show_page(call, product, route, form, error).await,
        Err(error) => Err(error.into()),
    }
}
