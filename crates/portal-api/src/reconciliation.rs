//! What was answered, recorded and billed, compared.

use calendar::Timestamp;
use ids::{DifferenceId, GatewayId, InvoiceId, JournalId, MeterId, NamespaceId, SubscriptionId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What does not agree with what. In JSON the names are those of the metric `portal_reconciliation_differences`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// A gateway's receipt numbers are not its finished, open and broken calls.
    Receipts,
    /// A gateway that is at rest has finished other calls than are recorded.
    Recorded,
    /// The portal had taken a segment, and does not have it any more.
    SegmentMissing,
    /// A gateway holds the ack of a segment that was never taken.
    AckWithoutCommit,
    /// A gateway has sealed a segment that neither side has.
    SegmentLost,
    /// A segment holds other records than its gateway counted.
    SegmentDiffers,
    /// A segment's rows are not those that were accepted with it.
    RowsDiffer,
    /// Accepted usage has no sum.
    RollupLost,
    /// A sum is a multiple of the usage behind it.
    RollupDoubled,
    /// A sum is not that of the usage behind it.
    RollupDiffers,
    /// A largest or a last value is not that of the usage behind it.
    RollupLevels,
    /// A quota's ledger holds other use than was rolled up.
    LedgerUsed,
    /// What the ledger takes for proven of a lease is not what was accepted of its journal.
    LeaseProven,
    /// An invoice is not the sum of its lines.
    InvoiceSum,
    /// An invoice bills other units than were rolled up in time for it.
    InvoiceUnits,
    /// An invoice's lines are not what their units cost.
    InvoiceRate,
}

/// Two sides that do not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Its id.
    pub id: DifferenceId,
    /// What does not agree.
    pub kind: DifferenceKind,
    /// The hour, day, period or acceptance that it is about.
    pub at: Option<Timestamp>,
    /// Whose usage.
    pub namespace: Option<NamespaceId>,
    /// The subscription.
    pub subscription: Option<SubscriptionId>,
    /// The invoice.
    pub invoice: Option<InvoiceId>,
    /// The gateway whose journal it is about.
    pub gateway: Option<GatewayId>,
    /// The journal.
    pub journal: Option<JournalId>,
    /// Its stream.
    pub stream: Option<u16>,
    /// The segment.
    pub seq: Option<u64>,
    /// What should be: calls, records, rows, units or money, as the kind says. A decimal.
    pub expected: String,
    /// What is. A decimal.
    pub found: String,
    /// A sentence that names it.
    pub detail: String,
    /// When it was seen first.
    pub first_seen_at: Timestamp,
    /// When it was seen last.
    pub last_seen_at: Timestamp,
    /// When it was not found again.
    pub resolved_at: Option<Timestamp>,
}

/// Both sides of a stream of a gateway's journal: admitted = recorded + open + broken, but for what is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamAccount {
    /// The gateway.
    pub gateway: GatewayId,
    /// The journal.
    pub journal: JournalId,
    /// The stream.
    pub stream: u16,
    /// Calls that took a receipt number.
    pub admitted: u64,
    /// Calls whose record was accepted.
    pub recorded: u64,
    /// Calls that the gateway says go on; absent if it does not say.
    pub open: Option<u64>,
    /// Calls that never got a record. A decimal; absent if the gateway does not say.
    pub broken: Option<String>,
    /// The first receipt numbers of calls that broke in earlier runs, such as `31 to 34, 36`.
    pub broken_numbers: String,
    /// Calls on the way from the gateway to the portal. A decimal.
    pub on_the_way: String,
    /// Segments that the gateway waits to send.
    pub pending_segments: u64,
    /// When the gateway said so.
    pub reported_at: Option<Timestamp>,
}

/// Which differences.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct ReconciliationQuery {
    /// Those that were resolved in the last 90 days instead of the open ones.
    pub resolved: bool,
    /// The most differences, 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// How many differences to pass over.
    pub after: Option<u32>,
}

/// Where the comparison stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reconciliation {
    /// How many differences are open; zero means that all is equal.
    pub open: u64,
    /// When anything was last compared.
    pub passed_at: Option<Timestamp>,
    /// Everything that was there by then has been compared.
    pub compared_through: Option<Timestamp>,
    /// The differences that were asked for.
    pub differences: Vec<Difference>,
    /// The streams of all journals, at most 500.
    pub streams: Vec<StreamAccount>,
}

/// A meter of a subscription's period, counted from the rows, from the sums, and from the invoices. Units are decimals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeterAccount {
    /// The period.
    pub period_start: Timestamp,
    /// The meter.
    pub meter: MeterId,
    /// Its name.
    pub name: String,
    /// What one unit is called.
    pub unit: String,
    /// Units of accepted usage rows.
    pub accepted: String,
    /// Units of rollups.
    pub rolled_up: String,
    /// Of these, what the plan's rule bills.
    pub billable: String,
    /// What corrections add.
    pub corrected: String,
    /// What is on invoices; absent while nothing of the period is invoiced.
    pub invoiced: Option<String>,
    /// Whether each side is the next; what is not invoiced yet does not differ.
    pub is_equal: bool,
}

/// A subscription's own account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionReconciliation {
    /// Everything that was there by then has been compared.
    pub compared_through: Option<Timestamp>,
    /// Meters that add up, the newest period first, of the last 100 days.
    pub meters: Vec<MeterAccount>,
    /// Open differences of its usage and invoices.
    pub differences: Vec<Difference>,
}
