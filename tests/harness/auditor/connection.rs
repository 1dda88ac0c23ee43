//! Connections that tell exactly what came of a request.
//!
//! hyper's clients have a queue before the connection. A request that is put there just as the connection ends may be left in it, and its caller waits
//! for as long as it holds the sender: [`Http1`] lets go of that once the connection has ended. Before HTTP/2 hyper also answers a request that it has
//! just sent with the connection's goodbye, as if the gateway had not begun it; [`Http2`] therefore does without it.

use std::{
    fmt::Debug,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use h2::RecvStream;
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

/// Why no answer came.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nothing of the request was sent.
    NotSent,
    /// The gateway said that it did not begin it.
    Unprocessed,
    /// The connection or the stream ended first.
    Broken(Box<dyn Debug + Send>),
}

/// HTTP/1.1 with keep-alive.
#[derive(Debug)]
pub(super) struct Http1 {
    sender: Option<http1::SendRequest<Empty<Bytes>>>,
    driver: JoinHandle<()>,
    /// When something passed on it last, once there was an exchange.
    pub since: Option<Instant>,
}

impl Http1 {
    pub async fn open(stream: TcpStream) -> anyhow::Result<Self> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // How the connection ended is said by the exchange on it.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Self { sender: Some(sender), driver, since: None })
    }

    pub fn is_closed(&self) -> bool {
        self.sender.as_ref().is_none_or(http1::SendRequest::is_closed)
    }

    pub async fn ask(&mut self, request: Request<()>) -> Result<Response<Incoming>, Unanswered> {
        let Some(sender) = &mut self.sender else { return Err(Unanswered::NotSent) };
        let mut answer = pin!(sender.send_request(request.map(|()| Empty::new())));
        let answered = tokio::select! {
            answered = &mut answer => answered,
            _ = &mut self.driver => {
                self.sender = None;
                answer.await
            }
        };
        answered.map_err(|error| if error.is_canceled() { Unanswered::NotSent } else { Unanswered::Broken(Box::new(error)) })
    }
}

/// HTTP/2 by prior knowledge.
#[derive(Debug)]
pub(super) struct Http2 {
    sender: h2::client::SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Http2 {
    pub async fn open(stream: TcpStream) -> anyhow::Result<Self> {
        let (sender, driver) = h2::client::handshake(stream).await?;
        Ok(Self { sender, driver: tokio::spawn(async move { drop(driver.await) }) })
    }

    pub fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    /// Asks, with a body that is sent whole where there is one.
    pub async fn ask(&mut self, request: Request<()>, body: Option<Bytes>) -> Result<Response<Answer>, Unanswered> {
        poll_fn(|cx| self.sender.poll_ready(cx)).await.map_err(|_| Unanswered::NotSent)?;
        let (answer, mut upload) = self.sender.send_request(request, body.is_none()).map_err(|_| Unanswered::NotSent)?;
        if let Some(body) = body {
            upload.send_data(body, true).map_err(not_answered)?;
        }
        Ok(answer.await.map_err(not_answered)?.map(Answer))
    }
}

/// A goodbye without an error ends what came after the last stream that it names (RFC 9113, 6.8), and a stream may be refused (8.7).
fn not_answered(error: h2::Error) -> Unanswered {
    let is_goodbye = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if error.is_remote() && (is_goodbye || is_refused) { Unanswered::Unprocessed } else { Unanswered::Broken(Box::new(error)) }
}

/// What follows the head of an answer by HTTP/2.
#[derive(Debug)]
pub(super) struct Answer(RecvStream);

impl Body for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = data?;
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        self.0.poll_trailers(cx).map(|trailers| trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}
