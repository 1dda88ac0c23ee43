use axum::Json;
use portal_api::{List, Plan};

use super::shown;
use crate::{
    api::{call::ApiCall, problem::Problem},
    catalog::plan,
};

/// List plans
///
/// Those that are offered, in the order in which a change to a later one is an upgrade.
#[utoipa::path(get, path = "/plans", operation_id = "plans.list", tag = "catalog", responses((status = OK, body = List<Plan>)))]
pub(super) async fn list_plans(mut call: ApiCall) -> Result<Json<List<Plan>>, Problem> {
    let versions = plan::published_plans(&mut call.tx).await?;
    Ok(Json(List { items: versions.into_iter().map(shown).collect(), next: None }))
}
