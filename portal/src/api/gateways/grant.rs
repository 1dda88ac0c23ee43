use axum::http::StatusCode;
use gateway_control::units::Micros;
use portal_api::GrantQuota;

use crate::{
    api::{call::ApiCall, extract, problem::Problem},
    entitlements::{self, GrantUnits},
};

/// Grant units of a quota
///
/// On top of the plan's limit, in the running period. What was used is never set back: a reset is a grant of what was used.
#[utoipa::path(
    post, path = "/quota-grants", operation_id = "quota_grants.create", tag = "operator",
    request_body = GrantQuota, responses((status = NO_CONTENT)))]
pub(super) async fn grant_quota(mut call: ApiCall, extract::Json(body): extract::Json<GrantQuota>) -> Result<StatusCode, Problem> {
    let input = GrantUnits {
        tenant: body.tenant,
        subscription: body.subscription,
        meter: body.meter,
        units: Micros::units(body.units.into()),
        reason: body.reason,
    };
    entitlements::grant_units(&mut call.tx, &call.actor, &input, call.now).await?;
    call.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
