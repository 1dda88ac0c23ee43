use axum::http::StatusCode;
use ids::RouteId;

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    catalog::{api_product, route::by_hand},
};

/// Retire a route by hand
///
/// For operators. Gateways forget it within a second; usage goes on naming it.
#[utoipa::path(
    delete, path = "/products/{slug}/routes/{route}", operation_id = "routes.retire", tag = "operator",
    params(("slug" = String, Path), ("route" = RouteId, Path)),
    responses(
        (status = NO_CONTENT),
        (status = CONFLICT, body = portal_api::Problem, content_type = "application/problem+json", description = "A document describes it.")))]
pub(super) async fn retire_route(mut call: ApiCall, Path((slug, id)): Path<(String, RouteId)>) -> Result<StatusCode, Problem> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    by_hand::retire_route(&mut call.tx, &call.actor, &product, id, call.now).await?;
    call.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
