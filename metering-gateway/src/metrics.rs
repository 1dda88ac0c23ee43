//! What is counted. Each core counts for itself, without contention; a scrape adds the cores up. Labels are few and fixed.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use journal::{AnsweredBy, Outcome};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::pipeline::respond::Failure;

/// The problems that are counted by name.
const PROBLEMS: [&str; 26] = [
    "malformed-request",
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
    "deadline-exceeded",
    "stopping",
    "internal",
    "other",
];

/// Upper bounds of the duration histogram, in microseconds.
const DURATION_BOUNDS: [u64; 12] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000];

/// One core's counters.
#[derive(Debug, Default)]
pub struct CoreMetrics {
    /// By class of status, 1xx to 5xx, and whether the upstream answered.
    answers: [[AtomicU64; 2]; 5],
    incomplete: AtomicU64,
    problems: [AtomicU64; PROBLEMS.len()],
    durations: [AtomicU64; DURATION_BOUNDS.len() + 1],
    duration_micros: AtomicU64,
    defaulted_units: AtomicU64,
    clamped_units: AtomicU64,
    malformed_units: AtomicU64,
    unbilled: AtomicU64,
    lost_records: AtomicU64,
    refused_connections: AtomicU64,
    unknown_keys: AtomicU64,
    /// Connections of callers that are open.
    pub connections: AtomicI64,
    /// Exchanges that are open, set by the core's timer.
    pub open_exchanges: AtomicI64,
    /// Connections to upstreams that are open, set by the core's timer.
    pub upstream_connections: AtomicI64,
}

impl CoreMetrics {
    /// An admitted exchange has ended.
    pub fn finished(&self, status: u16, answered_by: AnsweredBy, outcome: Outcome, elapsed: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.answers[class][usize::from(answered_by == AnsweredBy::Upstream)].fetch_add(1, Relaxed);
        self.incomplete.fetch_add(u64::from(outcome != Outcome::Complete), Relaxed);
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.durations[DURATION_BOUNDS.partition_point(|bound| *bound < micros)].fetch_add(1, Relaxed);
        self.duration_micros.fetch_add(micros, Relaxed);
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

    /// Connections of callers that are open.
    pub fn connections(&self) -> i64 {
        self.sum_gauge(|core| &core.connections)
    }

    fn sum(&self, counter: impl Fn(&CoreMetrics) -> &AtomicU64) -> u64 {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|core| counter(core).load(Relaxed)).sum()
    }

    fn sum_gauge(&self, gauge: impl Fn(&CoreMetrics) -> &AtomicI64) -> i64 {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|core| gauge(core).load(Relaxed)).sum()
    }
}

/// What a scrape reads.
#[derive(Debug)]
pub struct GatewayCollector(pub Arc<crate::shared::Shared>);

/// The registry that `/metrics` renders.
pub fn registry(shared: Arc<crate::shared::Shared>) -> Registry {
    let mut registry = Registry::with_prefix("tollkeeper_gateway");
    registry.register_collector(Box::new(GatewayCollector(shared)));
    registry
}

/// Writes single numbers.
struct Scrape<'a>(DescriptorEncoder<'a>);

impl Scrape<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> std::fmt::Result {
        let metric = ConstCounter::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> std::fmt::Result {
        let metric = ConstGauge::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counters<'l>(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (Vec<(&'l str, &'l str)>, u64)>) -> std::fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for GatewayCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut scrape = Scrape(encoder);
        self.calls(&mut scrape)?;
        self.control(&mut scrape)?;
        self.certificates(&mut scrape)?;
        self.journal(&mut scrape)
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl GatewayCollector {
    fn calls(&self, scrape: &mut Scrape<'_>) -> std::fmt::Result {
        let metrics = &self.0.metrics;
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let answers = classes.iter().enumerate().flat_map(|(class, name)| {
            ["gateway", "upstream"].iter().enumerate().map(move |(by, answered_by)| {
                (vec![("status", *name), ("answered_by", *answered_by)], metrics.sum(|core| &core.answers[class][by]))
            })
        });
        scrape.counters("admitted_calls", "Admitted calls that have ended, by class of status and by who answered", answers)?;
        let problems = PROBLEMS.iter().enumerate().map(|(at, name)| (vec![("problem", *name)], metrics.sum(|core| &core.problems[at])));
        scrape.counters("problems", "Answers of the gateway's own, by type of problem", problems)?;
        let mut below = 0.0;
        let buckets: Vec<(f64, u64)> = (0..=DURATION_BOUNDS.len())
            .map(|at| {
                below = DURATION_BOUNDS.get(at).map_or(f64::MAX, |bound| *bound as f64 / 1e6);
                (below, metrics.sum(|core| &core.durations[at]))
            })
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = metrics.sum(|core| &core.duration_micros) as f64 / 1e6;
        let help = "Time from admission to the end of the answer";
        let mut histogram = scrape.0.encode_descriptor("call_duration_seconds", help, None, MetricType::Histogram)?;
        histogram.encode_histogram::<prometheus_client::encoding::NoLabelSet>(sum, count, &buckets, None)?;
        scrape.counter("incomplete_answers", "Answers that the caller did not get whole", metrics.sum(|core| &core.incomplete))?;
        scrape.counter("units_defaulted", "Calls whose upstream declared no units", metrics.sum(|core| &core.defaulted_units))?;
        scrape.counter("units_clamped", "Calls that used more than the route's max_units", metrics.sum(|core| &core.clamped_units))?;
        scrape.counter("units_malformed", "Declared units that are no number of units", metrics.sum(|core| &core.malformed_units))?;
        scrape.counter(
            "unbilled_calls",
            "Calls served without a record because the journal was full",
            metrics.sum(|core| &core.unbilled),
        )?;
        scrape.counter("lost_records", "Records that could not be appended", metrics.sum(|core| &core.lost_records))?;
        scrape.counter(
            "refused_connections",
            "Connections closed for want of a PROXY protocol header or of TLS",
            metrics.sum(|core| &core.refused_connections),
        )?;
        scrape.counter(
            "unknown_keys",
            "Keys that were looked up and not found; garbage is not looked up",
            metrics.sum(|core| &core.unknown_keys),
        )?;
        scrape.gauge("connections", "Open connections of callers", metrics.connections())?;
        scrape.gauge("open_calls", "Calls that are admitted and have not ended", metrics.sum_gauge(|core| &core.open_exchanges))?;
        scrape.gauge("upstream_connections", "Open connections to upstreams", metrics.sum_gauge(|core| &core.upstream_connections))
    }

    fn certificates(&self, scrape: &mut Scrape<'_>) -> std::fmt::Result {
        let Some(certificates) = &self.0.certificates else { return Ok(()) };
        scrape.gauge("tls_certificates", "Certificates in force", number(certificates.count() as u64))?;
        scrape.gauge(
            "tls_certificates_unusable",
            "Certificates whose files cannot be used now",
            number(certificates.faults().len() as u64),
        )?;
        scrape.counter("tls_reloads", "Times that changed certificates came into force", certificates.reloads.load(Relaxed))?;
        scrape.counter("tls_reload_failures", "Times that changed certificates could not be used", certificates.failures.load(Relaxed))
    }

    fn control(&self, scrape: &mut Scrape<'_>) -> std::fmt::Result {
        let (shared, metrics) = (&self.0, &self.0.metrics);
        let index = shared.policy.index().load();
        let age = shared.policy.confirmed_at().map_or(-1, |at| number(shared.clock.now().since(at).as_secs()));
        scrape.gauge("policy_generation", "The policy generation in force", number(index.generation.0))?;
        scrape.gauge("policy_age_seconds", "Since the portal last confirmed the policy; -1 without any", age)?;
        scrape.gauge("policy_keys", "API keys that are known", number(index.keys.count() as u64))?;
        scrape.gauge("policy_connected", "Whether the policy feed is followed", i64::from(shared.policy.is_connected()))?;
        scrape.gauge("policy_bad_entries", "Entries that could not be used", number(shared.policy.bad_entries().len() as u64))?;
        scrape.counter("policy_connects", "Times the policy feed was connected", metrics.policy_connects.load(Relaxed))?;
        scrape.gauge("rate_limiters", "Rate limits with state", number(shared.rate_limits.count() as u64))?;
        scrape.gauge("quota_leases", "Hard quotas with state", number(shared.quotas.all().len() as u64))?;
        let exposed = shared.quotas.all().iter().map(|cell| cell.exposed.load(Relaxed).max(0) / 1_000_000).sum();
        scrape.gauge("quota_exposed_units", "Units admitted without a lease while the portal was away", exposed)?;
        scrape.counter("lease_exchanges", "Exchanges of leases", metrics.lease_exchanges.load(Relaxed))?;
        scrape.counter("lease_failures", "Exchanges of leases without an answer", metrics.lease_failures.load(Relaxed))
    }

    fn journal(&self, scrape: &mut Scrape<'_>) -> std::fmt::Result {
        let (stats, metrics) = (self.0.journal.stats(), &self.0.metrics);
        scrape.gauge("journal_unshipped_records", "Records that the portal has not acknowledged", number(stats.unshipped_records))?;
        scrape.gauge("journal_unshipped_bytes", "Bytes of records that the portal has not acknowledged", number(stats.unshipped_bytes))?;
        scrape.gauge("journal_disk_used_bytes", "Bytes of the journal on disk", number(stats.disk_used_bytes))?;
        scrape.gauge("journal_disk_bound_bytes", "The most bytes the journal may take", number(stats.disk_bound_bytes))?;
        scrape.gauge("journal_pending_segments", "Sealed segments that wait to be shipped", number(stats.pending_segments))?;
        scrape.gauge("journal_quarantined_segments", "Segments that the portal refused", number(stats.quarantined_segments))?;
        scrape.gauge("journal_damaged_segments", "Segments that were not whole", number(stats.damaged_segments))?;
        scrape.counter("journal_admitted_calls", "Receipt numbers taken since the start", stats.admitted_calls)?;
        scrape.counter("journal_finished_calls", "Final records appended since the start", stats.finished_calls)?;
        scrape.counter("journal_abandoned_calls", "Receipts given back without a record since the start", stats.abandoned_calls)?;
        scrape.counter("batches_shipped", "Usage batches that the portal took", metrics.batches_shipped.load(Relaxed))?;
        scrape.counter("ship_failures", "Attempts to ship usage that failed", metrics.ship_failures.load(Relaxed))?;
        scrape.counter("batches_refused", "Usage batches that the portal refused", metrics.quarantined.load(Relaxed))
    }
}
