//! `/admin/invoices`: everybody's invoices, marked as paid, taken back or given up by hand.

use askama::Template;
use axum::{
    Router,
    extract::{Path, Query},
    response::{Html, Redirect},
    routing::{get, post},
};
use ids::{InvoiceId, TenantId};
use serde::Deserialize;

use super::{
    call::UserCall,
    failure::Failure,
    form::Posted,
    invoices::{self, InvoiceRow, InvoiceView, PER_PAGE, PageParams, Pages},
    shell::Shell,
};
use crate::{
    app::App,
    billing::{self, InvoiceFilter, InvoiceState, invoice},
    error::{Error, Kind, Result},
    identity::Permission,
};

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/admin/invoices", get(index))
        .route("/admin/tenants/{tenant}/invoices/{invoice}", get(show))
        .route("/admin/tenants/{tenant}/invoices/{invoice}/paid", post(mark_paid))
        .route("/admin/tenants/{tenant}/invoices/{invoice}/void", post(void))
        .route("/admin/tenants/{tenant}/invoices/{invoice}/uncollectible", post(give_up))
}

#[derive(Template)]
#[template(path = "pages/admin/invoices/index.html")]
struct Index {
    shell: Shell,
    state: String,
    invoices: Vec<InvoiceRow>,
    open: Vec<(i64, String, String)>,
    pages: Pages,
}

async fn index(mut call: UserCall, Query(params): Query<PageParams>) -> Result<Html<String>, Failure> {
    let state = if params.state.is_empty() { None } else { Some(InvoiceState::parse(&params.state)?) };
    let filter = InvoiceFilter { state, ..InvoiceFilter::default() };
    let page = invoice::list(&mut call.tx, &call.actor, filter, PER_PAGE, params.offset()).await?;
    let open = invoice::open_totals(&mut call.tx, &call.actor, None).await?;
    let shell = call.shell("Invoices", "admin-invoices").await?;
    let index = Index {
        shell,
        pages: Pages::new(&format!("/admin/invoices?state={}&page=", params.state), params.offset(), page.invoices.len(), page.total),
        invoices: page.invoices.iter().map(InvoiceRow::new).collect::<Result<_>>()?,
        open: open.into_iter().map(|(count, money)| (count, money.round().amount().to_string(), money.currency().to_string())).collect(),
        state: params.state,
    };
    Ok(Html(index.render()?))
}

#[derive(Template)]
#[template(path = "pages/admin/invoices/show.html")]
struct Show {
    shell: Shell,
    invoice: InvoiceView,
    may_be_paid: bool,
    may_be_void: bool,
    may_be_given_up: bool,
}

impl Show {
    fn action(&self, name: &str) -> String {
        format!("/admin/tenants/{}/invoices/{}/{name}", self.invoice.row.tenant, self.invoice.row.id)
    }
}

async fn show(mut call: UserCall, Path((tenant, id)): Path<(TenantId, InvoiceId)>) -> Result<Html<String>, Failure> {
    call.actor.require(Permission::Operate)?;
    let (invoice, lines) = invoice::get(&mut call.tx, &call.actor, tenant, id).await?;
    let shell = call.shell(invoices::title(&invoice), "admin-invoices").await?;
    let page = Show {
        shell,
        may_be_paid: invoice.state.may_become(InvoiceState::Paid),
        may_be_void: invoice.state.may_become(InvoiceState::Void),
        may_be_given_up: invoice.state.may_become(InvoiceState::Uncollectible),
        invoice: InvoiceView::load(&mut call.tx, &call.actor, &invoice, &lines).await?,
    };
    Ok(Html(page.render()?))
}

#[derive(Debug, Deserialize)]
struct Note {
    #[serde(default)]
    note: String,
    #[serde(default)]
    confirm: String,
}

impl Note {
    fn check_confirmed(&self) -> Result<()> {
        if self.confirm == "yes" { Ok(()) } else { Err(Error::invalid("confirm", "Tick the box to confirm.")) }
    }
}

type InvoicePath = Path<(TenantId, InvoiceId)>;

async fn mark_paid(Path((tenant, id)): InvoicePath, Posted(mut call, input): Posted<UserCall, Note>) -> Result<Redirect, Failure> {
    let done = invoice::mark_paid(&mut call.tx, &call.actor, tenant, id, &input.note, call.now).await;
    answer(call, tenant, id, done, "is marked as paid.").await
}

async fn void(Path((tenant, id)): InvoicePath, Posted(mut call, input): Posted<UserCall, Note>) -> Result<Redirect, Failure> {
    let done = match input.check_confirmed() {
        Ok(()) => invoice::void(&mut call.tx, &call.actor, tenant, id, &input.note, call.now).await,
        Err(error) => Err(error),
    };
    answer(call, tenant, id, done, "is void. It keeps its number.").await
}

async fn give_up(Path((tenant, id)): InvoicePath, Posted(mut call, input): Posted<UserCall, Note>) -> Result<Redirect, Failure> {
    let done = match input.check_confirmed() {
        Ok(()) => invoice::mark_uncollectible(&mut call.tx, &call.actor, tenant, id, &input.note, call.now).await,
        Err(error) => Err(error),
    };
    answer(call, tenant, id, done, "is given up.").await
}

/// Back to the invoice, with what was done or what must be mended.
async fn answer(call: UserCall, tenant: TenantId, id: InvoiceId, done: Result<billing::Invoice>, words: &str) -> Result<Redirect, Failure> {
    let page = format!("/admin/tenants/{tenant}/invoices/{id}");
    match done {
        Ok(invoice) => Ok(call.commit_and_go(&page, "success", format!("Invoice {} {words}", invoice.display_number())).await?),
        Err(error) if matches!(error.kind, Kind::Invalid | Kind::Conflict) => {
            let message = error.fields.first().map_or_else(|| error.public.to_string(), |field| field.message.clone());
            Ok(call.commit_and_go(&page, "error", message).await?)
        }
        Err(error) => Err(error.into()),
    }
}
