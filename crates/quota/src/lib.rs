//! Pure rate limits and quotas: no I/O, no clock, no floats.
//!
//! - [`RateLimit`], [`QuotaLimit`]: what a plan says. Their JSON is part of policy entries; its shape is fixed by golden tests.
//!
//! Quantities are **micro-units** in `i64`: 1 unit = [`MICROUNITS_PER_UNIT`]. A call is one unit unless its meter says otherwise.
//! Instants are nanoseconds of a monotonic clock that the caller reads; the origin does not matter as long as every caller shares it.

mod limit;

pub use limit::{Enforcement, InvalidLimit, QuotaLimit, RateLimit, Scope, WhenUnreachable};

/// Micro-units in one unit.
pub const MICROUNITS_PER_UNIT: i64 = 1_000_000;

/// Nanoseconds in one second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;
