//! Accepted usage: batches taken once, sums of them, and what is asked of these.

pub mod export;
pub mod query;
mod query_store;
