use axum::Json;
use ids::SubscriptionId;
use portal_api::Subscription;

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem, subscriptions::shown},
    subscriptions,
};

/// Show a subscription
#[utoipa::path(
    get, path = "/subscriptions/{subscription}", operation_id = "subscriptions.get", tag = "subscriptions",
    params(("subscription" = SubscriptionId, Path)), responses((status = OK, body = Subscription)))]
pub(super) async fn get_subscription(mut call: ApiCall, Path(subscription): Path<SubscriptionId>) -> Result<Json<Subscription>, Problem> {
    let tenant = call.tenant()?;
    Ok(Json(shown(subscriptions::get(&mut call.tx, &call.actor, tenant, subscription).await?)))
}
