use axum::{Json, http::StatusCode};
use portal_api::{CreateGateway, IssuedGateway};

use crate::{
    api::{call::ApiCall, extract, gateways::issued, problem::Problem},
    gateways,
};

/// Register a gateway
///
/// The answer holds the gateway's credential, which is not stored and cannot be shown again.
#[utoipa::path(
    post, path = "/gateways", operation_id = "gateways.create", tag = "operator",
    request_body = CreateGateway, responses((status = CREATED, body = IssuedGateway)))]
pub(super) async fn create_gateway(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CreateGateway>,
) -> Result<(StatusCode, Json<IssuedGateway>), Problem> {
    let input = gateways::CreateGateway { name: body.name, namespaces: body.namespaces };
    let created = gateways::create(&mut call.tx, &call.actor, input, call.now).await?;
    let now = call.now;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(issued(created, now))))
}
