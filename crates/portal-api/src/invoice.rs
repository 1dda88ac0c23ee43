//! Invoices.

use calendar::Timestamp;
use ids::{InvoiceId, MeterId, PlanVersionId, RateCardId, SubscriptionId, TenantId};
use rating::{DetailedLine, Money};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceState {
    /// Not issued yet.
    Draft,
    /// Issued, to be paid until it is due.
    Finalized,
    /// Paid, or nothing was to be paid.
    Paid,
    /// Issued, not paid, and due.
    PastDue,
    /// Given up.
    Uncollectible,
    /// Taken back; it keeps its number.
    Void,
}

/// Which invoices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct InvoiceQuery {
    /// Of one subscription only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionId>,
    /// In one state only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<InvoiceState>,
    /// At most so many; 50 if absent.
    #[param(minimum = 1, maximum = 200)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How many to leave out: the `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
}

/// What an invoice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceKind {
    /// That of a period, with what earlier periods owe.
    #[default]
    Period,
    /// What came late, after a cancellation.
    Final,
    /// What was billed too much; its total is negative.
    CreditNote,
}

/// An invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invoice {
    /// Its id.
    pub id: InvoiceId,
    /// Who pays.
    pub tenant: TenantId,
    /// What it is.
    #[serde(default)]
    pub kind: InvoiceKind,
    /// The invoice that a credit note corrects.
    #[serde(default)]
    pub corrects: Option<InvoiceId>,
    /// Its number, such as `INV-000042`, or `CRN-000043` of a credit note; absent for a draft.
    pub number: Option<String>,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The plan version that it was rated by.
    pub plan_version: PlanVersionId,
    /// The start of what it covers.
    pub period_from: Timestamp,
    /// The end of what it covers.
    pub period_to: Timestamp,
    /// Where it stands.
    pub state: InvoiceState,
    /// The sum of its lines.
    pub subtotal: Money,
    /// Taxes.
    pub tax: Money,
    /// What is to be paid.
    pub total: Money,
    /// When it was issued.
    pub finalized_at: Option<Timestamp>,
    /// Until when it is to be paid.
    pub due_at: Option<Timestamp>,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// Its lines; only where one invoice is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<InvoiceLine>>,
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceLine {
    /// The rate card that it comes from.
    pub rate_card: Option<RateCardId>,
    /// The meter; absent for a fixed fee.
    pub meter: Option<MeterId>,
    /// The start of the earlier period that it is about; absent if it is about the invoice's own.
    #[serde(default)]
    pub service_from: Option<Timestamp>,
    /// The end of that period.
    #[serde(default)]
    pub service_to: Option<Timestamp>,
    /// What was charged, and why.
    pub detail: DetailedLine,
}

/// Takes an invoice back, or gives it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndInvoice {
    /// Why. 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}

/// Marks an invoice as paid by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkPaid {
    /// How it was paid: the number of a bank transfer, for example. 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub reference: String,
}
