//! `/invoices`: what was charged, and why.

use askama::Template;
use axum::{
    Router,
    extract::{Path, Query},
    response::Html,
    routing::get,
};
use calendar::TimeZone;
use ids::InvoiceId;
use serde::Deserialize;

use super::{call::Call, charges::LineView, cost, failure::Failure, shell::Shell};
use crate::{
    app::App,
    billing::{self, Invoice, InvoiceFilter, InvoiceKind, InvoiceLine, InvoiceState},
    db::Tx,
    error::{Error, Result},
    identity::Actor,
    usage::{
        corrections::{self, Correction},
        query::{self, Breakdown, Charge},
    },
};

/// Invoices on one page.
pub(super) const PER_PAGE: i64 = 25;

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new().route("/invoices", get(index)).route("/invoices/{invoice}", get(show))
}

/// An invoice in a list.
#[derive(Debug, Clone)]
pub struct InvoiceRow {
    /// Its id.
    pub id: String,
    /// The tenant's id.
    pub tenant: String,
    /// The tenant's name.
    pub tenant_name: String,
    /// `INV-000042`.
    pub number: String,
    /// Whether it gives money back.
    pub is_credit_note: bool,
    /// The subscription's id.
    pub subscription: String,
    /// The application's name.
    pub application: String,
    /// The plan's name.
    pub plan: String,
    /// First day of the period.
    pub from: String,
    /// Last day of the period.
    pub last: String,
    /// What is to be paid.
    pub total: String,
    /// In which currency.
    pub currency: String,
    /// Where it stands.
    pub state: InvoiceState,
    /// The last day to pay, while money is awaited.
    pub due: Option<String>,
}

impl InvoiceRow {
    /// An invoice as text.
    pub fn new(invoice: &Invoice) -> Result<Self> {
        let zone: TimeZone = invoice.time_zone.parse().map_err(Error::internal)?;
        let (from, last) = cost::days(invoice.period, &zone);
        Ok(Self {
            id: invoice.id.to_string(),
            tenant: invoice.tenant.to_string(),
            tenant_name: invoice.tenant_name.clone(),
            number: invoice.display_number(),
            is_credit_note: invoice.kind == InvoiceKind::CreditNote,
            subscription: invoice.subscription.to_string(),
            application: invoice.application_name.clone(),
            plan: invoice.plan_name.clone(),
            from,
            last,
            total: invoice.total.amount().to_string(),
            currency: invoice.total.currency().to_string(),
            state: invoice.state,
            due: invoice.due_at.filter(|_| invoice.state.is_open()).map(|due| zone.date_at(due).to_string()),
        })
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageParams {
    pub page: Option<i64>,
    pub state: String,
}

impl PageParams {
    pub fn offset(&self) -> i64 {
        (self.page.unwrap_or(1).clamp(1, 100_000) - 1) * PER_PAGE
    }
}

/// The links of a list's pages.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    pub summary: String,
    pub previous: String,
    pub next: String,
}

impl Pages {
    /// `path` ends where the page's number is appended, such as `/invoices?page=`.
    pub fn new(path: &str, offset: i64, shown: usize, total: i64) -> Self {
        let shown = i64::try_from(shown).unwrap_or(0);
        let page = offset / PER_PAGE + 1;
        Self {
            summary: if shown == 0 { format!("0 of {total}") } else { format!("{} to {} of {total}", offset + 1, offset + shown) },
            previous: if page > 1 { format!("{path}{}", page - 1) } else { String::new() },
            next: if offset + shown < total { format!("{path}{}", page + 1) } else { String::new() },
        }
    }
}

#[derive(Template)]
#[template(path = "pages/invoices/index.html")]
struct Index {
    shell: Shell,
    invoices: Vec<InvoiceRow>,
    open: Vec<(i64, String, String)>,
    costs: Vec<cost::CostView>,
    pages: Pages,
}

async fn index(mut call: Call, Query(params): Query<PageParams>) -> Result<Html<String>, Failure> {
    let shell = call.shell("Invoices", "invoices").await?;
    let filter = InvoiceFilter { tenant: Some(call.tenant), ..InvoiceFilter::default() };
    let page = billing::invoice::list(&mut call.tx, &call.actor, filter, PER_PAGE, params.offset()).await?;
    let open = billing::invoice::open_totals(&mut call.tx, &call.actor, Some(call.tenant)).await?;
    let index = Index {
        shell,
        pages: Pages::new("/invoices?page=", params.offset(), page.invoices.len(), page.total),
        invoices: page.invoices.iter().map(InvoiceRow::new).collect::<Result<_>>()?,
        open: open.into_iter().map(|(count, money)| (count, money.round().amount().to_string(), money.currency().to_string())).collect(),
        costs: cost::views(&mut call.tx, &call.actor, call.tenant, call.now).await?,
    };
    Ok(Html(index.render()?))
}

/// An invoice with all that explains it; also shown to operators.
#[derive(Debug, Clone)]
pub(super) struct InvoiceView {
    pub row: InvoiceRow,
    pub version: i32,
    pub issued: Option<String>,
    pub due_on: Option<String>,
    pub paid: Option<(String, String)>,
    pub lines: Vec<ExplainedLine>,
    pub subtotal: String,
    pub tax: Option<String>,
    pub zone: String,
    /// Of a credit note: what it corrects, and why.
    pub credit: Option<Credit>,
}

/// What a credit note corrects, and why.
#[derive(Debug, Clone)]
pub(super) struct Credit {
    /// The number of the invoice.
    pub corrects: Option<String>,
    /// The corrections; none where usage that came late made the period cheaper.
    pub corrections: Vec<Correction>,
}

impl Credit {
    async fn load(tx: &mut Tx, actor: &Actor, invoice: &Invoice) -> Result<Option<Self>> {
        if invoice.kind != InvoiceKind::CreditNote {
            return Ok(None);
        }
        let corrects = match invoice.corrects {
            Some(id) => {
                let (corrected, _) = billing::invoice::get(tx, actor, invoice.tenant, id).await?;
                Some(corrected.display_number())
            }
            None => None,
        };
        let corrections = corrections::of_credit_note(tx, actor, invoice.tenant, invoice.id).await?;
        Ok(Some(Self { corrects, corrections }))
    }
}

/// A line and the usage behind it.
#[derive(Debug, Clone)]
pub(super) struct ExplainedLine {
    pub line: LineView,
    pub behind: Option<Breakdown>,
}

impl InvoiceView {
    pub async fn load(tx: &mut Tx, actor: &Actor, invoice: &Invoice, lines: &[InvoiceLine]) -> Result<Self> {
        let zone: TimeZone = invoice.time_zone.parse().map_err(Error::internal)?;
        let mut explained = Vec::with_capacity(lines.len());
        for line in lines {
            let mut shown = LineView::new(&line.detail, &line.unit);
            let behind = match line.meter {
                Some(meter) => {
                    let charge = Charge {
                        tenant: invoice.tenant,
                        subscription: invoice.subscription,
                        period_start: line.service.map_or(invoice.period.from, |service| service.from),
                        meter,
                        zone: zone.clone(),
                    };
                    shown.corrections = corrections::of_charge(tx, actor, &charge).await?;
                    Some(query::breakdown(tx, actor, &charge).await?)
                }
                None => None,
            };
            explained.push(ExplainedLine { line: shown, behind });
        }
        let day = |at| zone.date_at(at).to_string();
        Ok(Self {
            row: InvoiceRow::new(invoice)?,
            version: invoice.version,
            issued: invoice.finalized_at.map(day),
            due_on: invoice.due_at.map(day),
            paid: invoice.paid_at.map(|at| (day(at), invoice.paid_reference.clone().unwrap_or_default())),
            lines: explained,
            subtotal: invoice.subtotal.amount().to_string(),
            tax: (!invoice.tax.is_zero()).then(|| invoice.tax.amount().to_string()),
            zone: zone.name().to_owned(),
            credit: Credit::load(tx, actor, invoice).await?,
        })
    }
}

#[derive(Template)]
#[template(path = "pages/invoices/show.html")]
struct Show {
    shell: Shell,
    invoice: InvoiceView,
}

/// What its page is called.
pub(super) fn title(invoice: &Invoice) -> String {
    let what = match invoice.kind {
        InvoiceKind::Period => "Invoice",
        InvoiceKind::Final => "Final invoice",
        InvoiceKind::CreditNote => "Credit note",
    };
    format!("{what} {}", invoice.display_number())
}

async fn show(mut call: Call, Path(id): Path<InvoiceId>) -> Result<Html<String>, Failure> {
    let (invoice, lines) = billing::invoice::get(&mut call.tx, &call.actor, call.tenant, id).await?;
    let shell = call.shell(title(&invoice), "invoices").await?;
    let invoice = InvoiceView::load(&mut call.tx, &call.actor, &invoice, &lines).await?;
    Ok(Html(Show { shell, invoice }.render()?))
}
