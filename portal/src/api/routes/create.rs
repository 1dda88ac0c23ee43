use axum::{Json, http::StatusCode};
use portal_api::{CreateRoute, Route, RouteMatch};

use super::{convert, hand_route, shown};
use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        problem::Problem,
    },
    catalog::{api_product, route::by_hand},
};

/// Add a route by hand
///
/// For operators. Imports of documents leave it alone, until a document describes it.
#[utoipa::path(
    post, path = "/products/{slug}/routes", operation_id = "routes.create", tag = "operator",
    params(("slug" = String, Path)), request_body = CreateRoute, responses((status = CREATED, body = Route)))]
pub(super) async fn create_route(
    mut call: ApiCall,
    Path(slug): Path<String>,
    extract::Json(body): extract::Json<CreateRoute>,
) -> Result<(StatusCode, Json<Route>), Problem> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let CreateRoute { method, path, summary, settings } = body;
    let (settings, options) = match settings {
        Some(settings) => convert::read(settings).map(|(settings, options)| (Some(settings), options))?,
        None => Default::default(),
    };
    let input = hand_route(RouteMatch { method, path, summary });
    let route = by_hand::add_route(&mut call.tx, &call.actor, &product, input, (settings, options), call.now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(route))))
}
