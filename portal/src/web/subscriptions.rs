//! Subscriptions: the list, one of them, and what can be done to it.

use askama::Template;
use axum::{
    Router,
    extract::Query,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use ids::SubscriptionId;
use serde::Deserialize;

use super::{
    call::Call,
    failure::{Failure, status_of},
    form::{Nothing, Posted},
    plan_text::{self, PlanView},
    segment::Segment,
    shell::Shell,
};
use crate::{
    app::App,
    catalog::plan,
    error::{Error, Result},
    identity::Permission,
    reconciliation::{self, MeterAccount},
    subscriptions::{self, Filter, State, Subscription},
    usage::corrections::{self, Correction},
};

/// How many subscriptions the page lists.
const SHOWN: usize = 500;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/subscriptions", get(list))
        .route("/subscriptions/{subscription}", get(show))
        .route("/subscriptions/{subscription}/change", post(change))
        .route("/subscriptions/{subscription}/cancel", post(cancel))
        .route("/subscriptions/{subscription}/pause", post(pause))
        .route("/subscriptions/{subscription}/resume", post(resume))
}

#[derive(Template)]
#[template(path = "pages/subscriptions/index.html")]
struct ListPage {
    shell: Shell,
    subscriptions: Vec<Subscription>,
    all: bool,
}

#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    all: String,
}

async fn list(mut call: Call, Query(which): Query<Which>) -> Result<Html<String>, Failure> {
    let all = !which.all.is_empty();
    let filter = Filter { with_canceled: all, ..Filter::default() };
    let subscriptions = subscriptions::list(&mut call.tx, &call.actor, call.tenant, filter, SHOWN).await?;
    let shell = call.shell("Subscriptions", "subscriptions").await?;
    Ok(Html(ListPage { shell, subscriptions, all }.render()?))
}

#[derive(Template)]
#[template(path = "pages/subscriptions/show.html")]
struct ShowPage {
    shell: Shell,
    subscription: Subscription,
    /// What the subscription's plan version costs and includes.
    terms: Vec<PlanView>,
    /// The plans to change to.
    others: Vec<PlanView>,
    /// The current period: from, to.
    period: (String, String),
    may_change: bool,
    is_live: bool,
    /// What was metered and billed of the last periods.
    meters: Vec<MeterAccount>,
    /// When that was compared last.
    compared: String,
    /// What the provider corrected.
    corrections: Vec<Correction>,
    /// What does not agree.
    differences: Vec<String>,
    error: Error,
}

async fn show(Segment(id): Segment<SubscriptionId>, call: Call) -> Result<Html<String>, Failure> {
    Ok(Html(page(call, id, super::no_error()).await?.render()?))
}

async fn page(mut call: Call, id: SubscriptionId, error: Error) -> Result<ShowPage> {
    let subscription = subscriptions::get(&mut call.tx, &call.actor, call.tenant, id).await?;
    let version = plan::plan_version(&mut call.tx, subscription.plan_version).await?;
    let offered = plan::published_plans(&mut call.tx).await?;
    // A change keeps at least one API, or it would be another purchase altogether.
    let others: Vec<_> = offered
        .into_iter()
        .filter(|other| other.id != version.id && other.products.iter().any(|product| version.covers(*product)))
        .collect();
    let period = subscription.anchor.period_at(version.cadence, call.now);
    let terms = plan_text::views(&mut call.tx, &[version]).await?;
    let others = plan_text::views(&mut call.tx, &others).await?;
    let may_change = call.actor.require(Permission::Develop(call.tenant)).is_ok();
    let account = reconciliation::account(&mut call.tx, &call.actor, call.tenant, id, call.now).await?;
    let corrections = corrections::list(&mut call.tx, &call.actor, Some(call.tenant), Some(id), 50, 0).await?;
    let shell = call.shell(format!("{} on {}", subscription.application_name, subscription.plan_name), "subscriptions").await?;
    let is_live = subscription.state != State::Canceled;
    let zone = &subscription.anchor.zone;
    let period = (zone.date_at(period.from).to_string(), zone.date_at(period.to).to_string());
    Ok(ShowPage {
        shell,
        subscription,
        terms,
        others,
        period,
        may_change,
        is_live,
        meters: account.meters,
        corrections,
        compared: account.compared_at.map(|at| at.to_string()).unwrap_or_default(),
        differences: account.differences.into_iter().map(|difference| difference.detail).collect(),
        error,
    })
}

async fn refused(call: Call, id: SubscriptionId, error: Error) -> Result<Response, Failure> {
    if !super::belongs_on_form(&error) {
        return Err(error.into());
    }
    let page = page(call, id, error).await?;
    Ok((status_of(page.error.kind), Html(page.render()?)).into_response())
}

#[derive(Deserialize)]
struct NewPlan {
    plan: String,
}

async fn change(Segment(id): Segment<SubscriptionId>, Posted(mut call, input): Posted<Call, NewPlan>) -> Result<Response, Failure> {
    match subscriptions::change(&mut call.tx, &call.actor, call.tenant, id, &input.plan, call.now).await {
        Ok(new) => {
            let text = format!("{} is on the plan {} now.", new.application_name, new.plan_name);
            Ok(call.commit_and_go(&format!("/subscriptions/{}", new.id), "success", text).await?.into_response())
        }
        Err(error) => refused(call, id, error).await,
    }
}

async fn cancel(
    Segment(id): Segment<SubscriptionId>,
    Posted(mut call, confirmed): Posted<Call, super::Confirmed>,
) -> Result<Response, Failure> {
    let canceled = match confirmed.require() {
        Ok(()) => subscriptions::cancel(&mut call.tx, &call.actor, call.tenant, id, call.now).await,
        Err(error) => Err(error),
    };
    match canceled {
        Ok(()) => Ok(call.commit_and_go("/subscriptions", "success", "The subscription has ended.").await?.into_response()),
        Err(error) => refused(call, id, error).await,
    }
}

async fn pause(Segment(id): Segment<SubscriptionId>, Posted(mut call, Nothing {}): Posted<Call, Nothing>) -> Result<Response, Failure> {
    match subscriptions::pause(&mut call.tx, &call.actor, call.tenant, id, call.now).await {
        Ok(()) => Ok(done(call, id, "The subscription is paused: calls are refused until you resume it.").await?.into_response()),
        Err(error) => refused(call, id, error).await,
    }
}

async fn resume(Segment(id): Segment<SubscriptionId>, Posted(mut call, Nothing {}): Posted<Call, Nothing>) -> Result<Response, Failure> {
    match subscriptions::resume(&mut call.tx, &call.actor, call.tenant, id, call.now).await {
        Ok(()) => Ok(done(call, id, "The subscription is active again.").await?.into_response()),
        Err(error) => refused(call, id, error).await,
    }
}

async fn done(call: Call, id: SubscriptionId, text: &str) -> Result<Redirect> {
    call.commit_and_go(&format!("/subscriptions/{id}"), "success", text).await
}
