//! The routes of a product: how each is limited and metered.

use std::collections::HashMap;

use askama::Template;
use axum::{
    extract::{Path, Query},
    response::{Html, IntoResponse, Response},
};
use gateway_control::{
    policy::{RouteMeter, TokenKind, UnitSource},
    units::Micros,
};
use ids::{MeterId, RouteId};

use super::{SearchQuery, traffic};
use crate::{
    catalog::{
        ApiProduct, Meter, api_product, meter,
        route::{self, Route, RouteSettings},
    },
    error::{Error, FieldError, Kind, Result},
    web::{belongs_on_form, call::UserCall, failure::Failure, form::Posted, form_status, no_error, shell::Shell},
};

/// Routes on one page.
const PER_PAGE: usize = 100;

/// Empty rows below the meters that a route has.
const SPARE_ROWS: usize = 2;

/// Where the units of a call may come from: the value in the form, and its words.
const SOURCES: [(&str, &str); 13] = [
    ("call", "One unit a call"),
    ("header", "A number in a header of the answer"),
    ("trailer", "A number in a trailer of the answer"),
    ("response_bytes", "Bytes of the answer's body"),
    ("messages", "Messages of a WebSocket or gRPC call"),
    ("seconds", "Seconds that the exchange lasted"),
    ("tokens_total", "LLM tokens: input and output"),
    ("tokens_input", "LLM tokens: input"),
    ("tokens_uncached_input", "LLM tokens: input without a cache"),
    ("tokens_cached_input", "LLM tokens: input from a cache"),
    ("tokens_cache_creation", "LLM tokens: input into a cache"),
    ("tokens_output", "LLM tokens: output"),
    ("tokens_reasoning", "LLM tokens: reasoning"),
];

#[derive(Template)]
#[template(path = "pages/admin/products/routes.html")]
struct IndexPage {
    shell: Shell,
    product: ApiProduct,
    query: String,
    rows: Vec<RouteRow>,
    summary: String,
    previous: String,
    next: String,
}

struct RouteRow {
    route: Route,
    meters: String,
    /// What its options do, in a few words.
    notes: Vec<String>,
}

pub(super) async fn index(mut call: UserCall, Path(slug): Path<String>, Query(search): SearchQuery) -> Result<Html<String>, Failure> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, &slug).await?;
    let meters = meter::meters(&mut call.tx).await?;
    let query: String = search.q.chars().take(200).collect();
    let mut routes = route::routes(&mut call.tx, product.id).await?;
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    routes.retain(|route| {
        let text = format!("{} {} {}", route.method, route.path, route.summary).to_lowercase();
        words.iter().all(|word| text.contains(word.as_str()))
    });
    let total = routes.len();
    let page = search.page.unwrap_or(1).clamp(1, total.div_ceil(PER_PAGE).max(1));
    let first = (page - 1) * PER_PAGE;
    let rows: Vec<RouteRow> = routes
        .into_iter()
        .skip(first)
        .take(PER_PAGE)
        .map(|route| RouteRow { meters: in_words(&route.settings, &meters), notes: traffic::notes(&route), route })
        .collect();
    let link = |page: usize| {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("q", &query).append_pair("page", &page.to_string()).finish();
        format!("/admin/products/{slug}/routes?{query}")
    };
    let summary = format!("{} to {} of {total}", first + usize::from(total > 0), first + rows.len());
    let previous = if page > 1 { link(page - 1) } else { String::new() };
    let next = if first + rows.len() < total { link(page + 1) } else { String::new() };
    let shell = call.shell(product.name.clone(), "admin-products").await?;
    Ok(Html(IndexPage { shell, product, query, rows, summary, previous, next }.render()?))
}

fn in_words(settings: &RouteSettings, meters: &[Meter]) -> String {
    if settings.meters.is_empty() {
        return "not metered".to_owned();
    }
    let name = |id: MeterId| meters.iter().find(|meter| meter.id == id).map_or("?", |meter| meter.name.as_str());
    settings.meters.iter().map(|meter| name(meter.meter)).collect::<Vec<_>>().join(", ")
}

/// A meter of a route, as it stands in the form.
#[derive(Debug, Default, Clone)]
struct MeterRow {
    meter: String,
    source: String,
    header: String,
    default_units: String,
    max_units: String,
}

impl MeterRow {
    fn of(meter: &RouteMeter) -> Self {
        let (source, header) = match &meter.source {
            UnitSource::Call => ("call", ""),
            UnitSource::Header { name } => ("header", name.as_str()),
            UnitSource::Trailer { name } => ("trailer", name.as_str()),
            UnitSource::ResponseBytes => ("response_bytes", ""),
            UnitSource::Messages => ("messages", ""),
            UnitSource::Seconds => ("seconds", ""),
            UnitSource::Tokens { kind } => (tokens_value(*kind), ""),
        };
        Self {
            meter: meter.meter.to_string(),
            source: source.to_owned(),
            header: header.to_owned(),
            default_units: meter.default_units.to_string(),
            max_units: meter.max_units.to_string(),
        }
    }

    fn read(&self, index: usize, problems: &mut Vec<FieldError>) -> Option<RouteMeter> {
        let mut wrong = |field: &str, message: &str| {
            problems.push(FieldError { field: format!("meters[{index}].{field}").into(), message: message.to_owned() });
        };
        let name = self.header.trim().to_lowercase();
        let source = match self.source.as_str() {
            "call" => UnitSource::Call,
            "header" => UnitSource::Header { name },
            "trailer" => UnitSource::Trailer { name },
            "response_bytes" => UnitSource::ResponseBytes,
            "messages" => UnitSource::Messages,
            "seconds" => UnitSource::Seconds,
            other => match TokenKind::ALL.into_iter().find(|kind| tokens_value(*kind) == other) {
                Some(kind) => UnitSource::Tokens { kind },
                None => {
                    wrong("source", "Choose where the units come from.");
                    UnitSource::Call
                }
            },
        };
        let mut units = |field: &str, text: &str| {
            let text = text.trim();
            let parsed: Result<Micros, _> = if text.is_empty() { Ok(Micros::ONE) } else { text.parse() };
            parsed.unwrap_or_else(|error| {
                wrong(field, &format!("{error}."));
                Micros::ONE
            })
        };
        let default_units = units("default_units", &self.default_units);
        let max_units = units("max_units", &self.max_units);
        let meter = self.meter.parse().map_err(|_| wrong("meter", "Choose a meter.")).ok()?;
        Some(RouteMeter { meter, source, default_units, max_units })
    }
}

/// The value in the form for tokens of a kind.
fn tokens_value(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Input => "tokens_input",
        TokenKind::UncachedInput => "tokens_uncached_input",
        TokenKind::CachedInput => "tokens_cached_input",
        TokenKind::CacheCreation => "tokens_cache_creation",
        TokenKind::Output => "tokens_output",
        TokenKind::Reasoning => "tokens_reasoning",
        TokenKind::Total => "tokens_total",
    }
}

#[derive(Debug, Default)]
struct RouteForm {
    rate_group: String,
    rows: Vec<MeterRow>,
    whole_product: bool,
}

impl RouteForm {
    fn of(settings: &RouteSettings) -> Self {
        Self {
            rate_group: settings.rate_group.clone().unwrap_or_default(),
            rows: settings.meters.iter().map(MeterRow::of).collect(),
            whole_product: false,
        }
    }

    /// Rows without a meter are empty ones.
    fn sent(fields: &HashMap<String, String>) -> Self {
        let text = |name: String| fields.get(&name).cloned().unwrap_or_default();
        let row = |index: usize| MeterRow {
            meter: text(format!("meter_{index}")),
            source: text(format!("source_{index}")),
            header: text(format!("header_{index}")),
            default_units: text(format!("default_units_{index}")),
            max_units: text(format!("max_units_{index}")),
        };
        let rows = (0..=20).map(row).filter(|row| !row.meter.is_empty()).collect();
        Self { rate_group: text("rate_group".to_owned()).trim().to_owned(), rows, whole_product: fields.contains_key("whole_product") }
    }

    fn read(&self) -> Result<RouteSettings> {
        let mut problems = Vec::new();
        let meters = self.rows.iter().enumerate().filter_map(|(index, row)| row.read(index, &mut problems)).collect();
        if !problems.is_empty() {
            return Err(Error { fields: problems, ..Error::new(Kind::Invalid, "Please correct the marked fields.") });
        }
        Ok(RouteSettings { rate_group: Some(self.rate_group.clone()).filter(|group| !group.is_empty()), meters })
    }
}

#[derive(Template)]
#[template(path = "pages/admin/products/route.html")]
struct ShowPage {
    shell: Shell,
    product: ApiProduct,
    route: Route,
    meters: Vec<Meter>,
    form: RouteForm,
    error: Error,
}

impl ShowPage {
    /// The message at a field of a meter's row.
    fn problem(&self, index: &usize, field: &str) -> &str {
        self.error.field(&format!("meters[{index}].{field}")).unwrap_or_default()
    }
}

pub(super) async fn show(mut call: UserCall, Path((slug, route)): Path<(String, RouteId)>) -> Result<Response, Failure> {
    let (product, route) = find(&mut call, &slug, route).await?;
    let form = RouteForm::of(&route.settings);
    show_page(call, product, route, form, no_error()).await
}

pub(super) async fn find(call: &mut UserCall, slug: &str, id: RouteId) -> Result<(ApiProduct, Route)> {
    let (product, _) = api_product::product(&mut call.tx, &call.actor, slug).await?;
    let route = route::route(&mut call.tx, product.id, id).await?;
    Ok((product, route))
}

async fn show_page(mut call: UserCall, product: ApiProduct, route: Route, mut form: RouteForm, error: Error) -> Result<Response, Failure> {
    let meters = meter::meters(&mut call.tx).await?;
    form.rows.extend(std::iter::repeat_n(MeterRow { source: "call".to_owned(), ..MeterRow::default() }, SPARE_ROWS));
    let status = form_status(&error);
    let shell = call.shell(format!("{} {}", route.method_text(), route.path_in_product(&product.slug)), "admin-products").await?;
    Ok((status, Html(ShowPage { shell, product, route, meters, form, error }.render()?)).into_response())
}

pub(super) async fn update(
    Path((slug, id)): Path<(String, RouteId)>,
    Posted(mut call, fields): Posted<UserCall, HashMap<String, String>>,
) -> Result<Response, Failure> {
    let (product, route) = find(&mut call, &slug, id).await?;
    let form = RouteForm::sent(&fields);
    let target = (!form.whole_product).then_some(id);
    let changed = match form.read() {
        Ok(settings) => route::update_routes(&mut call.tx, &call.actor, product.id, target, settings, call.now).await,
        Err(error) => Err(error),
    };
    match changed {
        Ok(1) => Ok(call.commit_and_go(&format!("/admin/products/{slug}/routes"), "success", "The route is saved.").await?.into_response()),
        Ok(count) => Ok(call
            .commit_and_go(&format!("/admin/products/{slug}/routes"), "success", format!("All {count} routes are saved."))
            .await?
            .into_response()),
        Err(error) if belongs_on_form(&error) => show_page(call, product, route, form, error).await,
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_that_is_offered_is_read_and_shown_again() {
        for (value, label) in SOURCES {
            let row = MeterRow {
                meter: MeterId::new().to_string(),
                source: value.to_owned(),
                header: "x-units".to_owned(),
                ..MeterRow::default()
            };
            let mut problems = Vec::new();
            let read = row.read(0, &mut problems).unwrap();
            assert!(problems.is_empty(), "{label}: {problems:?}");
            assert_eq!(MeterRow::of(&read).source, value, "{label}");
        }
        for kind in TokenKind::ALL {
            assert!(SOURCES.iter().any(|(value, _)| *value == tokens_value(kind)), "{kind:?} is offered");
        }
    }
}
