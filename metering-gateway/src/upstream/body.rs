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
    fault: Rc<Cell<BodyFault>>,
}

impl RequestBody {
    /// Allows at most `max` bytes.
    pub fn new(inner: Incoming, max: u64) -> Self {
        Self { inner, left: max, fault: Rc::default() }
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
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.fault.set(BodyFault::Caller);
                return Poll::Ready(Some(Err(error.into())));
            }
        };
        if let Some(data) = frame.data_ref() {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.fault.set(BodyFault::TooLarge);
                    return Poll::Ready(Some(Err(RequestBodyError::TooLarge)));
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
