//! Setting a new password by a link.

use askama::Template;
use axum::{
    Router,
    extract::Query,
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use serde::Deserialize;

use super::{
    call::Visit,
    failure::{Failure, status_of},
    form::Entered,
    shell::Shell,
};
use crate::{
    app::App,
    error::{Error, Kind},
    identity::recovery,
};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/reset", get(ask).post(send)).route("/reset/new", get(new_password).post(set))
}

#[derive(Template)]
#[template(path = "pages/account/reset.html")]
struct ResetPage {
    shell: Shell,
    email: String,
    sent: bool,
    error: Error,
}

#[derive(Template)]
#[template(path = "pages/account/new_password.html")]
struct NewPasswordPage {
    shell: Shell,
    token: String,
    error: Error,
}

async fn ask(mut visit: Visit) -> Result<Html<String>, Failure> {
    let shell = visit.shell("Set a new password", "").await?;
    Ok(Html(ResetPage { shell, email: String::new(), sent: false, error: super::no_error() }.render()?))
}

#[derive(Deserialize)]
struct Address {
    email: String,
}

async fn send(Entered(visit, input): Entered<Address>) -> Result<Response, Failure> {
    let (app, ip, now) = (visit.app.clone(), visit.ip.clone(), visit.now);
    let (mut visit, sent) = visit.aside(recovery::request(&app, &input.email, ip.as_deref(), now)).await?;
    let shell = visit.shell("Set a new password", "").await?;
    match sent {
        Ok(()) => Ok(Html(ResetPage { shell, email: input.email, sent: true, error: super::no_error() }.render()?).into_response()),
        Err(error) if super::belongs_on_form(&error) => {
            let status = status_of(error.kind);
            Ok((status, Html(ResetPage { shell, email: input.email, sent: false, error }.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    token: String,
}

async fn new_password(mut visit: Visit, Query(link): Query<Link>) -> Result<Html<String>, Failure> {
    if !recovery::is_live(&mut visit.tx, &link.token, visit.now).await? {
        return Err(Error::new(Kind::NotFound, "This link has expired or was used already. Please ask for another one.").into());
    }
    let shell = visit.shell("Set a new password", "").await?;
    Ok(Html(NewPasswordPage { shell, token: link.token, error: super::no_error() }.render()?))
}

#[derive(Deserialize)]
struct NewPassword {
    token: String,
    password: String,
}

async fn set(Entered(visit, input): Entered<NewPassword>) -> Result<Response, Failure> {
    let (app, ip, now) = (visit.app.clone(), visit.ip.clone(), visit.now);
    let (mut visit, set) = visit.aside(recovery::reset(&app, &input.token, &input.password, ip, now)).await?;
    match set {
        Ok(()) => Ok(Redirect::to("/sign-in?reset=1").into_response()),
        Err(error) if super::belongs_on_form(&error) => {
            let shell = visit.shell("Set a new password", "").await?;
            Ok((status_of(error.kind), Html(NewPasswordPage { shell, token: input.token, error }.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
