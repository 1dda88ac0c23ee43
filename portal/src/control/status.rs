//! `POST /control/v1/status`

use axum::http::StatusCode;
use gateway_control::status::GatewayStatus;

use super::{
    call::GatewayCall,
    json::{Body, check_format},
};
use crate::{api::problem::Problem, gateways};

/// A gateway says how it is.
pub async fn report(call: GatewayCall, body: Body) -> Result<StatusCode, Problem> {
    let status: GatewayStatus = body.parse()?;
    check_format(status.format)?;
    let mut tx = call.begin().await?;
    gateways::record_status(&mut tx, &call.gateway, status, call.now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
