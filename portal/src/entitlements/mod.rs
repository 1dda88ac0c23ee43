//! What a subscription may use: the quota ledger and its leases (SEMANTICS Q2 to Q6). See `README.md` for the invariants.

mod exchange;
mod status;
mod store;

pub use exchange::exchange;
pub use status::{QuotaStatus, quota_status};
