//! From a document to an API product with a service and routes, and from a later document to a new edition of it.
//!
//! Routes are matched by method and shape of the path: what stays keeps its id and settings, what is new counts calls, what is missing is retired
//! (usage goes on naming it), and what comes back is the route that was retired.

use std::collections::HashMap;

use calendar::Timestamp;
use gateway_control::path::PathTemplate;
use ids::{ApiProductId, RouteId, ServiceId, SpecId};
use serde_json::json;
use url::Url;

use super::{
    api_product::{self, ApiProduct, MAX_DESCRIPTION_CHARS},
    check::Problems,
    meter,
    route::{self, Route, RouteSettings, options::renamed},
    service::{self, Service, ServiceSettings},
    spec::{self, Document, Upstream},
    store,
};
use crate::{
    audit::{self, Entry},
    db::Tx,
    error::{Error, Kind, Result},
    identity::{Actor, Permission},
    text,
};

/// For how long an upload waits for its confirmation.
const UPLOAD_LIFETIME: std::time::Duration = std::time::Duration::from_secs(3_600);

/// What to import.
#[derive(Debug)]
pub struct Import {
    /// The product to create or to bring up to date.
    pub slug: String,
    /// The name of a new product; the document's title if absent. The texts of an existing product stay as they are.
    pub name: Option<String>,
    /// Where calls go; the document's server if absent, or what an existing product has.
    pub upstream_url: Option<String>,
    /// Where the document was fetched from.
    pub source_url: Option<String>,
    /// The document, byte for byte.
    pub source: Vec<u8>,
    /// What [`read`] made of it.
    pub document: Document,
}

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// The product.
    pub product: ApiProduct,
    /// Whether it is new.
    pub created: bool,
    /// The edition of the document, 1 for the first.
    pub edition: i32,
    /// What it did to the routes.
    pub changes: Changes,
}

/// What an import does to routes, as `GET /path` each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones, and retired ones that come back.
    pub added: Vec<String>,
    /// Those whose names or texts change.
    pub changed: Vec<String>,
    /// Those that are retired.
    pub removed: Vec<String>,
    /// How many stay as they are.
    pub unchanged: usize,
}

/// What an import would do.
#[derive(Debug)]
pub struct Preview {
    /// The product that has the slug; `None` if it would be created.
    pub product: Option<ApiProduct>,
    /// The upstream that an existing product has.
    pub service: Option<Service>,
    /// What would happen to the routes.
    pub changes: Changes,
}

/// A document that waits for its confirmation.
#[derive(Debug)]
pub struct Upload {
    /// The document, byte for byte.
    pub source: Vec<u8>,
    /// Where it was fetched from.
    pub source_url: Option<String>,
}

/// Reads a document away from the threads that serve requests. Returns the bytes with it.
pub async fn read(source: Vec<u8>, url: Option<Url>) -> Result<(Vec<u8>, Document)> {
    let work = move || spec::read(&source, url.as_ref()).map(|document| (source, document));
    Ok(tokio::task::spawn_blocking(work).await.map_err(Error::internal)??)
}

/// The slug that a document's title suggests.
pub fn suggest_slug(document: &Document) -> String {
    let title = document.title.trim().trim_end_matches('.');
    let shorter = ["API", "Api", "api"].iter().find_map(|suffix| title.strip_suffix(suffix)).filter(|rest| !rest.trim().is_empty());
    text::suggest_dns_label(shorter.unwrap_or(title))
}

/// Keeps a document until it is confirmed, at most one of each operator and for an hour.
pub async fn keep_upload(tx: &mut Tx, actor: &Actor, source: &[u8], source_url: Option<&str>, now: Timestamp) -> Result<SpecId> {
    actor.require(Permission::Operate)?;
    let user = actor.user_id().ok_or_else(Error::forbidden)?;
    let id = SpecId::new();
    store::delete_uploads(tx, user, now).await?;
    store::insert_upload(tx, id, user, source, source_url, now.plus(UPLOAD_LIFETIME)).await?;
    Ok(id)
}

/// The document that the actor uploaded.
pub async fn upload(tx: &mut Tx, actor: &Actor, id: SpecId, now: Timestamp) -> Result<Upload> {
    actor.require(Permission::Operate)?;
    let user = actor.user_id().ok_or_else(Error::forbidden)?;
    store::upload(tx, id, user, now)
        .await?
        .ok_or_else(|| Error::new(Kind::NotFound, "This upload is gone; please upload the document again."))
}

/// Forgets the documents that the actor uploaded and has confirmed.
pub async fn discard_uploads(tx: &mut Tx, actor: &Actor, now: Timestamp) -> Result<()> {
    actor.require(Permission::Operate)?;
    match actor.user_id() {
        Some(user) => store::delete_uploads(tx, user, now).await,
        None => Ok(()),
    }
}

/// What an import would do, without doing it.
pub async fn preview(tx: &mut Tx, actor: &Actor, slug: &str, document: &Document) -> Result<Preview> {
    actor.require(Permission::Operate)?;
    let product = store::product_by_slug(tx, slug).await?;
    let (mut existing, mut service) = (Vec::new(), None);
    if let Some(product) = &product {
        existing = route::store::routes_with_retired(tx, product.id).await?;
        service = store::service_of(tx, product.id).await?;
    }
    Ok(Preview { product, service, changes: Difference::of(existing, slug, document)?.changes(slug) })
}

/// Imports a document: creates the product as a draft, or adds an edition to it.
pub async fn import(tx: &mut Tx, actor: &Actor, input: Import, now: Timestamp) -> Result<Imported> {
    actor.require(Permission::Operate)?;
    let existing = store::lock_product(tx, &input.slug).await?;
    let created = existing.is_none();
    let product = match existing {
        Some(product) => update(tx, product, &input, now).await?,
        None => create(tx, &input, now).await?,
    };
    let service = store::service_of(tx, product.id)
        .await?
        .ok_or_else(|| Error::internal(anyhow::anyhow!("product {} has no service", product.id)))?;
    let imported_by = actor.user_id();
    let edition = store::insert_spec(tx, SpecId::new(), product.id, &input, imported_by, now).await?;
    let requests = meter::requests_meter(tx, now).await?;
    let routes = route::store::routes_with_retired(tx, product.id).await?;
    let difference = Difference::of(routes, &product.slug, &input.document)?;
    let settings = RouteSettings { rate_group: None, meters: vec![route::counts_calls(requests.id)] };
    route::store::insert_routes(tx, product.id, service.id, &difference.insert, &settings).await?;
    route::store::update_routes(tx, product.id, &difference.update).await?;
    route::store::retire_routes(tx, product.id, &difference.retire.iter().map(|route| route.id).collect::<Vec<_>>(), now).await?;
    let changes = difference.changes(&product.slug);
    let entry = Entry {
        action: "api_product.imported",
        target: product.id.to_string(),
        after: Some(json!({
            "slug": product.slug, "edition": edition, "digest": hex::encode(&input.document.digest), "source_url": input.source_url,
            "added": changes.added.len(), "changed": changes.changed.len(), "removed": changes.removed.len(),
        })),
        ..Entry::default()
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(Imported { product, created, edition, changes })
}

async fn create(tx: &mut Tx, input: &Import, now: Timestamp) -> Result<ApiProduct> {
    let document = &input.document;
    let name = input.name.clone().unwrap_or_else(|| spec::shorten(&document.title, 100));
    let description = spec::shorten(&document.description.replace('\0', ""), MAX_DESCRIPTION_CHARS);
    let summary = document.summary.replace('\0', "");
    let mut problems = Problems::default();
    api_product::check_slug(tx, &input.slug, &mut problems).await?;
    api_product::check_texts(&name, &summary, &description, &mut problems);
    let settings = match (input.upstream_url.as_deref(), &document.upstream) {
        (Some(url), _) => service::check(ServiceSettings::new(url), &mut problems),
        (None, Upstream::Usable(url)) => service::check(ServiceSettings::new(url), &mut problems),
        (None, Upstream::Guess { url, why }) => {
            let example = if url.is_empty() { String::new() } else { format!(", for example {url}") };
            problems.add("upstream_url", format!("{why} Enter the address to which the gateway sends the calls{example}."));
            ServiceSettings::new("")
        }
    };
    problems.finish()?;
    let product = ApiProduct {
        id: ApiProductId::new(),
        slug: input.slug.clone(),
        name,
        summary,
        description,
        published_at: None,
        created_at: now,
        updated_at: now,
    };
    store::insert_product(tx, &product).await?;
    store::insert_service(tx, product.id, &Service { id: ServiceId::new(), name: product.name.clone(), settings }).await?;
    Ok(product)
}

async fn update(tx: &mut Tx, product: ApiProduct, input: &Import, now: Timestamp) -> Result<ApiProduct> {
    if let Some(url) = &input.upstream_url {
        let current = store::service_of(tx, product.id).await?.map_or_else(|| ServiceSettings::new(""), |service| service.settings);
        let mut problems = Problems::default();
        let settings = service::check(ServiceSettings { upstream_url: url.clone(), ..current }, &mut problems);
        problems.finish()?;
        store::update_service(tx, product.id, &settings).await?;
    }
    let product = ApiProduct { updated_at: now, ..product };
    store::update_product(tx, &product).await?;
    Ok(product)
}

/// What has to happen to the routes of a product.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// New ones.
    pub insert: Vec<Route>,
    /// Those to be written again: their names or texts changed, or they come back.
    pub update: Vec<Route>,
    /// Those that the document lacks.
    pub retire: Vec<Route>,
    came_back: Vec<RouteId>,
    unchanged: usize,
}

impl Difference {
    fn of(existing: Vec<Route>, slug: &str, document: &Document) -> Result<Self> {
        let mut known: HashMap<(String, String), Route> = HashMap::with_capacity(existing.len());
        // Routes in force come last, so that they win over retired ones of the same shape.
        for route in existing {
            // One by hand that names hosts or conditions stands beside what a document describes.
            if route.by_hand && route::options::is_conditional(&route.options) {
                continue;
            }
            let path: PathTemplate = route.path.parse().map_err(Error::internal)?;
            known.insert((route.method.clone(), path.shape()), route);
        }
        let mut difference = Self::default();
        for operation in &document.operations {
            let path: PathTemplate = format!("/{slug}{}", operation.path)
                .parse()
                .map_err(|error| Error::invalid("document", format!("The path `{}` {error}.", operation.template)))?;
            let old = known.remove(&(operation.method.clone(), path.shape()));
            let new = Route {
                id: old.as_ref().map_or_else(RouteId::new, |old| old.id),
                method: operation.method.clone(),
                path: path.to_string(),
                operation_id: operation.operation_id.clone(),
                summary: operation.summary.replace('\0', ""),
                settings: old.as_ref().map_or(RouteSettings { rate_group: None, meters: Vec::new() }, |old| old.settings.clone()),
                options: old.as_ref().map(|old| renamed(&old.options, &old.path, &path)).unwrap_or_default(),
                by_hand: false,
                retired_at: None,
            };
            match old {
                None => difference.insert.push(new),
                Some(old) if old == new => difference.unchanged += 1,
                Some(old) => {
                    if old.retired_at.is_some() {
                        difference.came_back.push(new.id);
                    }
                    difference.update.push(new);
                }
            }
        }
        difference.retire = known.into_values().filter(|route| route.retired_at.is_none() && !route.by_hand).collect();
        difference.retire.sort_by(|a, b| (&a.path, &a.method).cmp(&(&b.path, &b.method)));
        Ok(difference)
    }

    fn changes(&self, slug: &str) -> Changes {
        let name = |route: &Route| format!("{} {}", route.method_text(), route.path_in_product(slug));
        let (back, changed): (Vec<&Route>, Vec<&Route>) = self.update.iter().partition(|route| self.came_back.contains(&route.id));
        Changes {
            added: self.insert.iter().chain(back).map(name).collect(),
            changed: changed.into_iter().map(name).collect(),
            removed: self.retire.iter().map(name).collect(),
            unchanged: self.unchanged,
        }
    }
}
