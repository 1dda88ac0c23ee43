//! One core's connections to upstreams.
//!
//! A connection is taken from the idle ones or made, carries one exchange at a time, and goes back when the answer's body has ended. What fails before
//! anything was sent on a connection that had been idle is sent again on another; nothing else is ever sent twice.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt, io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response, uri::Authority};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::RequestBody;
use crate::policy::entries::Upstream;

/// The most idle connections that are kept for one upstream on one core.
const MAX_IDLE: usize = 256;
/// How long a connection may be idle before it is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of an answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// No connection in time.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// No head of an answer in time.
    #[error("no answer within {0:?}")]
    FirstByteTimeout(Duration),
    /// It closed the connection, or what it sent is not HTTP.
    #[error("no valid answer: {0}")]
    Failed(#[from] hyper::Error),
}

/// One core's connections.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

struct Inner {
    /// Plain connections, and those over TLS.
    idle: [RefCell<HashMap<Authority, Vec<Idle>>>; 2],
    open: Cell<usize>,
    tls: TlsConnector,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("open", &self.0.open).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection that carries an exchange. Dropped without [`Connection::release`], it is closed.
#[derive(Debug)]
pub struct Connection {
    pool: Pool,
    upstream: Arc<Upstream>,
    sender: SendRequest<RequestBody>,
}

impl Connection {
    /// The exchange has ended in order: another may follow.
    pub fn release(self) {
        let Self { pool, upstream, sender } = self;
        if sender.is_closed() {
            return;
        }
        let mut idle = pool.0.idle(&upstream).borrow_mut();
        // The name is cloned for the first connection of an upstream only.
        let list = match idle.get_mut(&upstream.authority) {
            Some(list) => list,
            None => idle.entry(upstream.authority.clone()).or_default(),
        };
        if list.len() < MAX_IDLE {
            list.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl Inner {
    fn idle(&self, upstream: &Upstream) -> &RefCell<HashMap<Authority, Vec<Idle>>> {
        &self.idle[usize::from(upstream.tls.is_some())]
    }
}

impl Pool {
    /// No connections yet.
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self(Rc::new(Inner { idle: Default::default(), open: Cell::new(0), tls: tls.into() }))
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(
        &self,
        upstream: &Arc<Upstream>,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), UpstreamError> {
        let mut request = request;
        loop {
            let (mut sender, reused) = match self.take_idle(upstream) {
                Some(sender) => (sender, true),
                None => (self.connect(upstream).await?, false),
            };
            let sent = timeout(upstream.first_byte_timeout, sender.try_send_request(request)).await;
            match sent.map_err(|_| UpstreamError::FirstByteTimeout(upstream.first_byte_timeout))? {
                Ok(answer) => return Ok((answer, Connection { pool: self.clone(), upstream: upstream.clone(), sender })),
                Err(mut error) => match error.take_message().filter(|_| reused) {
                    // Nothing was sent: the idle connection had been closed meanwhile.
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
    }

    /// Closes what was idle for long.
    pub fn sweep(&self) {
        for idle in &self.0.idle {
            idle.borrow_mut().retain(|_, list| {
                list.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT && !idle.sender.is_closed());
                !list.is_empty()
            });
        }
    }

    /// Closes everything that is idle.
    pub fn clear(&self) {
        self.0.idle.iter().for_each(|idle| idle.borrow_mut().clear());
    }

    /// How many connections are open, idle ones included.
    pub fn open(&self) -> usize {
        self.0.open.get()
    }

    /// The connection that was used last, so that those in excess grow old.
    fn take_idle(&self, upstream: &Upstream) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.0.idle(upstream).borrow_mut();
        let list = idle.get_mut(&upstream.authority)?;
        while let Some(Idle { sender, since }) = list.pop() {
            if sender.is_ready() && since.elapsed() < IDLE_TIMEOUT {
                return Some(sender);
            }
        }
        None
    }

    async fn connect(&self, upstream: &Upstream) -> Result<SendRequest<RequestBody>, UpstreamError> {
        let connecting = async {
            let stream = TcpStream::connect((upstream.host.as_str(), upstream.port)).await?;
            stream.set_nodelay(true)?;
            match &upstream.tls {
                None => Ok(Stream::Plain(stream)),
                Some(name) => self.0.tls.connect(name.clone(), stream).await.map(|stream| Stream::Tls(Box::new(stream))),
            }
        };
        let stream = timeout(upstream.connect_timeout, connecting)
            .await
            .map_err(|_| UpstreamError::ConnectTimeout(upstream.connect_timeout))?
            .map_err(UpstreamError::Connect)?;
        match stream {
            Stream::Plain(stream) => self.carry(stream).await,
            Stream::Tls(stream) => self.carry(stream).await,
        }
    }

    /// Starts HTTP on a connection; it is driven beside the exchanges until it ends.
    async fn carry(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<SendRequest<RequestBody>, UpstreamError> {
        let (sender, connection) = http1::Builder::new().max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
        let pool = self.clone();
        pool.0.open.set(pool.0.open.get() + 1);
        tokio::task::spawn_local(async move {
            // What breaks a connection is seen, and told, by the exchange on it.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an upstream ended");
            }
            pool.0.open.set(pool.0.open.get() - 1);
        });
        Ok(sender)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}
