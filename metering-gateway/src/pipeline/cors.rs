//! Calls from browsers (the Fetch standard's CORS protocol) for the origins that the installation names.

use gateway_control::policy::Settings;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::body::AnswerBody;

/// What a script may read beside what every script may.
const EXPOSED: HeaderValue = HeaderValue::from_static("ratelimit, ratelimit-policy, retry-after, x-request-id");
/// How long a browser may remember a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origin of a browser's call, if it is one of those that may call.
pub fn allowed_origin(settings: &Settings, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    settings.cors_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Whether a request only asks whether another one may be made.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight. An origin that may not call gets one without permissions, which a browser takes for a no.
pub fn preflight(origin: Option<HeaderValue>, headers: &HeaderMap) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let out = answer.headers_mut();
    out.insert(header::VARY, HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"));
    if let Some(origin) = origin {
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        out.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if let Some(method) = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD) {
            out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        }
        if let Some(names) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
    answer
}

/// Lets the scripts of an allowed origin read an answer. What the upstream says about origins stays for all others.
pub fn open_to(origin: &HeaderValue, answer: &mut HeaderMap) {
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    answer.append(header::VARY, HeaderValue::from_static("origin"));
}
