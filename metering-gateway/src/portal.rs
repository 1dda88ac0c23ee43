//! The gateway's calls to the portal, with its own credential (SEMANTICS P6).

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use gateway_control::{
    credential::Credential,
    lease::{LeaseExchange, LeaseGrants},
    policy::Generation,
    status::GatewayStatus,
    usage::{BatchAck, UsageBatch},
};
use http_body::{Body, Frame, SizeHint};
use ids::Uuid;
use journal::Pace;
use reqwest::{Client, RequestBuilder, Response, StatusCode, header::CONTENT_TYPE};
use tokio::time::{Interval, MissedTickBehavior, interval};
use url::Url;

/// How long a batch may take: it is up to 64 MiB and commits a transaction.
const USAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an exchange of leases or a status may take.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The most of an error's body that goes to the log.
const MAX_ERROR_CHARS: usize = 500;

/// How much of a batch is written, or sent, at once.
const PIECE_BYTES: usize = 32 * 1024;
/// How long it is from one piece that is sent to the next.
const PIECE_INTERVAL: Duration = Duration::from_millis(1);

/// Writes a batch into memory, and lets others have the processor after each piece.
struct Writer<'a> {
    room: &'a mut BytesMut,
    pace: Pace,
}

impl io::Write for Writer<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room.extend_from_slice(bytes);
        self.pace.done(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A batch that is sent in pieces, one in a millisecond: a system call that takes a megabyte takes about as long, and nothing else runs on its processor
/// meanwhile. Between two of them leases are exchanged, so that no call waits for one behind a batch.
struct Pieces {
    rest: Bytes,
    times: Interval,
}

impl Pieces {
    fn new(rest: Bytes) -> Self {
        let mut times = interval(PIECE_INTERVAL);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { rest, times }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.times.poll_tick(context));
        let length = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Why the portal's answer is none.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// It cannot be reached, or its answer cannot be read.
    #[error("the portal does not answer: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("the portal answered {status}: {body}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The beginning of what it said.
        body: String,
    },
}

impl From<reqwest::Error> for PortalError {
    fn from(error: reqwest::Error) -> Self {
        // The cause says what failed; the outer text only that a request did.
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Self::Unreachable(text)
    }
}

/// The portal.
#[derive(Debug, Clone)]
pub struct Portal {
    client: Client,
    base: Url,
    credential: Credential,
    /// Where batches are written for sending. Most are a megabyte and more, and fresh memory of that size costs more than what is written to it.
    room: Arc<Mutex<BytesMut>>,
}

impl Portal {
    /// Sets the client up; nothing is sent.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(base: &Url, credential: &Credential) -> anyhow::Result<Self> {
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tollkeeper-gateway/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()?;
        Ok(Self { client, base, credential: credential.clone(), room: Arc::default() })
    }

    /// Offers a batch of usage, which [`Self::written`] wrote.
    ///
    /// # Errors
    /// When the portal did not take it.
    pub async fn usage(&self, body: Bytes) -> Result<BatchAck, PortalError> {
        let body = reqwest::Body::wrap(Pieces::new(body));
        let request =
            self.client.post(self.url("control/v1/usage")?).header(CONTENT_TYPE, "application/json").body(body).timeout(USAGE_TIMEOUT);
        Ok(self.send(request).await?.json().await?)
    }

    /// A batch as JSON, in memory that comes back when it has been sent. A busy second's batch takes some milliseconds.
    pub fn written(&self, batch: &UsageBatch) -> Bytes {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = Writer { room: &mut room, pace: Pace::new(PIECE_BYTES) };
        serde_json::to_writer(writer, batch).expect("batches have string keys and no failing parts");
        room.split().freeze()
    }

    /// Exchanges leases.
    ///
    /// # Errors
    /// When the portal did not answer.
    pub async fn leases(&self, exchange: &LeaseExchange) -> Result<LeaseGrants, PortalError> {
        let request = self.client.post(self.url("control/v1/leases")?).json(exchange).timeout(SHORT_TIMEOUT);
        Ok(self.send(request).await?.json().await?)
    }

    /// Reports on the gateway.
    ///
    /// # Errors
    /// When the portal did not take it.
    pub async fn status(&self, status: &GatewayStatus) -> Result<(), PortalError> {
        let request = self.client.post(self.url("control/v1/status")?).json(status).timeout(SHORT_TIMEOUT);
        self.send(request).await?;
        Ok(())
    }

    /// Opens the policy feed.
    ///
    /// # Errors
    /// When the portal does not open it.
    pub async fn policy(&self, position: Option<(Uuid, Generation)>) -> Result<Response, PortalError> {
        let mut url = self.url("control/v1/policy")?;
        url.query_pairs_mut().append_pair("version", &gateway_control::FORMAT.to_string()).append_pair("recalls", "true");
        if let Some((epoch, generation)) = position {
            url.query_pairs_mut().append_pair("epoch", &epoch.to_string()).append_pair("generation", &generation.0.to_string());
        }
        let opening = self.send(self.client.get(url));
        tokio::time::timeout(SHORT_TIMEOUT, opening).await.map_err(|_| PortalError::Unreachable("no head within 5 s".into()))?
    }

    fn url(&self, path: &str) -> Result<Url, PortalError> {
        self.base.join(path).map_err(|error| PortalError::Unreachable(error.to_string()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, PortalError> {
        let answer = request.bearer_auth(self.credential.reveal()).send().await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.text().await.unwrap_or_default().chars().take(MAX_ERROR_CHARS).collect();
        Err(PortalError::Refused { status, body })
    }
}

/// Waits between attempts: doubling from 100 ms to a bound, with jitter so that many gateways do not come back at the same instant.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// Never waits longer than `most`.
    pub fn new(most: Duration) -> Self {
        Self { next: Duration::from_millis(100), most }
    }

    /// It worked: the next wait is short again.
    pub fn reset(&mut self) {
        self.next = Duration::from_millis(100);
    }

    /// How long to wait now: between half of the interval and all of it.
    pub fn delay(&mut self) -> Duration {
        let interval = self.next.min(self.most);
        self.next = interval * 2;
        let mut byte = [0];
        // Without randomness the wait is the longest: still right, only less spread.
        let share = getrandom::fill(&mut byte).map_or(255, |()| u32::from(byte[0]));
        interval / 2 + interval * share / 510
    }
}
