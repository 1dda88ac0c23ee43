//! `/admin/gateways`: metering gateways, their credentials, and where ingest stands.

use std::time::Duration;

use askama::Template;
use axum::{
    Router,
    extract::Path,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use ids::GatewayId;
use serde::Deserialize;

use super::{NO_STORE, belongs_on_form, call::UserCall, failure::Failure, form::Posted, no_error, shell::Shell};
use crate::{
    app::App,
    entitlements::{self, WriteOff, WrittenOff},
    error::{Error, Kind, Result},
    gateways::{self, CreateGateway, Issued},
    identity::Permission,
    policy,
    usage::streams,
};

mod view;

use view::{GatewayView, IngestView, LeasesView};

const INDEX: &str = "/admin/gateways";

/// Pages of this area.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/admin/gateways", get(index).post(create))
        .route("/admin/gateways/live", get(live))
        .route("/admin/gateways/new", get(new))
        .route("/admin/gateways/{gateway}", get(show))
        .route("/admin/gateways/{gateway}/rotate", post(rotate))
        .route("/admin/gateways/{gateway}/revoke", post(revoke))
        .route("/admin/gateways/{gateway}/write-off", post(write_off))
}

/// What changes while the page is open.
#[derive(Template)]
#[template(path = "pages/admin/gateways/live.html")]
struct Live {
    gateways: Vec<GatewayView>,
    ingest: IngestView,
}

#[derive(Template)]
#[template(path = "pages/admin/gateways/index.html")]
struct Index {
    shell: Shell,
    live: Live,
}

async fn read(call: &mut UserCall) -> Result<Live> {
    let newest = policy::position(&mut call.tx).await?.generation;
    let gateways = gateways::list(&mut call.tx, &call.actor).await?;
    let streams = streams::list(&mut call.tx, &call.actor).await?;
    let unattributed = streams::unattributed(&mut call.tx, &call.actor).await?;
    let ingest = IngestView::new(&streams, unattributed, &gateways, call.now);
    let mut views = Vec::with_capacity(gateways.len());
    for gateway in gateways {
        let scope = match &gateway.namespaces {
            Some(namespaces) => Some(gateways::namespace_names(&mut call.tx, &call.actor, namespaces).await?),
            None => None,
        };
        views.push(GatewayView::new(gateway, scope, newest, call.now));
    }
    Ok(Live { gateways: views, ingest })
}

async fn index(mut call: UserCall) -> Result<Html<String>, Failure> {
    let live = read(&mut call).await?;
    let shell = call.shell("Gateways", "admin-gateways").await?;
    Ok(Html(Index { shell, live }.render()?))
}

async fn live(mut call: UserCall) -> Result<Html<String>, Failure> {
    Ok(Html(read(&mut call).await?.render()?))
}

#[derive(Template)]
#[template(path = "pages/admin/gateways/new.html")]
struct New {
    shell: Shell,
    input: NewGateway,
    error: Error,
}

/// The form of a new gateway.
#[derive(Debug, Default, Deserialize)]
struct NewGateway {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespaces: String,
}

async fn new(mut call: UserCall) -> Result<Html<String>, Failure> {
    call.actor.require(Permission::Operate)?;
    let shell = call.shell("Register a gateway", "admin-gateways").await?;
    Ok(Html(New { shell, input: NewGateway::default(), error: no_error() }.render()?))
}

async fn create(Posted(mut call, input): Posted<UserCall, NewGateway>) -> Result<Response, Failure> {
    match create_from(&mut call, &input).await {
        Ok(issued) => answer_issued(call, issued, "Gateway registered").await,
        Err(error) if belongs_on_form(&error) => {
            let status = super::failure::status_of(error.kind);
            let shell = call.shell("Register a gateway", "admin-gateways").await?;
            Ok((status, Html(New { shell, input, error }.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn create_from(call: &mut UserCall, input: &NewGateway) -> Result<Issued> {
    let namespaces = gateways::read_namespaces(&mut call.tx, &call.actor, &input.namespaces).await?;
    let create = CreateGateway { name: input.name.clone(), namespaces };
    gateways::create(&mut call.tx, &call.actor, create, call.now).await
}

/// The one page that shows a credential. It is made of the answer to the form, and no cache may keep it.
#[derive(Template)]
#[template(path = "pages/admin/gateways/issued.html")]
struct IssuedPage {
    shell: Shell,
    id: String,
    name: String,
    credential: String,
    previous_until: String,
    command: String,
    secret_command: String,
    helm_values: String,
}

async fn answer_issued(mut call: UserCall, issued: Issued, title: &'static str) -> Result<Response, Failure> {
    let shell = call.shell(title, "admin-gateways").await?;
    let credential = issued.credential.reveal().to_owned();
    let portal_url = call.app.config.public_url.as_str().trim_end_matches('/').to_owned();
    let page = IssuedPage {
        shell,
        id: issued.gateway.id.to_string(),
        name: issued.gateway.name,
        previous_until: issued.gateway.previous_until.map(|until| until.to_string()).unwrap_or_default(),
        command: view::start_command(&portal_url, &credential),
        secret_command: view::secret_command(&credential),
        helm_values: view::helm_values(&portal_url),
        credential,
    };
    let html = page.render()?;
    call.commit().await?;
    Ok(([NO_STORE], Html(html)).into_response())
}

#[derive(Template)]
#[template(path = "pages/admin/gateways/show.html")]
struct Show {
    shell: Shell,
    gateway: GatewayView,
    leases: Vec<LeasesView>,
    ingest: IngestView,
}

async fn show(mut call: UserCall, Path(id): Path<GatewayId>) -> Result<Html<String>, Failure> {
    let gateway = gateways::get(&mut call.tx, &call.actor, id).await?;
    let newest = policy::position(&mut call.tx).await?.generation;
    let scope = match &gateway.namespaces {
        Some(namespaces) => Some(gateways::namespace_names(&mut call.tx, &call.actor, namespaces).await?),
        None => None,
    };
    let mut own = streams::list(&mut call.tx, &call.actor).await?;
    own.retain(|stream| stream.gateway == id);
    let nothing = streams::Unattributed { rows: 0, reasons: Vec::new() };
    let ingest = IngestView::new(&own, nothing, std::slice::from_ref(&gateway), call.now);
    let leases = entitlements::leases_of(&mut call.tx, &call.actor, id, call.now).await?.iter().map(LeasesView::new).collect();
    let shell = call.shell(gateway.name.clone(), "admin-gateways").await?;
    Ok(Html(Show { shell, gateway: GatewayView::new(gateway, scope, newest, call.now), leases, ingest }.render()?))
}

#[derive(Debug, Deserialize)]
struct Rotate {
    /// How long the old credential goes on, in hours.
    #[serde(default)]
    overlap_hours: String,
    #[serde(default)]
    confirm: String,
}

#[derive(Debug, Deserialize)]
struct Confirmed {
    #[serde(default)]
    confirm: String,
}

async fn rotate(Path(id): Path<GatewayId>, Posted(mut call, input): Posted<UserCall, Rotate>) -> Result<Response, Failure> {
    match rotate_from(&mut call, id, &input).await {
        Ok(issued) => answer_issued(call, issued, "Credential rotated").await,
        Err(error) => back_with(call, &format!("{INDEX}/{id}"), error).await,
    }
}

async fn rotate_from(call: &mut UserCall, id: GatewayId, input: &Rotate) -> Result<Issued> {
    if input.confirm != "yes" {
        return Err(Error::invalid("confirm", "Tick the box to confirm."));
    }
    let hours: u64 = input
        .overlap_hours
        .parse()
        .map_err(|_| Error::invalid("overlap_hours", "Give the overlap as a whole number of hours, 0 to 168."))?;
    gateways::rotate(&mut call.tx, &call.actor, id, Duration::from_secs(hours.saturating_mul(3600)), call.now).await
}

async fn revoke(Path(id): Path<GatewayId>, Posted(mut call, input): Posted<UserCall, Confirmed>) -> Result<Response, Failure> {
    match revoke_from(&mut call, id, &input).await {
        Ok(name) => {
            let text = format!("{name} is revoked. Its feed ends within a second.");
            Ok(call.commit_and_go(INDEX, "success", text).await?.into_response())
        }
        Err(error) => back_with(call, &format!("{INDEX}/{id}"), error).await,
    }
}

async fn revoke_from(call: &mut UserCall, id: GatewayId, input: &Confirmed) -> Result<String> {
    let gateway = gateways::get(&mut call.tx, &call.actor, id).await?;
    if input.confirm != gateway.name {
        return Err(Error::invalid("confirm", format!("Type the gateway's name, {}, to confirm.", gateway.name)));
    }
    gateways::revoke(&mut call.tx, &call.actor, id, call.now).await?;
    Ok(gateway.name)
}

/// The form of a write-off.
#[derive(Debug, Deserialize)]
struct WriteOffForm {
    #[serde(default)]
    journal: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    confirm: String,
}

async fn write_off(Path(id): Path<GatewayId>, Posted(mut call, input): Posted<UserCall, WriteOffForm>) -> Result<Response, Failure> {
    let page = format!("{INDEX}/{id}");
    match write_off_from(&mut call, id, &input).await {
        Ok(written) => {
            let text = format!("{} units of {} quotas are free again.", written.units, written.quotas);
            Ok(call.commit_and_go(&page, "success", text).await?.into_response())
        }
        Err(error) if error.kind == Kind::Conflict => {
            let text = error.public.to_string();
            Ok(call.commit_and_go(&page, "error", text).await?.into_response())
        }
        Err(error) => back_with(call, &page, error).await,
    }
}

async fn write_off_from(call: &mut UserCall, id: GatewayId, input: &WriteOffForm) -> Result<WrittenOff> {
    call.actor.require(Permission::Operate)?;
    if input.confirm != "yes" {
        return Err(Error::invalid("confirm", "Tick the box to confirm."));
    }
    let journal = input.journal.parse().map_err(|_| Error::invalid("journal", "This is not the id of a journal."))?;
    let input = WriteOff { gateway: id, journal, reason: input.reason.clone() };
    entitlements::write_off(&mut call.tx, &call.actor, &input, call.now).await
}

/// Back to a page, with what must be mended.
async fn back_with(call: UserCall, to: &str, error: Error) -> Result<Response, Failure> {
    if !belongs_on_form(&error) {
        return Err(error.into());
    }
    let message = error.fields.first().map_or_else(|| error.public.to_string(), |field| field.message.clone());
    let redirect: Redirect = call.commit_and_go(to, "error", message).await?;
    Ok(redirect.into_response())
}
