//! The data plane of Tollkeeper: authenticates, admits, forwards and meters calls to APIs.
//!
//! # Code map
//!
//! - [`gateway`]: [`run`] brings the parts together and stops them in order. [`server`]: a core's thread: accepting and the timer.
//! - [`listener`]: what stands between a socket and HTTP: the PROXY protocol, TLS and its certificates, and how connections are spread over cores.
//!   [`connection`]: HTTP on one connection.
//! - [`http1`]: HTTP/1.1 with callers and upstreams.
//! - [`turn`]: the clock of a core's turn. [`drain`]: how a core leaves without failing a call.
//! - [`guard`]: what keeps callers from hurting a core.
//! - [`pipeline`]: the way of a call; `handle()` reads as the list of its stages.
//! - [`upstream`]: a core's connections to upstreams.
//! - [`policy`]: what is known of keys, plans and routes, followed from the portal's feed and cached on disk.
//! - [`limits`]: the state of rate limits and hard quotas, and the exchange of leases.
//! - [`usage`]: records, their journal, and their shipping.
//! - [`observe`]: the access log and spans.
//! - [`admin`], [`status`], [`metrics`], [`scrape`]: what operators and the portal are told.
//!
//! Each core owns its runtime, its connections and its journal stream ([`core::Core`], never locked). All cores share one immutable policy index and
//! one atomic for each limit ([`shared::Shared`]). Everything that waits for the portal or the disk runs on the control thread.

pub mod admin;
pub mod config;
pub mod connection;
pub mod core;
pub mod drain;
pub mod gateway;
pub mod guard;
pub mod http1;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod observe;
pub mod pipeline;
pub mod policy;
pub mod portal;
pub mod scrape;
pub mod server;
pub mod shared;
pub mod status;
pub mod turn;
pub mod upstream;
pub mod usage;

pub use config::Config;
pub use gateway::{Addresses, Listeners, run};
