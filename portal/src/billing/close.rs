//! Periods into invoices. One transaction a period: lock the subscription, rate, write, number, finalize, move on.

use std::time::Duration;

use calendar::{Period, Timestamp};
use ids::{InvoiceId, SubscriptionId, TenantId};
use rating::Money;
use serde_json::json;

use super::{
    InvoiceState,
    charges::{Charge, PeriodFacts},
    late::{self, LateCharge},
    store::{self, InvoiceKind, NewInvoice},
    subscription::BilledSubscription,
    subscription_store,
};
use crate::{
    audit,
    db::Tx,
    error::{Error, Result},
    identity::{Actor, Permission},
    usage::watermark,
};

/// How long after a period's end it is closed: batches of usage that were on their way then still count.
pub const COLLECTION_CUTOFF: Duration = Duration::from_secs(3600);
/// How long after its issue an invoice is to be paid.
pub const PAYMENT_TERM: Duration = Duration::from_secs(14 * 86_400);
/// What is noted where nothing was to be paid.
pub const NOTHING_DUE: &str = "Nothing due";

/// What a close did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// No period of the subscription is due, or the sums of its usage are not complete yet.
    NotDue,
    /// The period had neither fee nor use: it is closed without an invoice.
    Empty(Period),
    /// The invoice of the period.
    Invoice(InvoiceId),
}

/// Closes the earliest open period of a subscription, if its collection cutoff has passed.
///
/// Idempotent and safe beside others: the subscription's row is locked, and `open_from` is read under the lock.
pub async fn close_next(tx: &mut Tx, actor: &Actor, tenant: TenantId, subscription: SubscriptionId, now: Timestamp) -> Result<Closed> {
    actor.require(Permission::Operate)?;
    let Some(subscription) = subscription_store::lock_subscription(tx, tenant, subscription).await? else {
        return Err(Error::not_found("This subscription"));
    };
    let Some(period) = subscription.next_to_close() else { return Ok(Closed::NotDue) };
    if period.to.plus(COLLECTION_CUTOFF) > now {
        return Ok(Closed::NotDue);
    }
    if !watermark::is_past(tx, period.to.plus(COLLECTION_CUTOFF)).await? {
        // What was accepted in time counts; it is in the sums in a moment.
        return Ok(Closed::NotDue);
    }
    let facts = PeriodFacts::load(tx, actor, &subscription, period).await?;
    let charges = facts.rate(&facts.units, subscription.proration(period)?)?;
    // What earlier periods owe goes on this invoice, each as a line of its own.
    let late = late::pending(tx, actor, &subscription).await?;
    let closed = if charges.is_empty() && late.is_empty() {
        Closed::Empty(period)
    } else {
        let lines = charges.iter().chain(late.iter().map(|late| &late.charge));
        let total = Money::sum(facts.version().currency, lines.map(|charge| charge.line.total_money())).map_err(Error::internal)?;
        let document = Document { kind: InvoiceKind::Period, period, corrects: None, charges: &charges, late: &late };
        Closed::Invoice(issue(tx, actor, &subscription, &document, total, now).await?)
    };
    subscription_store::set_open_from(tx, tenant, subscription.id, period.to).await?;
    Ok(closed)
}

/// What is issued.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub kind: InvoiceKind,
    pub period: Period,
    /// The invoice that a credit note corrects.
    pub corrects: Option<InvoiceId>,
    /// The lines of the period.
    pub charges: &'a [Charge],
    /// Lines of earlier periods.
    pub late: &'a [LateCharge],
}

/// Writes a document with its lines, gives it the next number and finalizes it.
pub(super) async fn issue(
    tx: &mut Tx,
    actor: &Actor,
    subscription: &BilledSubscription,
    document: &Document<'_>,
    total: Money,
    now: Timestamp,
) -> Result<InvoiceId> {
    let id = InvoiceId::new();
    let (tenant, period) = (subscription.tenant, document.period);
    let invoice = NewInvoice {
        tenant,
        id,
        subscription: subscription.id,
        plan_version: subscription.plan_version,
        kind: document.kind,
        corrects: document.corrects,
        period,
        total,
    };
    store::insert_draft(tx, &invoice, now).await?;
    let own = document.charges.iter().map(|charge| (None, charge));
    let late = document.late.iter().map(|late| (Some(late.period), &late.charge));
    for (position, (service, charge)) in own.chain(late).enumerate() {
        store::insert_line(tx, tenant, id, i32::try_from(position).map_err(Error::internal)?, service, charge).await?;
    }
    // The number comes last: the one row of numbers is locked for no longer than the rest of the commit.
    let number = store::next_number(tx).await?;
    store::finalize(tx, tenant, id, number, now, now.plus(PAYMENT_TERM)).await?;
    // What is owed back stays open until somebody has given it back.
    if total.amount().is_zero() {
        store::set_state(tx, tenant, id, InvoiceState::Paid).await?;
        store::set_paid(tx, tenant, id, NOTHING_DUE, now).await?;
    }
    let entry = audit::Entry {
        tenant: Some(tenant),
        action: if document.kind == InvoiceKind::CreditNote { "credit_note.issued" } else { "invoice.finalized" },
        target: id.to_string(),
        before: None,
        after: Some(json!({ "number": number, "subscription": subscription.id, "period": period, "total": total })),
    };
    audit::record(tx, actor, entry, now).await?;
    Ok(id)
}

/// Subscriptions that may have a period to close, the longest waiting first. A superset: [`close_next`] decides by the calendar.
pub async fn due(
    tx: &mut Tx,
    actor: &Actor,
    after: Option<(TenantId, SubscriptionId)>,
    now: Timestamp,
) -> Result<Vec<(TenantId, SubscriptionId)>> {
    actor.require(Permission::Operate)?;
    subscription_store::maybe_due(tx, after, now.minus(COLLECTION_CUTOFF)).await
}
