//! One address of an upstream, as one core uses it: its connections, those who wait for one, and how it does.
//!
//! A call takes what is free, or else makes a connection if one more may be made, or else waits in line. Whoever is first in line takes what becomes
//! free; nobody overtakes another of its namespace, and namespaces take turns. A few connections are kept, each for one exchange of a namespace that
//! would wait while others have all the rest.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use gateway_control::options::UpstreamProtocol;
use ids::NamespaceId;
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    sync::{AcquireError, OwnedSemaphorePermit},
    time::timeout,
};

use super::{
    UpstreamError,
    clockwork::Clockwork,
    connect::{Bytestream, Connected, Hooks, Open},
    health::Health,
    http1::Http1,
    http2::{FIRST_STREAMS, Http2, Stream},
    limits::{AddressLimits, GroupLimits, Permit},
    line::Line,
};

/// The most idle connections that are kept for one address on one core.
const MAX_IDLE: usize = 256;
/// How long the end of a request may take to be sent after its answer has ended.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);

/// What every connection of a group is made with.
#[derive(Debug)]
pub struct Recipe {
    /// The name that the certificate must be for.
    pub tls: Option<ServerName<'static>>,
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// The bounds that the cores share.
    pub limits: Arc<GroupLimits>,
    /// The core's clock and TLS settings.
    pub clockwork: Rc<Clockwork>,
}

/// One address.
#[derive(Debug)]
pub struct Address {
    /// Where it is.
    pub socket: SocketAddr,
    /// How it does.
    pub health: Health,
    recipe: Rc<Recipe>,
    limits: Arc<AddressLimits>,
    /// It is no longer one of the upstream's: no connection is kept.
    retired: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    multiplexed: RefCell<Vec<Rc<Http2>>>,
    /// Whether the last connection spoke HTTP/2; `None` before the first.
    speaks_http2: Cell<Option<bool>>,
    connecting: Cell<usize>,
    open: Rc<Cell<usize>>,
    line: Line,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: u64,
}

/// What carries an exchange.
#[derive(Debug)]
pub enum Carrier {
    /// A connection, until the exchange has ended.
    Http1(Http1),
    /// A stream of a connection.
    Http2(Stream),
}

/// Counts a connection that is being made.
struct Connecting<'a>(&'a Address);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(self.0.connecting.get() - 1);
        self.0.line.wake_first();
    }
}

enum Turn {
    Carrier(Carrier),
    MayConnect(Permit),
}

type Acquiring = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>>>>;

impl Address {
    /// An address without connections.
    pub fn new(socket: SocketAddr, recipe: Rc<Recipe>) -> Rc<Self> {
        let limits = recipe.limits.address(socket);
        Rc::new(Self {
            socket,
            health: Health::default(),
            recipe,
            limits,
            retired: Cell::new(false),
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            speaks_http2: Cell::new(None),
            connecting: Cell::new(0),
            open: Rc::default(),
            line: Line::default(),
        })
    }

    /// How many connections are open on this core.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// How many calls wait on this core.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// What carries an exchange of a namespace: something free, something new, or what becomes free within `patience`.
    ///
    /// # Errors
    /// When nothing does.
    pub async fn acquire(self: &Rc<Self>, of: NamespaceId, patience: Duration, http1_only: bool) -> Result<Carrier, UpstreamError> {
        if self.line.is_empty()
            && let Some(carrier) = self.take(http1_only)
        {
            return Ok(carrier);
        }
        // In a box, so that calls which find a connection do not take its memory.
        Box::pin(self.make_or_wait(of, patience, http1_only)).await
    }

    async fn make_or_wait(self: &Rc<Self>, of: NamespaceId, patience: Duration, http1_only: bool) -> Result<Carrier, UpstreamError> {
        if self.line.is_empty()
            && (http1_only || !self.shares_what_is_being_made())
            && let Ok(permit) = self.limits.permits.clone().try_acquire_owned()
        {
            return self.connect(permit.into(), patience, http1_only).await;
        }
        if let Some(permit) = self.recipe.limits.keep_one(&self.limits, of) {
            return self.connect(permit, patience, http1_only).await;
        }
        let started = tokio::time::Instant::now();
        let turn = match timeout(patience, self.wait(of, http1_only)).await {
            Ok(turn) => turn?,
            Err(_) if self.limits.permits.available_permits() == 0 => return Err(UpstreamError::Overloaded),
            Err(_) => return Err(UpstreamError::ConnectTimeout(patience)),
        };
        match turn {
            Turn::Carrier(carrier) => Ok(carrier),
            Turn::MayConnect(permit) => self.connect(permit, patience.saturating_sub(started.elapsed()), http1_only).await,
        }
    }

    /// Waits in line. Only who needs a connection that may not be made takes one of the places that are bounded.
    async fn wait(&self, of: NamespaceId, http1_only: bool) -> Result<Turn, UpstreamError> {
        let spot = self.line.join(of);
        // One more in line may be one too many for the connections that are being made.
        self.line.wake_first();
        let mut place = None;
        let mut permit: Option<Acquiring> = None;
        poll_fn(|cx| {
            let is_first = spot.is_first(cx);
            let is_full = self.limits.permits.available_permits() == 0;
            if is_full && place.is_none() && (http1_only || !self.shares_what_is_being_made()) {
                place = Some(self.recipe.limits.enter(&self.limits, of, self.open.get() == 0).ok_or(UpstreamError::Overloaded)?);
            }
            if !is_first {
                return Poll::Pending;
            }
            self.poll_turn(cx, &mut permit, http1_only).map(Ok)
        })
        .await
    }

    fn poll_turn(&self, cx: &mut Context<'_>, permit: &mut Option<Acquiring>, http1_only: bool) -> Poll<Turn> {
        if let Some(carrier) = self.take(http1_only) {
            return Poll::Ready(Turn::Carrier(carrier));
        }
        if !http1_only && self.shares_what_is_being_made() {
            return Poll::Pending;
        }
        let acquiring = permit.get_or_insert_with(|| Box::pin(self.limits.permits.clone().acquire_owned()));
        match acquiring.as_mut().poll(cx) {
            Poll::Ready(Ok(permit)) => Poll::Ready(Turn::MayConnect(permit.into())),
            // The semaphore is never closed.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the connections that are being made will have room for this call and those who wait.
    fn shares_what_is_being_made(&self) -> bool {
        let is_shared = match (self.recipe.protocol, self.speaks_http2.get()) {
            (UpstreamProtocol::Http1, _) | (UpstreamProtocol::Auto, Some(false)) => false,
            (UpstreamProtocol::Http2, _) | (UpstreamProtocol::Auto, Some(true)) => true,
            // Over TLS the first connection tells.
            (UpstreamProtocol::Auto, None) => self.recipe.tls.is_some(),
        };
        is_shared && self.connecting.get() * FIRST_STREAMS > self.line.len()
    }

    fn take(&self, http1_only: bool) -> Option<Carrier> {
        // The connection that was used last comes first, so that those in excess grow old.
        let now = self.recipe.clockwork.ticks.get();
        while let Some(Idle { mut connection, since }) = self.pop_idle() {
            let idle_ticks = now - since;
            // One that has been idle is more often found closed, which the core may not have been told yet.
            let is_open = connection.is_ready() && (idle_ticks == 0 || connection.is_silent());
            if is_open && now < connection.expires && idle_ticks < self.recipe.clockwork.idle_ticks {
                connection.idle_ticks = Some(idle_ticks);
                return Some(Carrier::Http1(connection));
            }
        }
        if http1_only {
            return None;
        }
        self.take_stream().map(Carrier::Http2)
    }

    fn pop_idle(&self) -> Option<Idle> {
        self.idle.borrow_mut().pop()
    }

    fn take_stream(&self) -> Option<Stream> {
        let mut connections = self.multiplexed.borrow_mut();
        if connections.is_empty() {
            return None;
        }
        connections.retain(|connection| !connection.is_closed());
        connections.iter().find_map(Http2::reserve)
    }

    /// An exchange over HTTP/1.1 has ended in order.
    pub fn release(self: &Rc<Self>, mut connection: Http1) {
        let now = self.recipe.clockwork.ticks.get();
        // A call on a core without any connection can be helped only by one that is closed.
        if connection.is_spent() || now >= connection.expires || self.limits.is_starving() {
            return;
        }
        if connection.is_ready() {
            return self.keep(connection);
        }
        // The last bytes of the request are still under way; an upstream that does not take them in time is not waited for.
        let address = self.clone();
        tokio::task::spawn_local(async move {
            if let Ok(true) = timeout(LAST_BYTES_TIMEOUT, connection.sent()).await
                && connection.is_ready()
            {
                address.keep(connection);
            }
        });
    }

    fn keep(&self, connection: Http1) {
        let waits_here = !self.line.is_empty();
        let waits_elsewhere = !waits_here && self.limits.waiting() > 0;
        let mut idle = self.idle.borrow_mut();
        if self.retired.get() || waits_elsewhere || idle.len() >= MAX_IDLE {
            return;
        }
        idle.push(Idle { connection, since: self.recipe.clockwork.ticks.get() });
        drop(idle);
        if waits_here {
            self.line.wake_first();
        }
    }

    /// A stream or a connection has ended: there is room for another, or a connection may go.
    fn room_appeared(&self) {
        if self.limits.waiting() > 0 {
            self.give_away();
        }
        self.line.wake_first();
    }

    async fn connect(self: &Rc<Self>, permit: Permit, patience: Duration, http1_only: bool) -> Result<Carrier, UpstreamError> {
        self.connecting.set(self.connecting.get() + 1);
        let connecting = Connecting(self);
        let Recipe { tls, clockwork, .. } = &*self.recipe;
        let protocol = if http1_only { UpstreamProtocol::Http1 } else { self.recipe.protocol };
        let stream = async {
            let stream = TcpStream::connect(self.socket).await?;
            Bytestream::secure(stream, tls.as_ref(), protocol, &clockwork.upstreams.tls).await
        };
        let stream =
            timeout(patience, stream).await.map_err(|_| UpstreamError::ConnectTimeout(patience))?.map_err(UpstreamError::Connect)?;
        let is_for_one = permit.is_kept();
        let open = Open::new([self.open.clone(), clockwork.open.clone()], permit);
        let expires = if is_for_one { 0 } else { clockwork.expiry() };
        let address = Rc::downgrade(self);
        let changed = Box::new(move || {
            if let Some(address) = address.upgrade() {
                address.room_appeared();
            }
        });
        let carrier = match stream.speak(protocol, Hooks { changed, ended: open, expires }).await? {
            Connected::Http1(connection) => {
                self.speaks_http2.set(if http1_only { self.speaks_http2.get() } else { Some(false) });
                Carrier::Http1(connection)
            }
            Connected::Http2(connection) => {
                self.speaks_http2.set(Some(true));
                let stream = connection.reserve();
                if !is_for_one {
                    self.multiplexed.borrow_mut().push(connection);
                }
                Carrier::Http2(stream.ok_or_else(|| h2::Error::from(h2::Reason::REFUSED_STREAM))?)
            }
        };
        drop(connecting);
        Ok(carrier)
    }

    /// Closes what was idle for long or has become old.
    pub fn sweep(&self) {
        let Clockwork { ticks, idle_ticks, .. } = &*self.recipe.clockwork;
        let now = ticks.get();
        self.idle
            .borrow_mut()
            .retain(|Idle { connection, since }| now - since < *idle_ticks && now < connection.expires && connection.is_ready());
        self.multiplexed.borrow_mut().retain(|connection| {
            if connection.idle_ticks(now) >= *idle_ticks || now >= connection.expires {
                connection.retire();
            }
            !connection.is_closed()
        });
    }

    /// Closes idle connections because calls on other cores wait for them. A core that has none gets even one that is in use, once its streams end.
    pub fn give_away(&self) {
        let waiting = self.limits.waiting() as usize;
        if waiting == 0 || !self.line.is_empty() && !self.limits.is_starving() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.len().saturating_sub(waiting);
        idle.truncate(kept);
        let mut connections = self.multiplexed.borrow_mut();
        let is_starving = self.limits.is_starving();
        if let Some(least) = connections.iter().min_by_key(|connection| connection.streams())
            && (least.streams() == 0 || is_starving)
        {
            least.retire();
        }
        connections.retain(|connection| !connection.is_closed());
    }

    /// The address is no longer one of the upstream's: what is idle is closed, and the rest after its exchange.
    pub fn retire(&self) {
        self.retired.set(true);
        self.clear();
    }

    /// Closes everything that is idle.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.multiplexed.borrow_mut().clear();
    }

    /// Whether it holds no connection and nobody waits for one.
    pub fn is_unused(&self) -> bool {
        self.open.get() == 0 && self.connecting.get() == 0 && self.line.is_empty()
    }

    /// How many connections are idle on this core.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len() + self.multiplexed.borrow().iter().filter(|connection| connection.streams() == 0).count()
    }
}
