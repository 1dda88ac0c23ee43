use axum::Json;
use ids::SubscriptionId;
use portal_api::SubscriptionReconciliation;

use super::{shown, shown_meter};
use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    reconciliation,
};

/// Show a subscription's reconciliation
///
/// What was accepted, rolled up, corrected and invoiced of its last periods, each counted on its own.
#[utoipa::path(
    get, path = "/subscriptions/{subscription}/reconciliation", operation_id = "subscriptions.reconciliation", tag = "subscriptions",
    params(("subscription" = SubscriptionId, Path)), responses((status = OK, body = SubscriptionReconciliation)))]
pub(super) async fn get_reconciliation_of_subscription(
    mut call: ApiCall,
    Path(subscription): Path<SubscriptionId>,
) -> Result<Json<SubscriptionReconciliation>, Problem> {
    let tenant = call.tenant()?;
    let account = reconciliation::account(&mut call.tx, &call.actor, tenant, subscription, call.now).await?;
    Ok(Json(SubscriptionReconciliation {
        compared_through: account.compared_at,
        meters: account.meters.into_iter().map(shown_meter).collect(),
        differences: account.differences.into_iter().map(shown).collect(),
    }))
}
