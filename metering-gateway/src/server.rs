//! One core's thread: it accepts connections, serves them, keeps the core's timer, and drains.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{self, Connected},
    core::Core,
    drain::{self, Drain, HANDSHAKE_GRACE, IDLE_GRACE, Phase},
    http1,
    listener::spread::{Handed, Part, Place, Spread},
    pipeline::meter::Stop,
};

/// How often the core's timer ticks: the longest that a due segment or a revocation waits.
const TICK: Duration = Duration::from_millis(100);
/// For how long after a change of policy open exchanges are checked again, in ticks: longer than a young exchange is left alone.
const RECHECK_TICKS: u32 = 5;
/// How often open exchanges are looked at, in ticks.
const EXCHANGE_TICKS: u32 = 3;
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long to wait when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// What one core accepts connections from.
#[derive(Debug)]
pub struct Doors {
    /// HTTP as it is.
    pub plain: StdListener,
    /// HTTP over TLS, and what secures it.
    pub tls: Option<(StdListener, Arc<ServerConfig>)>,
    /// How connections are spread over the cores.
    pub part: Part,
}

/// The same, on the core's runtime.
struct OpenDoors {
    plain: TcpListener,
    tls: Option<(TcpListener, TlsAcceptor)>,
    part: Part,
}

impl OpenDoors {
    fn new(doors: Doors) -> io::Result<Self> {
        let listener = |listener: StdListener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let secured = |(tls, config)| Ok::<_, io::Error>((listener(tls)?, TlsAcceptor::from(config)));
        Ok(Self { plain: listener(doors.plain)?, tls: doors.tls.map(secured).transpose()?, part: doors.part })
    }

    /// Accepts until `end`.
    async fn accept(&mut self, core: &Rc<Core>, drain: &Drain, end: impl Future<Output = ()>) {
        let Part { spread, inbox, number } = &mut self.part;
        let here = Here { spread, number: *number };
        let secured = async {
            match &self.tls {
                Some((listener, acceptor)) => accept(core, listener, Some(acceptor), drain, &here).await,
                None => std::future::pending().await,
            }
        };
        let taken_over = async {
            while let Some(handed) = inbox.recv().await {
                take_over(core, self.tls.as_ref().map(|(_, acceptor)| acceptor), drain, handed);
            }
        };
        tokio::select! {
            biased;
            () = end => (),
            () = accept(core, &self.plain, None, drain, &here) => (),
            () = secured => (),
            () = taken_over => (),
        }
    }

    /// Closes the listeners. What other cores have handed over by then is still served.
    async fn close(mut self, core: &Rc<Core>, drain: &Drain) {
        self.part.inbox.close();
        while let Some(handed) = self.part.inbox.recv().await {
            take_over(core, self.tls.as_ref().map(|(_, acceptor)| acceptor), drain, handed);
        }
    }

    fn refuse_handshakes(&self) {
        for listener in [Some(&self.plain), self.tls.as_ref().map(|(listener, _)| listener)].into_iter().flatten() {
            if let Err(error) = drain::refuse_handshakes(listener) {
                tracing::warn!(%error, "handshakes that are under way may be cut off");
            }
        }
    }
}

/// Serves until it is told to stop, then drains and closes the core's journal stream.
///
/// # Errors
/// When a listener cannot be used.
pub async fn run(core: Rc<Core>, doors: Doors, stop: CancellationToken) -> io::Result<()> {
    let mut doors = OpenDoors::new(doors)?;
    let drain = Drain::default();
    let timer = tokio::task::spawn_local(keep_time(core.clone()));
    let turns = core.clone();
    let turns = tokio::task::spawn_local(async move { turns.turns.drive().await });
    let patient = core.clone();
    let departures = tokio::task::spawn_local(http1::departures::drive(move || !patient.turns.is_contended()));
    let pool = core.pool.clone();
    let sharing = tokio::task::spawn_local(async move { pool.share().await });
    doors.accept(&core, &drain, stop.cancelled()).await;
    leave(&core, doors, &drain).await;
    timer.abort();
    sharing.abort();
    departures.abort();
    turns.abort();
    core.pool.clear();
    if let Some(writer) = core.writer.borrow_mut().take() {
        writer.close(core.now().micros());
    }
    Ok(())
}

/// Where connections come in.
struct Here<'a> {
    spread: &'a Arc<Spread>,
    number: usize,
}

/// Accepts from one listener, without an end.
async fn accept(core: &Rc<Core>, listener: &TcpListener, tls: Option<&TlsAcceptor>, drain: &Drain, here: &Here<'_>) {
    loop {
        let accepted = listener.accept().await;
        match accepted {
            Ok((stream, peer)) => {
                let place = here.spread.place(here.number);
                let most = core.shared.config.max_connections;
                if place.open() > most {
                    tracing::warn!(most, "a connection was refused because there are too many");
                    continue;
                }
                let tls = tls.cloned();
                match place.elsewhere(here.number, stream, peer, tls.is_some()) {
                    Ok(Some((stream, place))) => welcome(core, stream, peer, tls, drain, place),
                    Ok(None) => (),
                    Err(error) => tracing::debug!(%error, "a connection was gone before it was served"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Without file descriptors the same error would come at once again.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection that came in at another core.
fn take_over(core: &Rc<Core>, tls: Option<&TlsAcceptor>, drain: &Drain, handed: Handed) {
    let tls = tls.filter(|_| handed.tls).cloned();
    match TcpStream::from_std(handed.stream) {
        Ok(stream) => welcome(core, stream, handed.peer, tls, drain, handed.place),
        Err(error) => tracing::warn!(%error, "a connection could not be taken over from another core"),
    }
}

/// Serves a connection beside the others.
fn welcome(core: &Rc<Core>, stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, drain: &Drain, place: Place) {
    let most = core.shared.config.max_connections_per_address;
    let seat = (most > 0).then(|| core.shared.addresses.take(peer.ip(), most));
    if matches!(seat, Some(None)) {
        tracing::debug!(%peer, most, "a connection was refused because its address has too many");
        return;
    }
    let connected = Connected::new(core.clone(), seat.flatten());
    let notice = drain.notice();
    tokio::task::spawn_local(async move {
        connection::welcome(connected, stream, peer.ip(), tls, notice).await;
        drop(place);
    });
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
        core.tell_date(now);
        core.turns.tick();
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
            core.exchanges.tick(now, core.shared.config.interim_interval, core.shared.config.idle_timeout);
        }
        core.exchanges.wake_due(core.pool.tick());
        core.metrics.open_exchanges.store(core.exchanges.count() as i64, Relaxed);
        core.metrics.upstream_connections.store(core.pool.open() as i64, Relaxed);
    }
}

/// Leaves in the order that [`crate::drain`] tells.
async fn leave(core: &Rc<Core>, mut doors: OpenDoors, drain: &Drain) {
    let config = &core.shared.config;
    let asked = Instant::now();
    let deadline = asked + config.drain_timeout;
    let until = asked + config.drain_delay.min(config.drain_timeout);
    if until > asked {
        drain.enter(Phase::Leaving { until });
        doors.accept(core, drain, sleep_until(until)).await;
    }
    drain.enter(Phase::LastAnswers);
    doors.refuse_handshakes();
    doors.accept(core, drain, sleep_until((Instant::now() + HANDSHAKE_GRACE).min(deadline))).await;
    doors.close(core, drain).await;
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
