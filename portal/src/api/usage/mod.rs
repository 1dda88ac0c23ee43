//! `/api/v1/usage`, and the cost so far of a subscription.

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

mod cost;
mod get;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::get_usage)).routes(routes!(cost::get_cost))
}
