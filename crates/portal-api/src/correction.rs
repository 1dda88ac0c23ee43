//! Corrections of usage.

use calendar::Timestamp;
use ids::{CorrectionId, InvoiceId, MeterId, PlanVersionId, SubscriptionId, TenantId};
use rating::{DetailedLine, Money};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What becomes of a correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionOutcome {
    /// The period is open and is rated with it when it is closed.
    OpenPeriod,
    /// A line on the next invoice.
    NextInvoice,
    /// An invoice of its own, after the subscription was canceled.
    FinalInvoice,
    /// A credit note, issued at once.
    CreditNote,
    /// The period costs the same.
    NoCharge,
}

/// What is to be corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectUsage {
    /// Whose usage.
    pub tenant: TenantId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The start of the period.
    pub period_start: Timestamp,
    /// A meter that counts or sums.
    pub meter: MeterId,
    /// The units to add, or with a minus those to take off: a decimal with at most 6 places.
    pub units: String,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
    /// What it goes back to: a ticket, a mail.
    #[schema(min_length = 1, max_length = 200)]
    pub reference: String,
    /// The same key makes the same correction once.
    #[schema(min_length = 1, max_length = 100)]
    pub idempotency_key: String,
}

/// What a correction does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CorrectionEffect {
    /// The start of the period.
    pub period_start: Timestamp,
    /// Its end, up to which it was served.
    pub period_end: Timestamp,
    /// The period's billable units without it. A decimal.
    pub units_before: String,
    /// The period's billable units with it. A decimal.
    pub units_after: String,
    /// What the period costs without it.
    pub cost_before: Money,
    /// What the period costs with it.
    pub cost_after: Money,
    /// What becomes of it.
    pub outcome: CorrectionOutcome,
    /// The lines of the credit note or of the later invoice; none for an open period.
    pub lines: Vec<DetailedLine>,
}

/// A correction of usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Correction {
    /// Its id.
    pub id: CorrectionId,
    /// Whose usage.
    pub tenant: TenantId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The plan version that the units are rated under.
    pub plan_version: PlanVersionId,
    /// The start of the period.
    pub period_start: Timestamp,
    /// The meter.
    pub meter: MeterId,
    /// Units added; negative if taken off. A decimal.
    pub units: String,
    /// Why.
    pub reason: String,
    /// What it goes back to.
    pub reference: String,
    /// What became of it.
    pub outcome: CorrectionOutcome,
    /// What the period cost before.
    pub cost_before: Money,
    /// What it cost with it.
    pub cost_after: Money,
    /// The credit note, if it became one.
    pub credit_note: Option<InvoiceId>,
    /// When.
    pub created_at: Timestamp,
}

/// Which corrections.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct CorrectionQuery {
    /// Of one tenant only.
    pub tenant: Option<TenantId>,
    /// Of one subscription only.
    pub subscription: Option<SubscriptionId>,
    /// At most so many; 50 if absent.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// How many to leave out.
    pub after: Option<u32>,
}
