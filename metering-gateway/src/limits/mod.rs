//! The state of rate limits and hard quotas: one shared atomic each (SEMANTICS Q1, Q2).
//!
//! Cores keep what they resolved ([`crate::pipeline::grant`]), so the registries here, which have locks, are asked once for each key and route on each
//! core, and not on the path of a call.

mod ahead;
pub mod exchange;
pub mod places;
pub mod quota;
pub mod rate;
mod rounds;
pub mod turns;
