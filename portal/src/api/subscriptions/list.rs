use axum::Json;
use portal_api::{List, PageQuery, Subscription, SubscriptionQuery};

use crate::{
    api::{call::ApiCall, extract::Query, problem::Problem, subscriptions::shown},
    subscriptions::{self, Filter},
};

/// List subscriptions
///
/// Newest first; those that have ended only if asked for.
#[utoipa::path(
    get, path = "/subscriptions", operation_id = "subscriptions.list", tag = "subscriptions",
    params(SubscriptionQuery), responses((status = OK, body = List<Subscription>)))]
pub(super) async fn list_subscriptions(
    mut call: ApiCall,
    Query(query): Query<SubscriptionQuery>,
) -> Result<Json<List<Subscription>>, Problem> {
    let tenant = call.tenant()?;
    let limit = PageQuery { limit: query.limit, after: None }.limit();
    let filter = Filter { application: query.application, with_canceled: query.with_canceled, after: query.after };
    let found = subscriptions::list(&mut call.tx, &call.actor, tenant, filter, limit + 1).await?;
    let items = found.into_iter().map(shown).collect();
    Ok(Json(List::cut(items, limit, |item: &Subscription| item.id.to_string())))
}
