//! Leases of hard quotas (SEMANTICS Q2 to Q5): a gateway takes slices of a subscription's quota from the portal's ledger and spends them locally.
//!
//! One exchange carries everything that a gateway wants and gives back. `exchange` rises with every new exchange of a journal; an exchange that is
//! sent again (because its answer was lost) carries the same number and gets the same answer. Each slot **declares** what the gateway was granted, gave
//! back, admitted without a lease and finished since its process started (its `run`), so that a ledger which lost track (a lost answer, a restore) counts
//! again. After a change of `ledger_epoch`, a gateway declares everything; until all have, that ledger grants nothing.

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
    /// The gateway's run. Absent from gateways that declare nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<LeaseRun>,
    /// The epoch under which the gateway has declared all that it holds, this exchange included. Absent in the first exchange of a run, which holds
    /// nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uuid"))]
    pub ledger_epoch: Option<ids::Uuid>,
}

/// One start of a gateway's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseRun {
    /// Rises with each start: it is a number of the journal's exchanges.
    pub number: u64,
    /// Each stream of the journal with the number of the first segment that this run writes. When all before are accepted, earlier runs are settled.
    pub first_seqs: Vec<(u16, u64)>,
}

/// What a gateway declares of a slot, since the start of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeclaredUnits {
    /// All grants that it received.
    pub granted: Micros,
    /// All that it gave back, this exchange included.
    pub given_back: Micros,
    /// All that it admitted without a lease while the portal was away, and that was not undone.
    pub exposed: Micros,
    /// What calls that have ended used.
    pub finished: Micros,
}

impl DeclaredUnits {
    /// As the ledger takes them in.
    pub fn of_run(&self, run: u64) -> quota::Declared {
        let Self { granted, given_back, exposed, finished } = *self;
        quota::Declared {
            run,
            granted: granted.clamped(),
            given_back: given_back.clamped(),
            exposed: exposed.clamped(),
            finished: finished.clamped(),
        }
    }
}

impl From<quota::Declared> for DeclaredUnits {
    fn from(declared: quota::Declared) -> Self {
        Self {
            granted: declared.granted.into(),
            given_back: declared.given_back.into(),
            exposed: declared.exposed.into(),
            finished: declared.finished.into(),
        }
    }
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
    /// Its totals. Absent from gateways that declare nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<DeclaredUnits>,
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
    /// What may still come back to the ledger: while this is above zero, an empty grant does not mean that the quota is used up.
    pub elsewhere: Micros,
    /// What this journal then has outstanding: held, or spent and not proven yet. Absent from portals that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outstanding: Option<Micros>,
    /// How long the grant may be spent, in milliseconds from the moment the request for it was sent.
    pub lasts_ms: u64,
}

impl LeaseGrant {
    /// Whether the ledger says that the quota is used up: nothing granted, and nothing that could still come back.
    pub fn used_up(&self) -> bool {
        self.granted.0 <= 0 && self.elsewhere.0 <= 0
    }
}
