use axum::Json;
use ids::RouteId;
use portal_api::{Route, RouteMatch};

use super::{hand_route, shown};
use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        problem::Problem,
    },
    catalog::{api_product, route::by_hand},
};

/// Change which calls a route by hand takes
///
/// For operators. What documents describe, documents change.
#[utoipa::path(
    put, path = "/products/{slug}/routes/{route}", operation_id = "routes.put", tag = "operator",
    params(("slug" = String, Path), ("route" = RouteId, Path)), request_body = RouteMatch,
    responses(
        (status = OK, body = Route),
        (status = CONFLICT, body = portal_api::Problem, content_type = "application/problem+json", description = "A document describes it.")))]
pub(super) async fn put_route(
    mut call: ApiCall,
    Path((slug, id)): Path<(String, RouteId)>,
    extract::Json(body): extract::Json<RouteMatch>,
) -> Result<Json<Route>, Problem> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let route = by_hand::edit_route(&mut call.tx, &call.actor, &product, id, hand_route(body), call.now).await?;
    call.commit().await?;
    Ok(Json(shown(route)))
}
