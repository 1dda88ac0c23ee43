//! Plans: what is offered, and how operators make it.

use calendar::{Cadence, Timestamp};
use ids::{ApiProductId, MeterId, PlanId, PlanVersionId, RateCardId};
use rating::RateCard;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A plan, with one of its versions: where plans are listed, the newest that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// The version's id.
    pub version_id: PlanVersionId,
    /// The version's number.
    pub version: i32,
    /// Since when the version is offered; absent for a draft, which operators see only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Timestamp>,
    /// ISO 4217.
    pub currency: String,
    /// How long a billing and quota period lasts.
    pub cadence: Cadence,
    /// The products that it covers.
    pub products: Vec<ApiProductId>,
    /// What it costs.
    pub prices: Vec<PlanPrice>,
    /// How much a period allows.
    pub quotas: Vec<PlanQuota>,
    /// How fast calls may come.
    pub rate_limits: Vec<PlanRateLimit>,
}

/// A line of a plan's price list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanPrice {
    /// Its id, which invoice lines name.
    pub id: RateCardId,
    /// Its name on invoices.
    pub name: String,
    /// What is priced; absent for a fixed fee.
    pub meter: Option<MeterId>,
    /// Price, allowance, discount, minimum and maximum.
    #[schema(value_type = Object)]
    pub terms: RateCard,
}

/// Units of a meter a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanQuota {
    /// What is counted.
    pub meter: MeterId,
    /// Units, as a decimal number.
    pub limit: String,
    /// Whether calls beyond it are refused; else they are billed.
    pub hard: bool,
}

/// Requests per window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanRateLimit {
    /// How many requests the window refills.
    pub requests: u32,
    /// The window in seconds.
    pub per_seconds: u32,
    /// How many may come at once.
    pub burst: u32,
    /// Whose requests share it: `namespace`, `subscription`, `application` or `api_key`.
    pub scope: String,
    /// The routes to which it applies; all if absent.
    pub route_group: Option<String>,
}

/// A plan without its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanSummary {
    /// Its id.
    pub id: PlanId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// The order in which plans are shown, and in which a change is an upgrade.
    pub position: i32,
    /// When it was created.
    pub created_at: Timestamp,
}

/// Asks for a plan. It is offered once a version of it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePlan {
    /// 1 to 63 lower-case letters, digits and hyphens.
    #[schema(min_length = 1, max_length = 63)]
    pub slug: String,
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// At most 300 characters.
    #[serde(default)]
    #[schema(max_length = 300)]
    pub summary: String,
    /// The order in which plans are shown, and in which a change is an upgrade.
    pub position: i32,
}

/// Asks for a draft version of a plan. Which answers are billable is the usual rule: 2xx, 3xx, and 4xx other than 401, 403 and 429.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePlanVersion {
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$")]
    pub currency: String,
    /// How long a billing and quota period lasts.
    pub cadence: Cadence,
    /// The products that it covers; at least one.
    #[schema(min_items = 1, max_items = 100)]
    pub products: Vec<ApiProductId>,
    /// What it costs, in the order of the invoice; at most one for each meter. None: free.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub rate_cards: Vec<CreateRateCard>,
    /// How much a period allows; at most one for each meter.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub quotas: Vec<CreateQuota>,
    /// How fast calls may come.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub rate_limits: Vec<CreateRateLimit>,
}

/// A line of a new version's price list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRateCard {
    /// Its name on invoices, 1 to 100 characters.
    pub name: String,
    /// What is priced; absent for a fixed fee, whose price is flat.
    #[serde(default)]
    pub meter: Option<MeterId>,
    /// Price, allowance, discount, minimum and maximum, as a plan's price has them.
    #[schema(value_type = Object)]
    pub terms: RateCard,
}

/// Units of a meter a period, in a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateQuota {
    /// What is counted.
    pub meter: MeterId,
    /// Units, as a decimal number.
    #[schema(pattern = "^[0-9]{1,12}([.][0-9]{1,6})?$")]
    pub limit: String,
    /// Whether calls beyond it are refused; else they are billed.
    pub hard: bool,
}

/// Requests per window, in a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRateLimit {
    /// How many requests the window refills.
    pub requests: u32,
    /// The window in seconds.
    pub per_seconds: u32,
    /// How many may come at once; `requests` if absent.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Whose requests share it: `namespace`, `subscription`, `application` or `api_key`.
    pub scope: String,
    /// The routes to which it applies; all if absent.
    #[serde(default)]
    pub route_group: Option<String>,
}
