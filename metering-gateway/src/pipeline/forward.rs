//! Forwarding: the request goes to the upstream and the head of the answer comes back; bodies stream beside.

use std::{pin::pin, rc::Rc, time::Duration};

use gateway_control::options::UpstreamProtocol;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use journal::{AnsweredBy, Outcome};
use tokio::time::Instant;

use super::{
    body::AnswerBody,
    caller::{CallerStream, Switching},
    forwarded::Origin,
    grant::Grant,
    headers::{self, Forwarded, KeyPlace},
    http2,
    meter::{Ended, Exchange, MeteredBody},
    outgoing::Outgoing,
    respond::Failure,
    tokens,
    tunnel::Tunnel,
};
use crate::{
    core::Core,
    http1,
    listener::Peer,
    observe::trace::Trace,
    policy::entries::CompiledRoute,
    upstream::{self, Connection, RequestBody, UpstreamBody, body::BodyFault, caller::CallerBody},
};

/// How much of a refused request is read, and for how long.
pub const MAX_DISCARDED_BYTES: u64 = 256 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// What a call brings to the stage of forwarding.
#[derive(Debug)]
pub struct Call<'a> {
    /// The request.
    pub request: Box<Request<CallerStream>>,
    /// Its normalized path.
    pub path: &'a str,
    /// The caller's side of the connection.
    pub peer: &'a Peer,
    /// The call's id.
    pub request_id: &'a HeaderValue,
    /// Where the credential stood.
    pub key_place: KeyPlace,
    /// When the caller's time is over, if it says so.
    pub deadline: Option<Instant>,
    /// The call's place in a trace.
    pub trace: Trace,
}

/// Refuses a body that says that it has more than `max` bytes, before the call is admitted.
///
/// # Errors
/// When it does.
pub fn check_length(max: u64, headers: &HeaderMap) -> Result<(), Failure> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length > max) { Err(Failure::BodyTooLarge) } else { Ok(()) }
}

/// Reads what is left of a refused request, within bounds: a caller that is still sending would otherwise meet a closed connection, not the answer.
///
/// HTTP/2 has a message for it, so nothing needs to be read there; and who waits for `100 Continue` shall not get it.
pub async fn discard(request: Box<Request<CallerStream>>) {
    if request.version() > Version::HTTP_11 || request.headers().contains_key(header::EXPECT) || request.body().is_end_stream() {
        return;
    }
    let mut body = request.into_body();
    let mut left = MAX_DISCARDED_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    if tokio::time::timeout(DISCARD_TIMEOUT, reading).await.is_err() {
        tracing::debug!("a refused request was not read to its end");
    }
}

/// Sends the call on and returns the upstream's answer, whose body is metered. A failure has been recorded as an answer of the gateway's own.
///
/// # Errors
/// When the upstream gave no answer.
pub async fn forward(core: &Rc<Core>, grant: &Rc<Grant>, exchange: Exchange, mut call: Call<'_>) -> Result<Response<AnswerBody>, Failure> {
    let deadline = earliest(call.deadline, grant.route.total_timeout().map(|total| Instant::now() + total));
    let is_extended = http2::is_websocket(&call.request);
    // HTTP/2 knows no upgrade to an upstream; a server may always decline one.
    let can_switch = grant.upstream.group.protocol != UpstreamProtocol::Http2;
    let upgrade = match call.request.version() {
        Version::HTTP_11 if can_switch => headers::upgrade(call.request.headers()),
        _ => (is_extended && can_switch).then(http2::upgrade),
    };
    let from_caller = (upgrade.is_some() || is_extended).then(|| Switching::of(&mut call.request));
    let switch = from_caller.map(|caller| Switch { caller, is_extended, protocol: upgrade.clone() });
    let answer = match send(core, grant, &exchange, call, upgrade, deadline).await {
        Ok((answer, connection)) => answered(grant, exchange, answer, connection, Asked { deadline, switch })?,
        Err(failure) => return Err(fail(&exchange, failure)),
    };
    answer.body().may_end().await;
    Ok(answer)
}

/// Sends the request and waits for the head of its answer.
async fn send(
    core: &Rc<Core>,
    grant: &Rc<Grant>,
    exchange: &Exchange,
    call: Call<'_>,
    upgrade: Option<HeaderValue>,
    deadline: Option<Instant>,
) -> Result<(Response<UpstreamBody>, Connection), Failure> {
    let (head, body) = rewrite(core, grant, exchange, call, upgrade)?;
    let source = body.source().clone();
    let pulse = exchange.pulse();
    exchange.sent();
    let sending = pin!(upstream::send(&grant.group, &grant.upstream, &head, body, grant.patience, grant.key.namespace, &pulse));
    let sent = exchange.unless_ended(deadline, sending).await;
    exchange.went(source.way());
    match sent {
        Ok(Ok(answered)) => Ok(answered),
        Ok(Err(error)) => Err(match source.fault() {
            BodyFault::None => Failure::Upstream(error),
            BodyFault::Caller => Failure::BodyIncomplete,
            BodyFault::TooLarge => Failure::BodyTooLarge,
            BodyFault::TooSlow => Failure::BodyTooSlow,
        }),
        Err(Ended::Stopped(stop)) => Err(Failure::Stopped(stop)),
        Err(Ended::TimedOut) => Err(Failure::DeadlineExceeded),
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What is left of a call once it was sent.
struct Asked {
    deadline: Option<Instant>,
    switch: Option<Switch>,
}

/// A caller that asked for another protocol.
struct Switch {
    caller: Switching,
    /// It asked by extended CONNECT.
    is_extended: bool,
    /// The protocol, if the upstream was asked for one.
    protocol: Option<HeaderValue>,
}

/// The upstream has answered: the answer's body follows, or another protocol.
fn answered(
    grant: &Grant,
    exchange: Exchange,
    answer: Response<UpstreamBody>,
    connection: Connection,
    asked: Asked,
) -> Result<Response<AnswerBody>, Failure> {
    let Asked { deadline, switch } = asked;
    exchange.head(answer.status(), AnsweredBy::Upstream, answer.headers());
    let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    match (switches, switch) {
        (true, Some(Switch { caller, is_extended, protocol: Some(protocol) })) if is_switch_to(&answer, &protocol) => {
            let overdue = grant.route.total_timeout().and(deadline);
            let mut answer = switch_over(answer, connection, Tunnel { caller, exchange, overdue })?;
            if is_extended {
                http2::accept(&mut answer);
            }
            Ok(edited(grant, answer))
        }
        // What nobody asked for nobody could speak (RFC 9110, 7.8).
        (true, _) => {
            let error = http1::Error::Malformed("it switched to a protocol that nobody asked for");
            Err(fail(&exchange, Failure::Upstream(error.into())))
        }
        // To a caller that asked by CONNECT, success would mean that the WebSocket is open.
        (false, Some(Switch { is_extended: true, .. })) if answer.status().is_success() => Err(fail(&exchange, Failure::NotSwitched)),
        (false, _) => {
            let (mut parts, body) = answer.into_parts();
            headers::to_caller(&mut parts.headers, false);
            parts.version = Version::default();
            let body = MeteredBody::boxed(body, exchange, connection, deadline);
            Ok(edited(grant, Response::from_parts(parts, AnswerBody::Metered(body))))
        }
    }
}

/// Whether an upstream switches to a certain protocol.
fn is_switch_to<B>(answer: &Response<B>, protocol: &HeaderValue) -> bool {
    let mut named = answer.headers().get_all(header::UPGRADE).iter();
    named.next().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(protocol.as_bytes())) && named.next().is_none()
}

/// Changes the upstream's headers as the route says. Units were read before.
fn edited(grant: &Grant, mut answer: Response<AnswerBody>) -> Response<AnswerBody> {
    if let Some(options) = &grant.route.options {
        options.response_headers.apply(answer.headers_mut());
    }
    answer
}

/// Settles an exchange to which the gateway itself answers.
fn fail(exchange: &Exchange, failure: Failure) -> Failure {
    exchange.head(failure.status(), AnsweredBy::Gateway, &HeaderMap::new());
    exchange.settle(if matches!(failure, Failure::BodyIncomplete | Failure::BodyTooSlow) { Outcome::Aborted } else { Outcome::Broken });
    failure
}

/// Brings the request into the form for the upstream.
fn rewrite<'g>(
    core: &Core,
    grant: &'g Grant,
    exchange: &Exchange,
    call: Call<'_>,
    upgrade: Option<HeaderValue>,
) -> Result<(Outgoing<'g>, RequestBody), Failure> {
    let Call { request, path, peer, request_id, key_place, trace, .. } = call;
    let takes_lines = takes_lines(&grant.route, &request, exchange);
    let (parts, body) = (*request).into_parts();
    let target = grant.route.target(&grant.upstream.base_path, path, parts.uri.query());
    if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(Failure::internal(format!("the target {target:?} for the upstream is none")));
    }
    let host = parts
        .headers
        .get(header::HOST)
        .cloned()
        .or_else(|| parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()));
    let forwarded = Forwarded {
        request_id,
        origin: Origin { peer, trusted_hops: core.shared.config.trusted_proxy_hops, host, prefix: grant.route.prefix() },
        key_place,
        upgrade,
        wants_trailers: grant.route.wants_trailers,
    };
    let mut outgoing = Outgoing::new(parts.method, target, parts.headers, &grant.told, &forwarded, &trace);
    outgoing.takes_lines = takes_lines;
    if let Some(options) = &grant.route.options
        && !options.request_headers.is_empty()
    {
        outgoing.edit(|headers| options.request_headers.apply(headers));
    }
    if grant.route.reads_tokens {
        outgoing.edit(|headers| _ = headers.insert(header::ACCEPT_ENCODING, tokens::ACCEPTED_ENCODING));
    }
    let config = &core.shared.config;
    let max = grant.route.max_request_body_bytes(config.max_request_body_bytes);
    let body_timeout = grant.route.idle_timeout(config.body_timeout).min(config.body_timeout);
    let body = CallerBody::new(body, body_timeout, exchange.pulse());
    Ok((outgoing, RequestBody::new(body, max, exchange.message_tap())))
}

/// Whether nobody needs to look at a field of the answer: no meter, no rule of the route or of CORS, and no other protocol.
fn takes_lines(route: &CompiledRoute, request: &Request<CallerStream>, exchange: &Exchange) -> bool {
    request.version() <= Version::HTTP_11
        && !exchange.is_grpc()
        && !route.reads_head
        && route.options.as_ref().is_none_or(|options| options.response_headers.is_empty())
        && !request.headers().contains_key(header::ORIGIN)
}

/// Both sides agree on another protocol: the exchange goes on in a tunnel.
fn switch_over(answer: Response<UpstreamBody>, connection: Connection, tunnel: Tunnel) -> Result<Response<AnswerBody>, Failure> {
    let is_websocket = answer.headers().get(header::UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let Some((upstream, counted)) = connection.switched() else {
        return Err(fail(&tunnel.exchange, Failure::internal("the upstream switched protocols where that cannot be")));
    };
    let (mut parts, _) = answer.into_parts();
    headers::to_caller(&mut parts.headers, true);
    parts.version = Version::default();
    tokio::task::spawn_local(async move {
        tunnel.run(upstream, is_websocket).await;
        // Until here it counts as one of the connections that the upstream may have.
        drop(counted);
    });
    Ok(Response::from_parts(parts, AnswerBody::empty()))
}
