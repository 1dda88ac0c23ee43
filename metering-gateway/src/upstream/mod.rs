//! Connections to upstreams. Each core has a pool of its own, so no lock is taken.

pub mod answer;
pub mod body;
pub mod caller;
pub mod connect;
pub mod error;
pub mod fair;
pub mod http2;
pub mod pool;
pub mod tls;

pub use answer::UpstreamBody;
pub use body::RequestBody;
pub use error::{AnswerBodyError, UpstreamError};
pub use pool::{Connection, Patience, Pool};
