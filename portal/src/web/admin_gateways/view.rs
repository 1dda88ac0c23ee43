//! Gateways and ingest as text.

use calendar::Timestamp;
use gateway_control::policy::Generation;

use crate::{
    entitlements::JournalLeases,
    gateways::{Gateway, Instance},
    usage::streams::{StreamStatus, Unattributed},
};

/// A gateway in a list or on its page.
#[derive(Debug, Clone)]
pub(super) struct GatewayView {
    pub id: String,
    pub name: String,
    pub hint: String,
    /// Names of namespaces; empty for all.
    pub scope: Vec<String>,
    /// `live`, `offline`, `pending` (never heard of), or `revoked`.
    pub state: &'static str,
    pub is_revoked: bool,
    pub previous_until: String,
    pub last_seen: String,
    pub created: String,
    pub live_processes: usize,
    pub instances: Vec<InstanceView>,
    /// Over the processes that live.
    pub unshipped: u64,
    pub lag: u64,
    pub alerts: usize,
}

/// A process of a gateway.
#[derive(Debug, Clone)]
pub(super) struct InstanceView {
    pub journal: String,
    pub state: &'static str,
    pub last_seen: String,
    pub version: String,
    pub started: String,
    pub generation: String,
    /// How many generations it is behind.
    pub lag: u64,
    pub unshipped: String,
    pub journal_megabytes: String,
    pub bad_entries: Vec<(String, String)>,
    pub alerts: Vec<String>,
}

impl GatewayView {
    pub(super) fn new(gateway: Gateway, scope: Option<Vec<String>>, newest: Generation, now: Timestamp) -> Self {
        let is_revoked = gateway.revoked_at.is_some();
        let state = match (is_revoked, gateway.is_live(now), gateway.last_seen_at()) {
            (true, ..) => "revoked",
            (_, true, _) => "live",
            (_, _, Some(_)) => "offline",
            (_, _, None) => "pending",
        };
        let live: Vec<&Instance> = gateway.instances.iter().filter(|instance| instance.is_live(now)).collect();
        let statuses = || live.iter().filter_map(|instance| instance.status.as_ref());
        Self {
            id: gateway.id.to_string(),
            name: gateway.name.clone(),
            hint: gateway.hint.clone(),
            scope: scope.unwrap_or_default(),
            state,
            is_revoked,
            previous_until: gateway.previous_until.filter(|until| *until > now).map(|until| until.to_string()).unwrap_or_default(),
            last_seen: gateway.last_seen_at().map(|at| at.to_string()).unwrap_or_default(),
            created: gateway.created_at.to_string(),
            live_processes: live.len(),
            unshipped: statuses().map(|status| status.unshipped_records).sum(),
            lag: statuses().map(|status| newest.0.saturating_sub(status.generation.0)).max().unwrap_or(0),
            alerts: gateway
                .instances
                .iter()
                .filter_map(|instance| instance.status.as_ref())
                .map(|status| status.alerts.len() + status.bad_entries.len())
                .sum(),
            instances: gateway.instances.iter().map(|instance| InstanceView::new(instance, newest, now)).collect(),
        }
    }
}

impl InstanceView {
    fn new(instance: &Instance, newest: Generation, now: Timestamp) -> Self {
        let status = instance.status.as_ref();
        Self {
            journal: instance.journal.to_string(),
            state: if instance.is_live(now) { "live" } else { "offline" },
            last_seen: instance.last_seen_at.map(|at| at.to_string()).unwrap_or_default(),
            version: status.map(|status| status.version.clone()).unwrap_or_default(),
            started: status.map(|status| status.started_at.to_string()).unwrap_or_default(),
            generation: status.map(|status| status.generation.0.to_string()).unwrap_or_default(),
            lag: status.map_or(0, |status| newest.0.saturating_sub(status.generation.0)),
            unshipped: status.map(|status| status.unshipped_records.to_string()).unwrap_or_default(),
            journal_megabytes: status.map(|status| (status.journal_bytes / 1_000_000).to_string()).unwrap_or_default(),
            bad_entries: status
                .map(|status| status.bad_entries.iter().map(|bad| (bad.entry.clone(), bad.reason.clone())).collect())
                .unwrap_or_default(),
            alerts: status.map(|status| status.alerts.clone()).unwrap_or_default(),
        }
    }
}

/// What a journal holds of hard quotas.
#[derive(Debug, Clone)]
pub(super) struct LeasesView {
    pub journal: String,
    pub quotas: usize,
    pub live: String,
    pub presumed_spent: String,
    pub is_waited_for: bool,
    /// There is something that only this journal can prove, and none of it is being spent.
    pub can_be_written_off: bool,
}

impl LeasesView {
    pub(super) fn new(leases: &JournalLeases) -> Self {
        let is_due = leases.presumed_spent.0 > 0 || leases.is_waited_for;
        Self {
            journal: leases.journal.to_string(),
            quotas: leases.quotas,
            live: leases.live.to_string(),
            presumed_spent: leases.presumed_spent.to_string(),
            is_waited_for: leases.is_waited_for,
            can_be_written_off: is_due && leases.live.is_zero(),
        }
    }
}

/// Where ingest stands.
#[derive(Debug, Clone)]
pub(super) struct IngestView {
    pub streams: Vec<StreamView>,
    pub recorded: u64,
    pub open: u64,
    pub gaps: usize,
    pub unattributed: Unattributed,
}

/// One stream.
#[derive(Debug, Clone)]
pub(super) struct StreamView {
    pub gateway: String,
    pub journal: String,
    pub stream: u16,
    pub accepted_through: String,
    pub admitted: u64,
    pub recorded: u64,
    pub open: u64,
    pub last_accepted: String,
    pub missing: u64,
    pub alerts: bool,
}

impl IngestView {
    pub(super) fn new(streams: &[StreamStatus], unattributed: Unattributed, gateways: &[Gateway], now: Timestamp) -> Self {
        let name = |stream: &StreamStatus| {
            gateways.iter().find(|gateway| gateway.id == stream.gateway).map_or_else(|| stream.gateway.to_string(), |it| it.name.clone())
        };
        Self {
            recorded: streams.iter().map(|stream| stream.recorded).sum(),
            open: streams.iter().map(StreamStatus::open).sum(),
            gaps: streams.iter().filter(|stream| stream.alerts(now)).count(),
            unattributed,
            streams: streams
                .iter()
                .map(|stream| StreamView {
                    gateway: name(stream),
                    journal: stream.journal.to_string(),
                    stream: stream.stream,
                    accepted_through: stream.accepted_through.map(|seq| seq.to_string()).unwrap_or_default(),
                    admitted: stream.admitted,
                    recorded: stream.recorded,
                    open: stream.open(),
                    last_accepted: stream.last_accepted_at.map(|at| at.to_string()).unwrap_or_default(),
                    missing: stream.gap.map_or(0, |gap| gap.missing),
                    alerts: stream.alerts(now),
                })
                .collect(),
        }
    }
}

/// Starts a gateway from a shell.
pub(super) fn start_command(portal_url: &str, credential: &str) -> String {
    format!(
        "GATEWAY_PORTAL_URL={portal_url} \\\nGATEWAY_CREDENTIAL={credential} \\\nGATEWAY_DATA_DIR=/var/lib/metering-gateway \\\nGATEWAY_LISTEN=0.0.0.0:8081 \\\nmetering-gateway"
    )
}

/// Puts the credential where the chart looks for it.
pub(super) fn secret_command(credential: &str) -> String {
    format!(
        "kubectl create secret generic tollkeeper-gateway --from-literal=credential={credential} \\\n  --dry-run=client -o yaml | kubectl apply -f -"
    )
}

/// The values of the chart.
pub(super) fn helm_values(portal_url: &str) -> String {
    format!(
        "portal:\n  publicUrl: {portal_url}\ngateway:\n  enabled: true\n  existingSecret: tollkeeper-gateway\n  key: credential\n  journal:\n    size: 10Gi\n"
    )
}
