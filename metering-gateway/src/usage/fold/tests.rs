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
    other.add(&record((7, true, 0, 200, 3, vec![(9, 9, 9)])));
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
        for (subscription, minute) in (0..3_u8).flat_map(|subscription| (0..10_i64).map(move |minute| (subscription, minute * 60))) {
            let tells = |record: &&UsageRecord| record.kind == RecordKind::Final && record.part == 0 && record.usage.status == 200;
            let of = |record: &&UsageRecord| {
                record.usage.subscription == [subscription; 16] && record.usage.admitted_at.div_euclid(60_000_000) * 60 == minute
            };
            let key = (SubscriptionId::from_bytes([subscription; 16]), Timestamp::from_seconds(minute));
            let rows: Vec<_> = batch.latency.iter().filter(|row| (row.subscription, row.minute) == key).collect();
            let counted: u64 = rows.iter().flat_map(|row| &row.histogram).map(|(_, count)| count).sum();
            prop_assert_eq!(counted, records.iter().filter(tells).filter(of).count() as u64);
            prop_assert!(rows.len() <= 1);
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
