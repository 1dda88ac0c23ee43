//! `/admin/tenants`: what tenants use and pay, to be read only.

use askama::Template;
use axum::{
    Router,
    extract::{Path, Query},
    response::Html,
    routing::get,
};
use calendar::{Period, TimeZone};
use ids::TenantId;
use rating::Money;
use serde::Deserialize;

use super::{
    call::UserCall,
    cost::{self, CostView},
    failure::Failure,
    invoices::{InvoiceRow, PER_PAGE, Pages},
    shell::Shell,
    usage::ChartView,
};
use crate::{
    app::App,
    billing::{self, Account, InvoiceFilter},
    error::{Error, Result},
    usage::query::{self, Query as UsageQuery, Slot, Stack},
};

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new().route("/admin/tenants", get(index)).route("/admin/tenants/{tenant}", get(show))
}

/// A tenant as text.
#[derive(Debug, Clone)]
struct AccountView {
    account: Account,
    id: String,
    created: String,
    invoiced: Vec<(String, String)>,
    open: Vec<(String, String)>,
}

impl AccountView {
    fn new(account: Account) -> Self {
        let text = |amounts: &[Money]| {
            amounts.iter().map(|money| (money.round().amount().to_string(), money.currency().to_string())).collect::<Vec<_>>()
        };
        Self {
            id: account.tenant.to_string(),
            created: account.created_at.to_string(),
            invoiced: text(&account.invoiced),
            open: text(&account.open),
            account,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    page: Option<i64>,
    q: String,
}

#[derive(Template)]
#[template(path = "pages/admin/tenants/index.html")]
struct Index {
    shell: Shell,
    search: String,
    accounts: Vec<AccountView>,
    pages: Pages,
}

async fn index(mut call: UserCall, Query(params): Query<Params>) -> Result<Html<String>, Failure> {
    let offset = (params.page.unwrap_or(1).clamp(1, 100_000) - 1) * PER_PAGE;
    let (accounts, total) = billing::accounts(&mut call.tx, &call.actor, &params.q, PER_PAGE, offset, call.now).await?;
    let shell = call.shell("Tenants", "admin-tenants").await?;
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", &params.q).finish();
    let page = Index {
        shell,
        pages: Pages::new(&format!("/admin/tenants?{query}&page="), offset, accounts.len(), total),
        search: params.q,
        accounts: accounts.into_iter().map(AccountView::new).collect(),
    };
    Ok(Html(page.render()?))
}

#[derive(Template)]
#[template(path = "pages/admin/tenants/show.html")]
struct Show {
    shell: Shell,
    tenant: AccountView,
    chart: ChartView,
    costs: Vec<CostView>,
    invoices: Vec<InvoiceRow>,
}

async fn show(mut call: UserCall, Path(tenant): Path<TenantId>) -> Result<Html<String>, Failure> {
    let account = billing::account(&mut call.tx, &call.actor, tenant, call.now).await?;
    let zone: TimeZone = account.time_zone.parse().map_err(Error::internal)?;
    let days = std::time::Duration::from_secs(86_400 * (billing::account::RECENT_DAYS - 1));
    let range = Period { from: zone.start_of(zone.date_at(call.now.minus(days))), to: call.now };
    let question = UsageQuery { slot: Slot::Day, ..UsageQuery::new(tenant, range, zone) };
    let series = query::series(&mut call.tx, &call.actor, &question, Stack::Api).await?;
    let filter = InvoiceFilter { tenant: Some(tenant), ..InvoiceFilter::default() };
    let invoices = billing::invoice::list(&mut call.tx, &call.actor, filter, 12, 0).await?;
    let shell = call.shell(account.name.clone(), "admin-tenants").await?;
    let page = Show {
        shell,
        chart: ChartView::new(&series, &question.zone)?,
        costs: cost::views(&mut call.tx, &call.actor, tenant, call.now).await?,
        invoices: invoices.invoices.iter().map(InvoiceRow::new).collect::<Result<_>>()?,
        tenant: AccountView::new(account),
    };
    Ok(Html(page.render()?))
}
