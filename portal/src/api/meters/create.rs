use axum::{Json, http::StatusCode};
use portal_api::{CreateMeter, Meter, MeterAggregation};

use super::shown;
use crate::{
    api::{call::ApiCall, extract, problem::Problem},
    catalog::{Aggregation, NewMeter, meter},
};

/// Create a meter
///
/// For operators.
#[utoipa::path(
    post, path = "/meters", operation_id = "meters.create", tag = "operator",
    request_body = CreateMeter, responses((status = CREATED, body = Meter)))]
pub(super) async fn create_meter(
    mut call: ApiCall,
    extract::Json(body): extract::Json<CreateMeter>,
) -> Result<(StatusCode, Json<Meter>), Problem> {
    let aggregation = match body.aggregation {
        MeterAggregation::Count => Aggregation::Count,
        MeterAggregation::Sum => Aggregation::Sum,
        MeterAggregation::Max => Aggregation::Max,
        MeterAggregation::UniqueCount => Aggregation::UniqueCount,
        MeterAggregation::Latest => Aggregation::Latest,
    };
    let input = NewMeter { slug: body.slug, name: body.name, unit: body.unit, aggregation };
    let meter = meter::create_meter(&mut call.tx, &call.actor, input, call.now).await?;
    call.commit().await?;
    Ok((StatusCode::CREATED, Json(shown(meter))))
}
