//! `/api/v1/meters`: what is counted.

use portal_api::MeterAggregation;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    catalog::{Aggregation, Meter},
};

mod create;
mod list;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list::list_meters, create::create_meter))
}

fn shown(meter: Meter) -> portal_api::Meter {
    let aggregation = match meter.aggregation {
        Aggregation::Count => MeterAggregation::Count,
        Aggregation::Sum => MeterAggregation::Sum,
        Aggregation::Max => MeterAggregation::Max,
        Aggregation::UniqueCount => MeterAggregation::UniqueCount,
        Aggregation::Latest => MeterAggregation::Latest,
    };
    portal_api::Meter { id: meter.id, slug: meter.slug, name: meter.name, unit: meter.unit, aggregation }
}
