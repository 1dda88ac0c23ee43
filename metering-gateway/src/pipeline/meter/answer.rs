//! The answer's body on its way to the caller.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use journal::Outcome;

use super::{Exchange, Stop};
use crate::{
    http1::lines::Lines,
    pipeline::{body::AnswerError, extras::Extras, headers::trailers_to_caller},
    upstream::{Connection, UpstreamBody},
};

/// The upstream's body on its way to the caller.
#[derive(Debug)]
pub struct MeteredBody {
    inner: UpstreamBody,
    exchange: Exchange,
    connection: Option<Connection>,
    extras: Option<Box<Extras>>,
    /// The end of the answer, held until its record is on the disk: its last frame, or none.
    held: Option<Box<Option<Frame<Bytes>>>>,
}

impl MeteredBody {
    /// Wraps the body of an answer whose head is known. An answer without a body is settled here.
    pub fn boxed(inner: UpstreamBody, exchange: Exchange, connection: Connection, deadline: Option<tokio::time::Instant>) -> Box<Self> {
        let extras = Extras::new(deadline, exchange.is_grpc(), exchange.token_reader());
        let mut body = Box::new(Self { inner, exchange, connection: Some(connection), extras, held: None });
        if body.inner.is_end_stream() {
            body.complete(None);
        }
        body
    }

    /// The fields of the answer that are not in a map.
    pub fn lines(&self) -> Option<&Lines> {
        self.inner.lines()
    }

    /// Where an answer has no body, its head is its end: waits until that may be handed on.
    pub async fn may_end(&self) {
        poll_fn(|cx| self.exchange.poll_committed(cx)).await;
    }

    /// Hands the end of the answer on, now or when its record is on the disk.
    fn end_with(&mut self, frame: Option<Frame<Bytes>>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if self.exchange.poll_committed(cx).is_pending() {
            self.held = Some(Box::new(frame));
            return Poll::Pending;
        }
        Poll::Ready(frame.map(Ok))
    }

    /// The answer is whole.
    fn complete(&mut self, trailers: Option<&HeaderMap>) {
        let outcome = self.extras.as_ref().map_or(Outcome::Complete, |extras| extras.outcome(trailers, &self.exchange));
        self.exchange.settle(outcome);
        if let Some(connection) = self.connection.take() {
            connection.release();
        }
    }

    /// The answer ends here.
    fn cut(&mut self, why: Cut) -> Option<Result<Frame<Bytes>, AnswerError>> {
        let end = match (&mut self.extras, why) {
            (Some(extras), Cut::Stopped(stop)) => extras.stopped(&self.exchange, stop),
            (None, Cut::Stopped(stop)) => Some(Err(AnswerError::stopped(stop))),
            (Some(extras), Cut::Broken(error)) => extras.broken(&self.exchange, error),
            (None, Cut::Broken(error)) => Some(Err(error)),
            (Some(extras), Cut::TimedOut) => extras.expire(&self.exchange),
            (None, Cut::TimedOut) => Some(Err(AnswerError::TimedOut)),
        };
        self.exchange.settle(Outcome::Broken);
        self.connection = None;
        end
    }
}

/// Why an answer ends before it is whole.
enum Cut {
    Stopped(Stop),
    Broken(AnswerError),
    TimedOut,
}

impl Body for MeteredBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(held) = self.held.take() {
            return self.end_with(*held, cx);
        }
        if self.extras.as_ref().is_some_and(|extras| extras.is_finished()) {
            return Poll::Ready(None);
        }
        if let Some(stop) = self.exchange.stopped() {
            return Poll::Ready(self.cut(Cut::Stopped(stop)));
        }
        if self.extras.as_mut().is_some_and(|extras| extras.is_late(cx)) {
            return Poll::Ready(self.cut(Cut::TimedOut));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match polled {
            Poll::Pending => self.exchange.wake_with(cx.waker()),
            Poll::Ready(_) => self.exchange.handed_on(),
        }
        match ready!(polled) {
            None => {
                self.complete(None);
                self.end_with(None, cx)
            }
            Some(Err(error)) => Poll::Ready(self.cut(Cut::Broken(error.into()))),
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    let Self { extras, exchange, .. } = &mut *self;
                    exchange.body_bytes(data.len());
                    if let Some(extras) = extras {
                        extras.passed(data, exchange);
                    }
                }
                if let Some(trailers) = frame.trailers_mut() {
                    self.exchange.trailers(trailers);
                    trailers_to_caller(trailers);
                    self.complete(Some(trailers));
                } else if self.inner.is_end_stream() {
                    self.complete(None);
                }
                self.end_with(Some(frame), cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
            && self.extras.as_ref().map_or_else(|| self.inner.is_end_stream(), |extras| extras.is_finished() || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
