//! A client that tells exactly what came of each of its exchanges, and repeats none.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{
    MARK,
    book::{Book, Fate, Form, Plan},
    rpc, socket,
};

/// How long a client waits for an exchange before it gives it up. No plan takes nearly so long: the longest are a replayed log's files of 69 MB, many at once.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
}

/// A client with at most one connection and one exchange at a time.
#[derive(Debug)]
pub struct Client {
    book: Book,
    protocol: Protocol,
    connection: Option<Connection>,
    /// What it waits for.
    waits_for: &'static str,
}

#[derive(Debug)]
enum Connection {
    /// With the moment at which something passed on it last, once there was an exchange.
    Http1(http1::SendRequest<Empty<Bytes>>, Option<Instant>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// Who calls what where.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The gateway, such as `http://localhost:8081`.
    pub gateway: &'a str,
    /// The key.
    pub key: &'a str,
    /// The place of the key, for the book.
    pub caller: usize,
}

impl Client {
    /// One without a connection yet.
    pub fn new(book: &Book, protocol: Protocol) -> Self {
        Self { book: book.clone(), protocol, connection: None, waits_for: "" }
    }

    /// One exchange, whatever comes of it, which the book knows, too.
    ///
    /// # Errors
    /// When the request cannot be made.
    pub async fn exchange(&mut self, call: Call<'_>, plan: Plan) -> anyhow::Result<Fate> {
        let authority = call.gateway.strip_prefix("http://").context("a gateway's address")?;
        let mark = self.book.open(plan.clone(), call.caller);
        let ended = match plan.form {
            Form::Http => {
                let request = Request::builder()
                    .method(plan.method)
                    .uri(format!("http://{authority}{}/{mark}", plan.path))
                    .header("host", authority)
                    .header("x-api-key", call.key)
                    .body(Empty::new())?;
                tokio::time::timeout(PATIENCE, self.send(authority, request, mark)).await
            }
            Form::WebSocket => tokio::time::timeout(PATIENCE, socket::exchange(&self.book, (authority, call.key), mark, &plan))
                .await
                .map_or_else(|late| Ok(Err(late)), |made| made.map(Ok))?,
            Form::Grpc => tokio::time::timeout(PATIENCE, rpc::exchange(&self.book, (authority, call.key), mark, &plan))
                .await
                .map_or_else(|late| Ok(Err(late)), |made| made.map(Ok))?,
        };
        let fate = ended.unwrap_or_else(|_| {
            #[allow(clippy::print_stdout, reason = "whoever looks for the cause of a fault begins here")]
            {
                println!("auditor: an exchange with {authority} over {:?} is given up: {:?}", self.protocol, self.book.line(mark));
            }
            self.book.broke(mark, format_args!("given up, waiting for {}", self.waits_for));
            self.connection = None;
            Fate::Broken
        });
        self.book.ended(mark, fate);
        Ok(fate)
    }

    async fn send(&mut self, authority: &str, request: Request<Empty<Bytes>>, mark: u64) -> Fate {
        // A connection that ended in between is found before anything is sent on it.
        if self.connection.as_mut().is_some_and(Connection::is_closed) {
            self.connection = None;
        }
        self.waits_for = "an answer on a connection that was open";
        if self.connection.is_none() {
            self.waits_for = "a connection";
            self.connection = Connection::open(authority, self.protocol).await.ok();
        }
        let Some(connection) = &mut self.connection else { return Fate::NotSent };
        if self.waits_for == "a connection" {
            self.waits_for = "an answer on a new connection";
        }
        let answered = match connection {
            Connection::Http1(sender, since) => {
                if let Some(since) = since {
                    self.book.rested(mark, since.elapsed());
                }
                sender.send_request(request).await
            }
            Connection::Http2(sender) => sender.send_request(request).await,
        };
        if answered.is_ok() {
            self.waits_for = "the end of an answer";
        }
        let fate = match answered {
            Ok(response) => self.read(response, mark).await,
            Err(error) if error.is_canceled() => Fate::NotSent,
            Err(error) if was_not_processed(&error) => Fate::Unprocessed,
            Err(error) => {
                self.book.broke(mark, error);
                Fate::Broken
            }
        };
        match &mut self.connection {
            Some(Connection::Http1(_, since)) if matches!(fate, Fate::Whole { .. }) => *since = Some(Instant::now()),
            Some(_) if !matches!(fate, Fate::Whole { .. }) => self.connection = None,
            _ => (),
        }
        fate
    }

    async fn read(&self, response: Response<Incoming>, mark: u64) -> Fate {
        let status = response.status().as_u16();
        let by_upstream = response.headers().get(MARK).is_some_and(|value| value.as_bytes() == mark.to_string().as_bytes());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    self.book.broke(mark, error);
                    return Fate::Broken;
                }
            };
            // An answer of the gateway's own is none of the upstream's bytes.
            if let Some(data) = frame.data_ref().filter(|_| by_upstream) {
                self.book.received(mark, data.len() as u64);
            }
        }
        Fate::Whole { status, by_upstream }
    }
}

/// Whether an error says that the gateway did not begin the exchange: a goodbye without an error ends what came after the last stream that it names
/// (RFC 9113, 6.8), and a stream may be refused (8.7).
pub(super) fn was_not_processed(error: &hyper::Error) -> bool {
    let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>()) else { return false };
    let is_goodbye = cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR);
    cause.is_remote() && (is_goodbye || cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM))
}

impl Connection {
    async fn open(authority: &str, protocol: Protocol) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        Ok(match protocol {
            Protocol::Http1 => {
                let (sender, driver) = http1::handshake(io).await?;
                // How the connection ended is said by the exchange on it.
                tokio::spawn(async move { drop(driver.await) });
                Self::Http1(sender, None)
            }
            Protocol::Http2 => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(async move { drop(driver.await) });
                Self::Http2(sender)
            }
        })
    }

    fn is_closed(&mut self) -> bool {
        match self {
            Self::Http1(sender, _) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}
