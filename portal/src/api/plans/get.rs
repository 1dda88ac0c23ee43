use axum::Json;
use portal_api::Plan;

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    catalog::plan,
};

/// Get a plan
#[utoipa::path(
    get, path = "/plans/{slug}", operation_id = "plans.get", tag = "catalog",
    params(("slug" = String, Path)), responses((status = OK, body = Plan)))]
pub(super) async fn get_plan(mut call: ApiCall, Path(slug): Path<String>) -> Result<Json<Plan>, Problem> {
    Ok(Json(shown(plan::published_plan(&mut call.tx, &slug).await?)))
}
