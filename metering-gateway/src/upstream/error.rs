//! Why an upstream gave no answer.

use std::{io, time::Duration};

/// Why an upstream gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// No connection in time.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// No head of an answer in time.
    #[error("no answer within {0:?}")]
    FirstByteTimeout(Duration),
    /// It closed the connection, or what it sent is not HTTP/1.1.
    #[error("no valid answer: {0}")]
    Failed(#[from] hyper::Error),
    /// It closed the connection or the stream, or what it sent is not HTTP/2.
    #[error("no valid answer over HTTP/2: {0}")]
    FailedHttp2(#[from] h2::Error),
}

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum AnswerBodyError {
    /// Over HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// The stream ended in order, but before as many bytes came as were announced.
    #[error("{0} announced bytes are missing")]
    Short(u64),
}
