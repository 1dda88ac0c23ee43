//! `/admin/reconciliation`: what was answered, recorded and billed, and where one is not the other.

use askama::Template;
use axum::{Router, response::Html, routing::get};

use super::{call::UserCall, failure::Failure, shell::Shell};
use crate::{
    app::App,
    error::Result,
    reconciliation::{self, Difference, StreamAccount},
};

/// How many differences the page names.
const SHOWN: i64 = 100;
/// How many of those that are resolved.
const SHOWN_RESOLVED: i64 = 20;

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new().route("/admin/reconciliation", get(index)).route("/admin/reconciliation/live", get(live))
}

/// What changes while the page is open.
#[derive(Template)]
#[template(path = "pages/admin/reconciliation/live.html")]
struct Live {
    open: i64,
    counts: Vec<(&'static str, i64)>,
    passed: String,
    compared_through: String,
    is_sweeping: bool,
    differences: Vec<DifferenceView>,
    resolved: Vec<DifferenceView>,
    streams: Vec<StreamView>,
    /// Over all streams: admitted, recorded, open, broken, on the way.
    sums: [String; 5],
}

#[derive(Template)]
#[template(path = "pages/admin/reconciliation/index.html")]
struct Index {
    shell: Shell,
    live: Live,
}

/// A difference as text.
struct DifferenceView {
    label: &'static str,
    detail: String,
    expected: String,
    found: String,
    first_seen: String,
    resolved: String,
    /// Where to look: a word and a link; empty if there is no page.
    place: (String, String),
}

impl DifferenceView {
    fn new(difference: &Difference) -> Self {
        let place = difference.place;
        let place = match (place.namespace, place.invoice, difference.gateway) {
            (Some(namespace), Some(invoice), _) => {
                let tenant = ids::TenantId::from_uuid(namespace.uuid());
                ("Invoice".to_owned(), format!("/admin/tenants/{tenant}/invoices/{invoice}"))
            }
            (Some(namespace), None, _) => {
                let name = difference.tenant_name.clone().unwrap_or_else(|| namespace.to_string());
                (name, format!("/admin/tenants/{}", ids::TenantId::from_uuid(namespace.uuid())))
            }
            (None, _, Some(gateway)) => ("Gateway".to_owned(), format!("/admin/gateways/{gateway}")),
            _ => (String::new(), String::new()),
        };
        Self {
            label: difference.kind.label(),
            detail: difference.detail.clone(),
            expected: difference.expected.to_string(),
            found: difference.found.to_string(),
            first_seen: difference.first_seen_at.to_string(),
            resolved: difference.resolved_at.map(|at| at.to_string()).unwrap_or_default(),
            place,
        }
    }
}

/// A stream as text.
struct StreamView {
    gateway: String,
    gateway_name: String,
    journal: String,
    stream: u16,
    admitted: u64,
    recorded: u64,
    open: String,
    broken: String,
    broken_numbers: String,
    on_the_way: String,
    pending: u64,
    reported: String,
    differences: u64,
}

impl StreamView {
    fn new(stream: &StreamAccount) -> Self {
        Self {
            gateway: stream.gateway.to_string(),
            gateway_name: stream.gateway_name.clone(),
            journal: stream.journal.to_string(),
            stream: stream.stream,
            admitted: stream.admitted,
            recorded: stream.recorded,
            open: stream.open.map(|open| open.to_string()).unwrap_or_default(),
            broken: stream.broken.map(|broken| broken.to_string()).unwrap_or_default(),
            broken_numbers: stream.broken_numbers.clone(),
            on_the_way: stream.on_the_way().to_string(),
            pending: stream.pending_segments,
            reported: stream.reported_at.map(|at| at.to_string()).unwrap_or_default(),
            differences: stream.differences,
        }
    }
}

async fn read(call: &mut UserCall) -> Result<Live> {
    let overview = reconciliation::overview(&mut call.tx, &call.actor).await?;
    let differences = reconciliation::differences(&mut call.tx, &call.actor, false, SHOWN, 0).await?;
    let resolved = reconciliation::differences(&mut call.tx, &call.actor, true, SHOWN_RESOLVED, 0).await?;
    let streams = &overview.streams;
    let sum = |of: fn(&StreamAccount) -> rust_decimal::Decimal| streams.iter().map(of).sum::<rust_decimal::Decimal>().to_string();
    Ok(Live {
        open: overview.open(),
        counts: overview.counts.iter().map(|(kind, count)| (kind.label(), *count)).collect(),
        passed: overview.progress.passed_at.map(|at| at.to_string()).unwrap_or_default(),
        compared_through: overview.progress.full_started_at.map(|at| at.to_string()).unwrap_or_default(),
        is_sweeping: overview.progress.sweep_started_at.is_some(),
        differences: differences.iter().map(DifferenceView::new).collect(),
        resolved: resolved.iter().map(DifferenceView::new).collect(),
        sums: [
            sum(|it| it.admitted.into()),
            sum(|it| it.recorded.into()),
            sum(|it| it.open.unwrap_or(0).into()),
            sum(|it| it.broken.unwrap_or_default()),
            sum(StreamAccount::on_the_way),
        ],
        streams: streams.iter().map(StreamView::new).collect(),
    })
}

async fn index(mut call: UserCall) -> Result<Html<String>, Failure> {
    let live = read(&mut call).await?;
    let shell = call.shell("Reconciliation", "admin-reconciliation").await?;
    Ok(Html(Index { shell, live }.render()?))
}

async fn live(mut call: UserCall) -> Result<Html<String>, Failure> {
    Ok(Html(read(&mut call).await?.render()?))
}
