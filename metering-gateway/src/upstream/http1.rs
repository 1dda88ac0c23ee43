//! An exchange over HTTP/1.1 on a connection to an upstream.
//!
//! The task of the call writes the request and reads the answer. Only when an answer begins before its request is whole does the rest of the request
//! get a task of its own, because then neither may wait for the other.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use http::{Response, StatusCode};
use tokio::task::JoinHandle;

use super::{RequestBody, answer::UpstreamBody, body::RequestBodyError, connect::Open};
use crate::{
    http1::{
        Body, Error, Transport, Tunneled, Wire,
        head::{self, AnswerHead, Scanned},
        write::{self, WriteError, Writer},
    },
    pipeline::outgoing::Outgoing,
};

/// So many interim answers may come before the last one (RFC 9110, 15.2); an upstream that goes on would keep its core busy with them.
const MAX_INTERIM: u8 = 100;

/// A connection that carries one exchange at a time. Dropped, it is closed.
#[derive(Debug)]
pub struct Http1 {
    wire: Rc<Wire>,
    /// For how many ticks it had been idle; `None` when it is new.
    pub idle_ticks: Option<u64>,
    /// The tick from which on it carries no other exchange.
    pub expires: u64,
    /// Another exchange may follow this one.
    keep_alive: bool,
    rest: Option<Rest>,
    /// An exchange that switched protocols needs the connection when HTTP has ended on it.
    open: Rc<Open>,
}

/// What is still being sent of a request whose answer has begun.
#[derive(Debug)]
struct Rest(JoinHandle<bool>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The upstream closed the connection, or what it sent is not HTTP.
    Upstream(Error),
    /// The caller's body could not be passed on.
    Body(RequestBodyError),
}

impl Http1 {
    /// A new connection.
    pub fn new(io: Transport, expires: u64, open: Rc<Open>) -> Self {
        Self { wire: Wire::new(io, BytesMut::new(), None), idle_ticks: None, expires, keep_alive: true, rest: None, open }
    }

    /// Whether another exchange may begin now: the one before is whole, and the upstream has neither gone nor said anything unasked.
    pub fn is_ready(&self) -> bool {
        self.keep_alive && self.rest.is_none() && self.wire.rests()
    }

    /// The same, by the system's word: for a connection that has been idle.
    pub fn is_silent(&self) -> bool {
        self.wire.is_silent()
    }

    /// Whether no other exchange will ever begin on it.
    pub fn is_spent(&self) -> bool {
        !self.keep_alive || !self.wire.inbound_ended()
    }

    /// Waits until the end of the request has been sent. False: it never will be.
    pub async fn sent(&mut self) -> bool {
        match &mut self.rest {
            None => true,
            Some(rest) => {
                let sent = (&mut rest.0).await.unwrap_or(false);
                self.rest = None;
                sent
            }
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(&mut self, head: &Outgoing<'_>, body: RequestBody) -> Result<Response<UpstreamBody>, Failure> {
        let writer = write::request(&self.wire, head, &body);
        let mut sending =
            Sending { wire: &self.wire, writer: Some((writer, body)), broken: None, scanned: Scanned::default(), interim: 0, head };
        let AnswerHead { answer, lines, body, keep_alive } = poll_fn(|cx| sending.poll(cx)).await?;
        let unsent = sending.writer.take();
        let broken = sending.broken.is_some();
        self.keep_alive = keep_alive && !broken && answer.status() != StatusCode::SWITCHING_PROTOCOLS;
        self.wire.begin_inbound(body, false);
        if let Some((writer, body)) = unsent {
            self.rest = Some(Rest(tokio::task::spawn_local(send_rest(self.wire.clone(), writer, body))));
        }
        Ok(answer.map(|()| UpstreamBody::Http1(Body::with_lines(self.wire.clone(), lines))))
    }

    /// The byte stream, once both sides have agreed on another protocol; and what counts it as a connection.
    pub fn switched(self) -> (Option<Tunneled>, Rc<Open>) {
        (self.wire.take(), self.open)
    }
}

/// A request under way.
struct Sending<'a> {
    wire: &'a Rc<Wire>,
    writer: Option<(Writer, RequestBody)>,
    /// The upstream takes no more of the request. It may have answered before.
    broken: Option<Error>,
    scanned: Scanned,
    /// Interim answers that have come.
    interim: u8,
    head: &'a Outgoing<'a>,
}

impl Sending<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, Failure>> {
        if let Some((writer, body)) = &mut self.writer
            && let Poll::Ready(sent) = writer.poll(self.wire, Pin::new(body), cx)
        {
            self.writer = None;
            match sent {
                Ok(()) => (),
                Err(WriteError::Io(error)) => self.broken = Some(error.into()),
                Err(WriteError::Body(error)) => return Poll::Ready(Err(Failure::Body(error))),
                Err(WriteError::Length) => {
                    return Poll::Ready(Err(Failure::Upstream(Error::Malformed("the request is not as long as it says"))));
                }
            }
        }
        ready!(self.poll_head(cx)).map_err(|error| Failure::Upstream(self.broken.take().unwrap_or(error))).into()
    }

    /// The head of the last answer: interim answers are for whoever asked for them, which the gateway did not (RFC 9110, 15.2).
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, Error>> {
        loop {
            let (found, eof) = self.wire.read_head(|read| head::answer(read, &mut self.scanned, &self.head.method, self.head.takes_lines));
            match found? {
                Some(head) if !head.answer.status().is_informational() || head.answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Poll::Ready(Ok(head));
                }
                Some(_) if self.interim >= MAX_INTERIM => return Poll::Ready(Err(Error::Malformed("interim answers come without an end"))),
                Some(_) => self.interim += 1,
                None if eof => return Poll::Ready(Err(Error::Closed)),
                None => ready!(self.wire.poll_more(cx))?,
            }
        }
    }
}

async fn send_rest(wire: Rc<Wire>, mut writer: Writer, body: RequestBody) -> bool {
    let mut body = pin!(body);
    let sent = poll_fn(|cx| writer.poll(&wire, body.as_mut(), cx)).await;
    sent.is_ok()
}
