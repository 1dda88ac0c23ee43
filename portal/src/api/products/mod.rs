//! `/api/v1/products`: what the catalog lists, and the import of documents.

use axum::extract::DefaultBodyLimit;
use url::Url;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    catalog::{self, spec},
};

mod create;
mod get;
mod import;
mod list;

pub(super) fn routes() -> OpenApiRouter<App> {
    let import = OpenApiRouter::new().routes(routes!(import::import_product)).layer(DefaultBodyLimit::max(spec::MAX_BYTES));
    OpenApiRouter::new().routes(routes!(list::list_products, create::create_product)).routes(routes!(get::get_product)).merge(import)
}

fn shown(product: catalog::ApiProduct, gateway: &Url) -> portal_api::ApiProduct {
    portal_api::ApiProduct {
        base_url: product.base_url(gateway),
        id: product.id,
        slug: product.slug,
        name: product.name,
        summary: product.summary,
        description: product.description,
        published_at: product.published_at,
    }
}
