//! What a gateway tells the portal about itself, every few seconds.

use calendar::Timestamp;
use ids::JournalId;
use serde::{Deserialize, Serialize};

use crate::policy::Generation;

/// A gateway's report on itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GatewayStatus {
    /// The version of this format, 1 so far.
    pub format: u16,
    /// The gateway's version.
    pub version: String,
    /// The journal that it writes.
    pub journal_id: JournalId,
    /// Its clock when it sent this.
    pub now: Timestamp,
    /// When its process started.
    pub started_at: Timestamp,
    /// The policy generation in force.
    pub generation: Generation,
    /// Records that the portal has not acknowledged yet.
    pub unshipped_records: u64,
    /// Bytes of the journal on disk.
    pub journal_bytes: u64,
    /// Entries that it could not use, each with the reason; it keeps the last good one. At most 100 are sent.
    pub bad_entries: Vec<BadEntry>,
    /// What an operator must look at: damaged or quarantined segments, failed flushes. At most 100 are sent.
    pub alerts: Vec<String>,
}

/// A policy entry that a gateway could not use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BadEntry {
    /// The entry's id.
    pub entry: String,
    /// Why.
    pub reason: String,
}
