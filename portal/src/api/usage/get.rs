use axum::Json;
use calendar::Period;
use portal_api::{Usage, UsageBy, UsageGroup, UsageMeter, UsageQuery, UsageSlot};

use crate::{
    api::{call::ApiCall, extract, problem::Problem},
    error::Error,
    usage::query::{self, Filter, Query, Slot, Stack},
};

const QUARTER_HOUR: std::time::Duration = std::time::Duration::from_secs(900);
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Query usage
///
/// Calls over time and units per meter, as the page Usage shows them. A call counts about a second after it has ended.
#[utoipa::path(get, path = "/usage", operation_id = "usage.get", tag = "usage", params(UsageQuery), responses((status = OK, body = Usage)))]
pub(super) async fn get_usage(mut call: ApiCall, extract::Query(asked): extract::Query<UsageQuery>) -> Result<Json<Usage>, Problem> {
    let tenant = call.tenant()?;
    let zone = query::zone_of(&mut call.tx, &call.actor, tenant).await?;
    let to = asked.to.unwrap_or(call.now.floor_quarter_hour().plus(QUARTER_HOUR));
    let range = Period { from: asked.from.unwrap_or(to.minus(DAY)), to };
    if asked.status_class.is_some_and(|class| !(1..=5).contains(&class)) {
        return Err(Error::invalid("status_class", "Choose a class of statuses: 1, 2, 3, 4 or 5.").into());
    }
    let slot = asked.slot.map(|slot| match slot {
        UsageSlot::QuarterHour => Slot::QuarterHour,
        UsageSlot::Hour => Slot::Hour,
        UsageSlot::Day => Slot::Day,
    });
    let question = Query {
        slot: slot.unwrap_or(Slot::for_range(range)),
        filter: Filter {
            product: asked.product,
            application: asked.application,
            api_key: asked.api_key,
            plan: asked.plan,
            subscription: asked.subscription,
            status_class: asked.status_class.map(i16::from),
            mode: None,
        },
        ..Query::new(tenant, range, zone)
    };
    let stack = if asked.by == Some(UsageBy::Status) { Stack::Status } else { Stack::Api };
    let query::Overview { series, totals, .. } = query::overview(&mut call.tx, &call.actor, &question, stack, 1).await?;
    call.commit().await?;
    let meters = totals.by_meter.into_iter().map(|meter| UsageMeter {
        meter: meter.meter,
        name: meter.name,
        unit: meter.unit,
        units: meter.units.to_string(),
        billable: meter.billable.to_string(),
    });
    Ok(Json(Usage {
        slot: match series.slot {
            Slot::QuarterHour => UsageSlot::QuarterHour,
            Slot::Hour => UsageSlot::Hour,
            Slot::Day => UsageSlot::Day,
        },
        starts: series.starts,
        groups: series.groups.into_iter().map(|group| UsageGroup { key: group.key, calls: group.calls }).collect(),
        calls: totals.calls,
        client_errors: totals.client_errors,
        server_errors: totals.server_errors,
        meters: meters.collect(),
    }))
}
