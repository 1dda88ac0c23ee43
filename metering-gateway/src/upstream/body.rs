//! The body of a request on its way to the upstream: passed through frame by frame, up to a bound.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::pipeline::forward::MAX_DISCARDED_BYTES;

/// Why a request's body could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The caller stopped sending, or sent what is not HTTP.
    #[error("the caller's body: {0}")]
    Caller(#[from] hyper::Error),
    /// It is longer than the gateway allows.
    #[error("the caller's body is too large")]
    TooLarge,
}

/// What went wrong with a body, for those who only see that the upstream call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFault {
    /// Nothing.
    #[default]
    None,
    /// The caller failed.
    Caller,
    /// It was too large.
    TooLarge,
}

/// A request's body with a bound.
#[derive(Debug)]
pub struct RequestBody {
    inner: Incoming,
    left: u64,
    /// How much more is read and dropped once it is too large, so that the caller gets to read why.
    discarding: Option<u64>,
    fault: Rc<Cell<BodyFault>>,
}

impl RequestBody {
    /// Allows at most `max` bytes.
    pub fn new(inner: Incoming, max: u64) -> Self {
        Self { inner, left: max, discarding: None, fault: Rc::default() }
    }

    /// Where a fault will be noted.
    pub fn fault(&self) -> Rc<Cell<BodyFault>> {
        self.fault.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None if self.discarding.is_some() => return Poll::Ready(Some(Err(RequestBodyError::TooLarge))),
                None => return Poll::Ready(None),
                Some(Err(error)) => {
                    self.fault.set(BodyFault::Caller);
                    return Poll::Ready(Some(Err(error.into())));
                }
            };
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            if let Some(more) = self.discarding {
                match more.checked_sub(length) {
                    Some(more) => self.discarding = Some(more),
                    None => return Poll::Ready(Some(Err(RequestBodyError::TooLarge))),
                }
            } else if let Some(left) = self.left.checked_sub(length) {
                self.left = left;
                return Poll::Ready(Some(Ok(frame)));
            } else {
                self.fault.set(BodyFault::TooLarge);
                self.discarding = Some(MAX_DISCARDED_BYTES);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
