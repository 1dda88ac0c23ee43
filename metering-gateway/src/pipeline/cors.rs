//! Calls from browsers (the Fetch standard's CORS protocol): for the origins that the installation names, and for those that a route names.

use std::borrow::Cow;

use gateway_control::policy::Settings;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use super::{body::AnswerBody, path};
use crate::policy::{index::Index, options::CompiledCors, router::Asked};

/// What a script may read beside what every script may.
const EXPOSED: &str = "ratelimit, ratelimit-policy, retry-after, x-request-id";
/// How long a browser may remember a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// What an upstream may say of origins; where the gateway answers for them, it alone does.
const SAID_OF_ORIGINS: [HeaderName; 3] =
    [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, header::ACCESS_CONTROL_EXPOSE_HEADERS];

/// What a browser's origin may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave<'a> {
    /// The origin, or `*`.
    origin: HeaderValue,
    /// What the route says, unless the origin is one of the installation's.
    cors: Option<&'a CompiledCors>,
}

impl<'a> Leave<'a> {
    /// Judges an origin by the installation's own origins, then by the route's.
    fn of(settings: &Settings, cors: Option<&'a CompiledCors>, origin: &HeaderValue) -> Option<Self> {
        if settings.cors_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
            return Some(Self { origin: origin.clone(), cors: None });
        }
        let cors = cors.filter(|cors| cors.allows(origin))?;
        let origin = if cors.allows_all() { HeaderValue::from_static("*") } else { origin.clone() };
        Some(Self { origin, cors: Some(cors) })
    }

    fn put(self, headers: &mut HeaderMap) {
        if self.cors.is_some_and(|cors| cors.credentials) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
    }
}

/// Whether a request only asks whether another one may be made.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight, which needs no key and is never billed (M8). An origin that may not call gets one without permissions, which a browser
/// takes for a no.
pub fn preflight<B>(index: &Index, request: &Request<B>) -> Response<AnswerBody> {
    let headers = request.headers();
    let mut answer = Response::new(AnswerBody::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let out = answer.headers_mut();
    out.insert(header::VARY, HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"));
    let Some(origin) = headers.get(header::ORIGIN) else { return answer };
    if let Some(leave) = Leave::of(&index.settings, of_route(index, request, origin), origin) {
        let max_age = leave.cors.and_then(|cors| cors.max_age.clone()).unwrap_or(MAX_AGE);
        leave.put(out);
        out.insert(header::ACCESS_CONTROL_MAX_AGE, max_age);
        if let Some(method) = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD) {
            out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        }
        if let Some(names) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
    answer
}

/// What the route says that the announced request will take, if it lets the origin call.
fn of_route<'a, B>(index: &'a Index, request: &Request<B>, origin: &HeaderValue) -> Option<&'a CompiledCors> {
    let method: Method = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes().try_into().ok()?;
    let path: Cow<'_, str> = path::normalize(request.uri().path()).ok()?;
    let asked = Asked { method: &method, path: &path, uri: request.uri(), headers: request.headers() };
    index.router.preflight(asked, |cors| cors.allows(origin))
}

/// Lets the scripts of an allowed origin read an answer. What the upstream says about origins stays where the gateway has nothing to say.
pub fn open_to(origin: &HeaderValue, settings: &Settings, cors: Option<&CompiledCors>, answer: &mut HeaderMap) {
    let leave = Leave::of(settings, cors, origin);
    if leave.is_none() && cors.is_none() {
        return;
    }
    SAID_OF_ORIGINS.iter().for_each(|name| _ = answer.remove(name));
    if leave.as_ref().is_none_or(|leave| leave.origin != "*") {
        answer.append(header::VARY, HeaderValue::from_static("origin"));
    }
    let Some(leave) = leave else { return };
    let further = leave.cors.map_or("", |cors| &cors.expose);
    let exposed = if further.is_empty() { HeaderValue::from_static(EXPOSED) } else { joined(further) };
    answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    leave.put(answer);
}

fn joined(further: &str) -> HeaderValue {
    HeaderValue::try_from(format!("{EXPOSED}{further}")).expect("names of headers, which have been checked, make a value")
}
