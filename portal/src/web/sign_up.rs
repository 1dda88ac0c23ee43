//! Signing up, and verifying the address.

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
    form::{Entered, Nothing},
    shell::Shell,
};
use crate::{
    app::App,
    error::{Error, Kind},
    identity::sign_up::{self, SignUp},
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

/// With a link's token, a button: mail scanners open links, but press no buttons. Without, whoever is signed in may have another mail sent.
async fn verify_page(mut visit: Visit, Query(input): Query<Token>) -> Result<Response, Failure> {
    let email = match &visit.session {
        Some(session) if session.verified => return Ok(Redirect::to("/").into_response()),
        Some(session) => session.user_email.clone(),
        None if input.token.is_empty() => return Ok(Redirect::to("/sign-in").into_response()),
        None => String::new(),
    };
    let shell = visit.shell("Verify your e-mail address", "").await?;
    Ok(Html(VerifyPage { shell, token: input.token, email }.render()?).into_response())
}

async fn verify(Entered(mut visit, input): Entered<Token>) -> Result<Redirect, Failure> {
    let user = sign_up::verify(&mut visit.tx, &input.token, visit.ip.clone(), visit.now).await?;
    let signed_in = visit.session.as_ref().is_some_and(|session| session.user_id == user.id);
    visit.commit().await?;
    let to = if signed_in {
        "/".to_owned()
    } else {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("verified", &user.email).finish();
        format!("/sign-in?{query}")
    };
    Ok(Redirect::to(&to))
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
