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
    /// The streams of its journal, as it counts them. Absent from gateways that do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamReport>,
    /// Segments that it has sealed, or has an ack for, and has not told of before: it tells of each until a status was taken. At most 2000 are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentReport>,
}

/// A stream of the journal: what was admitted under its receipt numbers, and what became of it (SEMANTICS M1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StreamReport {
    /// The stream.
    pub stream: u16,
    /// The first receipt number of this run of the gateway: all lower ones were given out by earlier runs.
    pub first_receipt: u64,
    /// The number that the next call takes: all lower ones are admitted.
    pub next_receipt: u64,
    /// Calls of this run whose final record was appended.
    pub finished: u64,
    /// Calls of this run that go on.
    pub open: u64,
    /// Calls of this run that ended without a record.
    pub broken: u64,
    /// Whether the numbers are of one instant, so that `next_receipt - first_receipt = finished + open + broken` must hold.
    pub is_exact: bool,
    /// All segments below it are sealed.
    pub next_seq: u64,
    /// Those of them that the portal has not acked, as inclusive ranges in rising order. At most 1000 are sent; the last one reaches over the rest.
    pub pending: Vec<(u64, u64)>,
}

/// A sealed segment as the gateway knows it, by which the portal finds what it does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SegmentReport {
    /// The stream.
    pub stream: u16,
    /// The segment.
    pub seq: u64,
    /// Its records, interim ones included.
    pub records: u64,
    /// The number that the next call would have taken when the segment was begun, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_receipt: Option<u64>,
    /// The same when it was sealed.
    pub next_receipt: u64,
    /// Whether the portal has answered that it took the segment.
    pub acked: bool,
    /// How many calls ended in it; known once it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finals: Option<u64>,
    /// Their receipt numbers as inclusive ranges in rising order, the first 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub final_receipts: Vec<(u64, u64)>,
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
