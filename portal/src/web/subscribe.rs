//! Subscribing: choose an application, or register one in passing, see the price, confirm.

use askama::Template;
use axum::{
    Router,
    extract::Query,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;

use super::{
    call::Call,
    failure::{Failure, status_of},
    form::Posted,
    plan_text::{self, PlanView},
    shell::Shell,
};
use crate::{
    app::App,
    applications::{self, Application, ApplicationInput},
    catalog::plan,
    error::{Error, Result},
    identity::Permission,
    subscriptions::{self, CreateSubscription},
};

/// How many applications may be chosen from.
const SHOWN: usize = 500;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/subscribe", get(form).post(submit))
}

#[derive(Template)]
#[template(path = "pages/subscriptions/subscribe.html")]
struct SubscribePage {
    shell: Shell,
    /// The chosen plan, or all that are offered while none is.
    plans: Vec<PlanView>,
    is_chosen: bool,
    applications: Vec<Application>,
    input: SubscribeForm,
    error: Error,
}

#[derive(Default, Deserialize)]
struct SubscribeForm {
    #[serde(default)]
    plan: String,
    /// An application's id, or empty for a new one.
    #[serde(default)]
    application: String,
    #[serde(default)]
    application_name: String,
}

async fn form(mut call: Call, Query(mut input): Query<SubscribeForm>) -> Result<Html<String>, Failure> {
    call.actor.require(Permission::Develop(call.tenant))?;
    let applications = applications::list(&mut call.tx, &call.actor, call.tenant, None, SHOWN).await?;
    if input.application.is_empty()
        && let Some(newest) = applications.first()
    {
        input.application = newest.id.to_string();
    }
    Ok(Html(page(call, input, super::no_error()).await?.render()?))
}

async fn page(mut call: Call, input: SubscribeForm, error: Error) -> Result<SubscribePage> {
    let applications = applications::list(&mut call.tx, &call.actor, call.tenant, None, SHOWN).await?;
    let is_chosen = !input.plan.is_empty();
    let versions =
        if is_chosen { vec![plan::published_plan(&mut call.tx, &input.plan).await?] } else { plan::published_plans(&mut call.tx).await? };
    let plans = plan_text::views(&mut call.tx, &versions).await?;
    let shell = call.shell("Subscribe", "subscriptions").await?;
    Ok(SubscribePage { shell, plans, is_chosen, applications, input, error })
}

async fn submit(Posted(mut call, input): Posted<Call, SubscribeForm>) -> Result<Response, Failure> {
    match subscribe(&mut call, &input).await {
        Ok(application) => {
            let text = "Subscribed. Create a key for the application to make your first call.";
            Ok(call.commit_and_go(&format!("/applications/{}", application.id), "success", text).await?.into_response())
        }
        Err(error) if super::belongs_on_form(&error) => {
            // What was done before the error, such as registering the application, is undone.
            let call = call.start_over().await?;
            let page = page(call, input, error).await?;
            Ok((status_of(page.error.kind), Html(page.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn subscribe(call: &mut Call, input: &SubscribeForm) -> Result<Application> {
    let application = if input.application.is_empty() {
        let new = ApplicationInput { name: input.application_name.clone(), description: String::new() };
        let created = applications::create(&mut call.tx, &call.actor, call.tenant, new, call.now).await;
        created.map_err(|mut error| {
            for field in &mut error.fields {
                field.field = "application_name".into();
            }
            error
        })?
    } else {
        let id = input.application.parse().map_err(|_| Error::invalid("application", "Choose an application."))?;
        applications::get(&mut call.tx, &call.actor, call.tenant, id).await?
    };
    let new = CreateSubscription { application: application.id, plan: input.plan.clone() };
    subscriptions::create(&mut call.tx, &call.actor, call.tenant, new, call.now).await?;
    Ok(application)
}
