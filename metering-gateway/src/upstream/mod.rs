//! Connections to upstreams. Each core has a pool of its own, so no lock is taken.

pub mod body;
pub mod pool;
pub mod tls;

pub use body::RequestBody;
pub use pool::{Connection, Pool, UpstreamError};
