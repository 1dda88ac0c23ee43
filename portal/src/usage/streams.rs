//! Where ingest stands, for operators: every stream of every journal, what is missing in it, and what belongs to nobody.

use std::time::Duration;

use calendar::Timestamp;
use ids::{GatewayId, JournalId};

use super::stream_store as store;
use crate::{
    db::Tx,
    error::Result,
    identity::{Actor, Permission},
};

/// A gap older than this is an alert (SEMANTICS M3).
pub const GAP_ALERT_AFTER: Duration = Duration::from_secs(60);

/// One core's part of a gateway's journal, as far as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStatus {
    /// The gateway that writes it.
    pub gateway: GatewayId,
    /// The journal.
    pub journal: JournalId,
    /// The stream.
    pub stream: u16,
    /// All segments up to this one are accepted; `None` before the first.
    pub accepted_through: Option<u64>,
    /// Calls admitted, by the highest receipt number that a batch has named.
    pub admitted: u64,
    /// Calls whose final record was accepted.
    pub recorded: u64,
    /// When the last segment was accepted.
    pub last_accepted_at: Option<Timestamp>,
    /// What is missing below the highest accepted segment.
    pub gap: Option<Gap>,
}

/// Segments that are missing while later ones were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many are missing.
    pub missing: u64,
    /// Since when a later one is there and nothing was filled in from below: a backlog that arrives from both ends is no loss.
    pub since: Timestamp,
}

impl StreamStatus {
    /// Calls that are admitted and have no final record yet: open, broken, or in a segment that has not arrived.
    pub fn open(&self) -> u64 {
        self.admitted.saturating_sub(self.recorded)
    }

    /// Whether a gap has lasted long enough to be looked at.
    pub fn alerts(&self, now: Timestamp) -> bool {
        self.gap.is_some_and(|gap| now.since(gap.since) > GAP_ALERT_AFTER)
    }
}

/// Usage that belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unattributed {
    /// How many rows.
    pub rows: u64,
    /// The reasons, most frequent first, with their numbers of rows; at most ten.
    pub reasons: Vec<(String, u64)>,
}

/// All streams by gateway, journal and number, at most 1000: those that were heard of last.
pub async fn list(tx: &mut Tx, actor: &Actor) -> Result<Vec<StreamStatus>> {
    actor.require(Permission::Operate)?;
    store::list(tx).await
}

/// What was accepted and belongs to nobody.
pub async fn unattributed(tx: &mut Tx, actor: &Actor) -> Result<Unattributed> {
    actor.require(Permission::Operate)?;
    store::unattributed(tx).await
}
