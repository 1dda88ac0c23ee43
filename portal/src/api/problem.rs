//! The only place where an operation's error becomes a REST answer (RFC 9457); errors are logged here, once.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    error::{Error, Kind},
    web::failure,
};

/// An error on its way to a REST client.
#[derive(Debug)]
pub struct Problem(pub Error);

impl<E: Into<Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

fn kind_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Invalid => ("urn:tollkeeper:problem:invalid", "The input is not valid"),
        Kind::Unauthenticated => ("urn:tollkeeper:problem:unauthenticated", "A valid token is needed"),
        Kind::Forbidden => ("urn:tollkeeper:problem:forbidden", "Not allowed"),
        Kind::NotFound => ("urn:tollkeeper:problem:not-found", "Not found"),
        Kind::Conflict => ("urn:tollkeeper:problem:conflict", "Conflict"),
        Kind::TooLarge => ("urn:tollkeeper:problem:too-large", "The input is too large"),
        Kind::TooManyAttempts { .. } => ("urn:tollkeeper:problem:too-many-attempts", "Too many attempts"),
        Kind::Unavailable => ("urn:tollkeeper:problem:unavailable", "Temporarily unavailable"),
        Kind::Internal => ("urn:tollkeeper:problem:internal", "Internal error"),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(error) = self;
        failure::log(&error);
        let status: StatusCode = failure::status_of(error.kind);
        let (r#type, title) = kind_of(error.kind);
        let fields = error.fields.into_iter();
        let body = portal_api::Problem {
            r#type: r#type.to_owned(),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: error.public.into_owned(),
            errors: fields.map(|field| portal_api::FieldProblem { field: field.field.into_owned(), message: field.message }).collect(),
        };
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match error.kind {
            Kind::TooManyAttempts { retry_after } => {
                headers.insert(header::RETRY_AFTER, retry_after.into());
            }
            Kind::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// The answer to a path below `/api/v1` that nothing serves.
pub async fn not_found() -> Problem {
    Problem(Error::not_found("This endpoint"))
}
