//! What a gateway must know, and how it learns it (SEMANTICS P1 to P4).
//!
//! The feed is list-then-watch: a [`PolicyEvent::Snapshot`] line, all entries, a [`PolicyEvent::Synced`] line, then changes as they are committed,
//! and a heartbeat each second. A gateway that names an epoch and a generation which the portal knows is sent the changes only.

use calendar::{Cadence, Timestamp};
use ids::{ApiKeyId, ApiProductId, ApplicationId, MeterId, NamespaceId, PlanVersionId, RouteId, ServiceId, SubscriptionId, Uuid};
use quota::{QuotaLimit, RateLimit};
use serde::{Deserialize, Serialize};

use crate::{
    credential::KeyDigest,
    lease::QuotaSlot,
    options::{RouteOptions, ServiceOptions},
    units::Micros,
    usage::Mode,
};

/// The rising number of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Generation(pub u64);

/// One line of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "entries are read and dropped one at a time: a box would only cost an allocation a line")]
pub enum PolicyEvent {
    /// All entries follow; what the gateway knew before is void once `synced` has come.
    Snapshot {
        /// The version of this format, 1 so far.
        format: u16,
        /// Changes when the portal's database was restored.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
        epoch: Uuid,
    },
    /// The changes since the named generation follow.
    Resume {
        /// The version of this format, 1 so far.
        format: u16,
        /// The epoch of the generations.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
        epoch: Uuid,
    },
    /// One entry, new, changed or removed.
    Entry(PolicyEntry),
    /// Everything up to this generation has been sent; the gateway is in sync and puts the entries in force together.
    Synced {
        /// The generation that is complete.
        generation: Generation,
    },
    /// Sent each second while nothing changes.
    Heartbeat {
        /// The newest generation.
        generation: Generation,
        /// The portal's clock.
        now: Timestamp,
        /// The ledger's epoch, so that a gateway which exchanges nothing hears of a restore too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uuid"))]
        ledger_epoch: Option<Uuid>,
    },
    /// A call waits for units of these quotas and nothing is free: what is not needed is to be given back at once. Sent only to gateways that ask for
    /// recalls (`recalls=true` in the query of the feed).
    Recall {
        /// The quotas.
        slots: Vec<QuotaSlot>,
    },
}

/// One thing a gateway must know, under the generation that last changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyEntry {
    /// The generation of its last change.
    pub generation: Generation,
    /// What it is about.
    pub id: EntryId,
    /// Its present state; `None` when it is gone.
    pub body: Option<EntryBody>,
}

/// What an entry is about. A kind and the UUID of the entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EntryId {
    /// What kind of thing.
    pub kind: EntryKind,
    /// Which one.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: Uuid,
}

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// What holds for the whole installation.
    Settings,
    /// A backend.
    Service,
    /// A match rule.
    Route,
    /// What a plan version allows.
    PlanVersion,
    /// Who is on which plan version.
    Subscription,
    /// A credential of an application.
    ApiKey,
}

/// The present state of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryBody {
    /// Of the whole installation; its id is the nil UUID.
    Settings(Settings),
    /// A backend.
    Service(Service),
    /// A match rule.
    Route(Route),
    /// What a plan version allows.
    PlanVersion(PlanVersion),
    /// Who is on which plan version.
    Subscription(Subscription),
    /// A credential of an application.
    ApiKey(ApiKey),
}

/// What holds for the whole installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Settings {
    /// Browser origins that may call through the gateway (the portal's own, for its try-it console).
    pub cors_origins: Vec<String>,
    /// Where a caller is sent to upgrade its plan; put into denials.
    pub upgrade_url: String,
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Its name, for people.
    pub name: String,
    /// Where live calls go: `http://host[:port][/base]`.
    pub upstream: String,
    /// Where test calls go; without it, test keys are refused on its routes.
    pub sandbox: Option<String>,
    /// How long the gateway waits for a connection, in milliseconds.
    pub connect_timeout_ms: u32,
    /// How long it waits for the head of the answer, in milliseconds.
    pub first_byte_timeout_ms: u32,
    /// What most backends need not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Box<ServiceOptions>>,
}

/// A match rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// The API product that it belongs to.
    pub product: ApiProductId,
    /// The product's slug, for people.
    pub product_slug: String,
    /// The backend.
    pub service: ServiceId,
    /// The method, upper case; `None` for all.
    pub method: Option<String>,
    /// The path that callers use: literal segments and `{name}` for one segment, such as `/weather/v1/forecast/{city}`; a last segment `{*rest}`
    /// matches all that follows.
    pub path: String,
    /// The prefix of the path that is removed before the rest is appended to the upstream's base path, such as `/weather`.
    pub strip_prefix: String,
    /// The group that rate limits may name.
    pub group: Option<String>,
    /// What a call is measured by. Empty: counted by nothing, never billed.
    pub meters: Vec<RouteMeter>,
    /// What most routes need not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Box<RouteOptions>>,
}

/// How a call on a route moves a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RouteMeter {
    /// The meter.
    pub meter: MeterId,
    /// Where the units come from.
    pub source: UnitSource,
    /// Units when the source is missing or malformed.
    pub default_units: Micros,
    /// More is clamped to this, counted and alerted. It is also what is reserved at admission (Q4).
    pub max_units: Micros,
}

/// Where the units of a call come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum UnitSource {
    /// One unit a call.
    Call,
    /// A number in a header of the upstream's answer.
    Header {
        /// The header's name, lower case.
        name: String,
    },
    /// A number in a trailer of the upstream's answer; a header of that name is read too.
    Trailer {
        /// The trailer's name, lower case.
        name: String,
    },
    /// The bytes of the answer's body as sent.
    ResponseBytes,
    /// Messages of a WebSocket or of a gRPC call, both ways.
    Messages,
    /// Seconds that the exchange lasted.
    Seconds,
    /// Tokens that the body of the answer, JSON or server-sent events, says that a language model used: `usage` as OpenAI and Anthropic write it.
    Tokens {
        /// Which of them.
        kind: TokenKind,
    },
}

/// Tokens of a language model. Input and output add up to the total; the other kinds are parts of one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// All of the prompt, cached or not.
    Input,
    /// Of the input: neither read from a cache nor written to one.
    UncachedInput,
    /// Of the input: read from a cache.
    CachedInput,
    /// Of the input: written to a cache.
    CacheCreation,
    /// All of the answer, reasoning included.
    Output,
    /// Of the output: spent on reasoning.
    Reasoning,
    /// Input and output.
    Total,
}

impl TokenKind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Input, Self::UncachedInput, Self::CachedInput, Self::CacheCreation, Self::Output, Self::Reasoning, Self::Total];
}

/// What a plan version allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanVersion {
    /// Its id.
    pub id: PlanVersionId,
    /// The plan's slug.
    pub plan: String,
    /// The API products that it covers.
    pub products: Vec<ApiProductId>,
    /// How fast.
    pub rate_limits: Vec<RateLimit>,
    /// How much per period.
    pub quotas: Vec<QuotaLimit>,
    /// How long a quota period lasts.
    pub cadence: Cadence,
    /// Which answers count.
    pub billable: BillableRule,
}

/// Which statuses are billable (M8). Only an answer whose head came from the upstream can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BillableRule {
    /// Inclusive ranges of statuses that are billable.
    pub statuses: Vec<(u16, u16)>,
    /// Statuses inside those ranges that are not.
    pub except: Vec<u16>,
}

impl Default for BillableRule {
    /// 2xx, 3xx and 4xx other than 401, 403 and 429; 5xx never.
    fn default() -> Self {
        Self { statuses: vec![(200, 499)], except: vec![401, 403, 429] }
    }
}

impl BillableRule {
    /// Whether an answer of the upstream with this status is billable. A switch of protocols (101) is the start of a metered exchange and counts.
    pub fn bills(&self, status: u16) -> bool {
        let inside = self.statuses.iter().any(|(low, high)| (*low..=*high).contains(&status));
        status == 101 || (inside && status < 500 && !self.except.contains(&status))
    }
}

/// Who is on which plan version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// The tenant's namespace.
    pub namespace: NamespaceId,
    /// The application whose keys it covers.
    pub application: ApplicationId,
    /// What it is on.
    pub plan_version: PlanVersionId,
    /// Whether it lets calls through.
    pub state: SubscriptionState,
    /// The date from which periods are counted, `YYYY-MM-DD`.
    pub anchor_date: String,
    /// The IANA time zone in which days start, frozen for the subscription's running period.
    pub time_zone: String,
}

/// Whether a subscription lets calls through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Yes.
    Active,
    /// No: paused by its owner or an operator (403).
    Paused,
    /// No: payment is overdue (402).
    PaymentOverdue,
}

/// A credential of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// SHA-256 of its text.
    pub digest: KeyDigest,
    /// The tenant's namespace.
    pub namespace: NamespaceId,
    /// The application.
    pub application: ApplicationId,
    /// Live or test.
    pub mode: Mode,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_rule_bills_what_the_semantics_say() {
        let rule = BillableRule::default();
        for (status, bills) in [
            (101, true),
            (200, true),
            (304, true),
            (404, true),
            (401, false),
            (403, false),
            (429, false),
            (500, false),
            (503, false),
            (100, false),
        ] {
            assert_eq!(rule.bills(status), bills, "{status}");
        }
    }
}
