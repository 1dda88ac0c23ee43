//! `POST /control/v1/leases`

use axum::Json;
use gateway_control::lease::{LeaseExchange, LeaseGrants};

use super::{
    call::GatewayCall,
    json::{Body, check_format},
};
use crate::{api::problem::Problem, entitlements};

/// A gateway takes and gives back slices of quotas.
pub async fn exchange(call: GatewayCall, body: Body) -> Result<Json<LeaseGrants>, Problem> {
    let exchange: LeaseExchange = body.parse()?;
    check_format(exchange.format)?;
    let mut tx = call.begin().await?;
    let grants = entitlements::exchange(&mut tx, &call.gateway, &exchange, call.now).await?;
    tx.commit().await?;
    call.app.metrics.lease_exchanges.inc();
    Ok(Json(grants))
}
