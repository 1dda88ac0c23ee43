use axum::Json;
use ids::RouteId;
use portal_api::{Route, RouteSettings};

use super::{convert, shown};
use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        problem::Problem,
    },
    catalog::{
        api_product,
        route::{self, options},
    },
};

/// Set how a route's calls are limited, metered, changed and bounded
///
/// For operators. What is left out takes its default.
#[utoipa::path(
    put, path = "/products/{slug}/routes/{route}/settings", operation_id = "routes.put_settings", tag = "operator",
    params(("slug" = String, Path), ("route" = RouteId, Path)), request_body = RouteSettings, responses((status = OK, body = Route)))]
pub(super) async fn put_route_settings(
    mut call: ApiCall,
    Path((slug, id)): Path<(String, RouteId)>,
    extract::Json(body): extract::Json<RouteSettings>,
) -> Result<Json<Route>, Problem> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let (settings, said) = convert::read(body)?;
    route::update_routes(&mut call.tx, &call.actor, product.id, Some(id), settings, call.now).await?;
    let route = options::update_options(&mut call.tx, &call.actor, &product, id, said, call.now).await?;
    call.commit().await?;
    Ok(Json(shown(route)))
}
