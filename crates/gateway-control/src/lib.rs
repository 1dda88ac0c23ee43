//! The wire contract between portal and gateways. Both sides speak JSON over HTTP/1.1 or HTTP/2 with the gateway's credential as bearer token.
//!
//! | Call | Body | Answer |
//! |---|---|---|
//! | `GET  /control/v1/policy?epoch=&generation=&version=1` | none | a stream of [`policy::PolicyEvent`] lines (NDJSON), for as long as the connection lasts |
//! | `POST /control/v1/usage` | one [`usage::UsageBatch`] | [`usage::BatchAck`]; 409 for the same segment key with other bytes |
//! | `POST /control/v1/leases` | one [`lease::LeaseExchange`] | [`lease::LeaseGrants`] |
//! | `POST /control/v1/status` | one [`status::GatewayStatus`] | 204 |
//!
//! Every body carries its format version ([`FORMAT`]); the portal speaks the current and the previous one. Unknown fields are ignored, so that a
//! newer peer may add some. Golden files of each version stand in `tests/golden/`.
//!
//! Quantities are decimal strings in units on this wire ([`units::Micros`] has them in millionths of a unit in memory).

pub mod credential;
pub mod headers;
pub mod lease;
pub mod options;
pub mod path;
pub mod policy;
pub mod rules;
pub mod status;
pub mod units;
pub mod usage;

/// The version of every format in this crate.
pub const FORMAT: u16 = 1;
