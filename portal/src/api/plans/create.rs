use axum::{Json, http::StatusCode};
use portal_api::{CreatePlan, PlanSummary};

use crate::{
    api::{call::ApiCall, extract, problem::Problem},
    catalog::{NewPlan, plan},
};

/// Create a plan
///
/// For operators. It is offered once a version of it is published.
#[utoipa::path(
    post, path = "/plans", operation_id = "plans.create", tag = "operator",
    request_body = CreatePlan, responses((status = CREATED, body = PlanSummary)))]
pub(super) async fn create_plan(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CreatePlan>,
) -> Result<(StatusCode, Json<PlanSummary>), Problem> {
    let CreatePlan { slug, name, summary, position } = body;
    let plan = plan::create_plan(&mut call.tx, &call.actor, NewPlan { slug, name, summary, position }, call.now).await?;
    call.commit().await?;
    let plan::Plan { id, slug, name, summary, position, created_at, .. } = plan;
    Ok((StatusCode::CREATED, Json(PlanSummary { id, slug, name, summary, position, created_at })))
}
