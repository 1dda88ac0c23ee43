//! `/api/v1/invoices`.

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    billing::{Invoice, InvoiceKind, InvoiceLine, InvoiceState},
};

mod get;
mod list;
mod mark_paid;
mod mark_uncollectible;
mod void;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list::list_invoices))
        .routes(routes!(get::get_invoice))
        .routes(routes!(mark_paid::mark_invoice_paid))
        .routes(routes!(mark_uncollectible::mark_invoice_uncollectible))
        .routes(routes!(void::void_invoice))
}

fn shown(invoice: Invoice, lines: Option<Vec<InvoiceLine>>) -> portal_api::Invoice {
    let line = |line: InvoiceLine| portal_api::InvoiceLine {
        rate_card: line.rate_card,
        meter: line.meter,
        service_from: line.service.map(|service| service.from),
        service_to: line.service.map(|service| service.to),
        detail: line.detail,
    };
    portal_api::Invoice {
        id: invoice.id,
        tenant: invoice.tenant,
        kind: match invoice.kind {
            InvoiceKind::Period => portal_api::InvoiceKind::Period,
            InvoiceKind::Final => portal_api::InvoiceKind::Final,
            InvoiceKind::CreditNote => portal_api::InvoiceKind::CreditNote,
        },
        corrects: invoice.corrects,
        number: invoice.number.is_some().then(|| invoice.display_number()),
        subscription: invoice.subscription,
        plan_version: invoice.plan_version,
        period_from: invoice.period.from,
        period_to: invoice.period.to,
        state: match invoice.state {
            InvoiceState::Draft => portal_api::InvoiceState::Draft,
            InvoiceState::Finalized => portal_api::InvoiceState::Finalized,
            InvoiceState::Paid => portal_api::InvoiceState::Paid,
            InvoiceState::PastDue => portal_api::InvoiceState::PastDue,
            InvoiceState::Uncollectible => portal_api::InvoiceState::Uncollectible,
            InvoiceState::Void => portal_api::InvoiceState::Void,
        },
        subtotal: invoice.subtotal,
        tax: invoice.tax,
        total: invoice.total,
        finalized_at: invoice.finalized_at,
        due_at: invoice.due_at,
        paid_at: invoice.paid_at,
        lines: lines.map(|lines| lines.into_iter().map(line).collect()),
    }
}

const fn state_of(state: portal_api::InvoiceState) -> InvoiceState {
    match state {
        portal_api::InvoiceState::Draft => InvoiceState::Draft,
        portal_api::InvoiceState::Finalized => InvoiceState::Finalized,
        portal_api::InvoiceState::Paid => InvoiceState::Paid,
        portal_api::InvoiceState::PastDue => InvoiceState::PastDue,
        portal_api::InvoiceState::Uncollectible => InvoiceState::Uncollectible,
        portal_api::InvoiceState::Void => InvoiceState::Void,
    }
}
