//! Connections to upstreams. Each core has a pool of its own, in which nothing is locked; what bounds the gateway as a whole is shared in [`shared`] and
//! touched only when a connection is made or waited for.
//!
//! [`send`] sends a call: it picks an address of a [`group`], gets a connection or a stream of one from the [`address`], and decides about another try.

pub mod address;
pub mod answer;
pub mod body;
pub mod budget;
pub mod caller;
pub mod clockwork;
pub mod connect;
pub mod error;
pub mod group;
pub mod health;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod line;
pub mod pool;
pub mod resolver;
pub mod seen;
pub mod send;
pub mod settings;
pub mod shared;
pub mod tls;

pub use answer::UpstreamBody;
pub use body::RequestBody;
pub use error::{AnswerBodyError, UpstreamError};
pub use group::Group;
pub use pool::{Connection, Pool};
pub use resolver::{Resolve, Resolving};
pub use seen::AddressSeen;
pub use send::{Patience, send};
pub use settings::UpstreamConfig;
pub use shared::Upstreams;
