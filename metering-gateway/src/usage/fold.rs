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
    latency: FastMap<LatencyKey, Histogram>,
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
        let is_final = record.kind == RecordKind::Final;
        let at = event_time(record);
        if is_final {
            self.receipts.push(record.receipt);
            self.add_latency(record);
        }
        for item in record.usage.meters.as_slice() {
            let sums = self.room.rows.entry(row_key(record, item, at)).or_insert_with(|| Sums::new(item, record, at));
            sums.add(item, record, at);
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

    fn add_latency(&mut self, record: &UsageRecord) {
        let usage = &record.usage;
        // How long a socket or a broken answer lasted says nothing of how fast the API is.
        if usage.outcome != Outcome::Complete || usage.status == 101 || record.part > 0 {
            return;
        }
        let key = (
            NamespaceId::from_bytes(usage.namespace),
            SubscriptionId::from_bytes(usage.subscription),
            RouteId::from_bytes(usage.route),
            Timestamp::from_micros(usage.admitted_at).floor_minute(),
        );
        let bucket = latency_bucket(usage.duration_micros);
        let histogram = self.room.latency.entry(key).or_default();
        match histogram.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => histogram[at].1 += 1,
            Err(at) => histogram.insert(at, (bucket, 1)),
        }
    }
}

impl Sums {
    fn new(item: &MeterItem, record: &UsageRecord, at: Timestamp) -> Self {
        let value = item.micro_units;
        let last_at = (at, record.receipt, record.part);
        Self { count: 0, incomplete: 0, sum: 0, min: value, max: value, last: value, last_at, uniques: BTreeSet::new() }
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

fn latency_row((key, histogram): (&LatencyKey, &Histogram)) -> LatencyRow {
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
mod tests {
    use journal::{Dimensions, Meters, Usage};
    use proptest::prelude::*;

    use super::*;

    const FACTS: SegmentFacts = SegmentFacts {
        journal_id: JournalId::from_bytes([1; 16]),
        stream: 2,
        seq: 3,
        digest: [4; 32],
        prev_digest: [5; 32],
        next_receipt: 1_000,
        run: None,
    };

    type Items = Vec<(u8, i64, u64)>;

    fn record((receipt, kind, part, status, seconds, items): (u64, bool, u32, u16, i64, Items)) -> UsageRecord {
        let items: Vec<_> =
            items.into_iter().map(|(meter, micro_units, unique_hash)| MeterItem { meter: [meter; 16], micro_units, unique_hash }).collect();
        let usage = Usage {
            admitted_at: seconds * 1_000_000,
            duration_micros: 70_000_000,
            namespace: [1; 16],
            subscription: [u8::try_from(receipt % 3).unwrap_or(0); 16],
            plan_version: [3; 16],
            period_start: 0,
            application: [4; 16],
            api_key: [5; 16],
            route: [6; 16],
            status,
            answered_by: if status == 502 { journal::AnsweredBy::Gateway } else { journal::AnsweredBy::Upstream },
            key_mode: KeyMode::Live,
            outcome: if status == 200 { Outcome::Complete } else { Outcome::Aborted },
            meters: Meters::try_from(items.as_slice()).expect("few enough"),
            dimensions: Dimensions::default(),
        };
        UsageRecord { kind: if kind { RecordKind::Final } else { RecordKind::Interim }, receipt, part, usage }
    }

    fn records() -> impl Strategy<Value = Vec<UsageRecord>> {
        let items = proptest::collection::vec((0..3_u8, -5_i64..1_000_000_000, 0..4_u64), 0..4);
        let one = (0..200_u64, any::<bool>(), 0..3_u32, prop_oneof![Just(200_u16), Just(404), Just(502)], 0..600_i64, items);
        proptest::collection::vec(one.prop_map(record), 0..60)
    }

    fn fold(records: &[UsageRecord]) -> UsageBatch {
        let mut other = Fold::new(FACTS, Room::default());
        other.add(&record((7, true, 0, 404, 3, vec![(9, 9, 9)])));
        // What another fold left in its memory is not seen.
        let mut fold = Fold::new(FACTS, other.finish().1);
        records.iter().for_each(|record| fold.add(record));
        fold.finish().0
    }

    #[test]
    fn receipts_become_ranges() {
        assert_eq!(ranges(vec![5, 1, 2, 3, 9, 8]), [(1, 3), (5, 5), (8, 9)]);
        assert_eq!(ranges(Vec::new()), []);
    }

    #[test]
    fn a_unary_call_counts_when_it_was_admitted_and_a_long_one_when_it_was_used() {
        let unary = fold(&[record((1, true, 0, 200, 119, vec![(1, 5, 0)]))]);
        assert_eq!(unary.rows[0].key.minute, Timestamp::from_seconds(60));
        let long = fold(&[record((1, false, 0, 200, 119, vec![(1, 5, 0)])), record((1, true, 1, 200, 119, vec![(1, 6, 0)]))]);
        assert_eq!(long.rows.len(), 1);
        assert_eq!(long.rows[0].key.minute, Timestamp::from_seconds(180));
        assert_eq!((long.rows[0].count, long.rows[0].sum, long.records), (1, Micros(11), 2));
    }

    proptest! {
        /// Counted by other code: what the records hold is what the rows hold.
        #[test]
        fn sums_equal_the_records(records in records()) {
            let batch = fold(&records);
            prop_assert_eq!(batch.records, records.len() as u64);
            for meter in 0..3_u8 {
                let id = MeterId::from_bytes([meter; 16]);
                let rows = || batch.rows.iter().filter(|row| row.key.meter == id);
                let items = || records.iter().flat_map(|record| record.usage.meters.as_slice().iter().map(move |item| (record, item)));
                let of = || items().filter(|(_, item)| item.meter == [meter; 16]);
                prop_assert_eq!(rows().map(|row| row.sum.0).sum::<i128>(), of().map(|(_, item)| i128::from(item.micro_units)).sum::<i128>());
                let finals = of().filter(|(record, _)| record.kind == RecordKind::Final);
                prop_assert_eq!(rows().map(|row| row.count).sum::<u64>(), finals.count() as u64);
                prop_assert_eq!(rows().map(|row| row.min.0).min(), of().map(|(_, item)| i128::from(item.micro_units)).min());
                prop_assert_eq!(rows().map(|row| row.max.0).max(), of().map(|(_, item)| i128::from(item.micro_units)).max());
            }
            let receipts: BTreeSet<u64> = records.iter().filter(|record| record.kind == RecordKind::Final).map(|record| record.receipt).collect();
            let listed: BTreeSet<u64> = batch.final_receipts.iter().flat_map(|(from, to)| *from..=*to).collect();
            prop_assert_eq!(receipts, listed);
            let keys: Vec<_> = batch.rows.iter().map(|row| &row.key).collect();
            prop_assert!(keys.is_sorted_by(|a, b| a < b), "rows stand in the order of their keys");
        }

        /// The order of records inside a segment does not matter, and neither does who folds.
        #[test]
        fn is_deterministic(records in records().prop_shuffle()) {
            let mut distinct: Vec<_> = records;
            distinct.sort_by_key(|record| (record.receipt, record.part));
            distinct.dedup_by_key(|record| (record.receipt, record.part));
            let forward = fold(&distinct);
            distinct.reverse();
            prop_assert_eq!(forward, fold(&distinct));
        }
    }
}
