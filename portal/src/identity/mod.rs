//! People: users, passwords, sessions, tokens, and the actor that every operation asks.

pub mod actor;
pub mod api_token;
pub mod session;
mod store;

pub use actor::{Actor, ActorKind, Permission, Role};
