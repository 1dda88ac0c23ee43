//! API keys of an application: created, rotated, revoked. A key's text is on the answer to the form that made it, and nowhere else.

use std::time::Duration;

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Redirect, Response},
    routing::post,
};
use gateway_control::credential::Credential;
use ids::{ApiKeyId, ApplicationId};
use serde::Deserialize;

use super::{
    applications::{page, refused},
    call::Call,
    failure::Failure,
    form::Posted,
    segment::Segment,
    usage,
};
use crate::{
    app::App,
    applications::api_key::{self, Mode, NewApiKey, Of},
    error::{Error, Result},
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/applications/{application}/keys", post(create))
        .route("/applications/{application}/keys/{key}/rotate", post(rotate))
        .route("/applications/{application}/keys/{key}/revoke", post(revoke))
}

#[derive(Deserialize)]
struct KeyForm {
    name: String,
    mode: String,
    #[serde(default)]
    days: String,
}

async fn create(Segment(id): Segment<ApplicationId>, Posted(mut call, input): Posted<Call, KeyForm>) -> Result<Response, Failure> {
    let of = Of { tenant: call.tenant, application: id };
    let new = match (Mode::parse(&input.mode), super::in_days(&input.days, call.now)) {
        (Some(mode), Ok(expires_at)) => NewApiKey { name: input.name, mode, expires_at },
        (None, _) => return refused(call, id, Error::invalid("mode", "Choose live or test.")).await,
        (_, Err(error)) => return refused(call, id, error).await,
    };
    match api_key::create(&mut call.tx, &call.actor, of, new, call.now).await {
        Ok((_, secret)) => Ok(reveal(call, id, &secret).await?),
        Err(error) => refused(call, id, error).await,
    }
}

#[derive(Deserialize)]
struct RotateForm {
    overlap_seconds: u64,
}

async fn rotate(
    Segment((id, key)): Segment<(ApplicationId, ApiKeyId)>,
    Posted(mut call, input): Posted<Call, RotateForm>,
) -> Result<Response, Failure> {
    let of = Of { tenant: call.tenant, application: id };
    let overlap = Duration::from_secs(input.overlap_seconds);
    match api_key::rotate(&mut call.tx, &call.actor, of, key, overlap, call.now).await {
        Ok((_, secret)) => Ok(reveal(call, id, &secret).await?),
        Err(error) => refused(call, id, error).await,
    }
}

async fn revoke(
    Segment((id, key)): Segment<(ApplicationId, ApiKeyId)>,
    Posted(mut call, confirmed): Posted<Call, super::Confirmed>,
) -> Result<Redirect, Failure> {
    confirmed.require()?;
    let of = Of { tenant: call.tenant, application: id };
    api_key::revoke(&mut call.tx, &call.actor, of, key, call.now).await?;
    Ok(call.commit_and_go(&format!("/applications/{id}"), "success", "The key is revoked. Gateways refuse it within a second.").await?)
}

/// Commits, and shows the application's page with the new key's text.
async fn reveal(call: Call, id: ApplicationId, secret: &Credential) -> Result<Response> {
    let mut call = call.commit_and_go_on().await?;
    let curl = usage::sample_curl(&mut call).await?.map(|curl| curl.replace(usage::KEY_TO_FILL_IN, secret.reveal()));
    let mut page = page(call, id, super::no_error()).await?;
    secret.reveal().clone_into(&mut page.secret);
    page.curl = curl;
    Ok(Html(page.render()?).into_response())
}
