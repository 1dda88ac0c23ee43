//! Applications.

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use ids::ApplicationId;
use serde::Deserialize;

use super::{
    call::Call,
    failure::{Failure, status_of},
    form::Posted,
    segment::Segment,
    shell::Shell,
};
use crate::{
    app::App,
    applications::{self, Application, ApplicationInput, api_key},
    error::{Error, Result},
    identity::Permission,
    subscriptions::{self, Filter, Subscription},
};

/// How many applications the page lists.
const SHOWN: usize = 500;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/applications", get(list).post(create))
        .route("/applications/new", get(form))
        .route("/applications/{application}", get(show).post(update))
        .route("/applications/{application}/archive", post(archive))
}

#[derive(Template)]
#[template(path = "pages/applications/index.html")]
struct ListPage {
    shell: Shell,
    rows: Vec<Row>,
    may_change: bool,
}

/// An application with the plans that it is on and how many keys of it work.
struct Row {
    application: Application,
    plans: Vec<String>,
    live_keys: usize,
}

async fn list(mut call: Call) -> Result<Html<String>, Failure> {
    let found = applications::list(&mut call.tx, &call.actor, call.tenant, None, SHOWN).await?;
    let all = subscriptions::list(&mut call.tx, &call.actor, call.tenant, Filter::default(), SHOWN).await?;
    let live = api_key::live_counts(&mut call.tx, &call.actor, call.tenant, call.now).await?;
    let rows = found.into_iter().map(|application| Row {
        plans: all.iter().filter(|one| one.application == application.id).map(|one| one.plan_name.clone()).collect(),
        live_keys: live.get(&application.id).copied().unwrap_or(0),
        application,
    });
    let rows = rows.collect();
    let may_change = may_change(&call);
    let shell = call.shell("Applications", "applications").await?;
    Ok(Html(ListPage { shell, rows, may_change }.render()?))
}

#[derive(Template)]
#[template(path = "pages/applications/new.html")]
struct NewPage {
    shell: Shell,
    input: ApplicationForm,
    error: Error,
}

#[derive(Default, Deserialize)]
struct ApplicationForm {
    name: String,
    #[serde(default)]
    description: String,
}

impl ApplicationForm {
    fn input(&self) -> ApplicationInput {
        ApplicationInput { name: self.name.clone(), description: self.description.clone() }
    }
}

async fn form(mut call: Call) -> Result<Html<String>, Failure> {
    call.actor.require(Permission::Develop(call.tenant))?;
    let shell = call.shell("New application", "applications").await?;
    Ok(Html(NewPage { shell, input: ApplicationForm::default(), error: super::no_error() }.render()?))
}

async fn create(Posted(mut call, input): Posted<Call, ApplicationForm>) -> Result<Response, Failure> {
    match applications::create(&mut call.tx, &call.actor, call.tenant, input.input(), call.now).await {
        Ok(application) => {
            let to = format!("/applications/{}", application.id);
            Ok(call
                .commit_and_go(&to, "success", format!("{} is registered. Create a key for it next.", application.name))
                .await?
                .into_response())
        }
        Err(error) if super::belongs_on_form(&error) => {
            let shell = call.shell("New application", "applications").await?;
            Ok((status_of(error.kind), Html(NewPage { shell, input, error }.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// The page of one application; [`super::keys`] shows it too, with the text of a new key.
#[derive(Template)]
#[template(path = "pages/applications/show.html")]
pub(super) struct ShowPage {
    pub shell: Shell,
    pub application: Application,
    pub subscriptions: Vec<Subscription>,
    pub keys: Vec<KeyRow>,
    pub ended: usize,
    pub may_change: bool,
    /// The text of the key made just now, or empty.
    pub secret: String,
    /// A call that works with the new key as it is.
    pub curl: Option<String>,
    pub error: Error,
}

/// A key as the page shows it.
pub(super) struct KeyRow {
    pub id: String,
    pub label: String,
    pub mode: &'static str,
    pub status: &'static str,
    pub hint: String,
    pub created_at: String,
    pub last_used_at: Option<String>,
    pub expires_at: Option<String>,
    pub is_active: bool,
}

async fn show(Segment(id): Segment<ApplicationId>, call: Call) -> Result<Html<String>, Failure> {
    Ok(Html(page(call, id, super::no_error()).await?.render()?))
}

pub(super) async fn page(mut call: Call, id: ApplicationId, error: Error) -> Result<ShowPage> {
    let (tenant, now) = (call.tenant, call.now);
    let application = applications::get(&mut call.tx, &call.actor, tenant, id).await?;
    let filter = Filter { application: Some(id), ..Filter::default() };
    let subscriptions = subscriptions::list(&mut call.tx, &call.actor, tenant, filter, SHOWN).await?;
    let all = api_key::list(&mut call.tx, &call.actor, api_key::Of { tenant, application: id }).await?;
    let ended = all.iter().filter(|key| !key.is_live(now)).count();
    let keys = all.into_iter().filter(|key| key.is_live(now)).map(|key| KeyRow {
        status: key.status(now).as_str(),
        is_active: key.status(now) == api_key::Status::Active,
        id: key.id.to_string(),
        mode: key.mode.as_str(),
        label: key.name,
        hint: key.hint,
        created_at: key.created_at.to_string(),
        last_used_at: key.last_used_at.map(|at| at.to_string()),
        expires_at: key.expires_at.map(|at| at.to_string()),
    });
    let keys = keys.collect();
    let may_change = may_change(&call) && application.archived_at.is_none();
    let shell = call.shell(application.name.clone(), "applications").await?;
    Ok(ShowPage { shell, application, subscriptions, keys, ended, may_change, secret: String::new(), curl: None, error })
}

/// Shows the page again with what was wrong.
pub(super) async fn refused(call: Call, id: ApplicationId, error: Error) -> Result<Response, Failure> {
    if !super::belongs_on_form(&error) {
        return Err(error.into());
    }
    let page = page(call, id, error).await?;
    Ok((status_of(page.error.kind), Html(page.render()?)).into_response())
}

async fn update(Segment(id): Segment<ApplicationId>, Posted(mut call, input): Posted<Call, ApplicationForm>) -> Result<Response, Failure> {
    match applications::update(&mut call.tx, &call.actor, call.tenant, id, input.input(), call.now).await {
        Ok(_) => Ok(call.commit_and_go(&format!("/applications/{id}"), "success", "The application is saved.").await?.into_response()),
        Err(error) => refused(call, id, error).await,
    }
}

async fn archive(
    Segment(id): Segment<ApplicationId>,
    Posted(mut call, confirmed): Posted<Call, super::Confirmed>,
) -> Result<Response, Failure> {
    let application = applications::get(&mut call.tx, &call.actor, call.tenant, id).await?;
    let archived = match confirmed.require_phrase(&application.name) {
        Ok(()) => applications::archive(&mut call.tx, &call.actor, call.tenant, id, call.now).await,
        Err(error) => Err(error),
    };
    match archived {
        Ok(()) => {
            let text = format!("{} is archived, and its keys are revoked.", application.name);
            Ok(call.commit_and_go("/applications", "success", text).await?.into_response())
        }
        Err(error) => refused(call, id, error).await,
    }
}

fn may_change(call: &Call) -> bool {
    call.actor.require(Permission::Develop(call.tenant)).is_ok()
}
