//! HTTP/1.1 on one connection, with callers and with upstreams (RFC 9112).
//!
//! Why not hyper's: a call then crosses two tasks, two channels and two timers between the sockets, which is more work than all stages of the pipeline
//! together. Here a call is one task from the caller's head to the last byte of the answer; what one party sent at once is read at once, and the answer
//! leaves in one write. HTTP/2 is hyper's and h2's. (`docs/adr`)
//!
//! - [`transport`]: TCP, TLS, or what goes on after HTTP.
//! - [`wire`]: a byte stream with what was read and what is to be sent.
//! - [`head`]: heads of requests and answers, read by `httparse`. What two parties could cut in two ways is refused.
//! - [`lines`]: fields of answers that nobody needs to look at.
//! - [`decode`]: where a body ends. [`body`]: a body that is read from a wire.
//! - [`departures`]: what a core has to send leaves together.
//! - [`write`]: heads and bodies on their way out.
//! - [`server`]: a caller's connection. An upstream's is [`crate::upstream::http1`].

pub mod body;
pub mod decode;
pub mod departures;
pub mod head;
pub mod lines;
pub mod server;
pub mod transport;
pub mod wire;
pub mod write;

use std::io;

pub use body::Body;
pub use transport::{Transport, Tunneled};
pub use wire::Wire;

/// The largest head of a request or an answer, and the most fields in it.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most fields in a head, or behind the last chunk.
pub const MAX_FIELDS: usize = 128;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The connection ended inside a message.
    #[error("the connection was closed before the message was whole")]
    Closed,
    /// It is not HTTP/1.1, or could be read in two ways.
    #[error("not HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// Its head is larger than is read.
    #[error("the head is larger than 64 KiB or has more than 128 fields")]
    HeadTooLarge,
}

impl Error {
    /// Whether the connection is to blame, and not what came over it.
    pub fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Closed)
    }
}
