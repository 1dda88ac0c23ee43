//! People: users, passwords, sessions, tokens, and the actor that every operation asks.

pub mod actor;
pub mod api_token;
pub mod job;
mod letter;
pub mod password;
pub mod recovery;
pub mod session;
pub mod sign_in;
pub mod sign_up;
mod store;
pub mod throttle;
pub mod user;

pub use actor::{Actor, ActorKind, Permission, Role};
