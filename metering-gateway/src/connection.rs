//! HTTP on one connection of a caller: HTTP/1.1 or HTTP/2, as its first bytes say.

use std::{cell::Cell, convert::Infallible, future::poll_fn, net::IpAddr, rc::Rc, sync::atomic::Ordering::Relaxed, time::Duration};

use http::{HeaderValue, Request, StatusCode, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::Config,
    core::Core,
    drain::{Notice, Order},
    guard::{
        addresses::Seat,
        conduct::{Conduct, WatchedBody},
        lifeline,
        stream::PatientStream,
    },
    listener::{Peer, greet, settings::ProxyProtocol},
    pipeline,
};

/// The largest head of a request, and the most headers in it.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// What one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 256;
/// How many streams of a connection may be reset before the core has looked at them, and how many may break the protocol, until it is closed
/// (CVE-2023-44487 and its kin).
const MAX_PENDING_RESETS: usize = 20;
const MAX_FAULTY_STREAMS: usize = 128;
/// How much of requests' bodies is taken in before an upstream has read it: of one stream, and of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How much of an answer waits for a stream whose caller gives it no window.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How often a silent HTTP/2 connection is asked whether it is alive, and how long that may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection that was told to go may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs what belongs to one connection on the core's thread.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(lifeline::carry(future));
    }
}

/// Counts a connection while it is open.
#[derive(Debug)]
pub struct Connected {
    core: Rc<Core>,
    /// Its place among the connections of its address, where those are bounded.
    _seat: Option<Seat>,
}

impl Connected {
    /// Counts it.
    pub fn new(core: Rc<Core>, seat: Option<Seat>) -> Self {
        core.metrics.connections.fetch_add(1, Relaxed);
        Self { core, _seat: seat }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.core.metrics.connections.fetch_sub(1, Relaxed);
    }
}

/// Brings a connection as far as HTTP, and serves it. What plain connections do not need stands in boxes, so that they do not take its memory.
pub async fn welcome(connected: Connected, stream: TcpStream, address: IpAddr, tls: Option<TlsAcceptor>, notice: Notice) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let core = connected.core.clone();
    let listener = &core.shared.config.listener;
    match tls {
        None if listener.proxy_protocol == ProxyProtocol::Off => serve(core, stream, Peer::new(address, false), notice).await,
        None => {
            Box::pin(async {
                let mut stream = stream;
                if let Some(address) = greet(&core, &notice, greet::address(&mut stream, address, listener)).await {
                    serve(core.clone(), stream, Peer::new(address, false), notice).await;
                }
            })
            .await;
        }
        Some(acceptor) => {
            Box::pin(async {
                let greeting = async {
                    let mut stream = stream;
                    let address = greet::address(&mut stream, address, listener).await?;
                    Ok((address, greet::secure(stream, &acceptor, core.shared.config.head_timeout).await?))
                };
                if let Some((address, stream)) = greet(&core, &notice, greeting).await {
                    serve(core.clone(), stream, Peer::new(address, true), notice).await;
                }
            })
            .await;
        }
    }
    drop(connected);
}

/// What comes before HTTP. `None` where it failed, or idle connections are closed: nothing has been asked yet, so nothing is lost.
async fn greet<T>(core: &Core, notice: &Notice, greeting: impl Future<Output = Result<T, greet::Refused>>) -> Option<T> {
    tokio::select! {
        greeted = greeting => greeted
            .inspect_err(|refused| {
                core.metrics.refused_connection();
                tracing::debug!(%refused, "a connection was closed before HTTP began");
            })
            .ok(),
        () = notice.closing() => None,
    }
}

async fn serve<S>(core: Rc<Core>, stream: S, peer: Peer, mut notice: Notice)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Rc::new(peer);
    let config = &core.shared.config;
    let stream = PatientStream::new(stream, config.read_timeout);
    let conduct = Conduct::default();
    // The protocol, once something was asked, and whether no other answer follows.
    let asked = Cell::new(None);
    let last = Rc::new(Cell::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        let call = conduct.begin();
        asked.set(Some(request.version()));
        let (core, peer, last) = (core.clone(), peer.clone(), last.clone());
        let surplus = peer.clone();
        async move {
            let version = request.version();
            let mut answer = pipeline::handle(core, peer, request).await;
            if (last.get() || surplus.is_surplus()) && version <= Version::HTTP_11 && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| WatchedBody::new(body, call)))
        }
    });
    let builder = builder(config);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // The bound on a head starts with the protocol, which a caller that sends nothing never chooses.
    let mut patience = std::pin::pin!(tokio::time::sleep(config.head_timeout));
    let mut rested = false;
    // Whether the connection was told to go because its namespace has too many.
    let mut told = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = patience.as_mut() => {
                // A connection that rests is told so first, then closed; HTTP/1.1 has closed it before.
                let rests = conduct.rested();
                if asked.get().is_none() || rests && std::mem::replace(&mut rested, rests) {
                    tracing::debug!("a connection was closed because nothing was asked on it");
                    break Ok(());
                }
                if rested {
                    connection.as_mut().graceful_shutdown();
                }
                patience.as_mut().reset(Instant::now() + if rested { CLOSE_TIMEOUT } else { config.keep_alive_timeout });
            }
            () = poll_fn(|cx| conduct.poll_misused(cx)) => {
                tracing::debug!("a connection was closed because most of its calls were cancelled");
                break Ok(());
            }
            at_once = peer.was_cut(told) => {
                if at_once {
                    tracing::debug!("a connection was closed because its caller does not read that its call was ended");
                    break Ok(());
                }
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            order = notice.next() => {
                last.set(true);
                // HTTP/2 has a message for it, which leaves what is under way alone; HTTP/1.1 would close at once if nothing is.
                if order == Order::Close || asked.get() == Some(Version::HTTP_2) {
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

fn builder(config: &Config) -> auto::Builder<LocalExecutor> {
    let mut builder = auto::Builder::new(LocalExecutor);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(config.head_timeout).max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    // A WebSocket over HTTP/2 begins with an extended CONNECT (RFC 8441).
    builder.http2().enable_connect_protocol();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
