//! HTTP on one connection of a caller: HTTP/1.1 or HTTP/2, as its first bytes say.

use std::{convert::Infallible, future::poll_fn, net::IpAddr, rc::Rc, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::BytesMut;
use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsAcceptor;

use crate::{
    core::Core,
    drain::Notice,
    guard::{
        addresses::Seat,
        conduct::{Conduct, WatchedBody},
        lifeline,
        stream::PatientStream,
    },
    http1::{self, MAX_HEAD_BYTES, Transport, Tunneled, Wire},
    listener::{Peer, greet, settings::ProxyProtocol},
    pipeline::{self, caller::CallerStream},
};

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
        None if listener.proxy_protocol == ProxyProtocol::Off => {
            serve(core, Transport::Tcp(stream), Peer::new(address, false), notice).await
        }
        None => {
            Box::pin(async {
                let mut stream = stream;
                if let Some(address) = greet(&core, &notice, greet::address(&mut stream, address, listener)).await {
                    serve(core.clone(), Transport::Tcp(stream), Peer::new(address, false), notice).await;
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
                    serve(core.clone(), Transport::Other(Box::new(stream)), Peer::new(address, true), notice).await;
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

/// Serves what the connection's first bytes say. What HTTP/2 needs stands in a box, so that it does not take the memory of a connection without.
async fn serve(core: Rc<Core>, io: Transport, peer: Peer, notice: Notice) {
    let peer = Rc::new(peer);
    let wire = Wire::new(io, BytesMut::new(), Some(core.shared.config.read_timeout));
    let deadline = Instant::now() + core.shared.config.head_timeout;
    match greeting(&wire, &notice, deadline).await {
        Greeting::Http1 => http1::server::serve(&core, &peer, &wire, notice, deadline).await,
        Greeting::Http2 => {
            if let Some(tunneled) = wire.take() {
                drop(wire);
                Box::pin(serve_http2(core, tunneled, peer, notice)).await;
            }
        }
        Greeting::None => (),
    }
}

/// What a connection begins with.
enum Greeting {
    Http1,
    Http2,
    /// It ended, or nothing came in time.
    None,
}

/// Reads as much as tells HTTP/2 (RFC 9113, 3.4) from HTTP/1.1.
async fn greeting(wire: &Wire, notice: &Notice, deadline: Instant) -> Greeting {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let reading = async || loop {
        if poll_fn(|cx| wire.poll_more(cx)).await.is_err() {
            return Greeting::None;
        }
        let (read, eof) = wire.peek(|read| (read.len().min(PREFACE.len()), read.starts_with(&PREFACE[..read.len().min(PREFACE.len())])));
        match read {
            (_, false) => return Greeting::Http1,
            (length, true) if length == PREFACE.len() => return Greeting::Http2,
            (0, _) if eof => return Greeting::None,
            _ if eof => return Greeting::Http1,
            _ => (),
        }
    };
    tokio::select! {
        biased;
        greeting = reading() => greeting,
        () = tokio::time::sleep_until(deadline) => {
            tracing::debug!("a connection was closed because nothing was asked on it");
            Greeting::None
        }
        () = notice.closing() => Greeting::None,
    }
}

async fn serve_http2(core: Rc<Core>, tunneled: Tunneled, peer: Rc<Peer>, mut notice: Notice) {
    let config = &core.shared.config;
    let stream = PatientStream::new(tunneled, Some(config.read_timeout));
    let conduct = Conduct::default();
    let service = service_fn(|request: Request<Incoming>| {
        let call = conduct.begin();
        let (core, peer) = (core.clone(), peer.clone());
        async move {
            let answer = pipeline::handle(core, peer, Box::new(request.map(CallerStream::Http2))).await;
            Ok::<_, Infallible>(answer.into_response().map(|body| WatchedBody::new(body, call)))
        }
    });
    let connection = builder().serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut patience = std::pin::pin!(tokio::time::sleep(config.head_timeout));
    let mut rested = false;
    // Whether the connection was told to go because its namespace has too many.
    let mut told = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = patience.as_mut() => {
                // A connection that rests is told so first, then closed.
                let rests = conduct.rested();
                if !conduct.has_asked() || rests && std::mem::replace(&mut rested, rests) {
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
            at_once = poll_fn(|cx| peer.poll_ended(cx, told)) => {
                if at_once {
                    tracing::debug!("a connection was closed because its caller does not read that its call was ended");
                    break Ok(());
                }
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            // HTTP/2 has a message for it, which leaves what is under way alone.
            _ = notice.next() => connection.as_mut().graceful_shutdown(),
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

fn builder() -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    // A WebSocket over HTTP/2 begins with an extended CONNECT (RFC 8441).
    builder.enable_connect_protocol();
    builder
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what a function of so many arguments returns.
    fn size_returned<A, B, C, D, E, R>(_: impl Fn(A, B, C, D, E) -> R) -> usize {
        size_of::<R>()
    }

    /// Every connection has this much memory for as long as it is open, and those of a busy core should fit into its caches together. What grows beyond the
    /// bound is mostly a future that stands in another twice: once as an argument, once where it is awaited. `pin!` where it is made, or `Box::pin` where it
    /// is rare, keeps it out.
    #[test]
    fn a_connection_has_little_state() {
        let size = size_returned(welcome);
        assert!(size <= 5 * 1024, "{size} bytes");
    }
}
