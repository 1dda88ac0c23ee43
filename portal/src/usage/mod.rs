//! Accepted usage: batches taken once, sums of them, and what is asked of these.

mod charge_store;
mod check;
pub mod export;
mod facet_store;
pub mod figures;
pub mod ingest;
mod ingest_lookup_store;
mod ingest_store;
mod partition_store;
pub mod partitions;
pub mod query;
mod query_store;
mod quota_store;
mod rollup;
mod rollup_store;
mod stream_store;
pub mod streams;
