//! `/overview`: where a tenant stands, and what a new one does next.

use std::collections::BTreeMap;

use askama::Template;
use axum::{Router, response::Html, routing::get};
use calendar::Period;
use rating::Money;

use super::{
    call::Call,
    cost::CostView,
    failure::Failure,
    invoices::InvoiceRow,
    shell::Shell,
    usage::{self, ChartView, TotalsView},
};
use crate::{
    app::App,
    billing::{self, InvoiceFilter, Preview},
    entitlements::{self, QuotaStatus},
    error::{Error, Result},
    identity::Permission,
    subscriptions::{self, Checklist},
    usage::query::{self, Query, Slot, Stack},
};

const RECENT_INVOICES: i64 = 5;
/// The use of a quota from which on it is shown as a warning, in percent.
const NEARLY_USED_UP: u32 = 80;

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new().route("/overview", get(index)).route("/overview/live", get(live))
}

#[derive(Template)]
#[template(path = "pages/overview/index.html")]
struct Index {
    shell: Shell,
    first_name: String,
    live: String,
}

#[derive(Template)]
#[template(path = "pages/overview/live.html")]
struct Live {
    may_change: bool,
    steps: Checklist,
    curl: Option<String>,
    has_history: bool,
    chart: ChartView,
    today: TotalsView,
    totals: Vec<(String, String)>,
    projected: Vec<(String, String)>,
    open: Vec<(i64, String, String)>,
    costs: Vec<CostView>,
    quotas: Vec<QuotaView>,
    invoices: Vec<InvoiceRow>,
}

/// A quota as text.
struct QuotaView {
    label: String,
    used: String,
    limit: String,
    percent: u32,
    tone: &'static str,
    note: &'static str,
}

impl QuotaView {
    fn new(preview: &Preview, quota: &QuotaStatus) -> Self {
        let percent = quota.percent_used();
        let is_hard = quota.enforcement == ::quota::Enforcement::Hard;
        let (tone, note) = match percent {
            100.. if is_hard => ("error", "Used up: further calls are refused until the next period."),
            100.. => ("warning", "Beyond the quota: calls go on and are billed."),
            NEARLY_USED_UP.. => ("warning", ""),
            _ => ("", ""),
        };
        Self {
            label: format!("{}, {}", preview.subscription.application_name, quota.meter_name.to_lowercase()),
            used: quota.used.to_string(),
            limit: quota.limit.to_string(),
            percent,
            tone,
            note,
        }
    }
}

async fn index(mut call: Call) -> Result<Html<String>, Failure> {
    let shell = call.shell("Overview", "overview").await?;
    let first_name = call.session.user_name.split_whitespace().next().unwrap_or_default().to_owned();
    let live = render_live(&mut call).await?;
    Ok(Html(Index { shell, first_name, live }.render()?))
}

async fn live(mut call: Call) -> Result<Html<String>, Failure> {
    Ok(Html(render_live(&mut call).await?))
}

async fn render_live(call: &mut Call) -> Result<String> {
    let curl = usage::sample_curl(call).await?;
    let (tx, actor, tenant, now) = (&mut call.tx, &call.actor, call.tenant, call.now);
    let zone = query::zone_of(tx, actor, tenant).await?;
    let end = now.floor_quarter_hour().plus(std::time::Duration::from_secs(900));
    let day = Query {
        slot: Slot::Hour,
        ..Query::new(tenant, Period { from: end.minus(std::time::Duration::from_secs(86_400)), to: end }, zone.clone())
    };
    let today = Query::new(tenant, Period { from: zone.start_of(zone.date_at(now)), to: end }, zone);
    let previews = billing::previews(tx, actor, tenant, now).await?;
    let mut quotas = Vec::new();
    for preview in previews.iter().filter(|preview| preview.subscription.canceled_at.is_none()) {
        let status = entitlements::quota_status(tx, tenant, preview.subscription.id, now).await?;
        quotas.extend(status.iter().map(|quota| QuotaView::new(preview, quota)));
    }
    let filter = InvoiceFilter { tenant: Some(tenant), ..InvoiceFilter::default() };
    let recent = billing::invoice::list(tx, actor, filter, RECENT_INVOICES, 0).await?;
    let open = billing::invoice::open_totals(tx, actor, Some(tenant)).await?;
    let live = Live {
        may_change: actor.require(Permission::Develop(tenant)).is_ok(),
        steps: subscriptions::getting_started(tx, actor, tenant).await?,
        curl,
        has_history: query::any(tx, actor, tenant).await?,
        chart: ChartView::new(&query::series(tx, actor, &day, Stack::Api).await?, &day.zone)?,
        today: TotalsView::new(&query::totals(tx, actor, &today).await?),
        totals: sums(previews.iter().map(|preview| preview.total))?,
        projected: if previews.iter().any(|preview| preview.projected.is_none()) {
            Vec::new()
        } else {
            sums(previews.iter().filter_map(|preview| preview.projected))?
        },
        open: open.into_iter().map(|(count, money)| (count, money.round().amount().to_string(), money.currency().to_string())).collect(),
        costs: previews.iter().map(CostView::new).collect(),
        quotas,
        invoices: recent.invoices.iter().map(InvoiceRow::new).collect::<Result<_>>()?,
    };
    live.render().map_err(Error::from)
}

/// The sum of each currency, as text.
fn sums(amounts: impl Iterator<Item = Money>) -> Result<Vec<(String, String)>> {
    let mut sums: BTreeMap<String, Money> = BTreeMap::new();
    for amount in amounts {
        let currency = amount.currency().to_string();
        let sum = sums.get(&currency).copied().unwrap_or(Money::zero(amount.currency()));
        sums.insert(currency, sum.checked_add(amount).map_err(Error::internal)?);
    }
    Ok(sums.into_iter().map(|(currency, sum)| (sum.round().amount().to_string(), currency)).collect())
}
