//! `/catalog` and `/pricing`: what anybody may see of what is sold.

use askama::Template;
use axum::{
    Router,
    extract::{Path, Query},
    response::Html,
    routing::{get, post},
};
use serde::Deserialize;
use tower_http::compression::CompressionLayer;

use super::{
    call::Visit,
    failure::Failure,
    plan_text::{self, PlanView},
    shell::Shell,
};
use crate::{
    app::App,
    catalog::{
        ApiProduct, ListedProduct,
        api_product::{self},
        plan,
        route::{self, Route},
        spec,
    },
};

mod reference;

/// The most operations that a product's page lists; the reference has them all.
const SHOWN_ROUTES: usize = 40;

/// Pages of this area.
pub fn routes() -> Router<App> {
    // Documents of some megabytes shrink to a tenth.
    let document = Router::new().route("/catalog/{slug}/openapi.json", get(reference::document)).layer(CompressionLayer::new());
    Router::new()
        .route("/catalog", get(index))
        .route("/catalog/{slug}", get(show))
        .route("/catalog/{slug}/reference", get(reference::show))
        .route("/catalog/{slug}/try-it", post(reference::try_it))
        .route("/pricing", get(pricing))
        .merge(document)
}

#[derive(Debug, Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
}

#[derive(Template)]
#[template(path = "pages/catalog/index.html")]
struct IndexPage {
    shell: Shell,
    query: String,
    products: Vec<ListedProduct>,
    is_operator: bool,
}

async fn index(mut visit: Visit, Query(search): Query<Search>) -> Result<Html<String>, Failure> {
    let query: String = search.q.chars().take(200).collect();
    let products = api_product::published_products(&mut visit.tx, &query).await?;
    let shell = visit.shell("APIs", "catalog").await?;
    Ok(Html(IndexPage { shell, query, products, is_operator: visit.actor.is_operator }.render()?))
}

#[derive(Template)]
#[template(path = "pages/catalog/show.html")]
struct ShowPage {
    shell: Shell,
    product: ApiProduct,
    base_url: String,
    routes: Vec<Route>,
    all_routes: usize,
    plans: Vec<PlanView>,
    sample: Sample,
    has_document: bool,
    is_operator: bool,
}

/// One call in three languages.
struct Sample {
    curl: String,
    javascript: String,
    python: String,
}

async fn show(mut visit: Visit, Path(slug): Path<String>) -> Result<Html<String>, Failure> {
    let tx = &mut visit.tx;
    let product = api_product::visible_product(tx, &visit.actor, &slug).await?;
    let mut routes = route::routes(tx, product.id).await?;
    let plans: Vec<_> = plan::published_plans(tx).await?.into_iter().filter(|version| version.covers(product.id)).collect();
    let plans = plan_text::views(tx, &plans).await?;
    let reference = api_product::find_reference(tx, &product).await?;
    let gateway = &visit.app.config.gateway_url;
    let base_url = product.base_url(gateway);
    let document = reference.as_ref().map(|reference| reference.document.as_str());
    let sample = sample(gateway.as_str().trim_end_matches('/'), &product.slug, &routes, document);
    let has_document = document.is_some();
    let all_routes = routes.len();
    routes.truncate(SHOWN_ROUTES);
    let is_operator = visit.actor.is_operator;
    let shell = visit.shell(product.name.clone(), "catalog").await?;
    Ok(Html(ShowPage { shell, product, base_url, routes, all_routes, plans, sample, has_document, is_operator }.render()?))
}

/// The simplest call: reading, with as few values to fill in as can be.
fn sample(gateway: &str, slug: &str, routes: &[Route], document: Option<&str>) -> Sample {
    let simplest = routes.iter().min_by_key(|route| (route.method != "GET", route.path.matches('{').count(), route.path.len()));
    let method = simplest.map_or("GET", |route| if route.method == "*" { "GET" } else { &route.method });
    let path = simplest.map_or("/", |route| route.path_in_product(slug));
    // A path that does without the slug stands at the gateway's root.
    let base = if simplest.is_some_and(|route| route.path == path) { gateway.to_owned() } else { format!("{gateway}/{slug}") };
    let url = format!("{base}{}", document.map_or_else(|| path.to_owned(), |document| spec::sample_path(document, method, path)));
    let header = gateway_control::headers::API_KEY;
    let option = if method == "GET" { String::new() } else { format!(" -X {method}") };
    Sample {
        curl: format!("curl{option} '{url}' \\\n  -H '{header}: YOUR_API_KEY'"),
        javascript: format!(
            "const response = await fetch(\"{url}\", {{\n  method: \"{method}\",\n  headers: {{ \"{header}\": process.env.API_KEY }},\n}});\nconsole.log(response.status, await response.text());"
        ),
        python: format!(
            "import os\nimport requests\n\nresponse = requests.request(\n    \"{method}\",\n    \"{url}\",\n    headers={{\"{header}\": os.environ[\"API_KEY\"]}},\n)\nprint(response.status_code, response.text)"
        ),
    }
}

#[derive(Template)]
#[template(path = "pages/catalog/pricing.html")]
struct PricingPage {
    shell: Shell,
    plans: Vec<PlanView>,
    is_operator: bool,
}

async fn pricing(mut visit: Visit) -> Result<Html<String>, Failure> {
    let versions = plan::published_plans(&mut visit.tx).await?;
    let plans = plan_text::views(&mut visit.tx, &versions).await?;
    let is_operator = visit.actor.is_operator;
    let shell = visit.shell("Plans and prices", "pricing").await?;
    Ok(Html(PricingPage { shell, plans, is_operator }.render()?))
}
