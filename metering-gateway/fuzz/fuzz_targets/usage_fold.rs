//! A fold: the order of the records changes nothing, nothing is lost, and receipts stand in ranges that neither touch nor overlap.
#![no_main]

use arbitrary::Arbitrary;
use ids::JournalId;
use journal::{AnsweredBy, Dimensions, KeyMode, MeterItem, Meters, Outcome, RecordKind, Usage, UsageRecord};
use libfuzzer_sys::fuzz_target;
use metering_gateway::usage::fold::{Fold, SegmentFacts};

#[derive(Arbitrary, Debug)]
struct Record {
    is_final: bool,
    part: u8,
    admitted_at: i64,
    duration_micros: u64,
    who: u8,
    status: u16,
    by_upstream: bool,
    aborted: bool,
    units: Vec<(u8, i64, u64)>,
}

impl Record {
    fn build(self, receipt: u64) -> UsageRecord {
        let mut meters = Meters::new();
        for (meter, micro_units, unique_hash) in self.units.into_iter().take(journal::MAX_METERS) {
            meters.push(MeterItem { meter: [meter; 16], micro_units, unique_hash }).expect("no more than fit");
        }
        // What the gateway's clock can say: years 1970 to 2255.
        let micros = |value: i64| value.rem_euclid(9_000_000_000_000_000);
        UsageRecord {
            kind: if self.is_final { RecordKind::Final } else { RecordKind::Interim },
            receipt,
            part: self.part.into(),
            usage: Usage {
                admitted_at: micros(self.admitted_at),
                duration_micros: self.duration_micros % 9_000_000_000_000,
                namespace: [self.who; 16],
                subscription: [self.who % 3; 16],
                plan_version: [3; 16],
                period_start: 0,
                application: [4; 16],
                api_key: [self.who % 5; 16],
                route: [self.who % 2; 16],
                status: self.status,
                answered_by: if self.by_upstream { AnsweredBy::Upstream } else { AnsweredBy::Gateway },
                key_mode: KeyMode::Live,
                outcome: if self.aborted { Outcome::Aborted } else { Outcome::Complete },
                meters,
                dimensions: Dimensions::default(),
            },
        }
    }
}

fuzz_target!(|records: Vec<Record>| {
    let records: Vec<_> = records.into_iter().take(64).zip(0..).map(|(record, receipt)| record.build(receipt)).collect();
    let journal_id = JournalId::from_bytes([0; 16]);
    let facts = SegmentFacts { journal_id, stream: 0, seq: 0, digest: [0; 32], prev_digest: [0; 32], next_receipt: records.len() as u64, run: None };
    let fold = |records: &mut dyn Iterator<Item = &UsageRecord>| {
        let mut fold = Fold::new(facts);
        records.for_each(|record| fold.add(record));
        fold.finish()
    };
    let batch = fold(&mut records.iter());
    assert_eq!(batch, fold(&mut records.iter().rev()), "the order does not matter");
    let finals = records.iter().filter(|record| record.kind == RecordKind::Final);
    let in_ranges: u64 = batch.final_receipts.iter().map(|(from, to)| to - from + 1).sum();
    assert_eq!(in_ranges, finals.clone().count() as u64);
    assert!(batch.final_receipts.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
    let items = |record: &UsageRecord| record.usage.meters.as_slice().to_vec();
    let counted: u64 = batch.rows.iter().map(|row| row.count).sum();
    assert_eq!(counted, finals.map(|record| items(record).len() as u64).sum::<u64>());
    let sum: i128 = batch.rows.iter().map(|row| row.sum.0).sum();
    assert_eq!(sum, records.iter().flat_map(items).map(|item| i128::from(item.micro_units)).sum::<i128>());
});
