use axum::Json;
use portal_api::{ApiProduct, List};

use super::shown;
use crate::{
    api::{call::ApiCall, problem::Problem},
    catalog::api_product,
};

/// List API products
///
/// By name. Operators see drafts too.
#[utoipa::path(get, path = "/products", operation_id = "products.list", tag = "catalog", responses((status = OK, body = List<ApiProduct>)))]
pub(super) async fn list_products(mut call: ApiCall) -> Result<Json<List<ApiProduct>>, Problem> {
    let listed = if call.actor.is_operator {
        api_product::products(&mut call.tx, &call.actor).await?
    } else {
        api_product::published_products(&mut call.tx, "").await?
    };
    let items = listed.into_iter().map(|listed| shown(listed.product, &call.app.config.gateway_url)).collect();
    Ok(Json(List { items, next: None }))
}
