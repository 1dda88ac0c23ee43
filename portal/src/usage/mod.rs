//! Accepted usage: batches taken once, sums of them, and what is asked of these.

mod calls;
mod charge_store;
mod check;
mod copy;
mod correction_store;
pub mod corrections;
pub mod export;
mod facet_store;
pub mod figures;
pub mod ingest;
mod ingest_lookup_store;
mod ingest_store;
pub mod last_used;
mod latency;
mod latency_store;
mod partition_store;
pub mod partitions;
pub mod query;
mod query_store;
mod quota_store;
mod rollup;
mod stream_store;
pub mod streams;
pub mod together;
pub mod watermark;
mod watermark_store;
