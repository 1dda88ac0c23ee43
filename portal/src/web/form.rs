//! Forms of signed-in people: the body, after its token was found to be the session's.

use axum::{
    Form,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request, rejection::FormRejection},
    http::{HeaderMap, Method},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    call::{self, Call, UserCall, Visit},
    failure::Failure,
};
use crate::{
    app::App,
    error::{Error, Kind},
};

/// A call together with its form: `async fn create(Posted(mut call, input): Posted<Call, NewKey>)`. A form has a hidden field `csrf`.
#[derive(Debug)]
pub struct Posted<C, T>(pub C, pub T);

/// The token of a form. It is read on its own, because a flattened struct could not read numbers out of a form's texts.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    csrf: String,
}

/// A form that is only a button.
#[derive(Debug, Deserialize)]
pub struct Nothing {}

macro_rules! posted {
    ($call:ty) => {
        impl<T: DeserializeOwned + Send> FromRequest<App> for Posted<$call, T> {
            type Rejection = Response;

            async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
                let (mut parts, body) = request.into_parts();
                let call = <$call>::from_request_parts(&mut parts, app).await?;
                let headers = parts.headers.clone();
                let body = Bytes::from_request(Request::from_parts(parts, body), app).await.map_err(IntoResponse::into_response)?;
                let Token { csrf } = read(&headers, &body, app).await?;
                call::check_csrf(&call.session, &csrf).map_err(|error| Failure::from(error).into_response())?;
                Ok(Self(call, read(&headers, &body, app).await?))
            }
        }
    };
}
posted!(Call);
posted!(UserCall);

/// Reads a form's body, which is in memory already.
async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes, app: &App) -> Result<T, Response> {
    let mut request = Request::new(Body::from(body.clone()));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers.clone();
    let Form(form) = Form::<T>::from_request(request, app).await.map_err(|rejection| unreadable(&rejection))?;
    Ok(form)
}

fn unreadable(rejection: &FormRejection) -> Response {
    let kind = if rejection.status() == 413 { Kind::TooLarge } else { Kind::Invalid };
    let mut error = Error::new(kind, "The form could not be read. Please go back and try again.");
    error.internal = Some(anyhow::anyhow!("{rejection}"));
    Failure::from(error).into_response()
}

/// A visit together with its form, for people who are not signed in: there is no session whose token the form could carry, so the browser's word on
/// where the form stood is taken (`Sec-Fetch-Site`, else `Origin`). Clients that send neither are not browsers, and have no cookies to abuse.
#[derive(Debug)]
pub struct Entered<T>(pub Visit, pub T);

impl<T: DeserializeOwned + Send> FromRequest<App> for Entered<T> {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        if !comes_from_own_page(request.headers(), &app.config.public_origin()) {
            let error = Error::new(Kind::Forbidden, "This form was sent from another site. Please open the page here and try again.");
            return Err(Failure::from(error).into_response());
        }
        let (mut parts, body) = request.into_parts();
        let visit = <Visit as FromRequestParts<App>>::from_request_parts(&mut parts, app).await.map_err(IntoResponse::into_response)?;
        let Form(input) =
            Form::<T>::from_request(Request::from_parts(parts, body), app).await.map_err(|rejection| unreadable(&rejection))?;
        Ok(Self(visit, input))
    }
}

fn comes_from_own_page(headers: &HeaderMap, public_origin: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin" || site == "none",
        // Behind `localhost` and `127.0.0.1` stands the same portal: the origin is right as well if it is the host that the browser asked.
        (None, Some(origin)) => {
            origin == public_origin
                || text("host").is_some_and(|host| origin.split_once("://").is_some_and(|(_, authority)| authority == host))
        }
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_other_sites_are_refused() {
        let case = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            comes_from_own_page(&headers, "https://portal.example.com")
        };
        assert!(case(&[("origin", "https://portal.example.com")]));
        assert!(case(&[("origin", "http://localhost:8080"), ("host", "localhost:8080")]));
        assert!(case(&[("sec-fetch-site", "same-origin"), ("origin", "https://portal.example.com")]));
        assert!(case(&[]));
        assert!(!case(&[("origin", "https://evil.example")]));
        assert!(!case(&[("origin", "null")]));
        assert!(!case(&[("sec-fetch-site", "cross-site"), ("origin", "https://portal.example.com")]));
        assert!(!case(&[("sec-fetch-site", "same-site")]));
    }
}
