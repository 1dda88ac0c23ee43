//! Admitted = recorded + open + broken, and sealed = taken: what a gateway counts of a stream beside what was accepted of it.

use std::time::Duration;

use calendar::Timestamp;
use rust_decimal::Decimal;

use super::{
    finding::{Finding, Kind, Place, Scope, ranges_text},
    stream_store::{self as store, Counts, DifferingSegment, MissingSegment, StreamKey},
};
use crate::{db::Tx, error::Result};

/// A gap in what a gateway does not report of is a difference after so long: its segments may still be on their way (SEMANTICS M3).
const IN_ORDER_AFTER: Duration = Duration::from_secs(45);
/// A gateway that has counted nothing new for so long has sealed and sent all that it has.
const AT_REST_AFTER: Duration = Duration::from_secs(10);
/// How many segments of a stream are named one by one; the rest is named together.
const NAMED_SEGMENTS: usize = 100;

/// Compares a stream.
pub(super) async fn compare(tx: &mut Tx, key: StreamKey, now: Timestamp) -> Result<(Scope, Vec<Finding>)> {
    let counts = store::counts(tx, key).await?;
    let missing = store::missing(tx, key, now.minus(IN_ORDER_AFTER)).await?;
    let named: Vec<i64> = missing.iter().flat_map(|(first, last)| *first..=*last).take(NAMED_SEGMENTS).collect();
    let mut findings = counted(key, &counts);
    for segment in store::missing_segments(tx, key, &named).await? {
        findings.push(missing_segment(key, &segment));
    }
    let all: i64 = missing.iter().map(|(first, last)| last - first + 1).sum();
    let rest = all - i64::try_from(named.len()).unwrap_or(all);
    if rest > 0 {
        let detail = format!("{rest} more segments of {} are neither here nor waiting there, of {}.", name(key), ranges_text(&missing));
        findings.push(finding(key, Kind::SegmentLost, "rest", None, (Decimal::from(rest), Decimal::ZERO), detail));
    }
    findings.extend(store::differing_segments(tx, key).await?.iter().map(|segment| differing(key, segment)));
    store::set_broken(tx, key, now).await?;
    Ok((Scope::whole(format!("stream {} {}", key.journal, key.stream)), findings))
}

fn name(key: StreamKey) -> String {
    format!("stream {} of journal {}", key.stream, key.journal)
}

fn finding(key: StreamKey, kind: Kind, subject: &str, seq: Option<i64>, sides: (Decimal, Decimal), detail: String) -> Finding {
    let place = Place {
        journal: Some(key.journal),
        stream: u16::try_from(key.stream).ok(),
        seq: seq.and_then(|seq| u64::try_from(seq).ok()),
        ..Place::default()
    };
    Finding { kind, subject: subject.to_owned(), at: None, place, expected: sides.0, found: sides.1, detail }
}

fn counted(key: StreamKey, counts: &Counts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(recorded) = counts.recorded.map(Decimal::from)
        && recorded != counts.in_segments
    {
        let detail = format!(
            "{recorded} calls of {} were counted when their segments were taken, and the segments that are there hold {}.",
            name(key),
            counts.in_segments
        );
        findings.push(finding(key, Kind::Recorded, "counter", None, (recorded, counts.in_segments), detail));
    }
    let (Some(first), Some(next), Some(finished), Some(open), Some(broken)) =
        (counts.first_receipt, counts.next_receipt, counts.finished, counts.open, counts.broken)
    else {
        return findings;
    };
    let (admitted, ended) = (next - first, finished + open + broken);
    if counts.is_exact == Some(true) && admitted != ended {
        let detail = format!(
            "The gateway of {} has admitted {admitted} calls since its start, and counts {finished} finished, {open} open and {broken} broken.",
            name(key)
        );
        findings.push(finding(key, Kind::Receipts, "run", None, (admitted.into(), ended.into()), detail));
    }
    let at_rest = counts.steady_since.zip(counts.reported_at).is_some_and(|(since, reported)| reported.since(since) >= AT_REST_AFTER);
    // A call that was open when the gateway reported may have ended since, and be recorded.
    let may_be_recorded = Decimal::from(finished)..=Decimal::from(finished + open);
    if at_rest && !may_be_recorded.contains(&counts.in_segments_of_run) {
        let detail = format!(
            "The gateway of {} has finished {finished} calls since its start and has nothing left to send, and {} of them are recorded.",
            name(key),
            counts.in_segments_of_run
        );
        findings.push(finding(key, Kind::Recorded, "run", None, (finished.into(), counts.in_segments_of_run), detail));
    }
    findings
}

fn missing_segment(key: StreamKey, segment: &MissingSegment) -> Finding {
    let kind = match (segment.was_accepted, segment.is_acked) {
        (true, _) => Kind::SegmentMissing,
        (false, true) => Kind::AckWithoutCommit,
        (false, false) => Kind::SegmentLost,
    };
    let what = match kind {
        Kind::SegmentMissing => "was taken and is not there any more",
        Kind::AckWithoutCommit => "was acked to its gateway and is not there",
        _ => "was sealed by its gateway, which does not wait to send it, and is not there",
    };
    // A range of numbers bounds what a segment held of which nobody counted the calls.
    let bound = segment.next_receipt.zip(segment.first_receipt).map(|(next, first)| (next - first).max(0));
    let calls = segment.finals.or(segment.records).or(bound).unwrap_or(0);
    let numbers = match (&segment.numbers, segment.first_receipt, segment.next_receipt) {
        (Some(numbers), ..) => format!("receipt numbers {numbers}"),
        (None, Some(first), Some(next)) if first < next => format!("among the receipt numbers {first} to {}", next - 1),
        _ => "no number that is not recorded elsewhere".to_owned(),
    };
    let count = match (segment.finals, segment.records) {
        (Some(finals), _) => format!("{finals} calls"),
        (None, Some(records)) => format!("{records} records"),
        (None, None) => format!("at most {calls} calls"),
    };
    let detail = format!("Segment {} of {} {what}: {count}, {numbers}.", segment.seq, name(key));
    finding(key, kind, &segment.seq.to_string(), Some(segment.seq), (calls.into(), Decimal::ZERO), detail)
}

fn differing(key: StreamKey, segment: &DifferingSegment) -> Finding {
    let told = segment.told_finals.map(|finals| format!(" and {finals} calls")).unwrap_or_default();
    let detail = format!(
        "The gateway counted {} records{told} in segment {} of {}, and {} records and {} calls were taken.",
        segment.told_records,
        segment.seq,
        name(key),
        segment.records,
        segment.finals
    );
    let sides = (segment.told_records.into(), segment.records.into());
    finding(key, Kind::SegmentDiffers, &segment.seq.to_string(), Some(segment.seq), sides, detail)
}
