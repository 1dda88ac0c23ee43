use axum::Json;
use portal_api::{Gateway, List};

use crate::{
    api::{call::ApiCall, gateways::shown, problem::Problem},
    gateways,
};

/// List gateways
///
/// By name, the revoked ones last.
#[utoipa::path(get, path = "/gateways", operation_id = "gateways.list", tag = "operator", responses((status = OK, body = List<Gateway>)))]
pub(super) async fn list_gateways(mut call: ApiCall) -> Result<Json<List<Gateway>>, Problem> {
    let gateways = gateways::list(&mut call.tx, &call.actor).await?;
    Ok(Json(List { items: gateways.into_iter().map(|gateway| shown(gateway, call.now)).collect(), next: None }))
}
