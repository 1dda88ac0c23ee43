use axum::Json;
use portal_api::Service;

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    catalog::api_product,
};

/// Get where a product's calls go
///
/// For operators.
#[utoipa::path(
    get, path = "/products/{slug}/service", operation_id = "service.get", tag = "operator",
    params(("slug" = String, Path)), responses((status = OK, body = Service)))]
pub(super) async fn get_service(mut call: ApiCall, Path(slug): Path<String>) -> Result<Json<Service>, Problem> {
    let (_, service) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    Ok(Json(shown(service)))
}
