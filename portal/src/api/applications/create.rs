use axum::{Json, http::StatusCode};
use portal_api::{Application, CreateApplication};

use crate::{
    api::{applications::shown, call::ApiCall, extract, problem::Problem},
    applications::{self, ApplicationInput},
};

/// Register an application
#[utoipa::path(
    post, path = "/applications", operation_id = "applications.create", tag = "applications",
    request_body = CreateApplication, responses((status = CREATED, body = Application)))]
pub(super) async fn create_application(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CreateApplication>,
) -> Result<(StatusCode, Json<Application>), Problem> {
    let tenant = call.tenant()?;
    let input = ApplicationInput { name: body.name, description: body.description };
    let application = applications::create(&mut call.tx, &call.actor, tenant, input, call.now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(application))))
}
