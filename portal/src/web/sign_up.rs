//! Signing up, and verifying the address.

use askama::Template;
use axum::{
    Router,
    extract::Query,
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use axum_extra::extract::CookieJar;
use serde::Deserialize;

use super::{
    call::Visit,
    failure::{Failure, status_of},
    form::{Entered, Nothing},
    shell::Shell,
    sign_in,
};
use crate::{
    app::App,
    error::{Error, Kind},
    identity::sign_up::{self, SignUp, Verify},
};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/sign-up", get(form).post(submit))
        .route("/verify", get(verify_page).post(verify))
        .route("/verify/resend", axum::routing::post(resend))
}

#[derive(Template)]
#[template(path = "pages/account/sign_up.html")]
struct SignUpPage {
    shell: Shell,
    /// The person's name. (`name` is what the macro of a field calls its own argument.)
    person: String,
    email: String,
    error: Error,
}

#[derive(Template)]
#[template(path = "pages/account/check_mail.html")]
struct CheckMailPage {
    shell: Shell,
    email: String,
}

#[derive(Template)]
#[template(path = "pages/account/verify.html")]
struct VerifyPage {
    shell: Shell,
    /// The link's token, if there was one.
    token: String,
    /// The address to verify, if somebody is signed in.
    email: String,
    error: Error,
}

async fn form(mut visit: Visit) -> Result<Response, Failure> {
    if visit.session.is_some() {
        return Ok(Redirect::to("/").into_response());
    }
    let shell = visit.shell("Sign up", "").await?;
    Ok(Html(SignUpPage { shell, person: String::new(), email: String::new(), error: super::no_error() }.render()?).into_response())
}

#[derive(Deserialize)]
struct SignUpForm {
    name: String,
    email: String,
    password: String,
}

async fn submit(Entered(visit, input): Entered<SignUpForm>) -> Result<Response, Failure> {
    let (name, email) = (input.name.clone(), input.email.clone());
    let new = SignUp { name: input.name, email: input.email, password: input.password };
    let (app, ip, now) = (visit.app.clone(), visit.ip.clone(), visit.now);
    let (mut visit, signed_up) = visit.aside(sign_up::sign_up(&app, new, ip, now)).await?;
    match signed_up {
        Ok(()) => {
            let shell = visit.shell("Check your mail", "").await?;
            Ok(Html(CheckMailPage { shell, email }.render()?).into_response())
        }
        Err(error) if super::belongs_on_form(&error) => {
            let shell = visit.shell("Sign up", "").await?;
            Ok((status_of(error.kind), Html(SignUpPage { shell, person: name, email, error }.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
}

/// With a link's token, a form for the password. Without, whoever is signed in may have another mail sent.
async fn verify_page(mut visit: Visit, Query(input): Query<Token>) -> Result<Response, Failure> {
    let email = match &visit.session {
        Some(session) if session.verified => return Ok(Redirect::to("/").into_response()),
        Some(session) => session.user_email.clone(),
        None if input.token.is_empty() => return Ok(Redirect::to("/sign-in").into_response()),
        None => String::new(),
    };
    let shell = visit.shell("Verify your e-mail address", "").await?;
    Ok(Html(VerifyPage { shell, token: input.token, email, error: super::no_error() }.render()?).into_response())
}

#[derive(Deserialize)]
struct VerifyForm {
    token: String,
    #[serde(default)]
    password: String,
}

async fn verify(jar: CookieJar, Entered(visit, input): Entered<VerifyForm>) -> Result<Response, Failure> {
    let token = input.token.clone();
    let new = Verify { token: input.token, password: input.password, ip: visit.ip.clone(), user_agent: visit.user_agent.clone() };
    let (app, now) = (visit.app.clone(), visit.now);
    let (mut visit, verified) = visit.aside(sign_up::verify(&app, new, now)).await?;
    match verified {
        Ok(session) => sign_in::enter(visit, jar, session, "/").await,
        Err(error) if matches!(error.kind, Kind::Unauthenticated | Kind::TooManyAttempts { .. }) => {
            let shell = visit.shell("Verify your e-mail address", "").await?;
            Ok((status_of(error.kind), Html(VerifyPage { shell, token, email: String::new(), error }.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn resend(Entered(mut visit, Nothing {}): Entered<Nothing>) -> Result<Response, Failure> {
    let Some(session) = &visit.session else {
        return Err(Error::new(Kind::Unauthenticated, "Please sign in first.").into());
    };
    let (user_id, email) = (session.user_id, session.user_email.clone());
    sign_up::resend(&visit.app, user_id, visit.ip.as_deref(), visit.now).await?;
    let shell = visit.shell("Check your mail", "").await?;
    Ok(Html(CheckMailPage { shell, email }.render()?).into_response())
}
