//! The body of a request as it comes from the caller, whatever protocol it came over.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::http1::{self, Transport, Tunneled};

/// A caller's body.
#[derive(Debug)]
pub enum CallerStream {
    /// Over HTTP/1.1.
    Http1(http1::Body),
    /// Over HTTP/2.
    Http2(Incoming),
}

/// Why a caller's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// Over HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] http1::Error),
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl Body for CallerStream {
    type Data = Bytes;
    type Error = CallerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CallerError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(CallerError::from),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(CallerError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A caller's connection, or its stream, once HTTP has ended on it.
#[derive(Debug)]
pub enum Switching {
    /// Over HTTP/1.1.
    Http1(oneshot::Receiver<Tunneled>),
    /// Over HTTP/2.
    Http2(OnUpgrade),
}

impl Switching {
    /// Asks for the connection, or the stream, of a request.
    pub fn of(request: &mut Request<CallerStream>) -> Self {
        if let CallerStream::Http1(body) = request.body() {
            return Self::Http1(body.upgrade());
        }
        Self::Http2(hyper::upgrade::on(request))
    }

    /// Waits until the caller has the head of the answer.
    ///
    /// # Errors
    /// When the caller is gone.
    pub async fn done(self) -> Result<Tunneled, CallerError> {
        match self {
            Self::Http1(tunneled) => tunneled.await.map_err(|_| http1::Error::Closed.into()),
            Self::Http2(upgrade) => Ok(tunneled(upgrade.await?)),
        }
    }
}

fn tunneled(upgraded: Upgraded) -> Tunneled {
    Tunneled::new(Transport::Other(Box::new(TokioIo::new(upgraded))))
}
