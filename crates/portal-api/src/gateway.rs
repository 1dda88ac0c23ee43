//! Metering gateways, for operators.

use calendar::Timestamp;
use ids::{GatewayId, JournalId, MeterId, NamespaceId, SubscriptionId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A metering gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gateway {
    /// Its id.
    pub id: GatewayId,
    /// Its name, unique in the installation.
    pub name: String,
    /// The last four characters of its credential.
    pub hint: String,
    /// The namespaces that it serves; all if absent.
    pub namespaces: Option<Vec<NamespaceId>>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was revoked for good.
    pub revoked_at: Option<Timestamp>,
    /// Until when the credential before the last rotation works.
    pub previous_until: Option<Timestamp>,
    /// Its processes, by when they last reported, newest first.
    pub instances: Vec<GatewayInstance>,
}

/// A process of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayInstance {
    /// The journal that it writes.
    pub journal: JournalId,
    /// When it last reported.
    pub last_seen_at: Option<Timestamp>,
    /// Whether it reported within the last seconds.
    pub live: bool,
    /// Its version.
    pub version: Option<String>,
    /// The policy generation in force there.
    pub generation: Option<u64>,
    /// Records that the portal has not acknowledged yet.
    pub unshipped_records: Option<u64>,
    /// What an operator must look at.
    pub alerts: Vec<String>,
}

/// Registers a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGateway {
    /// 1 to 100 characters, unique in the installation.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// The namespaces that it serves; all if absent.
    #[serde(default)]
    pub namespaces: Option<Vec<NamespaceId>>,
}

/// Asks for a new credential.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateGateway {
    /// How long the old credential works beside the new one, in seconds; a day if absent, at most seven days.
    #[serde(default)]
    #[schema(maximum = 604_800)]
    pub overlap_seconds: Option<u64>,
}

/// A gateway with its new credential, which is not stored and cannot be shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedGateway {
    /// The gateway.
    pub gateway: Gateway,
    /// The credential, `tk_gway_…`.
    pub credential: String,
}

/// What a journal of a gateway holds of hard quotas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalLeases {
    /// The journal.
    pub journal: JournalId,
    /// Of how many quotas it holds something.
    pub quotas: usize,
    /// Units that it holds, or has spent and not proven, as a decimal string.
    pub live_units: String,
    /// Units that are presumed spent until the journal arrives, as a decimal string.
    pub presumed_spent_units: String,
    /// A restored ledger grants nothing until this journal has declared its leases.
    pub is_waited_for: bool,
}

/// Writes off what a journal holds that will not come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteOffLeases {
    /// The journal.
    pub journal: JournalId,
    /// Why, for the audit log; 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// What was written off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WrittenOffLeases {
    /// Of how many quotas.
    pub quotas: usize,
    /// Units over all of them, as a decimal string.
    pub units: String,
}

/// Grants units of a quota on top of its limit, in the running period. A reset is a grant of what was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantQuota {
    /// The organization.
    pub tenant: TenantId,
    /// Its subscription.
    pub subscription: SubscriptionId,
    /// The quota's meter.
    pub meter: MeterId,
    /// How many units.
    #[schema(minimum = 1)]
    pub units: u32,
    /// Why, for the audit log; 1 to 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}
