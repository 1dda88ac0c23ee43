//! From facts to what gateways know (SEMANTICS P1 to P4). See `README.md` for the invariants.
//!
//! Triggers write the ids of changed things to an outbox. One [`publish`]er at a time takes committed ids, reads the present [`facts`], [`compile`]s
//! them to entries and numbers those. Every process follows the newest generation in its [`feed`], from which its gateways' streams are served.

pub mod compile;
pub mod facts;
pub mod feed;
pub mod publish;
mod store;

pub use feed::{Feed, Position};
pub use store::{Line, Page, page_after, position};
