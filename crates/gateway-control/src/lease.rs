//! Leases of hard quotas (SEMANTICS Q2 to Q5): a gateway takes slices of a subscription's quota from the portal's ledger and spends them locally.
//!
//! One exchange carries everything that a gateway wants and gives back. `exchange` rises by one with every new exchange of a journal; an exchange
//! that is sent again (because its answer was lost) carries the same number and gets the same answer. `held` states what the gateway holds
//! unspent for each slot it touches, so that a ledger which lost track (a restore) can count again.

use calendar::Timestamp;
use ids::{JournalId, MeterId, NamespaceId, SubscriptionId};
use serde::{Deserialize, Serialize};

use crate::units::Micros;

/// One quota of one subscription in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QuotaSlot {
    /// The tenant's namespace.
    pub namespace: NamespaceId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The meter whose units are limited.
    pub meter: MeterId,
    /// The start of the quota period.
    pub period_start: Timestamp,
}

/// What a gateway asks for and gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseExchange {
    /// The version of this format, 1 so far.
    pub format: u16,
    /// The journal that will prove what was spent.
    pub journal_id: JournalId,
    /// Rises by one with each new exchange of this journal.
    pub exchange: u64,
    /// One entry a slot.
    pub slots: Vec<LeaseWant>,
}

/// What a gateway wants of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseWant {
    /// The quota.
    #[serde(flatten)]
    pub slot: QuotaSlot,
    /// How many units it would like to have; zero to only give back.
    pub want: Micros,
    /// How many of them a call needs that waits for them: fewer are of no use to it, and where fewer are free, the quota is used up for it. Zero if
    /// no call waits.
    #[serde(default, skip_serializing_if = "Micros::is_zero")]
    pub needed: Micros,
    /// How many unspent units it gives back with this exchange.
    pub give_back: Micros,
    /// How many unspent units it still holds after giving back.
    pub held: Micros,
}

/// The ledger's answer, one entry for each wanted slot, in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseGrants {
    /// Changes when the ledger was restored.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub ledger_epoch: ids::Uuid,
    /// The exchange that this answers.
    pub exchange: u64,
    /// One grant a slot.
    pub grants: Vec<LeaseGrant>,
}

/// What the ledger gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseGrant {
    /// The quota.
    #[serde(flatten)]
    pub slot: QuotaSlot,
    /// Units that the gateway may spend on top of what it holds.
    pub granted: Micros,
    /// The limit at this moment.
    pub limit: Micros,
    /// What ingest has counted so far.
    pub used: Micros,
    /// What other gateways hold or have presumably spent: while this is above zero, an empty grant does not mean that the quota is used up.
    pub elsewhere: Micros,
    /// How long the grant may be spent, in milliseconds from the moment the request for it was sent.
    pub lasts_ms: u64,
}

impl LeaseGrant {
    /// Whether the ledger says that the quota is used up: nothing granted, and nothing that could still come back.
    pub fn used_up(&self) -> bool {
        self.granted.0 <= 0 && self.elsewhere.0 <= 0
    }
}
