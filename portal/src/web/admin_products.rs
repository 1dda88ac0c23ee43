//! `/admin/products`: importing, editing and publishing API products.

use askama::Template;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Query},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{belongs_on_form, call::UserCall, failure::Failure, form::Posted, no_error, shell::Shell};
use crate::{
    app::App,
    catalog::{
        ApiProduct, ListedProduct,
        api_product::{self, SpecEdition, UpdateProduct},
        service::{Service, ServiceSettings},
        spec,
    },
    error::Error,
};

mod by_hand;
mod create;
mod import;
mod lines;
mod routes;
mod service;
mod traffic;

/// What a multipart form may have beside the document.
const FORM_BYTES: usize = 64 * 1024;

/// Pages of this area.
pub fn routes() -> Router<App> {
    let upload = Router::new()
        .route("/admin/products/import", get(import::form).post(import::upload))
        .layer(DefaultBodyLimit::max(spec::MAX_BYTES + FORM_BYTES));
    Router::new()
        .route("/admin/products", get(index))
        .route("/admin/products/new", get(create::form).post(create::create))
        .merge(upload)
        .route("/admin/products/import/{upload}", get(import::preview).post(import::confirm))
        .route("/admin/products/{slug}", get(show).post(update))
        .route("/admin/products/{slug}/publish", post(publish))
        .route("/admin/products/{slug}/unpublish", post(unpublish))
        .route("/admin/products/{slug}/editions", get(editions))
        .route("/admin/products/{slug}/service", get(service::show).post(service::update))
        .route("/admin/products/{slug}/routes/new", get(by_hand::form).post(by_hand::add))
        .route("/admin/products/{slug}/routes", get(routes::index))
        .route("/admin/products/{slug}/routes/{route}", get(routes::show).post(routes::update))
        .route("/admin/products/{slug}/routes/{route}/traffic", get(traffic::show).post(traffic::update))
        .route("/admin/products/{slug}/routes/{route}/calls", get(by_hand::edit_form).post(by_hand::edit))
        .route("/admin/products/{slug}/routes/{route}/retire", post(by_hand::retire))
}

#[derive(Template)]
#[template(path = "pages/admin/products/index.html")]
struct IndexPage {
    shell: Shell,
    products: Vec<ListedProduct>,
}

async fn index(mut call: UserCall) -> Result<Html<String>, Failure> {
    let products = api_product::products(&mut call.tx, &call.actor).await?;
    let shell = call.shell("API products", "admin-products").await?;
    Ok(Html(IndexPage { shell, products }.render()?))
}

/// The fields of the form, as they were entered.
#[derive(Debug, Default, Deserialize)]
struct ProductForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    upstream_url: String,
    #[serde(default)]
    sandbox_url: String,
    #[serde(default)]
    connect_timeout_ms: String,
    #[serde(default)]
    first_byte_timeout_ms: String,
}

impl ProductForm {
    fn of(product: &ApiProduct, service: &Service) -> Self {
        let settings = &service.settings;
        Self {
            name: product.name.clone(),
            summary: product.summary.clone(),
            description: product.description.clone(),
            upstream_url: settings.upstream_url.clone(),
            sandbox_url: settings.sandbox_url.clone().unwrap_or_default(),
            connect_timeout_ms: settings.connect_timeout_ms.to_string(),
            first_byte_timeout_ms: settings.first_byte_timeout_ms.to_string(),
        }
    }

    fn read(&self) -> UpdateProduct {
        // What is no number becomes 0, which the operation refuses with the field's name.
        let number = |text: &str| text.trim().parse().unwrap_or(0);
        UpdateProduct {
            name: self.name.trim().to_owned(),
            summary: self.summary.trim().to_owned(),
            // Browsers send line ends as CR LF.
            description: self.description.replace("\r\n", "\n").trim().to_owned(),
            service: ServiceSettings {
                sandbox_url: Some(self.sandbox_url.clone()),
                connect_timeout_ms: number(&self.connect_timeout_ms),
                first_byte_timeout_ms: number(&self.first_byte_timeout_ms),
                ..ServiceSettings::new(self.upstream_url.clone())
            },
        }
    }
}

#[derive(Template)]
#[template(path = "pages/admin/products/show.html")]
struct ShowPage {
    shell: Shell,
    product: ApiProduct,
    base_url: String,
    form: ProductForm,
    error: Error,
}

async fn show(mut call: UserCall, Path(slug): Path<String>) -> Result<Response, Failure> {
    let (product, service) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let form = ProductForm::of(&product, &service);
    show_page(call, product, form, no_error()).await
}

async fn show_page(mut call: UserCall, product: ApiProduct, form: ProductForm, error: Error) -> Result<Response, Failure> {
    let status = super::form_status(&error);
    let base_url = product.base_url(&call.app.config.gateway_url);
    let shell = call.shell(product.name.clone(), "admin-products").await?;
    Ok((status, Html(ShowPage { shell, product, base_url, form, error }.render()?)).into_response())
}

async fn update(Path(slug): Path<String>, Posted(mut call, form): Posted<UserCall, ProductForm>) -> Result<Response, Failure> {
    match api_product::update_product(&mut call.tx, &call.actor, &slug, form.read(), call.now).await {
        Ok(_) => Ok(call.commit_and_go(&format!("/admin/products/{slug}"), "success", "Saved.").await?.into_response()),
        Err(error) if belongs_on_form(&error) => {
            let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
            show_page(call, product, form, error).await
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, Deserialize)]
struct Nothing {}

async fn publish(Path(slug): Path<String>, Posted(call, _): Posted<UserCall, Nothing>) -> Result<Redirect, Failure> {
    set_published(call, &slug, true).await
}

async fn unpublish(Path(slug): Path<String>, Posted(call, _): Posted<UserCall, Nothing>) -> Result<Redirect, Failure> {
    set_published(call, &slug, false).await
}

async fn set_published(mut call: UserCall, slug: &str, published: bool) -> Result<Redirect, Failure> {
    let product = api_product::set_product_published(&mut call.tx, &call.actor, slug, published, call.now).await?;
    let text = if published {
        format!("{} is in the catalog now.", product.name)
    } else {
        format!("{} is no longer in the catalog. Those who are subscribed to it go on using it.", product.name)
    };
    Ok(call.commit_and_go(&format!("/admin/products/{slug}"), "success", text).await?)
}

#[derive(Template)]
#[template(path = "pages/admin/products/editions.html")]
struct EditionsPage {
    shell: Shell,
    product: ApiProduct,
    editions: Vec<SpecEdition>,
}

async fn editions(mut call: UserCall, Path(slug): Path<String>) -> Result<Html<String>, Failure> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let editions = api_product::editions(&mut call.tx, &call.actor, product.id).await?;
    let shell = call.shell(product.name.clone(), "admin-products").await?;
    Ok(Html(EditionsPage { shell, product, editions }.render()?))
}

/// What a search box sends.
#[derive(Debug, Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
    #[serde(default)]
    page: Option<usize>,
}

type SearchQuery = Query<Search>;
