use axum::Json;
use ids::SubscriptionId;
use portal_api::{Cost, CostLine};

use crate::{
    api::{call::ApiCall, extract::Path, problem::Problem},
    billing,
};

/// Get the cost so far
///
/// The running period of a subscription, rated as if it ended now, with the whole computation of each line. Before taxes.
#[utoipa::path(
    get, path = "/subscriptions/{subscription}/cost", operation_id = "subscriptions.cost", tag = "usage",
    params(("subscription" = SubscriptionId, Path)), responses((status = OK, body = Cost)))]
pub(super) async fn get_cost(mut call: ApiCall, Path(subscription): Path<SubscriptionId>) -> Result<Json<Cost>, Problem> {
    let tenant = call.tenant()?;
    let preview = billing::preview(&mut call.tx, &call.actor, tenant, subscription, call.now).await?;
    call.commit().await?;
    let lines =
        preview.charges.into_iter().map(|charge| CostLine { rate_card: charge.rate_card, meter: charge.meter, detail: charge.line });
    Ok(Json(Cost {
        subscription,
        period_from: preview.period.from,
        period_to: preview.period.to,
        lines: lines.collect(),
        total: preview.total.round(),
        projected: preview.projected.map(|money| money.round()),
    }))
}
