//! API products: what is listed and sold as one documented API.

use calendar::Timestamp;
use ids::{ApiProductId, ServiceId, SpecId};
use serde_json::json;

use super::{
    check::Problems,
    route,
    service::{self, Service, ServiceSettings},
    store,
};
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// The longest description.
pub(super) const MAX_DESCRIPTION_CHARS: usize = 100_000;

/// Slugs that would stand in the way of paths which the gateway or the admin pages have themselves.
pub(super) const RESERVED: [&str; 6] = ["import", "new", "healthz", "livez", "metrics", "readyz"];

/// What is listed and sold as one documented API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiProduct {
    /// Its id.
    pub id: ApiProductId,
    /// Its name in URLs, and the first segment of the paths under which the gateway serves it.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// Markdown.
    pub description: String,
    /// Since when it is listed; `None` for a draft.
    pub published_at: Option<Timestamp>,
    /// When it was imported first.
    pub created_at: Timestamp,
    /// When its texts or document changed last.
    pub updated_at: Timestamp,
}

impl ApiProduct {
    /// Whether it is listed.
    pub const fn is_published(&self) -> bool {
        self.published_at.is_some()
    }

    /// The state's name: `published` or `draft`.
    pub const fn state(&self) -> &'static str {
        if self.is_published() { "published" } else { "draft" }
    }

    /// What a list of products says of a draft; nothing of others.
    pub const fn note_of_draft(&self) -> &'static str {
        if self.is_published() { "" } else { "Draft: publish it before a plan that covers it." }
    }

    /// The description as HTML that is safe to show.
    pub fn description_html(&self) -> String {
        super::markdown::to_html(&self.description)
    }

    /// The address under which the gateway serves it.
    pub fn base_url(&self, gateway: &url::Url) -> String {
        format!("{}/{}", gateway.as_str().trim_end_matches('/'), self.slug)
    }
}

/// A product in a list.
#[derive(Debug, Clone)]
pub struct ListedProduct {
    /// The product.
    pub product: ApiProduct,
    /// How many routes it has.
    pub routes: i64,
    /// How many published plans cover it.
    pub plans: i64,
}

/// An imported edition of a product's document.
#[derive(Debug, Clone)]
pub struct SpecEdition {
    /// Its id.
    pub id: SpecId,
    /// 1 for the first.
    pub edition: i32,
    /// The version of OpenAPI that it was written in.
    pub openapi: String,
    /// Its title.
    pub title: String,
    /// How many operations it describes.
    pub operations: i32,
    /// Bytes of what was uploaded.
    pub source_bytes: i32,
    /// Where it was fetched from.
    pub source_url: Option<String>,
    /// The address of who imported it, while that person exists.
    pub imported_by: Option<String>,
    /// When.
    pub imported_at: Timestamp,
}

/// What the API reference shows.
#[derive(Debug, Clone)]
pub struct ReferenceText {
    /// JSON without `servers`; see [`super::spec::with_servers`].
    pub document: String,
    /// SHA-256 of what was uploaded.
    pub digest: Vec<u8>,
}

/// A product that no document describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProduct {
    /// The first segment of its paths, for ever.
    pub slug: String,
    /// 1 to 100 characters.
    pub name: String,
    /// At most 300 characters.
    pub summary: String,
    /// Where its calls go.
    pub upstream_url: String,
}

/// What an operator may change of a product.
#[derive(Debug, Clone)]
pub struct UpdateProduct {
    /// 1 to 100 characters.
    pub name: String,
    /// At most 300 characters.
    pub summary: String,
    /// Markdown, at most 100,000 characters.
    pub description: String,
    /// Where its calls go.
    pub service: ServiceSettings,
}

/// Published products, by name. Those whose name, summary or slug has every word of `query`, if there is one.
pub async fn published_products(tx: &mut Tx, query: &str) -> Result<Vec<ListedProduct>> {
    let words: Vec<String> =
        query.split_whitespace().take(10).map(|word| word.chars().take(50).flat_map(char::to_lowercase).collect()).collect();
    let mut products = store::products(tx, true).await?;
    products.retain(|listed| {
        let text = format!("{} {} {}", listed.product.name, listed.product.summary, listed.product.slug).to_lowercase();
        words.iter().all(|word| text.contains(word.as_str()))
    });
    Ok(products)
}

/// A published product; operators see drafts too, so that they can look at a page before it is public.
pub async fn visible_product(tx: &mut Tx, actor: &Actor, slug: &str) -> Result<ApiProduct> {
    let product = store::product_by_slug(tx, slug).await?;
    product
        .filter(|product| product.is_published() || actor.require(Permission::Operate).is_ok())
        .ok_or_else(|| Error::not_found("This API"))
}

/// Products by their ids, by name; an id that names none is left out.
pub async fn products_by_ids(tx: &mut Tx, ids: &[ApiProductId]) -> Result<Vec<ApiProduct>> {
    store::products_by_ids(tx, ids).await
}

/// All products, by name.
pub async fn products(tx: &mut Tx, actor: &Actor) -> Result<Vec<ListedProduct>> {
    actor.require(Permission::Operate)?;
    store::products(tx, false).await
}

/// One product with its service.
pub async fn product(tx: &mut Tx, actor: &Actor, slug: &str) -> Result<(ApiProduct, Service)> {
    actor.require(Permission::Operate)?;
    let product = store::product_by_slug(tx, slug).await?.ok_or_else(|| Error::not_found("This API product"))?;
    let service = store::service_of(tx, product.id)
        .await?
        .ok_or_else(|| Error::internal(anyhow::anyhow!("product {} has no service", product.id)))?;
    Ok((product, service))
}

/// Creates a product without a document, as a draft. Its routes are added by hand, until a document is imported under its slug.
pub async fn create_product(tx: &mut Tx, actor: &Actor, input: NewProduct, now: Timestamp) -> Result<ApiProduct> {
    actor.require(Permission::Operate)?;
    let mut problems = Problems::default();
    check_slug(tx, &input.slug, &mut problems).await?;
    check_texts(&input.name, &input.summary, "", &mut problems);
    let settings = service::check(ServiceSettings::new(input.upstream_url), &mut problems);
    problems.finish()?;
    let product = ApiProduct {
        id: ApiProductId::new(),
        slug: input.slug,
        name: input.name,
        summary: input.summary,
        description: String::new(),
        published_at: None,
        created_at: now,
        updated_at: now,
    };
    store::insert_product(tx, &product).await?;
    let service = Service { id: ServiceId::new(), name: product.name.clone(), settings };
    store::insert_service(tx, product.id, &service).await?;
    let entry = Entry {
        action: "api_product.created",
        target: product.id.to_string(),
        after: Some(json!({"slug": product.slug, "name": product.name, "upstream_url": service.settings.upstream_url})),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(product)
}

/// Changes where a product's calls go, and how they are spread.
pub async fn update_service(tx: &mut Tx, actor: &Actor, slug: &str, settings: ServiceSettings, now: Timestamp) -> Result<Service> {
    actor.require(Permission::Operate)?;
    let mut problems = Problems::default();
    let settings = service::check(settings, &mut problems);
    problems.finish()?;
    let product = store::lock_product(tx, slug).await?.ok_or_else(|| Error::not_found("This API product"))?;
    let (_, before) = self::product(tx, actor, slug).await?;
    store::update_service(tx, product.id, &settings).await?;
    let entry = Entry {
        action: "service.updated",
        target: before.id.to_string(),
        before: Some(before.settings.to_json()),
        after: Some(settings.to_json()),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(Service { settings, ..before })
}

/// Changes a product's texts and upstream.
pub async fn update_product(tx: &mut Tx, actor: &Actor, slug: &str, input: UpdateProduct, now: Timestamp) -> Result<ApiProduct> {
    actor.require(Permission::Operate)?;
    let mut problems = Problems::default();
    check_texts(&input.name, &input.summary, &input.description, &mut problems);
    let settings = service::check(input.service, &mut problems);
    problems.finish()?;
    let before = store::lock_product(tx, slug).await?.ok_or_else(|| Error::not_found("This API product"))?;
    // How calls are spread is said elsewhere.
    let (_, service) = product(tx, actor, slug).await?;
    let settings = ServiceSettings { options: service.settings.options, ..settings };
    let after = ApiProduct { name: input.name, summary: input.summary, description: input.description, updated_at: now, ..before.clone() };
    store::update_product(tx, &after).await?;
    store::update_service(tx, after.id, &settings).await?;
    let entry = Entry {
        action: "api_product.updated",
        target: after.id.to_string(),
        before: Some(json!({"name": before.name, "summary": before.summary})),
        after: Some(
            json!({"name": after.name, "summary": after.summary, "upstream_url": settings.upstream_url, "sandbox_url": settings.sandbox_url}),
        ),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(after)
}

/// Lists a product, or takes it off the list. Subscriptions that cover it go on either way.
pub async fn set_product_published(tx: &mut Tx, actor: &Actor, slug: &str, published: bool, now: Timestamp) -> Result<ApiProduct> {
    actor.require(Permission::Operate)?;
    let product = store::lock_product(tx, slug).await?.ok_or_else(|| Error::not_found("This API product"))?;
    if product.is_published() == published {
        return Ok(product);
    }
    let product = ApiProduct { published_at: published.then_some(now), ..product };
    store::set_published(tx, product.id, product.published_at).await?;
    let action = if published { "api_product.published" } else { "api_product.unpublished" };
    audit::record(tx, actor, Entry { action, target: product.id.to_string(), ..Entry::default() }, now).await?;
    Ok(product)
}

/// The editions of a product's document, the newest first.
pub async fn editions(tx: &mut Tx, actor: &Actor, product: ApiProductId) -> Result<Vec<SpecEdition>> {
    actor.require(Permission::Operate)?;
    store::editions(tx, product).await
}

/// The newest edition as the reference shows it. Whoever calls has found the product to be visible.
pub async fn reference(tx: &mut Tx, product: &ApiProduct) -> Result<ReferenceText> {
    find_reference(tx, product).await?.ok_or_else(|| Error::not_found("This document"))
}

/// The same; `None` of a product without a document.
pub async fn find_reference(tx: &mut Tx, product: &ApiProduct) -> Result<Option<ReferenceText>> {
    store::reference(tx, product.id).await
}

/// A product that has a reference; one without a document is not found. Whoever calls has found the product to be visible.
pub async fn with_reference(tx: &mut Tx, product: ApiProduct) -> Result<ApiProduct> {
    if store::has_document(tx, product.id).await? { Ok(product) } else { Err(Error::not_found("The reference of this API")) }
}

pub(super) async fn check_slug(tx: &mut Tx, slug: &str, problems: &mut Problems) -> Result<()> {
    problems.slug("slug", slug);
    if RESERVED.contains(&slug) {
        problems.add("slug", "This name is taken by the gateway or the portal itself; choose another one.");
    } else if let Some(product) = route::store::begun_by(tx, slug).await? {
        problems.add("slug", format!("A route of {product} begins with this name; choose another one."));
    }
    Ok(())
}

pub(super) fn check_texts(name: &str, summary: &str, description: &str, problems: &mut Problems) {
    problems.text("name", name, 1, 100);
    problems.text("summary", summary, 0, 300);
    problems.text("description", description, 0, MAX_DESCRIPTION_CHARS);
}
