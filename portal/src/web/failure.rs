//! The only place where a page's error becomes a response; errors are logged here, once.

use std::any::Any;

use askama::Template;
use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use super::shell::Shell;
use crate::error::{Error, Kind};

/// An error on its way to a browser.
#[derive(Debug)]
pub struct Failure(pub Error);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl From<askama::Error> for Error {
    fn from(error: askama::Error) -> Self {
        Self::internal(error)
    }
}

#[derive(Template)]
#[template(path = "pages/error.html")]
struct ErrorPage<'a> {
    shell: Shell,
    status: u16,
    error: &'a Error,
}

/// The status of a kind of failure.
pub fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Logs what only we may see.
pub fn log(error: &Error) {
    if let Some(internal) = &error.internal {
        tracing::error!(kind = ?error.kind, error = %format!("{internal:#}"), "request failed");
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(error) = self;
        log(&error);
        let status = status_of(error.kind);
        let shell = Shell::new(title(error.kind), "", None, None, false);
        let page = ErrorPage { shell, status: status.as_u16(), error: &error }.render();
        let mut response = match page {
            Ok(page) => (status, Html(page)).into_response(),
            Err(_) => (status, error.public.into_owned()).into_response(),
        };
        if let Kind::TooManyAttempts { retry_after } = error.kind {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after.into());
        }
        response
    }
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::NotFound => "Page not found",
        Kind::Forbidden => "Not allowed",
        Kind::Unauthenticated => "Please sign in",
        Kind::TooManyAttempts { .. } => "Too many attempts",
        Kind::Unavailable => "Temporarily unavailable",
        Kind::Internal => "Something went wrong",
        Kind::Invalid | Kind::Conflict | Kind::TooLarge => "This did not work",
    }
}

/// The answer to a request whose handler panicked.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Failure(Error::internal(anyhow::anyhow!("handler panicked: {}", message.unwrap_or("unknown")))).into_response()
}

/// The answer to a path that nothing serves.
pub async fn not_found() -> Failure {
    Failure(Error::not_found("This page"))
}
