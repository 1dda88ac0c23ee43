use axum::Json;
use portal_api::ApiProduct;

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    catalog::api_product,
};

/// Get an API product
#[utoipa::path(
    get, path = "/products/{slug}", operation_id = "products.get", tag = "catalog",
    params(("slug" = String, Path)), responses((status = OK, body = ApiProduct)))]
pub(super) async fn get_product(mut call: ApiCall, Path(slug): Path<String>) -> Result<Json<ApiProduct>, Problem> {
    let product = api_product::visible_product(&mut call.tx, &call.actor, &slug).await?;
    Ok(Json(shown(product, &call.app.config.gateway_url)))
}
