//! What the questions about usage are answered with.

use calendar::{TimeZone, Timestamp};
use ids::{ApiKeyId, ApiProductId, ApplicationId, MeterId, PlanId, RouteId, SubscriptionId, TenantId};
use rust_decimal::Decimal;

use super::query::Slot;

/// By what the bars of a chart are stacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stack {
    /// By API product.
    #[default]
    Api,
    /// By class of status.
    Status,
}

/// Calls over time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Series {
    /// The width of a slot.
    pub slot: Slot,
    /// The start of each slot, without gaps.
    pub starts: Vec<Timestamp>,
    /// One entry a product or class of status that had calls, the busiest first (status classes in their order).
    pub groups: Vec<SeriesGroup>,
}

impl Series {
    /// All calls of a slot.
    pub fn total(&self, slot: usize) -> i64 {
        self.groups.iter().filter_map(|group| group.calls.get(slot)).sum()
    }
}

/// One colour of the chart.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct SeriesGroup {
    /// The product's slug, or the class: `2xx`.
    pub key: String,
    /// For people.
    pub label: String,
    /// Calls a slot.
    pub calls: Vec<i64>,
}

/// The sums of a range.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, utoipa::ToSchema)]
pub struct Totals {
    /// Calls that were answered.
    pub calls: i64,
    /// Of them, with a status of 4xx.
    pub client_errors: i64,
    /// Of them, with a status of 5xx.
    pub server_errors: i64,
    /// Calls per API product, the busiest first.
    pub by_product: Vec<Share>,
    /// Calls per exact status.
    pub by_status: Vec<Share>,
    /// Units per meter.
    pub by_meter: Vec<MeterTotal>,
}

impl Totals {
    /// Calls that failed, in per mille of all calls, rounded.
    pub fn error_per_mille(&self) -> i64 {
        let errors = self.client_errors + self.server_errors;
        (errors * 1000 + self.calls / 2).checked_div(self.calls).unwrap_or(0)
    }
}

/// A part of all calls.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Share {
    /// The product's slug, or the status.
    pub key: String,
    /// For people.
    pub label: String,
    /// Calls.
    pub calls: i64,
}

/// The units of a meter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct MeterTotal {
    /// The meter.
    pub meter: MeterId,
    /// Its name.
    pub name: String,
    /// What one unit is called.
    pub unit: String,
    /// Everything that was counted.
    #[schema(value_type = String)]
    pub units: Decimal,
    /// What the plan's rule bills.
    #[schema(value_type = String)]
    pub billable: Decimal,
}

/// A route and its calls.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct RouteTotal {
    /// The route.
    pub route: RouteId,
    /// Its API product.
    pub product: String,
    /// The method.
    pub method: String,
    /// The path that callers use.
    pub path: String,
    /// Calls.
    pub calls: i64,
    /// Of them, with a status of 4xx or 5xx.
    pub errors: i64,
}

/// Percentiles of latency, in microseconds: the middle of the bucket in which the percentile falls, off by at most 3.2 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Latency {
    /// Half of the calls were faster.
    pub p50_micros: u64,
    /// 95 of 100 calls were faster.
    pub p95_micros: u64,
    /// 99 of 100 calls were faster.
    pub p99_micros: u64,
    /// How many calls were measured.
    pub calls: u64,
}

/// What the filters of the page offer.
#[derive(Debug, Clone, Default)]
pub struct Facets {
    /// API products of the tenant's subscriptions.
    pub products: Vec<(ApiProductId, String)>,
    /// Applications, archived ones too: their usage stays.
    pub applications: Vec<(ApplicationId, String)>,
    /// Keys that have been used, with name and hint.
    pub api_keys: Vec<(ApiKeyId, String)>,
    /// Plans of the tenant's subscriptions.
    pub plans: Vec<(PlanId, String)>,
}

/// The billable units of one meter in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeriodUnits {
    /// The meter.
    pub meter: MeterId,
    /// The plan version that the calls were admitted under.
    pub plan_version: ids::PlanVersionId,
    /// Units.
    pub units: Decimal,
}

/// The usage behind a charge.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Breakdown {
    /// Per day in the subscription's time zone.
    pub by_day: Vec<BreakdownRow>,
    /// Per route.
    pub by_route: Vec<BreakdownRow>,
    /// Per key.
    pub by_key: Vec<BreakdownRow>,
}

/// A part of a charge's usage.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct BreakdownRow {
    /// The day, the route or the key.
    pub label: String,
    /// Calls.
    pub calls: i64,
    /// Billable units.
    #[schema(value_type = String)]
    pub units: Decimal,
}

/// Which charge a breakdown opens.
#[derive(Debug, Clone)]
pub struct Charge {
    /// Whose.
    pub tenant: TenantId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The start of the period.
    pub period_start: Timestamp,
    /// The meter.
    pub meter: MeterId,
    /// Where days start.
    pub zone: TimeZone,
}
