//! The way of a call. [`handle`] reads as the list of its stages.

pub mod admit;
pub mod authenticate;
pub mod body;
pub mod caller;
pub mod cors;
pub mod extras;
pub mod forward;
pub mod forwarded;
pub mod grant;
pub mod grpc;
pub mod headers;
pub mod http2;
pub mod meter;
pub mod outgoing;
pub mod path;
pub mod respond;
pub mod route;
pub mod said;
pub mod standing;
pub mod tokens;
pub mod tunnel;
pub mod units;
pub mod websocket;
pub mod wellformed;

use std::{cell::OnceCell, rc::Rc};

use authenticate::api_key;
use body::AnswerBody;
use calendar::Timestamp;
use caller::CallerStream;
use grant::{Grant, Known};
use http::{HeaderValue, Request, Response, Version, header};
use respond::{About, Failure};
use said::{Limits, Said};

use crate::{
    core::Core,
    listener::Peer,
    observe::{Observation, trace::Trace},
    policy::{entries::CompiledRoute, index::Index, router::Asked},
};

/// Answers one call.
pub async fn handle(core: Rc<Core>, peer: Rc<Peer>, request: Box<Request<CallerStream>>) -> Answer {
    let index = core.index();
    let now = core.now();
    let request_id = headers::request_id(request.headers()).unwrap_or_else(|| core.request_id());
    let (trace, observed) = core.shared.observer.begin(&core.trace_ids, &request, &request_id, &peer, now);
    if cors::is_preflight(request.method(), request.headers()) {
        let answer = cors::preflight(&index, &request);
        observed.inspect(|observed| observed.answered(answer.status().as_u16()));
        return Answer { response: answer, said: None };
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let found = Found { route: OnceCell::new(), grant: OnceCell::new(), trace, observed };
    let is_grpc = grpc::is_call(&request);
    let is_http1 = request.version() <= Version::HTTP_11;
    let mut request = Some(request);
    let answered = stages(&core, &index, &peer, &mut request, &request_id, now, &found).await;
    if let Some(unread) = request {
        forward::discard(unread).await;
    }
    let mut answer = answered.unwrap_or_else(|failure| {
        core.metrics.failed(&failure);
        if let Some(observed) = &found.observed {
            observed.problem(failure.slug());
        }
        let about = About { request_id: request_id.to_str().unwrap_or_default(), upgrade_url: &index.settings.upgrade_url, is_grpc };
        // What follows an ambiguous request on its connection may be a part of it (RFC 9112, 6.1).
        let is_last = is_http1 && matches!(failure, Failure::Malformed(_));
        let mut answer = failure.into_response(about);
        if is_last {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    });
    if let Some(origin) = &origin {
        cors::open_to(origin, &index.settings, found.route.get().and_then(|route| route.cors()), answer.headers_mut());
    }
    if let Some(observed) = &found.observed {
        observed.answered(answer.status().as_u16());
    }
    let said = Said { request_id, limits: found.grant.into_inner().map(|grant| Limits { core, grant, now }) };
    Answer { response: answer, said: Some(said) }
}

/// The answer to a call.
#[derive(Debug)]
pub struct Answer {
    /// The answer itself.
    pub response: Response<AnswerBody>,
    /// What the gateway says on it besides.
    pub said: Option<Said>,
}

impl Answer {
    /// With what the gateway says in its head.
    pub fn into_response(mut self) -> Response<AnswerBody> {
        if let Some(said) = &self.said {
            said.put(self.response.headers_mut());
        }
        self.response
    }
}

/// What the stages found out of a call, for the answer to it, whichever stage gives it.
struct Found<'a> {
    route: OnceCell<&'a CompiledRoute>,
    grant: OnceCell<Rc<Grant>>,
    trace: Trace,
    /// What will be told of the call, if anything will.
    observed: Option<Observation>,
}

/// Route, authenticate, admit, forward, meter. What was found is left in `found` even when a later stage fails, and a request that was not forwarded
/// in `unread`.
async fn stages<'a>(
    core: &Rc<Core>,
    index: &'a Index,
    peer: &Rc<Peer>,
    unread: &mut Option<Box<Request<CallerStream>>>,
    request_id: &HeaderValue,
    now: Timestamp,
    found: &Found<'a>,
) -> Result<Response<AnswerBody>, Failure> {
    if let Some(request) = unread.as_mut().filter(|request| request.version() == Version::HTTP_2) {
        http2::adopt(request)?;
    }
    let request = unread.as_ref().ok_or_else(|| Failure::internal("a call was answered twice"))?;
    wellformed::check(request.version(), request.uri(), request.headers()).map_err(Failure::Malformed)?;
    let path = path::normalize(request.uri().path()).map_err(Failure::AmbiguousPath)?.into_owned();
    let asked = Asked { method: request.method(), path: &path, uri: request.uri(), headers: request.headers() };
    let routed = route::find(index, asked);
    // Without a route, too, the policy's word counts only while it is young enough.
    let config = &core.shared.config;
    let max_policy_age = routed.as_ref().map_or(config.max_policy_age, |route| route.max_policy_age(config.max_policy_age));
    if !core.shared.policy.is_usable(now, max_policy_age) {
        return Err(Failure::NoPolicy);
    }
    let route = routed?;
    found.route.get_or_init(|| route);
    if let Some(observed) = &found.observed {
        observed.route(route);
    }
    let shown = api_key::shown(request.headers())?;
    let Known { digest, grant: known } = core.grants.known(index, &shown, route, now);
    let key = known.as_ref().map_or_else(|| api_key::find(index, &digest, now, &core.metrics), |known| Ok(&known.key))?;
    if let Some(observed) = &found.observed {
        observed.key(key);
    }
    let grant = match &known {
        Some(known) => known.clone(),
        None => core.grants.get(core, index, (&shown, key), route, now)?,
    };
    let key_place = shown.place;
    let grant = found.grant.get_or_init(|| grant);
    forward::check_length(route.max_request_body_bytes(config.max_request_body_bytes), request.headers())?;
    if peer.carries(&core.places, &grant.calls) {
        core.metrics.surplus_connection();
    }
    // Before anything is waited for: who waits takes a place too.
    let place = core.places.take(&grant.calls).ok_or(Failure::Overloaded)?;
    core.turns.begin(grant.calls.turns()).await;
    let permit = admit::admit(core, grant.clone(), place, now).await?;
    let is_grpc = grpc::is_call(request);
    let deadline = if is_grpc { grpc::deadline(request.headers()) } else { None };
    let exchange = meter::Exchange::open(core, peer.clone(), permit, digest, is_grpc, found.observed.clone());
    let request = unread.take().ok_or_else(|| Failure::internal("a call was answered twice"))?;
    let call = forward::Call { request, path: &path, peer, request_id, key_place, deadline, trace: found.trace };
    forward::forward(core, grant, exchange, call).await
}
