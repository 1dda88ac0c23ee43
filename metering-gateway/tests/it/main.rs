//! The real gateway, in this process, between a mock portal that is strict about the contract and a real upstream on real sockets.

mod harness;

mod admission;
mod billable;
mod drain;
mod forwarding;
mod hostile;
mod lease_numbers;
mod lifecycle;
mod listener;
mod metered;
mod observe;
mod protocols;
mod quota;
mod routes;
mod seeing;
mod spread;
mod streaming;
mod timeouts;
mod tls;
mod tokens;
mod told;
mod upstream_groups;
mod upstream_http2;
mod upstream_limits;
mod upstream_retries;
mod usage;
mod websocket;
