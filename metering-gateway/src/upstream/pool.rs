//! One core's connections to upstreams.
//!
//! Over HTTP/1.1 a connection is taken from the idle ones or made, carries one exchange at a time, and goes back when the answer's body has ended. Over
//! HTTP/2 a connection carries as many exchanges as its peer allows; when all are full, one more is made. What certainly was not processed is sent again
//! on another connection; nothing else is ever sent twice.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    future::Future,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use gateway_control::options::UpstreamProtocol;
use http::{Request, Response, uri::Authority};
use hyper::client::conn::http1::SendRequest;
use tokio::{net::TcpStream, time::timeout};

use super::{
    RequestBody, UpstreamBody, UpstreamError,
    body::Source,
    connect::{Bytestream, Connected},
    http2::{self, Http2, Stream},
    tls::TlsConfigs,
};
use crate::policy::entries::Upstream;

/// The most idle connections that are kept for one upstream on one core.
const MAX_IDLE: usize = 256;
/// How long a connection may be idle before it is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request that was not processed is sent again.
const MAX_UNPROCESSED: u32 = 3;

/// One core's connections.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

struct Inner {
    lanes: RefCell<HashMap<(bool, UpstreamProtocol, Authority), Rc<Lane>>>,
    open: Rc<Cell<usize>>,
    tls: TlsConfigs,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("open", &self.0.open).finish_non_exhaustive()
    }
}

/// The connections to one upstream.
#[derive(Debug, Default)]
struct Lane {
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Http2>>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection, or a stream of one, that carries an exchange. Dropped without [`Connection::release`], it is closed or reset.
#[derive(Debug)]
pub struct Connection {
    lane: Rc<Lane>,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Http1(SendRequest<RequestBody>),
    Http2(Stream),
}

impl Connection {
    /// The exchange has ended in order: another may follow.
    pub fn release(self) {
        let Held::Http1(sender) = self.held else { return };
        let mut idle = self.lane.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

/// How long a call waits for its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until there is a connection.
    pub connect: Duration,
    /// From the end of the request until the head of the answer.
    pub first_byte: Duration,
}

/// Counts a connection while it is open.
struct Open(Rc<Cell<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Lane {
    /// The connection that was used last, so that those in excess grow old.
    fn take_idle(&self) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { sender, since }) = idle.pop() {
            if sender.is_ready() && since.elapsed() < IDLE_TIMEOUT {
                return Some(sender);
            }
        }
        None
    }

    fn take_stream(&self) -> Option<Stream> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !connection.is_closed());
        shared.iter().find_map(Http2::reserve)
    }

    fn take(&self) -> Option<Held> {
        self.take_idle().map(Held::Http1).or_else(|| self.take_stream().map(Held::Http2))
    }
}

impl Pool {
    /// No connections yet.
    pub fn new(tls: TlsConfigs) -> Self {
        Self(Rc::new(Inner { lanes: RefCell::default(), open: Rc::default(), tls }))
    }

    fn lane(&self, upstream: &Upstream, protocol: UpstreamProtocol) -> Rc<Lane> {
        self.0.lanes.borrow_mut().entry((upstream.tls.is_some(), protocol, upstream.authority.clone())).or_default().clone()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(
        &self,
        upstream: &Arc<Upstream>,
        Patience { connect, first_byte: patience }: Patience,
        request: Request<RequestBody>,
    ) -> Result<(Response<UpstreamBody>, Connection), UpstreamError> {
        let switches = request.headers().contains_key(http::header::UPGRADE);
        let protocol = if switches { UpstreamProtocol::Http1 } else { upstream.protocol };
        let lane = self.lane(upstream, protocol);
        let (mut head, body) = request.into_parts();
        let source = body.source().clone();
        let mut body = Some(body);
        let mut unprocessed = 0;
        loop {
            let (held, reused) = match lane.take() {
                Some(held) => (held, true),
                None => (self.connect(upstream, protocol, &lane, connect).await?, false),
            };
            let sending = match body.take() {
                Some(body) => body,
                None => source.again().ok_or(UpstreamError::FirstByteTimeout(patience))?,
            };
            match held {
                Held::Http1(mut sender) => {
                    let request = Request::from_parts(head, sending);
                    match within(sender.try_send_request(request), &source, patience).await? {
                        Ok(answer) => {
                            let connection = Connection { lane, held: Held::Http1(sender) };
                            return Ok((answer.map(UpstreamBody::Http1), connection));
                        }
                        Err(mut error) => match error.take_message().filter(|_| reused) {
                            // Nothing was sent: the idle connection had been closed meanwhile.
                            Some(unsent) => {
                                let (unsent, returned) = unsent.into_parts();
                                (head, body) = (unsent, Some(returned));
                            }
                            None => return Err(error.into_error().into()),
                        },
                    }
                }
                Held::Http2(mut stream) => {
                    source.keep();
                    match within(stream.send(upstream, &head, sending), &source, patience).await? {
                        Ok(answer) => return Ok((answer, Connection { lane, held: Held::Http2(stream) })),
                        Err(error) if http2::never_processed(&error) && unprocessed < MAX_UNPROCESSED => {
                            unprocessed += 1;
                            body = Some(source.again().ok_or(error)?);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }

    async fn connect(
        &self,
        upstream: &Upstream,
        protocol: UpstreamProtocol,
        lane: &Rc<Lane>,
        patience: Duration,
    ) -> Result<Held, UpstreamError> {
        let connecting = async {
            let stream = TcpStream::connect((upstream.host.as_str(), upstream.port)).await?;
            Bytestream::secure(stream, upstream.tls.as_ref(), protocol, &self.0.tls).await
        };
        let stream =
            timeout(patience, connecting).await.map_err(|_| UpstreamError::ConnectTimeout(patience))?.map_err(UpstreamError::Connect)?;
        let open = &self.0.open;
        open.set(open.get() + 1);
        match stream.speak(protocol, || (), Open(open.clone())).await? {
            Connected::Http1(sender) => Ok(Held::Http1(sender)),
            Connected::Http2(connection) => {
                let stream = connection.reserve();
                lane.shared.borrow_mut().push(connection);
                stream.map(Held::Http2).ok_or_else(|| UpstreamError::FailedHttp2(h2::Reason::REFUSED_STREAM.into()))
            }
        }
    }

    /// Closes what was idle for long.
    pub fn sweep(&self) {
        for lane in self.0.lanes.borrow().values() {
            lane.idle.borrow_mut().retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT && !idle.sender.is_closed());
            lane.shared.borrow_mut().retain(|connection| !connection.is_closed());
        }
    }

    /// Closes everything that is idle.
    pub fn clear(&self) {
        for lane in self.0.lanes.borrow().values() {
            lane.idle.borrow_mut().clear();
            lane.shared.borrow_mut().clear();
        }
    }

    /// How many connections are open, idle ones included.
    pub fn open(&self) -> usize {
        self.0.open.get()
    }
}

/// Waits for the head of an answer for as long as the upstream may take; the time in which it waits for the caller's body is not counted.
async fn within<T>(answer: impl Future<Output = T>, source: &Source, patience: Duration) -> Result<T, UpstreamError> {
    let mut answer = pin!(answer);
    let mut left = patience;
    loop {
        match timeout(left, answer.as_mut()).await {
            Ok(answered) => return Ok(answered),
            Err(_) => left = source.patience_left(patience).ok_or(UpstreamError::FirstByteTimeout(patience))?,
        }
    }
}
