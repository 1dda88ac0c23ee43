//! Sending a call: which address, which connection, and whether once more.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{Method, Response, StatusCode};
use ids::NamespaceId;

use super::{
    RequestBody, UpstreamBody, UpstreamError,
    address::Carrier,
    body::{BodyFault, Source},
    group::Group,
    http1::{self, Http1},
    http2::Stream,
    pool::{Busy, Connection},
};
use crate::{
    pipeline::{meter::Pulse, outgoing::Outgoing},
    policy::services::Upstream,
    turn,
};

/// The most addresses that one call tries to connect to.
const MAX_CONNECTS: usize = 3;
/// How often a call that was certainly not processed is sent again.
const MAX_UNPROCESSED: u32 = 3;

/// How long an upstream may take. All tries together end when the caller of [`send`] drops its future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until there is a connection to an address.
    pub connect: Duration,
    /// For each try, until the head of the answer, from when the upstream had all that there was of the request.
    pub first_byte: Duration,
}

/// Why a try failed.
enum Failed {
    /// Nothing was processed.
    Unprocessed(UpstreamError),
    /// It cannot be told how much was processed.
    Broken(UpstreamError),
}

/// A call under way.
struct Sending<'a> {
    group: &'a Group,
    upstream: &'a Upstream,
    head: &'a Outgoing<'a>,
    patience: Patience,
    /// Whose call it is.
    namespace: NamespaceId,
    /// Has the exchange woken.
    pulse: &'a Pulse,
    source: Rc<Source>,
    /// HTTP/1.1 must be spoken, because the call asks for another protocol after it.
    switches: bool,
    /// Doing it twice is the same as doing it once.
    repeatable: bool,
    retries_left: u8,
    unprocessed: u32,
    tried: Vec<SocketAddr>,
}

/// Sends a call and waits for the head of its answer.
///
/// # Errors
/// When there is none.
pub async fn send(
    group: &Group,
    upstream: &Upstream,
    head: &Outgoing<'_>,
    body: RequestBody,
    patience: Patience,
    namespace: NamespaceId,
    pulse: &Pulse,
) -> Result<(Response<UpstreamBody>, Connection), UpstreamError> {
    let switches = head.switches;
    let mut sending = Sending {
        group,
        upstream,
        head,
        patience,
        namespace,
        pulse,
        source: body.source().clone(),
        switches,
        repeatable: is_idempotent(&head.method) && !switches,
        retries_left: upstream.max_retries.unwrap_or(group.max_retries),
        unprocessed: 0,
        tried: Vec::new(),
    };
    group.budget.call();
    let mut body = Some(body);
    loop {
        let (busy, carrier) = sending.connect().await?;
        let this_body = match body.take() {
            Some(body) => body,
            // Who sends again has made sure of it.
            None => sending.source.again().ok_or(UpstreamError::Overloaded)?,
        };
        let started = turn::now();
        let failed = match carrier {
            Carrier::Http1(connection) => sending.over_http1(busy, connection, this_body, started).await,
            Carrier::Http2(stream) => sending.over_http2(busy, stream, this_body, started).await,
        };
        match failed {
            Ok(answered) => return Ok(answered),
            Err(Failed::Unprocessed(error)) => {
                sending.unprocessed += 1;
                if sending.unprocessed > MAX_UNPROCESSED || !sending.can_repeat() {
                    return Err(error);
                }
            }
            Err(Failed::Broken(error)) => {
                if !sending.may_retry(&error) {
                    return Err(error);
                }
            }
        }
    }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

impl Sending<'_> {
    /// A connection to one of the addresses. Nothing is sent yet, so that another address may be tried without harm; that is not a retry.
    async fn connect(&mut self) -> Result<(Busy, Carrier), UpstreamError> {
        let mut begins = true;
        loop {
            let Some(address) = self.group.pick(&self.tried) else {
                self.group.resolved(self.patience.connect).await?;
                continue;
            };
            let busy = Busy::new(address);
            let address = busy.address();
            self.source.goes_to(address.socket, std::mem::take(&mut begins));
            match address.acquire(self.namespace, self.patience.connect, self.switches).await {
                Ok(carrier) => return Ok((busy, carrier)),
                Err(error) => {
                    if error.is_failure_of_address() {
                        self.group.failed(address);
                    }
                    self.tried.push(address.socket);
                    if self.tried.len() >= MAX_CONNECTS || !self.group.has_other(&self.tried) {
                        return Err(error);
                    }
                    tracing::debug!(%error, address = %address.socket, "another address of the upstream is tried");
                }
            }
        }
    }

    async fn over_http1(
        &mut self,
        busy: Busy,
        connection: Http1,
        body: RequestBody,
        started: Instant,
    ) -> Result<(Response<UpstreamBody>, Connection), Failed> {
        let mut connection = connection;
        if self.repeatable && self.retries_left > 0 {
            self.source.keep();
        }
        let answered = {
            let sending = pin!(connection.send(self.head, body));
            self.within(sending).await
        };
        match answered {
            Ok(Ok(answer)) => {
                self.answered(&busy, answer.status(), started);
                Ok((answer, Connection::new(busy, Carrier::Http1(connection))))
            }
            Ok(Err(failure)) => {
                let error = match failure {
                    http1::Failure::Upstream(error) => UpstreamError::Failed(error),
                    http1::Failure::Body(error) => UpstreamError::Body(error),
                };
                // A connection that the upstream closed for being idle says nothing about its address.
                let was_idle = connection.idle_ticks.is_some_and(|ticks| ticks > 0);
                if !(was_idle && error.is_broken_connection()) {
                    self.failed(&busy);
                }
                self.tried.push(busy.address().socket);
                Err(Failed::Broken(error))
            }
            Err(error) => {
                self.failed(&busy);
                Err(Failed::Broken(error))
            }
        }
    }

    async fn over_http2(
        &mut self,
        busy: Busy,
        stream: Stream,
        body: RequestBody,
        started: Instant,
    ) -> Result<(Response<UpstreamBody>, Connection), Failed> {
        let mut stream = stream;
        self.source.keep();
        let answered = {
            let sending = pin!(stream.send(self.upstream, self.head, body));
            self.within(sending).await
        };
        match answered {
            Ok(Ok(answer)) => {
                self.answered(&busy, answer.status(), started);
                Ok((answer, Connection::new(busy, Carrier::Http2(stream))))
            }
            Ok(Err(failure)) if failure.is_unprocessed => Err(Failed::Unprocessed(failure.error.into())),
            Ok(Err(failure)) => {
                self.failed(&busy);
                self.tried.push(busy.address().socket);
                Err(Failed::Broken(failure.error.into()))
            }
            Err(error) => {
                // Whether the upstream is slow or the connection dead cannot be told; the next calls do not find out.
                stream.suspect();
                self.failed(&busy);
                Err(Failed::Broken(error))
            }
        }
    }

    /// Waits for the head of an answer for as long as the upstream may take; the time in which it waits for the caller's body is not counted. The core's
    /// timer wakes the exchange when the time is over, so that no call has a timer of its own.
    async fn within<T>(&self, mut answer: Pin<&mut impl Future<Output = T>>) -> Result<T, UpstreamError> {
        let (clock, patience) = (self.group.clock(), self.patience.first_byte);
        let mut until = clock.after(patience);
        self.pulse.wake_at(until);
        let answered = poll_fn(|cx| {
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answered));
            }
            if clock.ticks.get() >= until {
                match self.source.patience_left(patience) {
                    Some(left) => until = clock.after(left),
                    None => return Poll::Ready(Err(UpstreamError::FirstByteTimeout(patience))),
                }
                self.pulse.wake_at(until);
            }
            Poll::Pending
        })
        .await;
        self.pulse.wake_at(u64::MAX);
        answered
    }

    fn answered(&self, busy: &Busy, status: StatusCode, started: Instant) {
        self.source.forget();
        let now = turn::now();
        let health = &busy.address().health;
        // What stands before the upstream says that the upstream is broken.
        if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) {
            self.group.failed(busy.address());
        } else {
            health.succeeded(now - started, now);
        }
    }

    /// A try failed, and not because of the caller.
    fn failed(&self, busy: &Busy) {
        if self.source.fault() == BodyFault::None {
            self.group.failed(busy.address());
        }
    }

    fn can_repeat(&self) -> bool {
        self.source.fault() == BodyFault::None && self.source.is_at_hand()
    }

    /// Whether a call whose connection broke may be sent again; takes from the budget.
    fn may_retry(&mut self, error: &UpstreamError) -> bool {
        if !self.repeatable || self.retries_left == 0 || !error.is_broken_connection() || !self.can_repeat() || !self.group.budget.take() {
            return false;
        }
        self.retries_left -= 1;
        tracing::debug!(%error, "a call is sent again");
        true
    }
}
