//! The admin port: `/healthz`, `/readyz`, `/metrics` and `/status`.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use serde::Serialize;

use crate::{scrape, shared::Shared, status::Reporter};

/// What `/status` shows.
#[derive(Debug, Serialize)]
struct Status {
    #[serde(flatten)]
    gateway: gateway_control::status::GatewayStatus,
    ready: bool,
    not_ready_because: Vec<(&'static str, String)>,
    policy: PolicyStatus,
    journal: JournalStatus,
    leases: Vec<LeaseStatus>,
}

#[derive(Debug, Serialize)]
struct PolicyStatus {
    epoch: ids::Uuid,
    connected: bool,
    confirmed_at: Option<calendar::Timestamp>,
    keys: usize,
}

#[derive(Debug, Serialize)]
struct JournalStatus {
    pending_segments: u64,
    quarantined_segments: u64,
    damaged_segments: u64,
    open_calls: u64,
    disk_bound_bytes: u64,
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

/// All that the admin port serves.
pub fn router(shared: Arc<Shared>, reporter: Arc<Reporter>) -> Router {
    let registry = Arc::new(scrape::registry(shared.clone()));
    telemetry::health::routes(shared.readiness.clone(), registry)
        .merge(Router::new().route("/status", get(status)).with_state((shared, reporter)))
}

async fn status(State((shared, reporter)): State<(Arc<Shared>, Arc<Reporter>)>) -> Json<Status> {
    let index = shared.policy.index().load_full();
    let stats = shared.journal.stats();
    let not_ready_because = shared.readiness.missing();
    let leases = shared.quotas.all().into_iter().take(MAX_LEASES).map(|cell| LeaseStatus {
        slot: cell.slot,
        remaining: cell.lease.load().as_ref().map_or(0, |lease| lease.remaining()).into(),
        limit: cell.limit().into(),
        used: cell.used().into(),
    });
    Json(Status {
        gateway: reporter.status(),
        ready: not_ready_because.is_empty(),
        not_ready_because,
        policy: PolicyStatus {
            epoch: index.epoch,
            connected: shared.policy.is_connected(),
            confirmed_at: shared.policy.confirmed_at(),
            keys: index.keys.count(),
        },
        journal: JournalStatus {
            pending_segments: stats.pending_segments,
            quarantined_segments: stats.quarantined_segments,
            damaged_segments: stats.damaged_segments,
            open_calls: stats.open_calls,
            disk_bound_bytes: stats.disk_bound_bytes,
        },
        leases: leases.collect(),
    })
}
