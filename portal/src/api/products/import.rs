use axum::{Json, body::Body, http::StatusCode};
use portal_api::{ImportQuery, ImportReport};

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Query, problem::Problem},
    catalog::{
        api_product,
        import::{self, Import},
        spec::{self, Document},
    },
    error::{Error, Kind, Result},
    identity::Permission,
};

/// Import an OpenAPI document
///
/// For operators. The body is the document, JSON or YAML, of version 2.0, 3.0 or 3.1 and at most 10 MiB. A new slug becomes a draft product with a
/// service and routes; an existing one gets a new edition of its document, whose routes keep their ids and settings. Problems of the document are
/// named with their places in it.
#[utoipa::path(
    post, path = "/products/import", operation_id = "products.import", tag = "operator", params(ImportQuery),
    request_body(content((serde_json::Value = "application/json"), (String = "application/yaml")), description = "The document."),
    responses(
        (status = CREATED, body = ImportReport, description = "A new product."),
        (status = OK, body = ImportReport, description = "A new edition of an existing product."),
        (status = PAYLOAD_TOO_LARGE, body = portal_api::Problem, content_type = "application/problem+json", description = "More than 10 MiB.")))]
pub(super) async fn import_product(
    call: ApiCall,
    Query(query): Query<ImportQuery>,
    body: Body,
) -> Result<(StatusCode, Json<ImportReport>), Problem> {
    // Before the body is read, so that nobody else can make the portal read megabytes.
    call.actor.require(Permission::Operate)?;
    let (mut call, read) = call.aside(read(body)).await?;
    let (source, document) = read?;
    let warnings = document.warnings.clone();
    let input = Import { slug: query.slug, name: query.name, upstream_url: query.upstream_url, source_url: None, source, document };
    let imported = import::import(&mut call.tx, &call.actor, input, call.now).await?;
    let mut product = imported.product;
    if query.publish {
        product = api_product::set_product_published(&mut call.tx, &call.actor, &product.slug, true, call.now).await?;
    }
    let report = ImportReport {
        product: shown(product, &call.app.config.gateway_url),
        created: imported.created,
        edition: imported.edition,
        added: imported.changes.added,
        changed: imported.changes.changed,
        removed: imported.changes.removed,
        unchanged: u64::try_from(imported.changes.unchanged).unwrap_or(u64::MAX),
        warnings,
    };
    call.commit().await?;
    Ok((if report.created { StatusCode::CREATED } else { StatusCode::OK }, Json(report)))
}

async fn read(body: Body) -> Result<(Vec<u8>, Document)> {
    let source = axum::body::to_bytes(body, spec::MAX_BYTES)
        .await
        .map_err(|_| Error::new(Kind::TooLarge, "The document is larger than 10 MiB, or broke off."))?;
    import::read(source.to_vec(), None).await
}
