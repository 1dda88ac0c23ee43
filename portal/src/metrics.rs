//! What the portal tells Prometheus. Served on `PORTAL_METRICS_LISTEN` only, never on the public port.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::App;

/// What became of a usage batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// Taken.
    Accepted,
    /// Taken before; nothing changed.
    Duplicate,
    /// The same segment key with other bytes.
    Conflict,
    /// Malformed, too large, or for another gateway's journal.
    Refused,
}

/// The label of [`Metrics::usage_batches`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// What became of it.
    pub outcome: Outcome,
}

/// The labels of [`Metrics::http_requests`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `pages`, `rest` or `control`.
    pub edge: &'static str,
    /// The hundreds of the status: `2xx`.
    pub status: &'static str,
}

/// The label of [`Metrics::reconciliation_differences`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DifferenceLabel {
    /// The kind of difference.
    pub kind: &'static str,
}

/// The portal's metrics. Recording is an atomic each.
#[derive(Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Answered requests.
    pub http_requests: Family<RequestLabels, Counter>,
    /// Usage batches by what became of them.
    pub usage_batches: Family<OutcomeLabel, Counter>,
    /// Usage rows that were taken.
    pub usage_rows: Counter,
    /// Usage rows that were taken but name something that the portal does not know.
    pub usage_unattributed_rows: Counter,
    /// How long a usage batch took, from its body to its commit.
    pub usage_accept_seconds: Histogram,
    /// Exchanges of quota leases.
    pub lease_exchanges: Counter,
    /// Exchanges that recalled idle leases because a call waited and nothing was free.
    pub lease_recalls: Counter,
    /// Units over all quotas that only journals which have not arrived can prove.
    pub quota_presumed_spent_units: Gauge,
    /// The newest policy generation that this process knows.
    pub policy_generation: Gauge,
    /// How long a round of the publisher took.
    pub policy_publish_seconds: Histogram,
    /// Gateways that watch the policy here.
    pub policy_watchers: Gauge,
    /// Streams in which a segment has been missing for too long.
    pub usage_gaps: Gauge,
    /// Accepted usage rows that belong to nobody.
    pub usage_unattributed_stored: Gauge,
    /// Accepted usage rows that are not in the sums yet.
    pub usage_rollup_pending_rows: Gauge,
    /// How long the oldest accepted segment has waited for the sums.
    pub usage_rollup_lag_seconds: Gauge,
    /// Records that gateways hold and have not shipped, as they last reported.
    pub gateway_unshipped_records: Gauge,
    /// Open differences between what was answered, recorded and billed, by kind.
    pub reconciliation_differences: Family<DifferenceLabel, Gauge>,
    /// How many seconds ago the newest comparison of everything began.
    pub reconciliation_full_age_seconds: Gauge,
    /// How many seconds ago anything was compared.
    pub reconciliation_pass_age_seconds: Gauge,
    /// Jobs that are due and wait for a worker.
    pub jobs_waiting: Gauge,
    /// Jobs that failed and will be tried again.
    pub jobs_failing: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("portal");
        let http_requests = Family::default();
        registry.register("http_requests", "Answered requests by edge and status class", http_requests.clone());
        let usage_batches = Family::default();
        registry.register("usage_batches", "Usage batches by what became of them", usage_batches.clone());
        let usage_rows = Counter::default();
        registry.register("usage_rows", "Usage rows that were taken", usage_rows.clone());
        let usage_unattributed_rows = Counter::default();
        registry.register("usage_unattributed_rows", "Usage rows that name something unknown", usage_unattributed_rows.clone());
        let usage_accept_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        registry.register("usage_accept_seconds", "Time to take a usage batch", usage_accept_seconds.clone());
        let lease_exchanges = Counter::default();
        registry.register("lease_exchanges", "Exchanges of quota leases", lease_exchanges.clone());
        let lease_recalls = Counter::default();
        registry.register("lease_recalls", "Exchanges that recalled idle leases because a call waited", lease_recalls.clone());
        let policy_generation = Gauge::default();
        registry.register("policy_generation", "The newest policy generation", policy_generation.clone());
        let policy_publish_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        registry.register("policy_publish_seconds", "Time of a round of the policy publisher", policy_publish_seconds.clone());
        let policy_watchers = Gauge::default();
        registry.register("policy_watchers", "Gateways that watch the policy here", policy_watchers.clone());
        let reconciliation_differences = Family::default();
        registry.register(
            "reconciliation_differences",
            "Open differences between what was answered, recorded and billed",
            reconciliation_differences.clone(),
        );
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let usage_gaps = gauge("usage_gaps", "Streams in which a segment has been missing for more than a minute");
        let usage_unattributed_stored = gauge("usage_unattributed_stored", "Accepted usage rows that belong to nobody");
        let usage_rollup_pending_rows = gauge("usage_rollup_pending_rows", "Accepted usage rows that are not in the sums yet");
        let usage_rollup_lag_seconds = gauge("usage_rollup_lag_seconds", "How long the oldest accepted segment has waited for the sums");
        let gateway_unshipped_records = gauge("gateway_unshipped_records", "Records that gateways have not shipped, as last reported");
        let quota_presumed_spent_units =
            gauge("quota_presumed_spent_units", "Units of quotas that only journals which have not arrived can prove");
        let reconciliation_full_age_seconds =
            gauge("reconciliation_full_age_seconds", "Seconds since the newest comparison of everything began");
        let reconciliation_pass_age_seconds = gauge("reconciliation_pass_age_seconds", "Seconds since anything was compared");
        let jobs_waiting = gauge("jobs_waiting", "Jobs that are due and wait for a worker");
        let jobs_failing = gauge("jobs_failing", "Jobs that failed and will be tried again");
        Self {
            registry: Arc::new(registry),
            http_requests,
            usage_batches,
            usage_rows,
            usage_unattributed_rows,
            usage_accept_seconds,
            lease_exchanges,
            lease_recalls,
            quota_presumed_spent_units,
            policy_generation,
            policy_publish_seconds,
            policy_watchers,
            usage_gaps,
            usage_unattributed_stored,
            usage_rollup_pending_rows,
            usage_rollup_lag_seconds,
            gateway_unshipped_records,
            reconciliation_differences,
            reconciliation_full_age_seconds,
            reconciliation_pass_age_seconds,
            jobs_waiting,
            jobs_failing,
        }
    }
}

impl Metrics {
    /// What a scrape renders.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// Counts a batch by its outcome.
    pub fn batch(&self, outcome: Outcome) {
        self.usage_batches.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

/// Counts the requests of an edge by the class of their status.
pub async fn count_requests(State((app, edge)): State<(App, &'static str)>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = match response.status().as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    app.metrics.http_requests.get_or_create(&RequestLabels { edge, status }).inc();
    response
}
