//! The body of an upstream's answer, whatever protocol it came over. Nothing is read before somebody asks for it, so that a slow caller slows its
//! own upstream and nobody else.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use super::error::AnswerBodyError;
use crate::http1::{self, lines::Lines};

/// The body of an answer.
#[derive(Debug)]
pub enum UpstreamBody {
    /// Over HTTP/1.1.
    Http1(http1::Body),
    /// Over HTTP/2.
    Http2(Http2Body),
}

/// The body of an answer on one HTTP/2 stream.
#[derive(Debug)]
pub struct Http2Body {
    stream: RecvStream,
    /// Bytes that were announced and have not come yet.
    left: Option<u64>,
    data_ended: bool,
}

impl Http2Body {
    /// The body that follows a head.
    pub fn new(stream: RecvStream, head: &HeaderMap) -> Self {
        let left = head.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        Self { stream, left, data_ended: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerBodyError>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Asked for means handed on: the window opens again at the speed of the caller. A stream that was reset meanwhile says so next.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(self.reset(error).map(Err)),
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(self.reset(error).map(Err)),
        }
    }

    /// RFC 9113, 8.1: a server that has answered whole may reset the stream with `NO_ERROR` to stop an upload that it does not need.
    fn reset(&self, error: h2::Error) -> Option<AnswerBodyError> {
        match (error.reason(), self.left) {
            (Some(Reason::NO_ERROR), None | Some(0)) if error.is_reset() => None,
            (Some(Reason::NO_ERROR), Some(left)) if error.is_reset() => Some(AnswerBodyError::Short(left)),
            _ => Some(error.into()),
        }
    }
}

impl UpstreamBody {
    /// The fields of the answer that are not in a map.
    pub fn lines(&self) -> Option<&Lines> {
        match self {
            Self::Http1(body) => body.lines(),
            Self::Http2(_) => None,
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = AnswerBodyError;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerBodyError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(AnswerBodyError::from),
            Self::Http2(body) => body.poll(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) if body.stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(body) => body.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
