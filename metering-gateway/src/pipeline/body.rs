//! The body of an answer to a caller.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::meter::{MeteredBody, Stop};
use crate::{http1::lines::Lines, upstream::AnswerBodyError};

/// Why an answer could not be handed over whole. The connection or stream is then reset, so that the caller can tell.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The upstream broke off.
    #[error("the upstream broke off: {0}")]
    Upstream(#[from] AnswerBodyError),
    /// The key was revoked, the subscription ended, or its quota was used up meanwhile. The source is what HTTP/2 resets the stream with.
    #[error("the exchange was ended by the gateway")]
    Stopped(#[source] h2::Error),
    /// It took longer than the call may.
    #[error("the call's time is over")]
    TimedOut,
}

impl AnswerError {
    /// The gateway ended the exchange. gRPC takes the codes for "permission denied" and "resource exhausted".
    pub fn stopped(stop: Stop) -> Self {
        Self::Stopped(h2::Error::from(match stop {
            Stop::Revoked => Reason::INADEQUATE_SECURITY,
            Stop::QuotaUsedUp => Reason::ENHANCE_YOUR_CALM,
            _ => Reason::CANCEL,
        }))
    }
}

impl From<Infallible> for AnswerError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// The gateway's own.
    Own(Full<Bytes>),
    /// The upstream's, metered.
    Metered(Box<MeteredBody>),
}

impl AnswerBody {
    /// Where an answer has no body, its head is its end: waits until that may be handed on.
    pub async fn may_end(&self) {
        if let Self::Metered(body) = self {
            body.may_end().await;
        }
    }

    /// No body.
    pub fn empty() -> Self {
        Self::Own(Full::default())
    }

    /// The fields of the answer that are not in a map.
    pub fn lines(&self) -> Option<&Lines> {
        match self {
            Self::Own(_) => None,
            Self::Metered(body) => body.lines(),
        }
    }

    /// A whole body.
    pub fn full(bytes: Bytes) -> Self {
        Self::Own(Full::new(bytes))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(AnswerError::from),
            Self::Metered(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Metered(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Metered(body) => body.size_hint(),
        }
    }
}
