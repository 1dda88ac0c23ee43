//! Billable over rolled up = rated = invoiced, for the closed periods of a subscription.

use ids::{InvoiceId, NamespaceId, SubscriptionId, TenantId};

use super::{
    finding::{Finding, Kind, Place, Scope},
    invoice_store as store, level_store as levels,
};
use crate::{billing, db::Tx, error::Result, identity::Actor, usage::partitions};

/// Compares all invoices of a subscription.
pub(super) async fn compare(tx: &mut Tx, actor: &Actor, of: (NamespaceId, SubscriptionId)) -> Result<(Scope, Vec<Finding>)> {
    let place = |invoice| Place { namespace: Some(of.0), subscription: Some(of.1), invoice: Some(invoice), ..Place::default() };
    let mut findings = Vec::new();
    for wrong in store::wrong_sums(tx, of.0, of.1).await? {
        let invoice = InvoiceId::from_uuid(wrong.id);
        let number = wrong.number.map(|number| number.to_string()).unwrap_or_default();
        findings.push(Finding {
            kind: Kind::InvoiceSum,
            subject: invoice.to_string(),
            at: Some(wrong.period_from),
            place: place(invoice),
            expected: wrong.lines,
            found: wrong.subtotal,
            detail: format!(
                "Invoice {number} ({invoice}) says {} and {} tax make {}; its lines sum to {}, and what explains them to {}.",
                wrong.subtotal, wrong.tax, wrong.total, wrong.lines, wrong.explained
            ),
        });
    }
    let mut wrong_units = store::wrong_units(tx, of.0, of.1).await?;
    let meters = levels::meters(tx).await?;
    if !meters.is_empty() {
        let rows_from = partitions::rows_from(tx).await?;
        wrong_units.extend(levels::wrong_units(tx, of, &meters, rows_from).await?);
    }
    for wrong in wrong_units {
        let invoice = InvoiceId::from_uuid(wrong.invoice_id);
        findings.push(Finding {
            kind: Kind::InvoiceUnits,
            subject: format!("{invoice} {}", wrong.card),
            at: Some(wrong.period_start),
            place: place(invoice),
            expected: wrong.rolled,
            found: wrong.invoiced,
            detail: format!(
                "Subscription {}, period from {}, {}: {} billable units are rolled up, {} of them were accepted in time for the invoice, and {} are invoiced.",
                of.1,
                wrong.period_start,
                wrong.card,
                wrong.rolled.normalize(),
                wrong.in_time.normalize(),
                wrong.invoiced.normalize()
            ),
        });
    }
    for wrong in billing::rerate::wrong_rates(tx, actor, TenantId::from_uuid(of.0.uuid()), of.1).await? {
        findings.push(Finding {
            kind: Kind::InvoiceRate,
            subject: format!("{} {}", wrong.invoice, wrong.card),
            at: Some(wrong.period.from),
            place: place(wrong.invoice),
            expected: wrong.rated,
            found: wrong.invoiced,
            detail: format!(
                "Invoice {}, {}: its units cost {} by the plan version, and it bills {}.",
                wrong.invoice, wrong.card, wrong.rated, wrong.invoiced
            ),
        });
    }
    Ok((Scope::whole(format!("invoices {} {}", of.0, of.1)), findings))
}
