//! `POST /control/v1/leases`

use axum::Json;
use gateway_control::lease::{LeaseExchange, LeaseGrants};

use super::{
    call::GatewayCall,
    json::{Body, check_format},
};
use crate::{api::problem::Problem, entitlements};

/// Exchange leases
///
/// A gateway takes and gives back slices of quotas. An exchange that is sent again gets the answer that it got before.
#[utoipa::path(
    post, path = "/control/v1/leases", operation_id = "leases.exchange", tag = "leases", request_body = LeaseExchange,
    responses((status = OK, description = "One grant for each slot, in the same order.", body = LeaseGrants)))]
pub(super) async fn exchange(call: GatewayCall, body: Body) -> Result<Json<LeaseGrants>, Problem> {
    let exchange: LeaseExchange = body.parse()?;
    check_format(exchange.format)?;
    let mut tx = call.begin().await?;
    let exchanged = entitlements::exchange(&mut tx, &call.gateway, &exchange, call.now).await?;
    tx.commit().await?;
    call.app.metrics.lease_exchanges.inc();
    if !exchanged.recalls.is_empty() {
        call.app.metrics.lease_recalls.inc();
        if let Err(error) = entitlements::announce_recalls(&call.app.pool, &exchanged.recalls).await {
            // The exchange is committed. The gateway that waits asks again, and so will the ledger.
            tracing::warn!(?error, "idle leases could not be recalled");
        }
    }
    Ok(Json(exchanged.grants))
}
