//! The fold: the records of one sealed segment become the rows of one batch (SEMANTICS M5). A pure function of the segment's bytes and
//! [`FOLD_VERSION`]: the same segment gives the same batch, whoever folds it, whenever.
//!
//! The event time of a unary call is its admission (M9). A part of a long exchange, and the final record that follows such parts, was used when the
//! part ended.

use std::collections::BTreeSet;

use calendar::Timestamp;
use gateway_control::{
    FORMAT,
    credential::KeyDigest,
    units::Micros,
    usage::{AnsweredBy, FOLD_VERSION, LatencyRow, Mode, RowKey, SegmentRef, SegmentRun, UsageBatch, UsageRow, latency_bucket},
};
use ids::{ApiKeyId, ApplicationId, JournalId, MeterId, NamespaceId, PlanVersionId, RouteId, SubscriptionId};
use journal::{KeyMode, MeterItem, Outcome, Pace, RecordKind, UsageRecord};
use smallvec::SmallVec;

use crate::core::FastMap;

/// What a fold needs to know of the segment beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The journal that it belongs to.
    pub journal_id: JournalId,
    /// The core's stream.
    pub stream: u16,
    /// Its place in the stream.
    pub seq: u64,
    /// Its digest.
    pub digest: [u8; 32],
    /// The digest of the segment before it.
    pub prev_digest: [u8; 32],
    /// The receipt number that the stream's next call takes.
    pub next_receipt: u64,
    /// Which run of the gateway recorded it.
    pub run: Option<SegmentRun>,
}

/// The sums of one key while records are added.
#[derive(Debug, Clone)]
struct Sums {
    count: u64,
    incomplete: u64,
    sum: i128,
    min: i64,
    max: i64,
    /// The value of the latest record, under (event time, receipt, part), which no two records share.
    last: i64,
    last_at: (Timestamp, u64, u32),
    uniques: BTreeSet<u64>,
    /// Where the latency of its calls is kept, once there was one: its key is a part of the row's.
    latency: Option<usize>,
}

/// How many rows are made, or records added, before others have the processor.
pub(super) const ROWS_AT_ONCE: usize = 128;
/// How many keys are looked at in putting rows in order.
const COMPARED_AT_ONCE: usize = 512;

type LatencyKey = (NamespaceId, SubscriptionId, RouteId, Timestamp);
/// Buckets in their order, and how many calls fell into each. In one segment a caller has few.
type Histogram = SmallVec<[(u16, u64); 4]>;

/// A fold while records are added. The order in which they come does not matter.
#[derive(Debug)]
pub struct Fold {
    facts: SegmentFacts,
    records: u64,
    receipts: Vec<u64>,
    room: Room,
}

/// The memory of a fold, for the next one: a busy stream seals megabytes each second, and fresh memory of that size costs more than what is done with it.
#[derive(Debug, Default)]
pub struct Room {
    rows: FastMap<RowKey, Sums>,
    latency: Vec<(LatencyKey, Histogram)>,
    /// Where in `latency` each stands.
    latency_places: FastMap<LatencyKey, usize>,
}

impl Room {
    /// Memory for more rows than these is not kept.
    const MAX_KEPT_ROWS: usize = 32_768;

    /// The same, empty; none of it where it is large.
    fn emptied(mut self) -> Self {
        if self.rows.capacity().max(self.latency.capacity()) > Self::MAX_KEPT_ROWS {
            return Self::default();
        }
        self.rows.clear();
        self.latency.clear();
        self.latency_places.clear();
        self
    }
}

impl Fold {
    /// Begins, in the memory of another fold.
    pub fn new(facts: SegmentFacts, room: Room) -> Self {
        Self { facts, records: 0, receipts: Vec::new(), room: room.emptied() }
    }

    /// Adds a record.
    pub fn add(&mut self, record: &UsageRecord) {
        self.records += 1;
        let at = event_time(record);
        if record.kind == RecordKind::Final {
            self.receipts.push(record.receipt);
        }
        let Room { rows, latency, latency_places } = &mut self.room;
        let latency_key = latency_key(record);
        let mut find = |key: LatencyKey| {
            *latency_places.entry(key).or_insert_with(|| {
                latency.push((key, Histogram::new()));
                latency.len() - 1
            })
        };
        let mut place = None;
        for item in record.usage.meters.as_slice() {
            let sums = rows.entry(row_key(record, item, at)).or_insert_with(|| Sums::new(item, record, at));
            sums.add(item, record, at);
            if let Some(key) = latency_key {
                place = Some(*sums.latency.get_or_insert_with(|| find(key)));
            }
        }
        if let Some(place) = place.or_else(|| latency_key.map(find)) {
            count(&mut latency[place].1, latency_bucket(record.usage.duration_micros));
        }
    }

    /// The batch, and the memory for the next fold.
    pub fn finish(self) -> (UsageBatch, Room) {
        let Self { facts, records, receipts, room } = self;
        // References are put in order, because rows are long, and what mostly tells two of them apart stands beside them.
        let mut sums: Vec<_> = room.rows.iter().map(|(key, sums)| (key.namespace.uuid(), key.subscription.uuid(), key, sums)).collect();
        let mut pace = Pace::new(COMPARED_AT_ONCE);
        sums.sort_unstable_by_key(|(namespace, subscription, key, _)| {
            pace.done(1);
            (*namespace, *subscription, *key)
        });
        let mut latency: Vec<LatencyRow> = Pace::new(ROWS_AT_ONCE).over(&room.latency).map(latency_row).collect();
        latency.sort_unstable_by_key(|row| {
            pace.done(1);
            (row.namespace, row.subscription, row.route, row.minute)
        });
        let batch = UsageBatch {
            format: FORMAT,
            fold_version: FOLD_VERSION,
            segment: SegmentRef {
                journal_id: facts.journal_id,
                stream: facts.stream,
                seq: facts.seq,
                segment_digest: KeyDigest(facts.digest),
                prev_digest: KeyDigest(facts.prev_digest),
            },
            next_receipt: facts.next_receipt,
            final_receipts: ranges(receipts),
            records,
            rows: Pace::new(ROWS_AT_ONCE).over(sums).map(|(_, _, key, sums)| sums.row(key)).collect(),
            latency,
            run: facts.run,
        };
        (batch, room)
    }
}

impl Sums {
    fn new(item: &MeterItem, record: &UsageRecord, at: Timestamp) -> Self {
        let value = item.micro_units;
        let last_at = (at, record.receipt, record.part);
        Self { count: 0, incomplete: 0, sum: 0, min: value, max: value, last: value, last_at, uniques: BTreeSet::new(), latency: None }
    }

    fn add(&mut self, item: &MeterItem, record: &UsageRecord, at: Timestamp) {
        let value = item.micro_units;
        if record.kind == RecordKind::Final {
            self.count += 1;
            self.incomplete += u64::from(record.usage.outcome != Outcome::Complete);
        }
        self.sum += i128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        let place = (at, record.receipt, record.part);
        if place >= self.last_at {
            (self.last, self.last_at) = (value, place);
        }
        if item.unique_hash != 0 {
            self.uniques.insert(item.unique_hash);
        }
    }

    fn row(&self, key: &RowKey) -> UsageRow {
        UsageRow {
            key: key.clone(),
            count: self.count,
            incomplete: self.incomplete,
            sum: Micros(self.sum),
            min: self.min.into(),
            max: self.max.into(),
            last: self.last.into(),
            last_at: self.last_at.0,
            uniques: self.uniques.iter().copied().collect(),
        }
    }
}

fn event_time(record: &UsageRecord) -> Timestamp {
    let usage = &record.usage;
    let unary = record.kind == RecordKind::Final && record.part == 0;
    let after = if unary { 0 } else { usage.duration_micros };
    Timestamp::from_micros(usage.admitted_at.saturating_add_unsigned(after))
}

fn row_key(record: &UsageRecord, item: &MeterItem, at: Timestamp) -> RowKey {
    let usage = &record.usage;
    RowKey {
        namespace: NamespaceId::from_bytes(usage.namespace),
        subscription: SubscriptionId::from_bytes(usage.subscription),
        plan_version: PlanVersionId::from_bytes(usage.plan_version),
        period_start: Timestamp::from_micros(usage.period_start),
        application: ApplicationId::from_bytes(usage.application),
        api_key: ApiKeyId::from_bytes(usage.api_key),
        route: RouteId::from_bytes(usage.route),
        meter: MeterId::from_bytes(item.meter),
        // Fold version 1 writes no dimensions: no meter declares any yet.
        dimensions: Vec::new(),
        status: usage.status,
        answered_by: match usage.answered_by {
            journal::AnsweredBy::Upstream => AnsweredBy::Upstream,
            journal::AnsweredBy::Gateway => AnsweredBy::Gateway,
        },
        mode: match usage.key_mode {
            KeyMode::Live => Mode::Live,
            KeyMode::Test => Mode::Test,
        },
        minute: at.floor_minute(),
    }
}

/// Whose latency the record tells; nobody's where how long it lasted says nothing of how fast the API is: of a socket, a part, or a broken answer. What it tells
/// of was used when it was admitted, so that all of a row tell of the same.
fn latency_key(record: &UsageRecord) -> Option<LatencyKey> {
    let usage = &record.usage;
    let tells = record.kind == RecordKind::Final && record.part == 0 && usage.outcome == Outcome::Complete && usage.status != 101;
    tells.then(|| {
        (
            NamespaceId::from_bytes(usage.namespace),
            SubscriptionId::from_bytes(usage.subscription),
            RouteId::from_bytes(usage.route),
            Timestamp::from_micros(usage.admitted_at).floor_minute(),
        )
    })
}

fn count(histogram: &mut Histogram, bucket: u16) {
    match histogram.binary_search_by_key(&bucket, |(known, _)| *known) {
        Ok(at) => histogram[at].1 += 1,
        Err(at) => histogram.insert(at, (bucket, 1)),
    }
}

fn latency_row((key, histogram): &(LatencyKey, Histogram)) -> LatencyRow {
    let (namespace, subscription, route, minute) = *key;
    LatencyRow { namespace, subscription, route, minute, histogram: histogram.to_vec() }
}

/// Numbers as inclusive ranges in rising order.
fn ranges(mut numbers: Vec<u64>) -> Vec<(u64, u64)> {
    // Calls end nearly in the order in which they began, which this sort makes use of.
    numbers.sort();
    numbers.dedup();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if number == *last + 1 => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
