//! What all cores and the control thread share.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use calendar::{Clock, Timestamp};
use ids::JournalId;
use journal::Journal;
use telemetry::Readiness;

use crate::{
    Config,
    guard::addresses::Addresses,
    limits::{quota::Quotas, rate::RateLimits},
    listener::certificates::Certificates,
    metrics::Metrics,
    observe::Observer,
    policy::PolicyInForce,
    upstream::Upstreams,
};

/// The policy is there and fresh enough.
pub const READY_POLICY: &str = "policy";
/// The journal takes records and its flushes succeed.
pub const READY_JOURNAL: &str = "journal";
/// The clock is within two seconds of the portal's.
pub const READY_CLOCK: &str = "clock";
/// The data plane accepts connections.
pub const READY_SERVING: &str = "serving";

/// What all cores and the control thread share.
#[derive(Debug)]
pub struct Shared {
    /// Settings.
    pub config: Config,
    /// Where `now` comes from.
    pub clock: Arc<dyn Clock>,
    /// The origin of the monotonic clock.
    pub origin: Instant,
    /// The policy that calls are judged by.
    pub policy: PolicyInForce,
    /// What the cores share of the upstreams.
    pub upstreams: Arc<Upstreams>,
    /// What callers over TLS are shown; absent where nothing is served over TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Rate limits.
    pub rate_limits: RateLimits,
    /// Hard quotas.
    pub quotas: Quotas,
    /// The journal.
    pub journal: Journal,
    /// How many connections each address has.
    pub addresses: Arc<Addresses>,
    /// When the gateway was asked to stop.
    pub draining_since: OnceLock<Timestamp>,
    /// Whether calls should be sent here.
    pub readiness: Readiness,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The access log and spans.
    pub observer: Arc<Observer>,
}

impl Shared {
    /// Nanoseconds on the monotonic clock that limits and leases are kept by.
    pub fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns_at(Instant::now())
    }

    /// The same at an instant.
    pub fn monotonic_ns_at(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The journal's id.
    pub fn journal_id(&self) -> JournalId {
        JournalId::from_bytes(self.journal.id())
    }
}
