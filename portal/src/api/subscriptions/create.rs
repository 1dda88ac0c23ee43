use axum::{Json, http::StatusCode};
use portal_api::{CreateSubscription, Subscription};

use crate::{
    api::{call::ApiCall, extract, problem::Problem, subscriptions::shown},
    subscriptions,
};

/// Subscribe an application to a plan
///
/// Refused with 409 where another live subscription of the application covers one of the plan's API products.
#[utoipa::path(
    post, path = "/subscriptions", operation_id = "subscriptions.create", tag = "subscriptions",
    request_body = CreateSubscription, responses((status = CREATED, body = Subscription)))]
pub(super) async fn create_subscription(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CreateSubscription>,
) -> Result<(StatusCode, Json<Subscription>), Problem> {
    let tenant = call.tenant()?;
    let input = subscriptions::CreateSubscription { application: body.application, plan: body.plan };
    let subscription = subscriptions::create(&mut call.tx, &call.actor, tenant, input, call.now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(subscription))))
}
