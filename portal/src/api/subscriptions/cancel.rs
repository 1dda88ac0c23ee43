use axum::http::StatusCode;
use ids::SubscriptionId;

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    subscriptions,
};

/// Cancel a subscription
///
/// It ends at once; what it used until now is billed with its last invoice.
#[utoipa::path(
    delete, path = "/subscriptions/{subscription}", operation_id = "subscriptions.cancel", tag = "subscriptions",
    params(("subscription" = SubscriptionId, Path)), responses((status = NO_CONTENT)))]
pub(super) async fn cancel_subscription(mut call: ApiCall, Path(subscription): Path<SubscriptionId>) -> Result<StatusCode, Problem> {
    let tenant = call.tenant()?;
    subscriptions::cancel(&mut call.tx, &call.actor, tenant, subscription, call.now).await?;
    call.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
