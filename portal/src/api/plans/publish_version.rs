use axum::Json;
use ids::PlanVersionId;
use portal_api::Plan;

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    catalog::plan,
    error::Error,
};

/// Publish a version of a plan
///
/// For operators. It is offered from then on and never changes; those who are on earlier versions stay on them.
#[utoipa::path(
    post, path = "/plans/{slug}/versions/{version}/publish", operation_id = "plans.publish_version", tag = "operator",
    params(("slug" = String, Path), ("version" = PlanVersionId, Path)),
    responses((status = OK, body = Plan), (status = 409, description = "It is published already, or covers a product that is not.", body = portal_api::Problem, content_type = "application/problem+json")))]
pub(super) async fn publish_plan_version(
    mut call: ApiCall,
    Path((slug, version)): Path<(String, PlanVersionId)>,
) -> Result<Json<Plan>, Problem> {
    let (_, versions) = plan::plan_with_versions(&mut call.tx, &call.actor, &slug).await?;
    if !versions.iter().any(|known| known.id == version) {
        return Err(Error::not_found("This plan version").into());
    }
    let published = plan::publish_version(&mut call.tx, &call.actor, version, call.now).await?;
    call.commit().await?;
    Ok(Json(shown(published)))
}
