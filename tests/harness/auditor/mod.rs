//! The auditor: programs that call, an upstream that answers them, and a book of what happened to each exchange, as both ends saw it.
//!
//! It counts what clients were answered and knows nothing of the product's tables. Each exchange has a number, its **mark**, which the upstream declares
//! as units in the header [`MARK`] of its answer. A meter takes them from there, so that a final record in a journal, found on the disk, names its
//! exchange.

mod book;
mod client;
mod connection;
mod dice;
mod load;
mod records;
mod rpc;
mod socket;
mod upstream;
mod verdict;

pub use book::{Book, Entry, Fate, Form, Passed, Plan};
pub use client::{Call, Client, Protocol};
pub use dice::Dice;
pub use load::{Load, Mix};
pub use records::{Exchange, Meters, Recorded};
pub use upstream::Upstream;
pub use verdict::{Count, Verdict};

/// The header in which the upstream declares an exchange's mark.
pub const MARK: &str = "x-audit-mark";
