use axum::Json;
use ids::RouteId;
use portal_api::Route;

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    catalog::{api_product, route},
};

/// Get a route with its settings
///
/// For operators.
#[utoipa::path(
    get, path = "/products/{slug}/routes/{route}", operation_id = "routes.get", tag = "operator",
    params(("slug" = String, Path), ("route" = RouteId, Path)), responses((status = OK, body = Route)))]
pub(super) async fn get_route(mut call: ApiCall, Path((slug, id)): Path<(String, RouteId)>) -> Result<Json<Route>, Problem> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    Ok(Json(shown(route::route(&mut call.tx, product.id, id).await?)))
}
