//! Connections to upstreams. Each core has a pool of its own, so no lock is taken.

pub mod body;
pub mod pool;

pub use body::RequestBody;
pub use pool::{Connection, Pool, UpstreamError};
