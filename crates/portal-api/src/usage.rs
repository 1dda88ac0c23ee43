//! Usage and cost so far.

use calendar::Timestamp;
use ids::{ApiKeyId, ApiProductId, ApplicationId, MeterId, PlanId, RateCardId, SubscriptionId};
use rating::{DetailedLine, Money};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which usage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// The first instant; 24 hours before `to` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// The first instant after; the end of the running quarter of an hour if absent. At most 400 days after `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// `quarter_hour`, `hour` or `day` (in the organization's time zone); by the length of the range if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<UsageSlot>,
    /// By what calls are kept apart: `api` (if absent) or `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UsageBy>,
    /// Of one API product only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<ApiProductId>,
    /// Of one application only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationId>,
    /// Of one key only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyId>,
    /// Admitted under a plan only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
    /// Of one subscription only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionId>,
    /// Of one class of statuses only: 2 for 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 5)]
    pub status_class: Option<u8>,
}

/// The width of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageSlot {
    /// 15 minutes.
    QuarterHour,
    /// An hour.
    Hour,
    /// A calendar day in the organization's time zone.
    Day,
}

/// By what calls are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// By API product.
    Api,
    /// By class of status.
    Status,
}

/// Calls and units of a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// The width of a slot.
    pub slot: UsageSlot,
    /// The start of each slot, without gaps.
    pub starts: Vec<Timestamp>,
    /// What had calls.
    pub groups: Vec<UsageGroup>,
    /// All calls.
    pub calls: i64,
    /// Of them, with a status of 4xx.
    pub client_errors: i64,
    /// Of them, with a status of 5xx.
    pub server_errors: i64,
    /// Units per meter.
    pub meters: Vec<UsageMeter>,
}

/// Calls of one API product or class of status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageGroup {
    /// The product's slug, or the class: `2xx`.
    pub key: String,
    /// Calls per slot, in the order of `starts`.
    pub calls: Vec<i64>,
}

/// The units of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageMeter {
    /// The meter.
    pub meter: MeterId,
    /// Its name.
    pub name: String,
    /// What one unit is called.
    pub unit: String,
    /// Everything that was counted, as a decimal.
    pub units: String,
    /// What the plan bills, as a decimal.
    pub billable: String,
}

/// What a subscription costs so far in its running period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The start of the period.
    pub period_from: Timestamp,
    /// The end of the period.
    pub period_to: Timestamp,
    /// The lines as they would be invoiced now.
    pub lines: Vec<CostLine>,
    /// Their sum, before taxes.
    pub total: Money,
    /// An estimate of the whole period if use goes on as it did; absent early in the period.
    pub projected: Option<Money>,
}

/// A line of a running period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CostLine {
    /// The rate card.
    pub rate_card: RateCardId,
    /// The meter; absent for a fixed fee.
    pub meter: Option<MeterId>,
    /// What is charged, and why.
    pub detail: DetailedLine,
}
