//! Why an upstream gave no answer.

use std::{io, time::Duration};

use super::body::RequestBodyError;
use crate::http1;

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Its name has no addresses.
    #[error("no address: {0}")]
    Unresolved(String),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// No connection in time.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// All connections are in use, and too many calls wait for one, or this one has waited for long.
    #[error("no free connection")]
    Overloaded,
    /// No head of an answer in time.
    #[error("no answer within {0:?}")]
    FirstByteTimeout(Duration),
    /// It closed the connection, or what it sent is not HTTP/1.1.
    #[error("no valid answer: {0}")]
    Failed(#[from] http1::Error),
    /// The caller's body could not be passed on.
    #[error("the request could not be sent: {0}")]
    Body(RequestBodyError),
    /// It closed the connection or the stream, or what it sent is not HTTP/2.
    #[error("no valid answer over HTTP/2: {0}")]
    FailedHttp2(#[from] h2::Error),
}

impl UpstreamError {
    /// Whether the address is to blame. A name without addresses and a full queue are not its fault.
    pub fn is_failure_of_address(&self) -> bool {
        !matches!(self, Self::Unresolved(_) | Self::Overloaded)
    }

    /// Whether the connection broke under the request, so that a request whose repetition does no harm may be sent again. What is slow, or answers
    /// with what is not HTTP, would do so again.
    pub fn is_broken_connection(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_broken_connection(),
            Self::FailedHttp2(error) => error.is_io() || error.is_remote(),
            _ => false,
        }
    }
}

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum AnswerBodyError {
    /// Over HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] http1::Error),
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// The stream ended in order, but before as many bytes came as were announced.
    #[error("{0} announced bytes are missing")]
    Short(u64),
}
