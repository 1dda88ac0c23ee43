//! Invoices: what is read of them, and how they move from state to state.

use calendar::{Period, Timestamp};
use ids::{InvoiceId, MeterId, PlanVersionId, RateCardId, SubscriptionId, TenantId};
use rating::{DetailedLine, Money};
use serde_json::json;

pub use super::store::InvoiceKind;
use super::{InvoiceState, store};
use crate::{
    audit,
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
};

/// The most invoices of one page.
pub const MAX_PAGE: i64 = 200;

/// An invoice without its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Who pays.
    pub tenant: TenantId,
    /// That tenant's name.
    pub tenant_name: String,
    /// Its id.
    pub id: InvoiceId,
    /// What it is.
    pub kind: InvoiceKind,
    /// The invoice that a credit note corrects.
    pub corrects: Option<InvoiceId>,
    /// Its number; absent for a draft.
    pub number: Option<i64>,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The application's name.
    pub application_name: String,
    /// The plan version that it was rated by.
    pub plan_version: PlanVersionId,
    /// The plan's name.
    pub plan_name: String,
    /// The plan version's number.
    pub version: i32,
    /// What it covers.
    pub period: Period,
    /// The zone in which its days start.
    pub time_zone: String,
    /// Where it stands.
    pub state: InvoiceState,
    /// The sum of its lines.
    pub subtotal: Money,
    /// Taxes.
    pub tax: Money,
    /// What is to be paid.
    pub total: Money,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was issued.
    pub finalized_at: Option<Timestamp>,
    /// Until when it is to be paid.
    pub due_at: Option<Timestamp>,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// How it was paid.
    pub paid_reference: Option<String>,
}

impl Invoice {
    /// The number as people see it: `INV-000042`, and `CRN-000043` for a credit note, out of the same row of numbers.
    pub fn display_number(&self) -> String {
        let prefix = if self.kind == InvoiceKind::CreditNote { "CRN" } else { "INV" };
        self.number.map_or_else(|| "Draft".to_owned(), |number| format!("{prefix}-{number:06}"))
    }
}

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceLine {
    /// Its place, from 0.
    pub position: i32,
    /// The earlier period that it is about; `None` if it is about the invoice's own.
    pub service: Option<Period>,
    /// The rate card that it comes from.
    pub rate_card: Option<RateCardId>,
    /// The meter; absent for a fixed fee.
    pub meter: Option<MeterId>,
    /// What one unit is called; empty for a fixed fee.
    pub unit: String,
    /// What was charged, and why.
    pub detail: DetailedLine,
}

/// Which invoices.
#[derive(Debug, Clone, Copy, Default)]
pub struct InvoiceFilter {
    /// Of one tenant.
    pub tenant: Option<TenantId>,
    /// Of one subscription.
    pub subscription: Option<SubscriptionId>,
    /// In one state.
    pub state: Option<InvoiceState>,
}

/// A page of invoices, and how many there are.
#[derive(Debug, Clone, Default)]
pub struct InvoicePage {
    /// The page.
    pub invoices: Vec<Invoice>,
    /// All that the filter holds.
    pub total: i64,
}

/// Invoices, newest first. Without a tenant it lists everybody's, which only operators may.
pub async fn list(tx: &mut Tx, actor: &Actor, filter: InvoiceFilter, limit: i64, offset: i64) -> Result<InvoicePage> {
    actor.require(filter.tenant.map_or(Permission::Operate, Permission::View))?;
    let invoices = store::invoices(tx, filter, limit.clamp(1, MAX_PAGE), offset.max(0)).await?;
    Ok(InvoicePage { total: store::count_invoices(tx, filter).await?, invoices })
}

/// One invoice with its lines.
pub async fn get(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: InvoiceId) -> Result<(Invoice, Vec<InvoiceLine>)> {
    actor.require(Permission::View(tenant))?;
    let invoice = store::invoice(tx, tenant, id).await?.ok_or_else(|| Error::not_found("This invoice"))?;
    let lines = store::lines(tx, tenant, id).await?;
    Ok((invoice, lines))
}

/// Marks an invoice as paid by hand. `reference` says how: a bank transfer's number, for example.
pub async fn mark_paid(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: InvoiceId, reference: &str, now: Timestamp) -> Result<Invoice> {
    actor.require(Permission::Operate)?;
    let reference = note("reference", reference, "Say how it was paid, such as the number of the bank transfer.")?;
    let after = move_to(tx, actor, tenant, id, InvoiceState::Paid, &reference, now).await?;
    store::set_paid(tx, tenant, id, &reference, now).await?;
    Ok(Invoice { paid_at: Some(now), paid_reference: Some(reference), ..after })
}

/// Takes an invoice back. It keeps its number.
pub async fn void(tx: &mut Tx, actor: &Actor, tenant: TenantId, id: InvoiceId, reason: &str, now: Timestamp) -> Result<Invoice> {
    actor.require(Permission::Operate)?;
    let reason = note("reason", reason, "Say why the invoice is taken back.")?;
    move_to(tx, actor, tenant, id, InvoiceState::Void, &reason, now).await
}

/// Gives an invoice that is past due up.
pub async fn mark_uncollectible(
    tx: &mut Tx,
    actor: &Actor,
    tenant: TenantId,
    id: InvoiceId,
    reason: &str,
    now: Timestamp,
) -> Result<Invoice> {
    actor.require(Permission::Operate)?;
    let reason = note("reason", reason, "Say why the invoice is given up.")?;
    move_to(tx, actor, tenant, id, InvoiceState::Uncollectible, &reason, now).await
}

/// Moves every invoice that is due and not paid to `past_due`, and answers how many.
pub async fn mark_past_due(tx: &mut Tx, actor: &Actor, now: Timestamp) -> Result<usize> {
    actor.require(Permission::Operate)?;
    let due = store::lock_due(tx, now).await?;
    for (tenant, id) in &due {
        move_to(tx, actor, *tenant, *id, InvoiceState::PastDue, "due date passed", now).await?;
    }
    Ok(due.len())
}

/// Of a tenant's or everybody's open invoices: how many, and the sum per currency.
pub async fn open_totals(tx: &mut Tx, actor: &Actor, tenant: Option<TenantId>) -> Result<Vec<(i64, Money)>> {
    actor.require(tenant.map_or(Permission::Operate, Permission::View))?;
    store::open_totals(tx, tenant).await
}

async fn move_to(
    tx: &mut Tx,
    actor: &Actor,
    tenant: TenantId,
    id: InvoiceId,
    next: InvoiceState,
    why: &str,
    now: Timestamp,
) -> Result<Invoice> {
    store::lock_invoice(tx, tenant, id).await?;
    let before = store::invoice(tx, tenant, id).await?.ok_or_else(|| Error::not_found("This invoice"))?;
    if !before.state.may_become(next) {
        let message = format!("An invoice that is {} cannot become {}.", before.state.label().to_lowercase(), next.label().to_lowercase());
        return Err(Error::conflict(message));
    }
    store::set_state(tx, tenant, id, next).await?;
    let entry = audit::Entry {
        tenant: Some(tenant),
        action: action_of(next),
        target: id.to_string(),
        before: Some(json!({ "state": before.state })),
        after: Some(json!({ "state": next, "number": before.display_number(), "total": before.total, "note": why })),
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(Invoice { state: next, ..before })
}

const fn action_of(state: InvoiceState) -> &'static str {
    match state {
        InvoiceState::Draft => "invoice.drafted",
        InvoiceState::Finalized => "invoice.finalized",
        InvoiceState::Paid => "invoice.marked_paid",
        InvoiceState::PastDue => "invoice.became_past_due",
        InvoiceState::Uncollectible => "invoice.marked_uncollectible",
        InvoiceState::Void => "invoice.voided",
    }
}

fn note(field: &'static str, text: &str, missing: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::invalid(field, missing));
    }
    if text.chars().count() > 200 {
        return Err(Error::invalid(field, "Use at most 200 characters."));
    }
    Ok(text.to_owned())
}
