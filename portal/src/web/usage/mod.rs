//! `/usage`: calls and units over time, what they cost so far, and the export.

mod params;
mod view;

use askama::Template;
use axum::{
    Router,
    body::Body,
    extract::Query,
    http::header,
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};

pub use params::UsageParams;
pub use view::{ChartView, LatencyView, RouteView, TotalsView};

use super::{
    call::Call,
    cost::{self, CostView},
    failure::Failure,
    shell::Shell,
};
use crate::{
    app::App,
    error::{Error, Kind, Result},
    usage::{
        export,
        query::{self, Facets, Stack},
    },
};

const TOP_ROUTES: i64 = 10;

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/usage", get(index))
        .route("/usage/live", get(live))
        .route("/usage/first", get(first))
        .route("/usage.csv", get(csv))
}

/// The part that is kept up to date.
#[derive(Template)]
#[template(path = "pages/usage/live.html")]
struct Live {
    params: UsageParams,
    chart: ChartView,
    by_status: bool,
    totals: TotalsView,
    latency: Option<LatencyView>,
    routes: Vec<RouteView>,
    costs: Vec<CostView>,
    zone: String,
}

impl Live {
    fn stacked(&self, by: &str) -> String {
        self.params.query_with(|params| params.stack = by.to_owned())
    }
}

#[derive(Template)]
#[template(path = "pages/usage/index.html")]
struct Index {
    shell: Shell,
    params: UsageParams,
    facets: Facets,
    problem: String,
    is_live: bool,
    poll_url: String,
    csv_url: String,
    /// The rendered [`Live`]; absent while nothing was ever used.
    live: Option<String>,
    curl: Option<String>,
}

/// What is shown until the first call.
#[derive(Template)]
#[template(path = "pages/usage/first.html")]
struct First {
    curl: Option<String>,
}

impl Index {
    fn query_for_range(&self, range: &str) -> String {
        self.params.query_with(|params| {
            params.range = range.to_owned();
            params.from.clear();
            params.to.clear();
        })
    }
}

async fn index(mut call: Call, Query(params): Query<UsageParams>) -> Result<Html<String>, Failure> {
    let shell = call.shell("Usage", "usage").await?;
    let (question, problem) = match question(&mut call, &params).await {
        Ok(question) => (question, String::new()),
        Err(error) if error.kind == Kind::Invalid => {
            let message = error.fields.first().map_or_else(|| error.public.to_string(), |field| field.message.clone());
            (question(&mut call, &UsageParams::default()).await?, message)
        }
        Err(error) => return Err(error.into()),
    };
    let any = query::any(&mut call.tx, &call.actor, call.tenant).await?;
    let live = if any { Some(render_live(&mut call, &params, &question).await?) } else { None };
    let page = Index {
        shell,
        facets: query::facets(&mut call.tx, &call.actor, call.tenant).await?,
        problem,
        is_live: params.is_live(question.range, call.now),
        poll_url: format!("/usage/live?{}", params.query_with(|_| {})),
        csv_url: format!("/usage.csv?{}", params.query_with(|_| {})),
        live,
        curl: sample_curl(&mut call).await?,
        params,
    };
    Ok(Html(page.render()?))
}

/// What stands in [`sample_curl`] where the key belongs.
pub(super) const KEY_TO_FILL_IN: &str = "YOUR_API_KEY";

/// A call that works once the key is filled in. A path's parameters are left for the reader to replace.
pub(super) async fn sample_curl(call: &mut Call) -> Result<Option<String>> {
    let path = query::sample_path(&mut call.tx, &call.actor, call.tenant).await?;
    let base = call.app.config.gateway_url.as_str().trim_end_matches('/');
    Ok(path.map(|path| format!("curl '{base}{path}' \\\n  -H 'x-api-key: {KEY_TO_FILL_IN}'")))
}

/// The page asks until there is usage; the redirect makes it load itself again.
async fn first(mut call: Call) -> Result<Response, Failure> {
    if query::any(&mut call.tx, &call.actor, call.tenant).await? {
        return Ok(Redirect::to("/usage").into_response());
    }
    let first = First { curl: sample_curl(&mut call).await? };
    Ok(Html(first.render()?).into_response())
}

async fn live(mut call: Call, Query(params): Query<UsageParams>) -> Result<Html<String>, Failure> {
    let question = question(&mut call, &params).await?;
    Ok(Html(render_live(&mut call, &params, &question).await?))
}

async fn csv(mut call: Call, Query(params): Query<UsageParams>) -> Result<Response, Failure> {
    let question = question(&mut call, &params).await?;
    let day = |at| question.zone.date_at(at).to_string();
    let last = question.range.to.minus(std::time::Duration::from_secs(1));
    let name = format!("attachment; filename=\"usage-{}-{}.csv\"", day(question.range.from), day(last));
    let pool = call.app.pool.clone();
    let body = Body::from_stream(export::csv(pool, &call.actor, question)?);
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()), (header::CONTENT_DISPOSITION, name)], body)
        .into_response())
}

async fn question(call: &mut Call, params: &UsageParams) -> Result<query::Query> {
    let zone = query::zone_of(&mut call.tx, &call.actor, call.tenant).await?;
    let period =
        if params.range() == "period" { cost::running_period(&mut call.tx, &call.actor, call.tenant, call.now).await? } else { None };
    params.query(call.tenant, zone, period, call.now)
}

async fn render_live(call: &mut Call, params: &UsageParams, question: &query::Query) -> Result<String> {
    let (tx, actor) = (&mut call.tx, &call.actor);
    let stack = params.stack();
    let query::Overview { series, totals, routes } = query::overview(tx, actor, question, stack, TOP_ROUTES).await?;
    let live = Live {
        chart: ChartView::new(&series, &question.zone)?,
        by_status: stack == Stack::Status,
        totals: TotalsView::new(&totals),
        latency: query::latency(tx, actor, question).await?.map(LatencyView::new),
        routes: view::routes(routes),
        costs: cost::views(tx, actor, call.tenant, call.now).await?,
        zone: question.zone.name().to_owned(),
        params: params.clone(),
    };
    live.render().map_err(Error::from)
}
