use std::time::Duration;

use axum::Json;
use ids::GatewayId;
use portal_api::{IssuedGateway, RotateGateway};

use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        gateways::issued,
        problem::Problem,
    },
    gateways,
};

/// Rotate a gateway's credential
///
/// The answer holds the new credential, which is not stored and cannot be shown again. The old one works for the overlap.
#[utoipa::path(
    post, path = "/gateways/{gateway}/rotate", operation_id = "gateways.rotate", tag = "operator",
    params(("gateway" = GatewayId, Path)), request_body = RotateGateway, responses((status = OK, body = IssuedGateway)))]
pub(super) async fn rotate_gateway(
    mut call: ApiCall,
    Path(gateway): Path<GatewayId>,
    extract::Json(body): extract::Json<RotateGateway>,
) -> Result<Json<IssuedGateway>, Problem> {
    let overlap = body.overlap_seconds.map_or(gateways::DEFAULT_OVERLAP, Duration::from_secs);
    let rotated = gateways::rotate(&mut call.tx, &call.actor, gateway, overlap, call.now).await?;
    let now = call.now;
    call.commit().await?;
    Ok(Json(issued(rotated, now)))
}
