use axum::Json;
use ids::GatewayId;
use portal_api::{WriteOffLeases, WrittenOffLeases};

use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        problem::Problem,
    },
    entitlements::{self, WriteOff},
};

/// Write off the leases of a journal
///
/// For a journal that will not come back: what it holds is free again. Refused while one of its leases lives. Should the journal come after all, its usage
/// counts, and the sum may pass the limit by that.
#[utoipa::path(
    post, path = "/gateways/{gateway}/write-offs", operation_id = "gateways.write_off", tag = "operator",
    params(("gateway" = GatewayId, Path)), request_body = WriteOffLeases, responses((status = OK, body = WrittenOffLeases)))]
pub(super) async fn write_off_leases(
    mut call: ApiCall,
    Path(gateway): Path<GatewayId>,
    extract::Json(body): extract::Json<WriteOffLeases>,
) -> Result<Json<WrittenOffLeases>, Problem> {
    let input = WriteOff { gateway, journal: body.journal, reason: body.reason };
    let written = entitlements::write_off(&mut call.tx, &call.actor, &input, call.now).await?;
    call.commit().await?;
    Ok(Json(WrittenOffLeases { quotas: written.quotas, units: written.units.to_string() }))
}
