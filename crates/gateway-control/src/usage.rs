//! Usage on its way from a gateway's journal to the portal (SEMANTICS M3 to M5).
//!
//! A sealed segment is folded into one [`UsageBatch`]. Its identity is `(journal_id, stream, seq)`; `segment_digest` proves what was folded. The
//! fold is a pure function of the segment's bytes and `fold_version`, so the same segment may be sent any number of times, in any order.

use std::hash::{Hash, Hasher};

use calendar::Timestamp;
use ids::{ApiKeyId, ApplicationId, JournalId, MeterId, NamespaceId, PlanVersionId, RouteId, SubscriptionId};
use serde::{Deserialize, Serialize};

use crate::units::Micros;

/// The version of the rules by which a segment becomes rows.
pub const FOLD_VERSION: u16 = 1;
/// The largest batch that the portal reads, in bytes. Gateways size segments so that a fold stays below it.
pub const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;

/// One sealed segment, folded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageBatch {
    /// The version of this format, 1 so far.
    pub format: u16,
    /// The version of the rules by which the gateway folded the segment.
    pub fold_version: u16,
    /// The segment's identity and proof.
    pub segment: SegmentRef,
    /// The receipt number that the stream's next call takes, at the moment of sealing: all lower ones are admitted.
    pub next_receipt: u64,
    /// The receipt numbers whose final records stand in this segment, as inclusive ranges in rising order. What is admitted and in no segment is
    /// open or broken (M1).
    pub final_receipts: Vec<(u64, u64)>,
    /// How many records, interim ones included, were folded.
    pub records: u64,
    /// The sums, one row a key, in the order of the keys.
    pub rows: Vec<UsageRow>,
    /// Latency of answered calls, one histogram per (subscription, route, minute).
    pub latency: Vec<LatencyRow>,
    /// Which run of the gateway recorded it, for the leases that it proves. Absent from gateways that do not declare their leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<SegmentRun>,
}

/// Which run of a gateway recorded a segment, as far as the process that ships it can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SegmentRun {
    /// The run that ships it ([`crate::lease::LeaseRun`]).
    pub number: u64,
    /// Whether the segment is from before that run.
    pub before: bool,
}

impl From<SegmentRun> for quota::SegmentRun {
    fn from(run: SegmentRun) -> Self {
        Self { run: run.number, before: run.before }
    }
}

/// Which segment this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SegmentRef {
    /// The journal that it belongs to.
    pub journal_id: JournalId,
    /// The core's stream in the journal.
    pub stream: u16,
    /// Its place in the stream, from 0 on without gaps.
    pub seq: u64,
    /// SHA-256 of the segment.
    pub segment_digest: Digest,
    /// SHA-256 of the segment before it; all zero for the first.
    pub prev_digest: Digest,
}

/// A SHA-256 digest. JSON has it in lower-case hexadecimal.
pub type Digest = crate::credential::KeyDigest;

/// What a row is kept apart by (M5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RowKey {
    /// The tenant's namespace.
    pub namespace: NamespaceId,
    /// The subscription that was charged.
    pub subscription: SubscriptionId,
    /// The plan version under which the call was admitted.
    pub plan_version: PlanVersionId,
    /// The start of the quota period in which the call was admitted.
    pub period_start: Timestamp,
    /// The application whose key it was.
    pub application: ApplicationId,
    /// The key.
    pub api_key: ApiKeyId,
    /// The route.
    pub route: RouteId,
    /// The meter.
    pub meter: MeterId,
    /// The meter's declared dimensions, as sorted name and value pairs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<(String, String)>,
    /// The exact status that the caller saw.
    pub status: u16,
    /// Whether the head of the answer came from the upstream or from the gateway itself.
    pub answered_by: AnsweredBy,
    /// Live or test.
    pub mode: Mode,
    /// The UTC minute of the event time.
    pub minute: Timestamp,
}

/// By what differs between most rows. The rest hardly ever tells two apart whose key, route, meter, status and minute are the same, and to hash all of it would
/// take longer than to add a record.
impl Hash for RowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.api_key.uuid().as_u128());
        state.write_u128(self.route.uuid().as_u128());
        state.write_u128(self.meter.uuid().as_u128());
        state.write_i64(self.minute.micros());
        state.write_u16(self.status);
        self.dimensions.hash(state);
    }
}

/// The sums of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(from = "FlatRow")]
pub struct UsageRow {
    /// What the row is kept apart by.
    #[serde(flatten)]
    pub key: RowKey,
    /// How many exchanges ended (final records).
    pub count: u64,
    /// How many of them were not answered whole (aborted by the caller or broken by the upstream).
    #[serde(default)]
    pub incomplete: u64,
    /// The sum of units, interim records included.
    pub sum: Micros,
    /// The smallest value of a record.
    pub min: Micros,
    /// The largest value of a record.
    pub max: Micros,
    /// The value of the latest record.
    pub last: Micros,
    /// The event time of the latest record.
    pub last_at: Timestamp,
    /// For UNIQUE_COUNT meters: keyed 64-bit hashes of the distinct values, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uniques: Vec<u64>,
}

/// A row as JSON has it. Reading this takes half the time of reading what is flattened, which is buffered field by field, and batches hold thousands.
#[derive(Deserialize)]
struct FlatRow {
    namespace: NamespaceId,
    subscription: SubscriptionId,
    plan_version: PlanVersionId,
    period_start: Timestamp,
    application: ApplicationId,
    api_key: ApiKeyId,
    route: RouteId,
    meter: MeterId,
    #[serde(default)]
    dimensions: Vec<(String, String)>,
    status: u16,
    answered_by: AnsweredBy,
    mode: Mode,
    minute: Timestamp,
    count: u64,
    #[serde(default)]
    incomplete: u64,
    sum: Micros,
    min: Micros,
    max: Micros,
    last: Micros,
    last_at: Timestamp,
    #[serde(default)]
    uniques: Vec<u64>,
}

impl From<FlatRow> for UsageRow {
    fn from(flat: FlatRow) -> Self {
        let FlatRow { namespace, subscription, plan_version, period_start, application, api_key, route, meter, dimensions, .. } = flat;
        let FlatRow { status, answered_by, mode, minute, count, incomplete, sum, min, max, last, last_at, uniques, .. } = flat;
        let key = RowKey {
            namespace,
            subscription,
            plan_version,
            period_start,
            application,
            api_key,
            route,
            meter,
            dimensions,
            status,
            answered_by,
            mode,
            minute,
        };
        Self { key, count, incomplete, sum, min, max, last, last_at, uniques }
    }
}

/// Latency of one (subscription, route, minute).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LatencyRow {
    /// The tenant's namespace.
    pub namespace: NamespaceId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The route.
    pub route: RouteId,
    /// The UTC minute of the event time.
    pub minute: Timestamp,
    /// Mergeable: `(bucket, count)` in rising order. Buckets are log-linear in microseconds, 16 for each power of two; values below 16 have one each.
    pub histogram: Vec<(u16, u64)>,
}

/// The bucket of a latency in microseconds: log-linear with 16 steps per power of two, so that a bucket is at most 6.25 % wide. Values below 16
/// have a bucket each.
pub fn latency_bucket(micros: u64) -> u16 {
    if micros < 16 {
        return micros as u16;
    }
    let exponent = 63 - micros.leading_zeros();
    let step = (micros >> (exponent - 4)) & 15;
    (16 * (exponent - 3)) as u16 + step as u16
}

/// The smallest latency in microseconds that falls into a bucket.
pub fn latency_of(bucket: u16) -> u64 {
    let (power, step) = (u32::from(bucket) / 16, u64::from(bucket) % 16);
    if power == 0 { step } else { (16 + step) << (power - 1).min(59) }
}

/// Who gave the answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// The upstream.
    Upstream,
    /// The gateway, for example when the upstream could not be reached.
    Gateway,
}

/// Whether usage is real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Billed.
    Live,
    /// Never billed.
    Test,
}

/// What is safe now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchAck {
    /// Changes when the portal's ledger was restored; gateways then offer again all that they retain (M4).
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub ledger_epoch: ids::Uuid,
    /// All segments of the stream up to this one are accepted; `None` before the first.
    pub accepted_through: Option<u64>,
    /// All segments of the stream up to this one are flushed on every configured standby.
    pub safe_through: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        let mut last = 0;
        for micros in 0..200_000_u64 {
            let bucket = latency_bucket(micros);
            assert!(bucket == last || bucket == last + 1, "{micros}");
            last = bucket;
            let low = latency_of(bucket);
            assert!(low <= micros && (micros - low) * 16 <= micros.max(16), "{micros} in {bucket} from {low}");
        }
        assert_eq!(latency_bucket(latency_of(latency_bucket(u64::MAX))), latency_bucket(u64::MAX));
    }
}
