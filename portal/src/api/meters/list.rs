use axum::Json;
use portal_api::{List, Meter};

use super::shown;
use crate::{
    api::{call::ApiCall, problem::Problem},
    catalog::meter,
};

/// List meters
#[utoipa::path(get, path = "/meters", operation_id = "meters.list", tag = "catalog", responses((status = OK, body = List<Meter>)))]
pub(super) async fn list_meters(mut call: ApiCall) -> Result<Json<List<Meter>>, Problem> {
    let meters = meter::meters(&mut call.tx).await?;
    Ok(Json(List { items: meters.into_iter().map(shown).collect(), next: None }))
}
