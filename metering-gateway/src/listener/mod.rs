//! What stands between a socket and HTTP: the PROXY protocol, TLS with its certificates, and what is known of the caller's side of a connection.

pub mod certificates;
pub mod greet;
pub mod peer;
pub mod proxy_protocol;
pub mod settings;
mod sources;
pub mod spread;

pub use peer::Peer;
pub use settings::ListenerConfig;
