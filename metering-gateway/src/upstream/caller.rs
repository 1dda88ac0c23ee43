//! The caller's side of a request's body: how long it may take, what of it may pass, and the word to its exchange that it moves.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::pipeline::{
    caller::{CallerError, CallerStream},
    headers,
    meter::Pulse,
};

/// What a caller has to send within the body timeout, unless its body ends: a byte now and then does not count as sending.
const FAIR_PIECE_BYTES: u64 = 16 * 1024;

/// A caller's body.
#[derive(Debug)]
pub struct CallerBody {
    inner: CallerStream,
    patience: Patience,
    pulse: Pulse,
}

/// Why the caller's next piece did not come.
#[derive(Debug)]
pub enum CallerFault {
    /// It stopped sending, or sent what is not HTTP.
    Broke(CallerError),
    /// It came too slowly.
    TooSlow,
}

/// How long the caller may take. The timer is armed when a piece has to be waited for.
#[derive(Debug)]
struct Patience {
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
    received: u64,
}

impl Patience {
    fn received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
        if self.received >= FAIR_PIECE_BYTES {
            (self.received, self.armed) = (0, false);
        }
    }

    /// Ready when the caller has taken too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = Instant::now() + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if !std::mem::replace(&mut self.armed, true) {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}

impl CallerBody {
    /// Each next piece of the body comes within `timeout`, as long as the exchange has no answer.
    pub fn new(inner: CallerStream, timeout: Duration, pulse: Pulse) -> Self {
        Self { inner, patience: Patience { timeout, timer: None, armed: false, received: 0 }, pulse }
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CallerFault>>> {
        let Poll::Ready(polled) = Pin::new(&mut self.inner).poll_frame(cx) else {
            // Once the answer has begun, both sides may take their time with each other.
            if self.pulse.is_answered() {
                return Poll::Pending;
            }
            ready!(self.patience.poll(cx));
            return Poll::Ready(Some(Err(CallerFault::TooSlow)));
        };
        self.pulse.beat();
        let polled = polled.map(|frame| frame.map_err(CallerFault::Broke)).map(|frame| {
            let mut frame = frame?;
            self.patience.received(frame.data_ref().map_or(0, Bytes::len));
            if let Some(trailers) = frame.trailers_mut() {
                headers::trailers_to_upstream(trailers);
            }
            Ok(frame)
        });
        Poll::Ready(polled)
    }

    /// Whether there is no more of it.
    pub fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    /// How much there is of it.
    pub fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
