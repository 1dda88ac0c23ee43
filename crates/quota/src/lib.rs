//! Pure rate limits and quotas: no I/O, no clock, no floats.
//!
//! - [`RateLimit`], [`QuotaLimit`]: what a plan says. Their JSON is part of policy entries; its shape is fixed by golden tests.
//! - [`Limiter`], [`take_all`]: requests per short window by GCRA, one shared atomic for each limit.
//! - [`Lease`]: a gateway's slice of a hard quota, one shared atomic; [`Sizing`] and [`RateOfUse`]: how much of it to ask for.
//! - [`Book`]: what a gateway keeps of its leases of a quota: when to ask, what to give back, what to declare.
//! - [`Ledger`]: the portal's half: grants, what is presumed spent, recalls, write-offs.
//! - [`Fields`]: the `RateLimit` and `RateLimit-Policy` header fields, written without allocation.
//!
//! Quantities are **micro-units** in `i64`: 1 unit = [`MICROUNITS_PER_UNIT`]. A call is one unit unless its meter says otherwise.
//! Instants are nanoseconds of a monotonic clock that the caller reads; the origin does not matter as long as every caller shares it.

mod book;
mod headers;
mod lease;
mod ledger;
mod limit;
mod rate_limit;

pub use book::{Book, EpochWatch, Look, Plan, Received, Word};
pub use headers::{Fields, seconds_up};
pub use lease::{Lease, LeaseRefusal, RateOfUse, SPEND_MARGIN_NS, Sizing, spend_until_ns};
pub use ledger::{Answer, Ask, Circumstances, Declared, Holding, Ledger, RECALL_INTERVAL, SegmentRun, StillLive, Turn, is_settled};
pub use limit::{Enforcement, InvalidLimit, QuotaLimit, RateLimit, Scope, WhenUnreachable};
pub use rate_limit::{Admitted, Decision, Denied, Gcra, GcraState, Limiter, take_all};

/// Micro-units in one unit.
pub const MICROUNITS_PER_UNIT: i64 = 1_000_000;

/// Nanoseconds in one second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;
