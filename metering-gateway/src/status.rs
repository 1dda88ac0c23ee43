//! What the gateway tells the portal, and operators, about itself.

use std::{sync::Arc, time::Duration};

use calendar::Timestamp;
use gateway_control::{FORMAT, status::GatewayStatus};
use tokio_util::sync::CancellationToken;

use crate::{
    portal::Portal,
    shared::{READY_JOURNAL, Shared},
    usage::{
        shipper::Alerts,
        told::{self, Told},
    },
};

/// How often the portal is told.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often the journal is asked whether its disk has failed.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The most alerts in a status.
const MAX_ALERTS: usize = 100;

/// Makes status reports.
#[derive(Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
    alerts: Arc<Alerts>,
    told: Arc<Told>,
    started_at: Timestamp,
}

impl Reporter {
    /// Sets it up.
    pub fn new(shared: Arc<Shared>, alerts: Arc<Alerts>, told: Arc<Told>) -> Self {
        let started_at = shared.clock.now();
        Self { shared, alerts, told, started_at }
    }

    /// The present status.
    pub fn status(&self) -> GatewayStatus {
        let stats = self.shared.journal.stats();
        let failures = self.shared.journal.failures().into_iter().map(|failure| format!("stream {}: {}", failure.stream, failure.error));
        let certificates = self.shared.certificates.iter().flat_map(|certificates| certificates.faults());
        GatewayStatus {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            journal_id: self.shared.journal_id(),
            now: self.shared.clock.now(),
            started_at: self.started_at,
            generation: self.shared.policy.index().load().generation,
            unshipped_records: stats.unshipped_records,
            journal_bytes: stats.disk_used_bytes,
            bad_entries: self.shared.policy.bad_entries(),
            alerts: self.alerts.all().into_iter().chain(failures).chain(certificates).take(MAX_ALERTS).collect(),
            streams: told::streams(&self.shared.journal),
            segments: self.told.due(&self.shared.journal),
        }
    }

    /// Reports until it is told to stop.
    pub async fn run(self: Arc<Self>, portal: Portal, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => (),
                _ = look.tick() => {
                    self.check_journal();
                    continue;
                }
            }
            let status = self.status();
            let mut report = std::pin::pin!(portal.status(&status));
            let reported = loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    reported = &mut report => break reported,
                    // A portal that takes its time does not keep a failed disk secret.
                    _ = look.tick() => self.check_journal(),
                }
            };
            match reported {
                Ok(()) => self.told.taken(&status.segments),
                Err(error) => tracing::debug!(%error, "the portal did not take the status"),
            }
        }
    }

    /// A journal with failures is not ready: a flush that failed may have lost records (M2).
    pub fn check_journal(&self) {
        match self.shared.journal.failures().first() {
            None => _ = self.shared.readiness.hold(READY_JOURNAL),
            Some(failure) => _ = self.shared.readiness.fail(READY_JOURNAL, format!("stream {}: {}", failure.stream, failure.error)),
        }
    }
}
