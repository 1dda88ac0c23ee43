use axum::Json;
use ids::SubscriptionId;
use portal_api::{Correction, List};

use super::shown;
use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    subscriptions,
    usage::corrections,
};

/// List a subscription's corrections
///
/// What the provider added to its usage, or took off, and why; the newest first, at most 200.
#[utoipa::path(
    get, path = "/subscriptions/{subscription}/corrections", operation_id = "subscriptions.corrections", tag = "subscriptions",
    params(("subscription" = SubscriptionId, Path)), responses((status = OK, body = List<Correction>)))]
pub(super) async fn list_corrections_of_subscription(
    mut call: ApiCall,
    Path(subscription): Path<SubscriptionId>,
) -> Result<Json<List<Correction>>, Problem> {
    let tenant = call.tenant()?;
    let subscription = subscriptions::get(&mut call.tx, &call.actor, tenant, subscription).await?;
    let made = corrections::list(&mut call.tx, &call.actor, Some(tenant), Some(subscription.id), 200, 0).await?;
    Ok(Json(List { items: made.into_iter().map(shown).collect(), next: None }))
}
