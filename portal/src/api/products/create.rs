use axum::{Json, http::StatusCode};
use portal_api::{ApiProduct, CreateProduct};

use super::shown;
use crate::{
    api::{call::ApiCall, extract, problem::Problem},
    catalog::api_product::{self, NewProduct},
};

/// Create an API product without a document
///
/// For operators. It is a draft without routes; add them by hand, or import a document under its slug later.
#[utoipa::path(
    post, path = "/products", operation_id = "products.create", tag = "operator",
    request_body = CreateProduct, responses((status = CREATED, body = ApiProduct)))]
pub(super) async fn create_product(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CreateProduct>,
) -> Result<(StatusCode, Json<ApiProduct>), Problem> {
    let CreateProduct { slug, name, summary, upstream_url } = body;
    let input = NewProduct { slug, name, summary, upstream_url };
    let product = api_product::create_product(&mut call.tx, &call.actor, input, call.now).await?;
    let product = shown(product, &call.app.config.gateway_url);
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(product)))
}
