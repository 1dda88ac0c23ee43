use axum::http::StatusCode;
use ids::GatewayId;

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    gateways,
};

/// Revoke a gateway
///
/// Its policy feed ends within about a second, and nothing that it sends is taken any more. Revoking it again changes nothing.
#[utoipa::path(
    delete, path = "/gateways/{gateway}", operation_id = "gateways.revoke", tag = "operator",
    params(("gateway" = GatewayId, Path)), responses((status = NO_CONTENT)))]
pub(super) async fn revoke_gateway(mut call: ApiCall, Path(gateway): Path<GatewayId>) -> Result<StatusCode, Problem> {
    gateways::revoke(&mut call.tx, &call.actor, gateway, call.now).await?;
    call.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
