//! The portal's port: connections are bounded in number, and so is how long one may take to say what it wants.
//!
//! A connection costs a socket and some memory from the moment it is accepted, whoever is at its other end. While as many are open as may be, the next
//! ones wait in the system's queue; those that ask for nothing are closed soon, so that the queue moves.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long to wait when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest head of a request, and the most headers in it.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// What one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 256;
/// How often an HTTP/2 connection is asked whether it is still there, and how long it may think about it.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many are open at once.
    pub connections: usize,
    /// How long the head of a request may take, the first one from the moment of the connection.
    pub head_timeout: Duration,
}

/// Serves until `stop`; then takes no more connections, and returns once each open one has ended after its present answer. Connections that are still
/// open when the returned future is dropped are cut off.
pub async fn serve(router: Router, listener: TcpListener, bounds: Bounds, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        if let Some((stream, peer, place)) = accepted {
            let connection = connection(router.clone(), stream, peer, bounds, stop.clone());
            connections.spawn(async move {
                connection.await;
                drop(place);
            });
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}

/// The next connection, once there is a place for it. Dropping the future loses neither a place nor a connection.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    if places.available_permits() == 0 {
        tracing::warn!("as many connections are open as may be; the next ones wait");
    }
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            // Without file descriptors the same error would come at once again.
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(router: Router, stream: TcpStream, peer: SocketAddr, bounds: Bounds, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let asked = asked.clone();
        move |mut request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = router.clone();
            async move {
                let Ok(response) = router.oneshot(request.map(Body::new)).await;
                Ok::<_, Infallible>(response)
            }
        }
    });
    let builder = builder(bounds);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // The bound on a head starts with the protocol, which a caller that sends nothing never chooses.
    let mut patience = pin!(sleep(bounds.head_timeout));
    let (mut waited, mut told) = (false, false);
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = patience.as_mut(), if !waited => {
                waited = true;
                if !asked.load(Ordering::Relaxed) {
                    tracing::debug!("a connection was closed because nothing was asked on it");
                    break Ok(());
                }
            }
            () = stop.cancelled(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

fn builder(bounds: Bounds) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(bounds.head_timeout).max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}
