//! A client that tells exactly what came of each of its exchanges, and repeats none.

use std::time::{Duration, Instant};

use anyhow::Context;
use http_body_util::{BodyExt, Either};
use hyper::{Request, Response, body::Incoming};
use tokio::net::TcpStream;

use super::{
    MARK,
    book::{Book, Fate, Form, Plan},
    connection::{Answer, Http1, Http2},
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
    Http1(Http1),
    Http2(Http2),
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
                    .body(())?;
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

    async fn send(&mut self, authority: &str, request: Request<()>, mark: u64) -> Fate {
        // A connection that ended in between is found before anything is sent on it.
        self.connection.take_if(|connection| connection.is_closed());
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
            Connection::Http1(connection) => {
                if let Some(since) = connection.since {
                    self.book.rested(mark, since.elapsed());
                }
                connection.ask(request).await.map(|answer| answer.map(Either::Left))
            }
            Connection::Http2(connection) => connection.ask(request, None).await.map(|answer| answer.map(Either::Right)),
        };
        let fate = match answered {
            Ok(answer) => {
                self.waits_for = "the end of an answer";
                self.read(answer, mark).await
            }
            Err(unanswered) => self.book.unanswered(mark, unanswered),
        };
        if !matches!(fate, Fate::Whole { .. }) {
            self.connection = None;
        } else if let Some(Connection::Http1(connection)) = &mut self.connection {
            connection.since = Some(Instant::now());
        }
        fate
    }

    async fn read(&self, answer: Response<Either<Incoming, Answer>>, mark: u64) -> Fate {
        let status = answer.status().as_u16();
        let by_upstream = answer.headers().get(MARK).is_some_and(|value| value.as_bytes() == mark.to_string().as_bytes());
        let mut body = answer.into_body();
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

impl Connection {
    async fn open(authority: &str, protocol: Protocol) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(match protocol {
            Protocol::Http1 => Self::Http1(Http1::open(stream).await?),
            Protocol::Http2 => Self::Http2(Http2::open(stream).await?),
        })
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_closed(),
            Self::Http2(connection) => connection.is_closed(),
        }
    }
}
