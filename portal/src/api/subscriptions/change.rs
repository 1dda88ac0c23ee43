use axum::{Json, http::StatusCode};
use ids::SubscriptionId;
use portal_api::{ChangeSubscription, Subscription};

use crate::{
    api::{
        call::ApiCall,
        extract::{self, Path},
        problem::Problem,
        subscriptions::shown,
    },
    subscriptions,
};

/// Change the plan
///
/// Ends the subscription and starts another on the new plan, at once; the answer is the new one. The old plan is billed to the day before.
#[utoipa::path(
    post, path = "/subscriptions/{subscription}/change", operation_id = "subscriptions.change", tag = "subscriptions",
    params(("subscription" = SubscriptionId, Path)), request_body = ChangeSubscription, responses((status = CREATED, body = Subscription)))]
pub(super) async fn change_subscription(
    mut call: ApiCall,
    Path(subscription): Path<SubscriptionId>,
    extract::Json(body): extract::Json<ChangeSubscription>,
) -> Result<(StatusCode, Json<Subscription>), Problem> {
    let tenant = call.tenant()?;
    let new = subscriptions::change(&mut call.tx, &call.actor, tenant, subscription, &body.plan, call.now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(new))))
}
