//! `/admin/products/new`: a product that no document describes.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;

use crate::{
    catalog::api_product::{self, NewProduct},
    error::Error,
    identity::Permission,
    web::{belongs_on_form, call::UserCall, failure::Failure, form::Posted, form_status, no_error, shell::Shell},
};

/// The fields of the form, as they were entered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NewForm {
    name: String,
    slug: String,
    summary: String,
    upstream_url: String,
}

#[derive(Template)]
#[template(path = "pages/admin/products/new.html")]
struct NewPage {
    shell: Shell,
    form: NewForm,
    error: Error,
}

impl NewPage {
    fn at(&self, field: &str) -> &str {
        self.error.field(field).unwrap_or_default()
    }
}

pub(super) async fn form(call: UserCall) -> Result<Response, Failure> {
    call.actor.require(Permission::Operate)?;
    page(call, NewForm::default(), no_error()).await
}

async fn page(mut call: UserCall, form: NewForm, error: Error) -> Result<Response, Failure> {
    let status = form_status(&error);
    let shell = call.shell("Add an API without a document", "admin-products").await?;
    Ok((status, Html(NewPage { shell, form, error }.render()?)).into_response())
}

pub(super) async fn create(Posted(mut call, form): Posted<UserCall, NewForm>) -> Result<Response, Failure> {
    let trimmed = |text: &str| text.trim().to_owned();
    let input = NewProduct {
        slug: trimmed(&form.slug),
        name: trimmed(&form.name),
        summary: trimmed(&form.summary),
        upstream_url: trimmed(&form.upstream_url),
    };
    match api_product::create_product(&mut call.tx, &call.actor, input, call.now).await {
        Ok(product) => {
            let to = format!("/admin/products/{}/routes", product.slug);
            let text = format!("{} is a draft. Add its routes, then publish it.", product.name);
            Ok(call.commit_and_go(&to, "success", text).await?.into_response())
        }
        // A slug that is taken fails in the database, after which the transaction can only start over.
        Err(error) if belongs_on_form(&error) => page(call.start_over().await?, form, error).await,
        Err(error) => Err(error.into()),
    }
}
