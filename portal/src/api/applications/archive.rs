use axum::http::StatusCode;
use ids::ApplicationId;

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    applications,
};

/// Archive an application
///
/// Its keys are revoked. Refused with 409 while it has a subscription that has not been canceled.
#[utoipa::path(
    delete, path = "/applications/{application}", operation_id = "applications.archive", tag = "applications",
    params(("application" = ApplicationId, Path)), responses((status = NO_CONTENT)))]
pub(super) async fn archive_application(mut call: ApiCall, Path(application): Path<ApplicationId>) -> Result<StatusCode, Problem> {
    let tenant = call.tenant()?;
    applications::archive(&mut call.tx, &call.actor, tenant, application, call.now).await?;
    call.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
