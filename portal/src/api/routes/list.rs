use axum::Json;
use portal_api::{List, Route};

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    catalog::{api_product, route},
};

/// List the routes of a product
///
/// For operators. By path; all of them.
#[utoipa::path(
    get, path = "/products/{slug}/routes", operation_id = "routes.list", tag = "operator",
    params(("slug" = String, Path)), responses((status = OK, body = List<Route>)))]
pub(super) async fn list_routes(mut call: ApiCall, Path(slug): Path<String>) -> Result<Json<List<Route>>, Problem> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let routes = route::routes(&mut call.tx, product.id).await?;
    Ok(Json(List { items: routes.into_iter().map(shown).collect(), next: None }))
}
