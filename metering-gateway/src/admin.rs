//! The admin port: `/healthz`, `/readyz`, `/metrics` and `/status`.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use calendar::Timestamp;
use gateway_control::policy::Generation;
use serde::Serialize;

use crate::{listener::certificates::CertificateSeen, scrape, shared::Shared, status::Reporter, upstream::AddressSeen};

/// What `/status` shows; described in `docs/OPERATIONS.md`.
#[derive(Debug, Serialize)]
struct Status {
    #[serde(flatten)]
    gateway: gateway_control::status::GatewayStatus,
    uptime_seconds: u64,
    ready: bool,
    not_ready_because: Vec<(&'static str, String)>,
    draining_since: Option<Timestamp>,
    cores: u16,
    connections: i64,
    open_calls: i64,
    upstream_connections: i64,
    policy: PolicyStatus,
    journal: JournalStatus,
    leases: Vec<LeaseStatus>,
    upstreams: Vec<AddressSeen>,
    upstream_addresses: usize,
    certificates: Vec<CertificateSeen>,
}

#[derive(Debug, Serialize)]
struct PolicyStatus {
    epoch: ids::Uuid,
    connected: bool,
    confirmed_at: Option<Timestamp>,
    age_seconds: Option<u64>,
    max_age_seconds: u64,
    keys: usize,
    cached_generation: Generation,
    cache_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct JournalStatus {
    streams: u16,
    unshipped_bytes: u64,
    oldest_unshipped_at: Option<Timestamp>,
    pending_segments: u64,
    retained_segments: u64,
    quarantined_segments: u64,
    damaged_segments: u64,
    open_calls: u64,
    disk_bound_bytes: u64,
    failures: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LeaseStatus {
    #[serde(flatten)]
    slot: gateway_control::lease::QuotaSlot,
    remaining: gateway_control::units::Micros,
    limit: gateway_control::units::Micros,
    used: gateway_control::units::Micros,
}

/// The most leases that `/status` lists.
const MAX_LEASES: usize = 100;
/// The most addresses of upstreams that it lists, those that are left out or waited for first.
const MAX_ADDRESSES: usize = 200;
/// The most certificates that it lists, those that end first first.
const MAX_CERTIFICATES: usize = 200;

/// All that the admin port serves.
pub fn router(shared: Arc<Shared>, reporter: Arc<Reporter>) -> Router {
    let registry = Arc::new(scrape::registry(shared.clone()));
    telemetry::health::routes(shared.readiness.clone(), registry)
        .merge(Router::new().route("/status", get(status)).with_state((shared, reporter)))
}

async fn status(State((shared, reporter)): State<(Arc<Shared>, Arc<Reporter>)>) -> Json<Status> {
    let not_ready_because = shared.readiness.missing();
    let leases = shared.quotas.all().into_iter().take(MAX_LEASES).map(|cell| LeaseStatus {
        slot: cell.slot,
        remaining: cell.lease.load().as_ref().map_or(0, |lease| lease.remaining()).into(),
        limit: cell.limit().into(),
        used: cell.used().into(),
    });
    let mut upstreams = shared.upstreams.health();
    let upstream_addresses = upstreams.len();
    upstreams.sort_by_key(|seen| seen.ejected_on_cores == 0 && seen.waiting == 0);
    upstreams.truncate(MAX_ADDRESSES);
    let certificates = shared.certificates.iter().flat_map(|certificates| certificates.seen()).take(MAX_CERTIFICATES);
    let (open_calls, upstream_connections) = shared.metrics.open();
    Json(Status {
        gateway: reporter.status(),
        uptime_seconds: shared.origin.elapsed().as_secs(),
        ready: not_ready_because.is_empty(),
        not_ready_because,
        draining_since: shared.draining_since.get().copied(),
        cores: shared.config.core_count(),
        connections: shared.metrics.connections(),
        open_calls,
        upstream_connections,
        policy: policy(&shared),
        journal: journal(&shared),
        leases: leases.collect(),
        upstreams,
        upstream_addresses,
        certificates: certificates.collect(),
    })
}

fn policy(shared: &Shared) -> PolicyStatus {
    let index = shared.policy.index().load_full();
    let confirmed_at = shared.policy.confirmed_at();
    let (cached_generation, cache_error) = shared.policy.cached.now();
    PolicyStatus {
        epoch: index.epoch,
        connected: shared.policy.is_connected(),
        confirmed_at,
        age_seconds: confirmed_at.map(|at| shared.clock.now().since(at).as_secs()),
        max_age_seconds: shared.config.max_policy_age.as_secs(),
        keys: index.keys.count(),
        cached_generation,
        cache_error,
    }
}

fn journal(shared: &Shared) -> JournalStatus {
    let stats = shared.journal.stats();
    let failures = shared.journal.failures();
    JournalStatus {
        streams: shared.config.core_count(),
        unshipped_bytes: stats.unshipped_bytes,
        oldest_unshipped_at: stats.oldest_unshipped_at.map(Timestamp::from_micros),
        pending_segments: stats.pending_segments,
        retained_segments: stats.retained_segments,
        quarantined_segments: stats.quarantined_segments,
        damaged_segments: stats.damaged_segments,
        open_calls: stats.open_calls,
        disk_bound_bytes: stats.disk_bound_bytes,
        failures: failures.into_iter().map(|failure| format!("stream {}: {}", failure.stream, failure.error)).collect(),
    }
}
