//! Subscriptions.

use calendar::Timestamp;
use ids::{ApplicationId, PlanVersionId, SubscriptionId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An application on a plan version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// The application that it lets call.
    pub application: ApplicationId,
    /// The plan's slug.
    pub plan: String,
    /// The plan's edition.
    pub plan_version: PlanVersionId,
    /// Where it stands.
    pub state: SubscriptionState,
    /// The date from which its periods are counted, such as `2026-01-31`.
    pub anchor_date: String,
    /// The IANA time zone in which its days begin.
    pub time_zone: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub canceled_at: Option<Timestamp>,
}

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Calls are served.
    Active,
    /// Calls are refused until it is resumed; fixed fees go on.
    Paused,
    /// Calls are refused until an invoice is paid.
    PaymentOverdue,
    /// It has ended.
    Canceled,
}

/// Subscribes an application to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSubscription {
    /// The application.
    pub application: ApplicationId,
    /// The plan's slug; its newest published version is taken.
    pub plan: String,
}

/// Puts an application on another plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSubscription {
    /// The new plan's slug; its newest published version is taken.
    pub plan: String,
}

/// Which subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SubscriptionQuery {
    /// Of this application only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationId>,
    /// Those that have ended, too.
    #[serde(default)]
    pub with_canceled: bool,
    /// At most so many items; 50 if absent.
    #[param(minimum = 1, maximum = 200)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only items after this one: the `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<SubscriptionId>,
}
