//! Recorded = accepted = rolled up: segments beside their rows, and rows beside their sums.

use std::time::Duration;

use calendar::Timestamp;
use ids::{NamespaceId, SubscriptionId};
use rust_decimal::Decimal;

use super::{
    finding::{Finding, Kind, Place, Scope},
    level_store::{self as levels, DifferingLevels},
    sum_store::{self, DifferingSums},
    usage_store::{self as store, SegmentRows},
};
use crate::{db::Tx, error::Result};

/// How many segments are looked at together.
const SEGMENTS_AT_ONCE: i64 = 200;
/// How many days of a subscription are looked at together.
const DAYS_AT_ONCE: u64 = 7;
const DAY: Duration = Duration::from_secs(86_400);

/// Compares the segments that were accepted from an instant on with their rows. Answers where the next ones begin; `None` if these were the last.
pub(super) async fn compare_segments(tx: &mut Tx, from: Timestamp, now: Timestamp) -> Result<(Scope, Vec<Finding>, Option<Timestamp>)> {
    let next = store::end_of_stretch(tx, from, SEGMENTS_AT_ONCE).await?;
    // Segments of one instant belong together.
    let next = next.map(|next| next.plus(Duration::from_micros(1)));
    let to = next.unwrap_or(now.plus(DAY));
    let findings = store::segment_rows(tx, from, to).await?.iter().map(rows_differ).collect();
    Ok((Scope::stretch("segments".to_owned(), from, to), findings, next))
}

fn rows_differ(row: &SegmentRows) -> Finding {
    let journal = store::journal_of(row);
    let accepted = row.accepted.unwrap_or(0);
    let numbers = row.numbers.as_ref().map(|numbers| format!(", receipt numbers {numbers}")).unwrap_or_default();
    let records = row.records.map(|records| format!(" from {records} records")).unwrap_or_default();
    let detail = if row.accepted.is_none() {
        format!(
            "{} rows are of segment {} of stream {} of journal {journal}, and nothing proves that it was taken.",
            row.kept, row.seq, row.stream
        )
    } else {
        format!(
            "Segment {} of stream {} of journal {journal} was taken with {accepted} rows{records}{numbers}, and {} are there.",
            row.seq, row.stream, row.kept
        )
    };
    Finding {
        kind: Kind::RowsDiffer,
        subject: format!("{journal} {} {}", row.stream, row.seq),
        at: Some(row.accepted_at),
        place: Place {
            journal: Some(journal),
            stream: u16::try_from(row.stream).ok(),
            seq: u64::try_from(row.seq).ok(),
            ..Place::default()
        },
        expected: accepted.into(),
        found: row.kept.into(),
        detail,
    }
}

/// Compares a subscription's sums with its rows, from the first day with any from `from` on, and over some days. Answers where the next ones begin, and
/// nothing at all if there are no more.
pub(super) async fn compare_sums(
    tx: &mut Tx,
    of: (NamespaceId, SubscriptionId),
    from: Timestamp,
) -> Result<Option<(Scope, Vec<Finding>, Timestamp)>> {
    let Some(first) = sum_store::first_use(tx, of.0, of.1, from).await? else { return Ok(None) };
    let to = floor_day(first).plus(DAY * u32::try_from(DAYS_AT_ONCE).unwrap_or(1));
    let (_, findings) = sums_between(tx, of, floor_day(first), to).await?;
    // What lies between `from` and the first use was looked at too: there is nothing.
    Ok(Some((Scope::stretch(sums_scope(of), from, to), findings, to)))
}

/// Compares a subscription's sums with its rows over whole days.
pub(super) async fn sums_between(
    tx: &mut Tx,
    of: (NamespaceId, SubscriptionId),
    from: Timestamp,
    to: Timestamp,
) -> Result<(Scope, Vec<Finding>)> {
    let to = floor_day(to.plus(DAY - Duration::from_micros(1)));
    let differing = sum_store::differing_sums(tx, of.0, of.1, floor_day(from), to).await?;
    let mut findings: Vec<Finding> = differing.iter().map(|sums| sums_differ(of, sums)).collect();
    let meters = levels::meters(tx).await?;
    if !meters.is_empty() {
        let differing = levels::differing(tx, of, &meters, floor_day(from), to).await?;
        findings.extend(differing.iter().map(|levels| levels_differ(of, levels)));
    }
    Ok((Scope::stretch(sums_scope(of), floor_day(from), to), findings))
}

/// After the last day with use: whatever was found there before is gone.
pub(super) fn rest_of_sums(of: (NamespaceId, SubscriptionId), from: Timestamp) -> Scope {
    Scope::stretch(sums_scope(of), from, Timestamp::from_seconds(MAX_SECONDS))
}

/// The end of the year 9999.
const MAX_SECONDS: i64 = 253_402_300_799;

fn sums_scope(of: (NamespaceId, SubscriptionId)) -> String {
    format!("sums {} {}", of.0, of.1)
}

pub(super) fn floor_day(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.seconds().div_euclid(86_400) * 86_400)
}

fn sums_differ(of: (NamespaceId, SubscriptionId), sums: &DifferingSums) -> Finding {
    let kind = if sums.lost == sums.sums {
        Kind::RollupLost
    } else if sums.doubled == sums.sums {
        Kind::RollupDoubled
    } else {
        Kind::RollupDiffers
    };
    let width = if sums.is_day { "day" } else { "hour" };
    let what = match kind {
        Kind::RollupLost => format!("{} sums are lost", sums.lost),
        Kind::RollupDoubled => format!("{} sums are multiples of their usage", sums.doubled),
        _ if sums.moved == sums.sums => format!("{} sums have their calls in other quarters of the hour", sums.moved),
        _ => format!("{} sums differ, {} of them without any usage and {} lost", sums.sums, sums.unfounded, sums.lost),
    };
    let by = if sums.is_by_route { "by route" } else { "by key" };
    let detail = format!(
        "Subscription {}, {width} of {}, sums {by}: {what}. Accepted were {} calls and {} units, rolled up {} and {}.",
        of.1,
        sums.at,
        sums.accepted_calls.normalize(),
        sums.accepted_units.normalize(),
        sums.rolled_calls.normalize(),
        sums.rolled_units.normalize()
    );
    // A meter that sums units may have no calls in a row of interim records.
    let by_units = sums.accepted_calls == sums.rolled_calls;
    let pick = |calls: Decimal, units: Decimal| if by_units { units } else { calls };
    Finding {
        kind,
        subject: sums_subject(width, sums.at, sums.is_by_route),
        at: Some(sums.at),
        place: Place { namespace: Some(of.0), subscription: Some(of.1), ..Place::default() },
        expected: pick(sums.accepted_calls, sums.accepted_units),
        found: pick(sums.rolled_calls, sums.rolled_units),
        detail,
    }
}

/// Sums by key keep the name that they had while there were no others.
fn sums_subject(width: &str, at: Timestamp, is_by_route: bool) -> String {
    if is_by_route { format!("{width} {at} by route") } else { format!("{width} {at}") }
}

fn levels_differ(of: (NamespaceId, SubscriptionId), levels: &DifferingLevels) -> Finding {
    let width = if levels.is_day { "day" } else { "hour" };
    let by = if levels.is_by_route { "by route" } else { "by key" };
    Finding {
        kind: Kind::RollupLevels,
        subject: sums_subject(width, levels.at, levels.is_by_route),
        at: Some(levels.at),
        place: Place { namespace: Some(of.0), subscription: Some(of.1), ..Place::default() },
        expected: levels.accepted,
        found: levels.rolled,
        detail: format!(
            "Subscription {}, {width} of {}, {by}: the largest or last values of {} rollups are not those of their usage. Accepted was up to {}, rolled up {}.",
            of.1,
            levels.at,
            levels.rollups,
            levels.accepted.normalize(),
            levels.rolled.normalize()
        ),
    }
}
