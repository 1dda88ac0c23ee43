//! Accepted usage: batches taken once, sums of them, and what is asked of these.

mod check;
pub mod export;
pub mod ingest;
mod ingest_store;
pub mod query;
mod query_store;
mod rollup;
