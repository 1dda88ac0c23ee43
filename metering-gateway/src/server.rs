//! One core's thread: it accepts connections, serves them, keeps the core's timer, and drains.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use http::{HeaderValue, Request, StatusCode, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    core::Core,
    drain::{self, Drain, HANDSHAKE_GRACE, IDLE_GRACE, Notice, Order, Phase},
    pipeline::{self, meter::Stop},
};

/// How often the core's timer ticks: the longest that a due segment or a revocation waits.
const TICK: Duration = Duration::from_millis(100);
/// For how long after a change of policy open exchanges are checked again, in ticks: longer than a young exchange is left alone.
const RECHECK_TICKS: u32 = 5;
/// How often open exchanges are looked at, in ticks.
const EXCHANGE_TICKS: u32 = 3;
/// How often idle connections to upstreams are looked at, in ticks.
const SWEEP_TICKS: u32 = 50;
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long to wait when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest head of a request, and the most headers in it.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// What one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 256;

/// Runs what belongs to one connection on the core's thread.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Binds one listener for each core to one address. With port 0 the first choice of the system holds for all.
///
/// # Errors
/// When the address is taken or cannot be used; the error names it.
pub fn bind(address: SocketAddr, cores: u16) -> io::Result<Vec<StdListener>> {
    let mut listeners: Vec<StdListener> = Vec::new();
    for _ in 0..cores {
        let address = listeners.first().map_or(Ok(address), StdListener::local_addr)?;
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        if listeners.is_empty() && address.port() != 0 {
            // Another process could share a port that is reused; it must not be there at all.
            drop(socket(address, false).map_err(named)?);
        }
        listeners.push(socket(address, true).map_err(named)?);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if reuse_port {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Serves until it is told to stop, then drains and closes the core's journal stream.
///
/// # Errors
/// When the listener cannot be used.
pub async fn run(core: Rc<Core>, listener: StdListener, stop: CancellationToken) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let drain = Drain::default();
    let timer = tokio::task::spawn_local(keep_time(core.clone()));
    accept(&core, &listener, &drain, stop.cancelled()).await;
    leave(&core, listener, &drain).await;
    timer.abort();
    core.pool.clear();
    if let Some(writer) = core.writer.borrow_mut().take() {
        writer.close(core.now().micros());
    }
    Ok(())
}

/// Accepts until `end`.
async fn accept(core: &Rc<Core>, listener: &TcpListener, drain: &Drain, end: impl Future<Output = ()>) {
    let mut end = std::pin::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = end.as_mut() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let most = i64::try_from(core.shared.config.max_connections).unwrap_or(i64::MAX);
                if core.shared.metrics.connections() >= most {
                    tracing::warn!(most, "a connection was refused because there are too many");
                    continue;
                }
                tokio::task::spawn_local(serve(core.clone(), stream, peer, drain.notice()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Without file descriptors the same error would come at once again.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Counts a connection while it is open.
struct Connected(Rc<Core>);

impl Connected {
    fn new(core: Rc<Core>) -> Self {
        core.metrics.connections.fetch_add(1, Relaxed);
        Self(core)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Relaxed);
    }
}

async fn serve(core: Rc<Core>, stream: TcpStream, peer: SocketAddr, mut notice: Notice) {
    let connected = Connected::new(core.clone());
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    // The protocol, once something was asked, and whether no other answer follows.
    let asked = Cell::new(None);
    let last = Rc::new(Cell::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        asked.set(Some(request.version()));
        let (core, last) = (core.clone(), last.clone());
        async move {
            let version = request.version();
            let mut answer = pipeline::handle(core, peer.ip(), request).await;
            if last.get() && version <= Version::HTTP_11 && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let builder = builder(&core.shared.config);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // The bound on a head starts with the protocol, which a caller that sends nothing never chooses.
    let mut patience = std::pin::pin!(tokio::time::sleep(core.shared.config.head_timeout));
    let mut waited = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = patience.as_mut(), if !waited => {
                waited = true;
                if asked.get().is_none() {
                    tracing::debug!("a connection was closed because nothing was asked on it");
                    break Ok(());
                }
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
    drop(connected);
}

fn builder(config: &Config) -> auto::Builder<LocalExecutor> {
    let mut builder = auto::Builder::new(LocalExecutor);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(config.head_timeout).max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEAD_BYTES as u32);
    builder
}

/// The core's timer.
async fn keep_time(core: Rc<Core>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut version = core.index().version;
    let (mut count, mut rechecks) = (0_u32, 0_u32);
    loop {
        ticks.tick().await;
        count = count.wrapping_add(1);
        let now = core.now();
        if let Some(writer) = core.writer.borrow_mut().as_mut() {
            writer.seal_if_due(now.micros());
        }
        let newest = core.index().version;
        if newest != version {
            version = newest;
            rechecks = RECHECK_TICKS;
        }
        if rechecks > 0 {
            rechecks -= 1;
            core.exchanges.recheck(&core, now);
        }
        if count.is_multiple_of(EXCHANGE_TICKS) {
            core.exchanges.tick(now, core.shared.config.interim_interval);
        }
        if count.is_multiple_of(SWEEP_TICKS) {
            core.pool.sweep();
        }
        core.metrics.open_exchanges.store(core.exchanges.count() as i64, Relaxed);
        core.metrics.upstream_connections.store(core.pool.open() as i64, Relaxed);
    }
}

/// Leaves in the order that [`crate::drain`] tells.
async fn leave(core: &Rc<Core>, listener: TcpListener, drain: &Drain) {
    let config = &core.shared.config;
    let asked = Instant::now();
    let deadline = asked + config.drain_timeout;
    let until = asked + config.drain_delay.min(config.drain_timeout);
    if until > asked {
        drain.enter(Phase::Leaving { until });
        accept(core, &listener, drain, sleep_until(until)).await;
    }
    drain.enter(Phase::LastAnswers);
    if let Err(error) = drain::refuse_handshakes(&listener) {
        tracing::warn!(%error, "handshakes that are under way may be cut off");
    }
    accept(core, &listener, drain, sleep_until((Instant::now() + HANDSHAKE_GRACE).min(deadline))).await;
    drop(listener);
    // Cut short when every connection has ended.
    let _ = timeout_at((Instant::now() + IDLE_GRACE).min(deadline), drain.connections_ended()).await;
    drain.enter(Phase::Closing);
    core.exchanges.stop_websockets(Stop::Draining);
    finish(core, drain, deadline).await;
}

/// Waits for open exchanges up to the deadline, then ends them.
async fn finish(core: &Rc<Core>, drain: &Drain, deadline: Instant) {
    // Each connection holds a notice; tunnels are seen by their exchanges.
    let finish = async {
        drain.connections_ended().await;
        while core.exchanges.count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout_at(deadline, finish).await.is_ok() {
        return;
    }
    tracing::warn!(open = core.exchanges.count(), "the drain timeout is over; open exchanges are ended");
    core.exchanges.stop_all(Stop::Draining);
    let ended = async {
        while core.exchanges.count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(Duration::from_secs(1), ended).await.is_err() {
        tracing::error!(open = core.exchanges.count(), "exchanges could not be ended and count as broken");
    }
}
