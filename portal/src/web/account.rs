//! One's own name, password and sessions.

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    call::UserCall,
    failure::{Failure, status_of},
    form::{Nothing, Posted},
    shell::Shell,
    tokens,
};
use crate::{
    app::App,
    error::{Error, Result},
    identity::{
        api_token::{self, ApiToken},
        session::{self, SessionInfo},
        user,
    },
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/account", get(show))
        .route("/account/name", post(rename))
        .route("/account/password", post(change_password))
        .route("/account/sessions/revoke", post(revoke))
        .route("/account/sessions/revoke-others", post(revoke_others))
}

#[derive(Template)]
#[template(path = "pages/account/index.html")]
struct AccountPage {
    shell: Shell,
    person: String,
    sessions: Vec<SessionInfo>,
    current: Vec<u8>,
    /// Live tokens, with what each sees.
    tokens: Vec<(ApiToken, String)>,
    error: Error,
}

async fn show(call: UserCall) -> Result<Html<String>, Failure> {
    Ok(Html(page(call, super::no_error()).await?.render()?))
}

async fn page(mut call: UserCall, error: Error) -> Result<AccountPage> {
    let sessions = session::list(&mut call.tx, &call.actor, call.now).await?;
    let tokens = tokens::live(&mut call).await?;
    let shell = call.shell("Account", "").await?;
    Ok(AccountPage { shell, person: call.session.user_name.clone(), sessions, current: call.session.digest.clone(), tokens, error })
}

async fn refused(call: UserCall, error: Error) -> Result<Response, Failure> {
    if !super::belongs_on_form(&error) {
        return Err(error.into());
    }
    let page = page(call, error).await?;
    Ok((status_of(page.error.kind), Html(page.render()?)).into_response())
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn rename(Posted(mut call, input): Posted<UserCall, Name>) -> Result<Response, Failure> {
    match user::rename(&mut call.tx, &call.actor, &input.name, call.now).await {
        Ok(()) => Ok(call.commit_and_go("/account", "success", "Your name is changed.").await?.into_response()),
        Err(error) => refused(call, error).await,
    }
}

#[derive(Deserialize)]
struct Passwords {
    current_password: String,
    new_password: String,
}

async fn change_password(Posted(call, input): Posted<UserCall, Passwords>) -> Result<Response, Failure> {
    let (app, actor, session, now) = (call.app.clone(), call.actor.clone(), call.session.clone(), call.now);
    let passwords = (input.current_password.as_str(), input.new_password.as_str());
    let (mut call, changed) = call.aside(user::change_password(&app, &actor, &session, passwords, now)).await?;
    match changed {
        Ok(()) => {
            let live = api_token::list(&mut call.tx, &call.actor, None).await?.iter().filter(|token| token.is_live(now)).count();
            let tokens = match live {
                0 => "",
                1 => " Your REST token goes on to work until you revoke it.",
                _ => " Your REST tokens go on to work until you revoke them.",
            };
            let text = format!("Your password is changed. All other sessions have ended.{tokens}");
            Ok(call.commit_and_go("/account", "success", text).await?.into_response())
        }
        Err(error) => refused(call, error).await,
    }
}

#[derive(Deserialize)]
struct Handle {
    session: String,
}

async fn revoke(Posted(mut call, input): Posted<UserCall, Handle>) -> Result<Redirect, Failure> {
    session::revoke(&mut call.tx, &call.actor, &input.session, call.now).await?;
    Ok(call.commit_and_go("/account", "success", "The session has ended.").await?)
}

async fn revoke_others(Posted(mut call, Nothing {}): Posted<UserCall, Nothing>) -> Result<Redirect, Failure> {
    session::revoke_others(&mut call.tx, &call.actor, &call.session, call.now).await?;
    Ok(call.commit_and_go("/account", "success", "All other sessions have ended.").await?)
}
