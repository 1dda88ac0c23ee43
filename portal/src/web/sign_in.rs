//! Signing in and out.

use askama::Template;
use axum::{
    Router,
    extract::Query,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};
use serde::Deserialize;

use super::{
    call::Visit,
    failure::{Failure, status_of},
    form::Entered,
    session_cookie,
    shell::Shell,
};
use crate::{
    Config,
    app::App,
    error::{Error, Kind},
    identity::{
        session,
        sign_in::{self, SignIn},
    },
};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/sign-in", get(form).post(submit)).route("/sign-out", post(sign_out))
}

#[derive(Template)]
#[template(path = "pages/account/sign_in.html")]
struct SignInPage {
    shell: Shell,
    email: String,
    next: String,
    /// Whether the password was set just now.
    reset: bool,
    error: Error,
}

#[derive(Deserialize)]
struct Arrival {
    #[serde(default)]
    next: String,
    #[serde(default)]
    reset: String,
}

async fn form(mut visit: Visit, Query(arrival): Query<Arrival>) -> Result<Response, Failure> {
    if visit.session.is_some() {
        return Ok(Redirect::to(local(&arrival.next)).into_response());
    }
    let shell = visit.shell("Sign in", "").await?;
    let page = SignInPage {
        shell,
        reset: !arrival.reset.is_empty(),
        email: String::new(),
        next: local(&arrival.next).to_owned(),
        error: super::no_error(),
    };
    Ok(Html(page.render()?).into_response())
}

#[derive(Deserialize)]
struct SignInForm {
    email: String,
    password: String,
    #[serde(default)]
    next: String,
}

async fn submit(jar: CookieJar, Entered(visit, input): Entered<SignInForm>) -> Result<Response, Failure> {
    let email = input.email.clone();
    let new = SignIn { email: input.email, password: input.password, ip: visit.ip.clone(), user_agent: visit.user_agent.clone() };
    let (app, now) = (visit.app.clone(), visit.now);
    let (mut visit, signed_in) = visit.aside(sign_in::sign_in(&app, new, now)).await?;
    match signed_in {
        Ok(token) => enter(visit, jar, token, local(&input.next)).await,
        Err(error) if matches!(error.kind, Kind::Unauthenticated | Kind::TooManyAttempts { .. }) => {
            let shell = visit.shell("Sign in", "").await?;
            let status = status_of(error.kind);
            let page = SignInPage { shell, email, next: local(&input.next).to_owned(), reset: false, error };
            Ok((status, Html(page.render()?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// Hands a new session to the browser, and goes on.
pub(super) async fn enter(mut visit: Visit, jar: CookieJar, token: String, to: &str) -> Result<Response, Failure> {
    // A session that the browser had before is over: it may be another person's.
    if let Some(old) = visit.session.take() {
        session::delete(&mut visit.tx, &old).await?;
    }
    let cookie = cookie(&visit.app.config, token);
    visit.commit().await?;
    Ok((jar.add(cookie), Redirect::to(to)).into_response())
}

async fn sign_out(jar: CookieJar, Entered(mut visit, input): Entered<SignOutForm>) -> Result<Response, Failure> {
    if let Some(session) = visit.session.take() {
        super::call::check_csrf(&session, &input.csrf)?;
        session::delete(&mut visit.tx, &session).await?;
    }
    // Browsers heed the removal of a `__Host-` cookie only if it has the attributes that setting one demands.
    let gone = cookie(&visit.app.config, String::new());
    visit.commit().await?;
    Ok((jar.remove(gone), Redirect::to("/sign-in")).into_response())
}

#[derive(Deserialize)]
struct SignOutForm {
    #[serde(default)]
    csrf: String,
}

/// The table decides when a session ends, so the cookie stays for as long as the browser keeps it.
fn cookie(config: &Config, token: String) -> Cookie<'static> {
    let cookie = Cookie::build((session_cookie(config), token)).path("/").http_only(true).same_site(SameSite::Lax);
    cookie.secure(config.secure_cookies()).permanent().build()
}

/// The way back after signing in: a path of this portal, never another site.
fn local(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.chars().any(char::is_control);
    if is_path { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn the_way_back_stays_here() {
        assert_eq!(local("/usage?from=1"), "/usage?from=1");
        for other in ["", "https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\tx"] {
            assert_eq!(local(other), "/", "{other}");
        }
    }
}
