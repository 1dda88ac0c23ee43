//! What is counted. Each core counts for itself, without contention; [`crate::scrape`] adds the cores up.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use journal::{AnsweredBy, Outcome};

use crate::pipeline::respond::Failure;

/// The problems that are counted by name.
pub(crate) const PROBLEMS: [&str; 28] = [
    "malformed-request",
    "head-too-large",
    "ambiguous-path",
    "no-route",
    "method-not-allowed",
    "key-missing",
    "key-invalid",
    "not-in-plan",
    "subscription-paused",
    "payment-overdue",
    "no-sandbox",
    "too-fast",
    "quota-used-up",
    "quota-unknown",
    "policy-unknown",
    "usage-log-full",
    "body-too-large",
    "body-incomplete",
    "body-too-slow",
    "overloaded",
    "upstream-timeout",
    "upstream-unreachable",
    "upstream-failed",
    "upstream-overloaded",
    "deadline-exceeded",
    "stopping",
    "internal",
    "other",
];

/// Upper bounds of the duration histogram, in microseconds.
pub(crate) const DURATION_BOUNDS: [u64; 12] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000];

/// Counts one more. Only the core's own thread writes its counters, so nothing is locked.
fn count(counter: &AtomicU64) {
    add(counter, 1);
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

fn class_of(status: u16) -> usize {
    usize::from(status / 100).clamp(1, 5) - 1
}

/// How an admitted exchange ended.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// The status that was recorded.
    pub status: u16,
    /// Who gave the answer's head.
    pub answered_by: AnsweredBy,
    /// How it ended.
    pub outcome: Outcome,
    /// Since admission.
    pub elapsed: Duration,
    /// From admission to the head of the upstream's answer, if there was one.
    pub upstream_time: Option<Duration>,
}

/// A core's part of a histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    pub(crate) buckets: [AtomicU64; DURATION_BOUNDS.len() + 1],
    pub(crate) micros: AtomicU64,
}

impl Durations {
    fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        count(&self.buckets[DURATION_BOUNDS.partition_point(|bound| *bound < micros)]);
        add(&self.micros, micros);
    }
}

/// One core's counters.
#[derive(Debug, Default)]
pub struct CoreMetrics {
    /// By class of status, 1xx to 5xx, and whether the upstream answered.
    pub(crate) answers: [[AtomicU64; 2]; 5],
    pub(crate) incomplete: AtomicU64,
    pub(crate) problems: [AtomicU64; PROBLEMS.len()],
    pub(crate) durations: [Durations; 5],
    pub(crate) upstream_times: [Durations; 5],
    pub(crate) defaulted_units: AtomicU64,
    pub(crate) estimated_units: AtomicU64,
    pub(crate) clamped_units: AtomicU64,
    pub(crate) malformed_units: AtomicU64,
    pub(crate) unbilled: AtomicU64,
    pub(crate) lost_records: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
    pub(crate) surplus_connections: AtomicU64,
    pub(crate) unknown_keys: AtomicU64,
    /// Connections of callers that are open.
    pub connections: AtomicI64,
    /// Exchanges that are open, set by the core's timer.
    pub open_exchanges: AtomicI64,
    /// Connections to upstreams that are open, set by the core's timer.
    pub upstream_connections: AtomicI64,
}

impl CoreMetrics {
    /// An admitted exchange has ended.
    pub fn finished(&self, call: &Finished) {
        let class = class_of(call.status);
        count(&self.answers[class][usize::from(call.answered_by == AnsweredBy::Upstream)]);
        if call.outcome != Outcome::Complete {
            count(&self.incomplete);
        }
        self.durations[class].observe(call.elapsed);
        if let Some(took) = call.upstream_time {
            self.upstream_times[class].observe(took);
        }
    }

    /// A call got an answer of the gateway's own.
    pub fn failed(&self, failure: &Failure) {
        let place = PROBLEMS.iter().position(|slug| *slug == failure.slug()).unwrap_or(PROBLEMS.len() - 1);
        self.problems[place].fetch_add(1, Relaxed);
    }

    /// An upstream declared no units.
    pub fn defaulted_units(&self) {
        self.defaulted_units.fetch_add(1, Relaxed);
    }

    /// An exchange ended before its upstream came to declare its units.
    pub fn estimated_units(&self) {
        self.estimated_units.fetch_add(1, Relaxed);
    }

    /// An exchange used more than the route's `max_units`.
    pub fn clamped_units(&self) {
        self.clamped_units.fetch_add(1, Relaxed);
    }

    /// An upstream declared units that are no number, or a negative one.
    pub fn malformed_units(&self) {
        self.malformed_units.fetch_add(1, Relaxed);
    }

    /// A call is served without a record because the journal is full.
    pub fn unbilled(&self) {
        self.unbilled.fetch_add(1, Relaxed);
    }

    /// A record could not be appended.
    pub fn lost_record(&self) {
        self.lost_records.fetch_add(1, Relaxed);
    }

    /// A connection was closed before HTTP began on it.
    pub fn refused_connection(&self) {
        self.refused_connections.fetch_add(1, Relaxed);
    }

    /// A connection is closed after its answer because its namespace has too many.
    pub fn surplus_connection(&self) {
        self.surplus_connections.fetch_add(1, Relaxed);
    }

    /// A key of the right form was looked up and not found.
    pub fn unknown_key(&self) {
        self.unknown_keys.fetch_add(1, Relaxed);
    }

    /// How often units were defaulted, clamped or malformed.
    pub fn unit_faults(&self) -> u64 {
        [&self.defaulted_units, &self.clamped_units, &self.malformed_units].iter().map(|counter| counter.load(Relaxed)).sum()
    }
}

/// Counters of the whole gateway.
#[derive(Debug, Default)]
pub struct Metrics {
    cores: Mutex<Vec<Arc<CoreMetrics>>>,
    /// Batches that the portal took.
    pub batches_shipped: AtomicU64,
    /// Attempts to ship that failed and are tried again.
    pub ship_failures: AtomicU64,
    /// Segments that the portal refused.
    pub quarantined: AtomicU64,
    /// Exchanges of leases.
    pub lease_exchanges: AtomicU64,
    /// Exchanges of leases that got no answer.
    pub lease_failures: AtomicU64,
    /// Times the policy feed was connected.
    pub policy_connects: AtomicU64,
}

impl Metrics {
    /// The counters of one more core.
    pub fn add_core(&self) -> Arc<CoreMetrics> {
        let core = Arc::<CoreMetrics>::default();
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).push(core.clone());
        core
    }

    /// Calls and connections to upstreams that are open.
    pub fn open(&self) -> (i64, i64) {
        (self.sum_gauge(|core| &core.open_exchanges), self.sum_gauge(|core| &core.upstream_connections))
    }

    /// Connections of callers that are open.
    pub fn connections(&self) -> i64 {
        self.sum_gauge(|core| &core.connections)
    }

    /// The same, of each core.
    pub fn connections_of_cores(&self) -> Vec<i64> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|core| core.connections.load(Relaxed)).collect()
    }

    pub(crate) fn sum(&self, counter: impl Fn(&CoreMetrics) -> &AtomicU64) -> u64 {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|core| counter(core).load(Relaxed)).sum()
    }

    pub(crate) fn sum_gauge(&self, gauge: impl Fn(&CoreMetrics) -> &AtomicI64) -> i64 {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|core| gauge(core).load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slugs are read from the one place that names them, so that a new failure cannot be forgotten here.
    #[test]
    fn every_problem_is_counted_by_its_name() {
        let source = include_str!("pipeline/respond.rs");
        let named = source.split_once("pub fn slug").and_then(|(_, rest)| rest.split_once("pub fn title")).expect("slugs, then titles").0;
        let slugs: Vec<&str> = named.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(slugs.len() > 25 && slugs.contains(&"head-too-large"), "{slugs:?}");
        for slug in slugs {
            assert!(PROBLEMS.contains(&slug), "{slug} would be counted as another");
        }
        assert_eq!(PROBLEMS.last(), Some(&"other"));
    }
}
