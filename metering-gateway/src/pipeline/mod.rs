//! The way of a call. [`handle`] reads as the list of its stages.

pub mod admit;
pub mod authenticate;
pub mod body;
pub mod cors;
pub mod forward;
pub mod forwarded;
pub mod grant;
pub mod headers;
pub mod meter;
pub mod path;
pub mod respond;
pub mod route;
pub mod tunnel;
pub mod units;
pub mod websocket;

use std::{cell::OnceCell, rc::Rc};

use authenticate::api_key;
use body::AnswerBody;
use calendar::Timestamp;
use grant::Grant;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use respond::{About, Failure};

use crate::{core::Core, listener::Peer, policy::index::Index};

/// Answers one call.
pub async fn handle(core: Rc<Core>, peer: Rc<Peer>, request: Request<Incoming>) -> Response<AnswerBody> {
    let index = core.index();
    let now = core.now();
    let request_id = headers::request_id(request.headers()).unwrap_or_else(|| core.request_id());
    let origin = cors::allowed_origin(&index.settings, request.headers());
    if cors::is_preflight(request.method(), request.headers()) {
        return cors::preflight(origin, request.headers());
    }
    let granted = OnceCell::new();
    let mut request = Some(request);
    let answered = stages(&core, &index, &peer, &mut request, &request_id, now, &granted).await;
    if let Some(unread) = request {
        forward::discard(unread.into_body()).await;
    }
    let mut answer = answered.unwrap_or_else(|failure| {
        core.metrics.failed(&failure);
        let about = About { request_id: request_id.to_str().unwrap_or_default(), upgrade_url: &index.settings.upgrade_url };
        failure.into_response(about)
    });
    if let Some(grant) = granted.get() {
        respond::put_limits(&mut answer, grant, grant.limit_header(&core, now));
    }
    answer.headers_mut().insert(HeaderName::from_static(gateway_control::headers::REQUEST_ID), request_id);
    if let Some(origin) = &origin {
        cors::open_to(origin, answer.headers_mut());
    }
    answer
}

/// Route, authenticate, admit, forward, meter. What is granted is left in `granted` even when a later stage fails, and a
/// request that was not forwarded in `unread`.
async fn stages(
    core: &Rc<Core>,
    index: &Index,
    peer: &Rc<Peer>,
    unread: &mut Option<Request<Incoming>>,
    request_id: &HeaderValue,
    now: Timestamp,
    granted: &OnceCell<Rc<Grant>>,
) -> Result<Response<AnswerBody>, Failure> {
    if !core.shared.policy.is_usable(now, core.shared.config.max_policy_age) {
        return Err(Failure::NoPolicy);
    }
    let request = unread.as_ref().ok_or_else(|| Failure::internal("a call was answered twice"))?;
    let path = path::normalize(request.uri().path()).map_err(Failure::AmbiguousPath)?.into_owned();
    let route = route::find(index, request.method(), &path)?;
    let caller = api_key::authenticate(index, request.headers(), now)?;
    let grant = core.grants.get(core, index, caller.key, route, now)?;
    let grant = granted.get_or_init(|| grant);
    forward::check_length(core, request.headers())?;
    let permit = admit::admit(core, grant.clone(), now).await?;
    let exchange = meter::Exchange::open(core, permit, caller.digest);
    let request = unread.take().ok_or_else(|| Failure::internal("a call was answered twice"))?;
    let call = forward::Call { request, path: &path, peer, request_id, key_place: caller.place };
    forward::forward(core, grant, exchange, call).await
}
