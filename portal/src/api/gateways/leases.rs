use axum::Json;
use ids::GatewayId;
use portal_api::JournalLeases;

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    entitlements,
};

/// List the leases of a gateway
///
/// What its journals hold of hard quotas, by journal, and how much of it is presumed spent because its lease has ended and the journal has not arrived.
#[utoipa::path(
    get, path = "/gateways/{gateway}/leases", operation_id = "gateways.leases", tag = "operator",
    params(("gateway" = GatewayId, Path)), responses((status = OK, body = Vec<JournalLeases>)))]
pub(super) async fn list_leases(mut call: ApiCall, Path(gateway): Path<GatewayId>) -> Result<Json<Vec<JournalLeases>>, Problem> {
    let leases = entitlements::leases_of(&mut call.tx, &call.actor, gateway, call.now).await?;
    let shown = leases.into_iter().map(|leases| JournalLeases {
        journal: leases.journal,
        quotas: leases.quotas,
        live_units: leases.live.to_string(),
        presumed_spent_units: leases.presumed_spent.to_string(),
        is_waited_for: leases.is_waited_for,
    });
    Ok(Json(shown.collect()))
}
