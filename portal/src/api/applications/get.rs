use axum::Json;
use ids::ApplicationId;
use portal_api::Application;

use crate::{
    api::{applications::shown, call::ApiCall, extract::Path, problem::Problem},
    applications,
};

/// Show an application
#[utoipa::path(
    get, path = "/applications/{application}", operation_id = "applications.get", tag = "applications",
    params(("application" = ApplicationId, Path)), responses((status = OK, body = Application)))]
pub(super) async fn get_application(mut call: ApiCall, Path(application): Path<ApplicationId>) -> Result<Json<Application>, Problem> {
    let tenant = call.tenant()?;
    Ok(Json(shown(applications::get(&mut call.tx, &call.actor, tenant, application).await?)))
}
