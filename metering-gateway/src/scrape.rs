//! What Prometheus scrapes: the cores' counters added up, and the state of policy, leases, journal and tracing. Labels are few and fixed: nothing is told by
//! key, tenant or route, of which there may be millions.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    metrics::{CoreMetrics, DURATION_BOUNDS, Durations, Metrics, PROBLEMS},
    observe::spans::SpanQueue,
    shared::Shared,
};

/// Classes of status, as label values.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The most certificates that are told of one by one.
const MAX_CERTIFICATES: usize = 100;

/// What a scrape reads.
#[derive(Debug)]
pub struct GatewayCollector(pub Arc<Shared>);

/// The registry that `/metrics` renders.
pub fn registry(shared: Arc<Shared>) -> Registry {
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

    /// A histogram for each class of status.
    fn durations(&mut self, name: &str, help: &str, metrics: &Metrics, of: impl Fn(&CoreMetrics) -> &[Durations; 5]) -> std::fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (class, status) in CLASSES.iter().enumerate() {
            let bounds = DURATION_BOUNDS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
            let counts = (0..=DURATION_BOUNDS.len()).map(|at| metrics.sum(|core| &of(core)[class].buckets[at]));
            let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = metrics.sum(|core| &of(core)[class].micros) as f64 / 1e6;
            let labels = [("status", *status)];
            let mut histogram = family.encode_family(&labels)?;
            histogram.encode_histogram::<prometheus_client::encoding::NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

impl Collector for GatewayCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut scrape = Scrape(encoder);
        self.process(&mut scrape)?;
        self.calls(&mut scrape)?;
        self.control(&mut scrape)?;
        self.upstreams(&mut scrape)?;
        self.certificates(&mut scrape)?;
        self.journal(&mut scrape)
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl GatewayCollector {
    fn process(&self, scrape: &mut Scrape<'_>) -> std::fmt::Result {
        let mut info = scrape.0.encode_descriptor("build_info", "1, with the version as a label", None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(info.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)?;
        let shared = &self.0;
        scrape.gauge("uptime_seconds", "Since the gateway started", number(shared.origin.elapsed().as_secs()))?;
        scrape.gauge("ready", "Whether calls should be sent here", i64::from(shared.readiness.is_ready()))?;
        scrape.gauge("draining", "Whether the gateway is stopping", i64::from(shared.draining_since.get().is_some()))?;
        let observer = &shared.observer;
        let help = "Calls that the access log should have and has not, because its queue was full or it could not be written";
        scrape.counter("access_log_dropped", help, observer.lines_dropped())?;
        let spans = |of: fn(&SpanQueue) -> u64| observer.spans().map_or(0, of);
        scrape.counter("trace_spans_exported", "Spans that the collector took", spans(SpanQueue::exported))?;
        scrape.counter("trace_spans_failed", "Spans that the collector did not take", spans(SpanQueue::failed))?;
        scrape.counter("trace_calls_dropped", "Calls whose spans were dropped because too many waited", spans(SpanQueue::dropped))
    }

    fn calls(&self, scrape: &mut Scrape<'_>) -> std::fmt::Result {
        let metrics = &self.0.metrics;
        let answers = CLASSES.iter().enumerate().flat_map(|(class, name)| {
            ["gateway", "upstream"].iter().enumerate().map(move |(by, answered_by)| {
                (vec![("status", *name), ("answered_by", *answered_by)], metrics.sum(|core| &core.answers[class][by]))
            })
        });
        scrape.counters("admitted_calls", "Admitted calls that have ended, by class of status and by who answered", answers)?;
        let problems = PROBLEMS.iter().enumerate().map(|(at, name)| (vec![("problem", *name)], metrics.sum(|core| &core.problems[at])));
        scrape.counters("problems", "Answers of the gateway's own, by type of problem", problems)?;
        let help = "Time from admission to the end of the answer, by class of status";
        scrape.durations("call_duration_seconds", help, metrics, |core| &core.durations)?;
        let help = "Time from admission to the head of the upstream's answer, by class of status";
        scrape.durations("upstream_duration_seconds", help, metrics, |core| &core.upstream_times)?;
        let help = "Admitted calls that broke off, or that their upstream failed, also where the gateway answered those whole with a problem of its own";
        scrape.counter("incomplete_answers", help, metrics.sum(|core| &core.incomplete))?;
        scrape.counter("units_defaulted", "Calls whose upstream declared no units", metrics.sum(|core| &core.defaulted_units))?;
        let estimated = "Calls that ended before their upstream came to declare its units";
        scrape.counter("units_estimated", estimated, metrics.sum(|core| &core.estimated_units))?;
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
            "surplus_connections",
            "Connections closed after an answer because their namespace has too many",
            metrics.sum(|core| &core.surplus_connections),
        )?;
        scrape.counter(
            "unknown_keys",
            "Keys that were looked up and not found; garbage is not looked up",
            metrics.sum(|core| &core.unknown_keys),
        )?;
        scrape.gauge("connections", "Open connections of callers", metrics.connections())?;
        let help = "Of those, the connections of each core";
        let mut family = scrape.0.encode_descriptor("core_connections", help, None, MetricType::Gauge)?;
        for (core, open) in metrics.connections_of_cores().into_iter().enumerate() {
            ConstGauge::new(open).encode(family.encode_family(&[("core", core)])?)?;
        }
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
        scrape.counter("tls_reload_failures", "Times that changed certificates could not be used", certificates.failures.load(Relaxed))?;
        let help = "When a certificate, or what it is signed by, is no longer valid; of those that end first";
        let mut family = scrape.0.encode_descriptor("certificate_expiry_timestamp_seconds", help, None, MetricType::Gauge)?;
        let ends = certificates.seen().into_iter().filter_map(|seen| Some((seen.file, seen.expires_at?)));
        for (file, at) in ends.take(MAX_CERTIFICATES) {
            ConstGauge::new(at.micros() / 1_000_000).encode(family.encode_family(&[("file", file.to_string_lossy())])?)?;
        }
        Ok(())
    }

    /// Upstreams together: which of them it is stands in `/status`, because their addresses come and go.
    fn upstreams(&self, scrape: &mut Scrape<'_>) -> std::fmt::Result {
        let upstreams = &self.0.upstreams;
        let (seen, troubles) = (upstreams.health(), &upstreams.troubles);
        let left_out = seen.iter().filter(|address| address.ejected_on_cores > 0).count();
        scrape.gauge("upstream_addresses", "Addresses of upstreams that are in use", number(seen.len() as u64))?;
        scrape.gauge(
            "upstream_addresses_left_out",
            "Of those, addresses that a core leaves out after failures",
            number(left_out as u64),
        )?;
        let waiting = seen.iter().map(|address| address.waiting).sum();
        scrape.gauge("upstream_calls_waiting", "Calls that wait for a connection to an upstream", number(waiting))?;
        let help = "Tries that got no answer, or were answered 502, 503 or 504";
        scrape.counter("upstream_failures", help, troubles.failures.load(Relaxed))?;
        scrape.counter("upstream_ejections", "Times that a core left an address out", troubles.ejections.load(Relaxed))?;
        scrape.counter("upstream_retries", "Calls that were sent again after their connection broke", troubles.retries.load(Relaxed))?;
        let help = "Calls that were not sent again because too many were";
        scrape.counter("upstream_retries_refused", help, troubles.retries_refused.load(Relaxed))
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
        let quotas = shared.quotas.all();
        scrape.gauge("quotas", "Hard quotas with state", number(quotas.len() as u64))?;
        let held = quotas.iter().filter(|cell| cell.lease.load().as_ref().is_some_and(|lease| lease.remaining() > 0)).count();
        scrape.gauge("quota_leases_held", "Hard quotas of which units are held", number(held as u64))?;
        let exposed = quotas.iter().map(|cell| cell.exposed.load(Relaxed).max(0) / 1_000_000).sum();
        scrape.gauge("quota_exposed_units", "Units admitted without a lease while the portal was away", exposed)?;
        scrape.counter("lease_exchanges", "Exchanges of leases", metrics.lease_exchanges.load(Relaxed))?;
        scrape.counter("lease_failures", "Exchanges of leases without an answer", metrics.lease_failures.load(Relaxed))
    }

    fn journal(&self, scrape: &mut Scrape<'_>) -> std::fmt::Result {
        let (stats, metrics) = (self.0.journal.stats(), &self.0.metrics);
        scrape.gauge("journal_unshipped_records", "Records that the portal has not acknowledged", number(stats.unshipped_records))?;
        scrape.gauge("journal_unshipped_bytes", "Bytes of records that the portal has not acknowledged", number(stats.unshipped_bytes))?;
        let oldest = stats.oldest_unshipped_at.map_or(0, |at| (self.0.clock.now().micros() - at).max(0) / 1_000_000);
        scrape.gauge("journal_oldest_unshipped_seconds", "Age of the oldest record that the portal has not acknowledged", oldest)?;
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
