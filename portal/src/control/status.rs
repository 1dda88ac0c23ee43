//! `POST /control/v1/status`

use axum::http::StatusCode;
use gateway_control::status::GatewayStatus;

use super::{
    call::GatewayCall,
    json::{Body, check_format},
};
use crate::{api::problem::Problem, gateways};

/// Report status
///
/// A gateway says how it is, every few seconds.
#[utoipa::path(
    post, path = "/control/v1/status", operation_id = "status.report", tag = "status", request_body = GatewayStatus,
    responses((status = NO_CONTENT, description = "Noted.")))]
pub(super) async fn report(call: GatewayCall, body: Body) -> Result<StatusCode, Problem> {
    let status: GatewayStatus = body.parse()?;
    check_format(status.format)?;
    let mut tx = call.begin().await?;
    gateways::record_status(&mut tx, &call.gateway, status, call.now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
