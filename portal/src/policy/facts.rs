//! What the tables say about the things that gateways must know; the input of [`super::compile`].

use calendar::Timestamp;
use ids::Uuid;
use serde_json::Value;

/// The present facts about one thing.
#[derive(Debug, Clone, PartialEq)]
pub enum Facts {
    /// Of the whole installation.
    Settings(SettingsFacts),
    /// A backend.
    Service(ServiceFacts),
    /// A match rule.
    Route(RouteFacts),
    /// An edition of a plan.
    PlanVersion(PlanVersionFacts),
    /// A tenant's application on a plan version.
    Subscription(SubscriptionFacts),
    /// A credential of an application.
    ApiKey(ApiKeyFacts),
}

/// Of the whole installation; from the portal's settings, not from a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFacts {
    /// The portal's origin as browsers send it.
    pub portal_origin: String,
    /// The page that shows the plans.
    pub upgrade_url: String,
}

/// A row of `services` with its product's state.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the columns of the table, which the migrations describe")]
pub struct ServiceFacts {
    pub id: Uuid,
    pub name: String,
    pub upstream_url: String,
    pub sandbox_url: Option<String>,
    pub connect_timeout_ms: i32,
    pub first_byte_timeout_ms: i32,
    pub options: Value,
    pub product_published_at: Option<Timestamp>,
}

/// A row of `routes` with its product's state.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the columns of the table, which the migrations describe")]
pub struct RouteFacts {
    pub id: Uuid,
    pub product_id: Uuid,
    pub product_slug: String,
    pub service_id: Uuid,
    pub method: String,
    pub path: String,
    pub rate_group: Option<String>,
    pub meters: Value,
    pub options: Value,
    pub retired_at: Option<Timestamp>,
    pub product_published_at: Option<Timestamp>,
}

/// A row of `plan_versions` with its plan's slug and its products.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the columns of the table, which the migrations describe")]
pub struct PlanVersionFacts {
    pub id: Uuid,
    pub plan_slug: String,
    pub products: Vec<Uuid>,
    pub rate_limits: Value,
    pub quotas: Value,
    pub cadence: String,
    pub billable: Value,
    pub published_at: Option<Timestamp>,
}

/// A row of `subscriptions`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table, which the migrations describe")]
pub struct SubscriptionFacts {
    pub tenant_id: Uuid,
    pub id: Uuid,
    pub application_id: Uuid,
    pub plan_version_id: Uuid,
    pub state: String,
    /// `YYYY-MM-DD`.
    pub anchor_date: String,
    pub time_zone: String,
}

/// A row of `api_keys` with its application's state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table, which the migrations describe")]
pub struct ApiKeyFacts {
    pub tenant_id: Uuid,
    pub id: Uuid,
    pub application_id: Uuid,
    pub mode: String,
    pub digest: Vec<u8>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub application_archived_at: Option<Timestamp>,
}
