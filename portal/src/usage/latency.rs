//! Histograms of latency, merged per subscription, route and hour, and per UTC day (SEMANTICS M5).
//!
//! A histogram is kept as bytes: for each bucket in rising order, the distance from the one before it and the count, both as LEB128. A new histogram
//! is merged under a lock; what was merged is deleted from where it waited in the same transaction.

use std::collections::BTreeMap;

use calendar::Timestamp;
use gateway_control::usage::LatencyRow;
use ids::{NamespaceId, RouteId, SubscriptionId};

use super::latency_store as store;
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// The most segments' histograms that are merged at once.
pub(super) const MERGED_AT_ONCE: usize = 500;

const HOUR_SECONDS: i64 = 3600;
const DAY_SECONDS: i64 = 86_400;

/// What a merged histogram is kept apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LatencyKey {
    pub namespace: NamespaceId,
    pub subscription: SubscriptionId,
    pub bucket: Timestamp,
    pub route: RouteId,
}

/// Calls by bucket of latency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Histogram(BTreeMap<u16, u64>);

impl Histogram {
    /// Adds pairs of bucket and count.
    pub(super) fn add(&mut self, pairs: impl IntoIterator<Item = (u16, u64)>) {
        for (bucket, count) in pairs {
            let sum = self.0.entry(bucket).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// Adds a packed one.
    pub(super) fn add_packed(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut rest, mut bucket) = (bytes, 0_u64);
        while !rest.is_empty() {
            let (distance, count) = take(&mut rest).zip(take(&mut rest)).ok_or_else(|| damaged(bytes))?;
            bucket += distance;
            self.add([(u16::try_from(bucket).map_err(|_| damaged(bytes))?, count)]);
        }
        Ok(())
    }

    /// As it is kept.
    pub(super) fn pack(&self) -> Vec<u8> {
        let (mut bytes, mut before) = (Vec::with_capacity(self.0.len() * 3), 0);
        for (bucket, count) in &self.0 {
            put(&mut bytes, u64::from(bucket - before));
            put(&mut bytes, *count);
            before = *bucket;
        }
        bytes
    }

    /// In rising order of buckets.
    pub(super) fn into_pairs(self) -> Vec<(u16, u64)> {
        self.0.into_iter().collect()
    }
}

fn damaged(bytes: &[u8]) -> Error {
    Error::internal(anyhow::anyhow!("a histogram of {} bytes cannot be read", bytes.len()))
}

/// The next number (LEB128).
fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The first byte of packed rows. JSON, which was kept before, begins with a bracket.
const PACKED: u8 = 1;
/// Of a packed row: it has the namespace and the subscription of the one before it.
const SAME_SUBSCRIPTION: u8 = 1;

/// The rows of accepted segments, as they are kept until they are merged: for each row whether it is of the subscription before it, else namespace and
/// subscription; the route, the minute since the epoch, the length of the histogram and the histogram.
pub(super) fn pack_rows(rows: &[&LatencyRow]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + rows.len() * 48);
    bytes.push(PACKED);
    let mut before = None;
    for row in rows {
        let subscription = (row.namespace, row.subscription);
        let is_same = before.replace(subscription) == Some(subscription);
        bytes.push(if is_same { SAME_SUBSCRIPTION } else { 0 });
        if !is_same {
            bytes.extend_from_slice(&row.namespace.bytes());
            bytes.extend_from_slice(&row.subscription.bytes());
        }
        bytes.extend_from_slice(&row.route.bytes());
        // Only minutes after the epoch are kept ([`super::check::is_plausible`]).
        put(&mut bytes, row.minute.seconds().div_euclid(60).unsigned_abs());
        let mut histogram = Histogram::default();
        histogram.add(row.histogram.iter().copied());
        let packed = histogram.pack();
        put(&mut bytes, packed.len() as u64);
        bytes.extend_from_slice(&packed);
    }
    bytes
}

/// Reads what [`pack_rows`] wrote.
pub(super) fn unpack_rows(bytes: &[u8]) -> Result<Vec<LatencyRow>> {
    let Some((&PACKED, mut rest)) = bytes.split_first() else { return Ok(serde_json::from_slice(bytes)?) };
    let (mut rows, mut before) = (Vec::new(), None);
    while !rest.is_empty() {
        let row = unpack_row(&mut rest, before).ok_or_else(|| damaged(bytes))??;
        before = Some((row.namespace, row.subscription));
        rows.push(row);
    }
    Ok(rows)
}

fn unpack_row(rest: &mut &[u8], before: Option<(NamespaceId, SubscriptionId)>) -> Option<Result<LatencyRow>> {
    let (flags, after) = rest.split_first()?;
    *rest = after;
    let (namespace, subscription) = if flags & SAME_SUBSCRIPTION != 0 {
        before?
    } else {
        (NamespaceId::from_bytes(take_id(rest)?), SubscriptionId::from_bytes(take_id(rest)?))
    };
    let route = RouteId::from_bytes(take_id(rest)?);
    let minute = Timestamp::from_seconds(i64::try_from(take(rest)?).ok()?.checked_mul(60)?);
    let length = usize::try_from(take(rest)?).ok()?;
    let (packed, after) = rest.split_at_checked(length)?;
    *rest = after;
    let mut histogram = Histogram::default();
    let read = histogram.add_packed(packed);
    Some(read.map(|()| LatencyRow { namespace, subscription, route, minute, histogram: histogram.into_pairs() }))
}

fn take_id(rest: &mut &[u8]) -> Option<[u8; 16]> {
    let (id, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*id)
}

type Merged = BTreeMap<LatencyKey, Histogram>;

/// Merges what waits, or a part of it; answers how many pieces that were. Call under the lock of histograms.
pub(super) async fn merge_pending(tx: &mut Tx) -> Result<usize> {
    let pieces = store::take_pending(tx, MERGED_AT_ONCE).await?;
    let before = store::take_unmerged(tx).await?;
    let (mut hours, mut days) = (Merged::new(), Merged::new());
    let floor = |at: Timestamp, width: i64| Timestamp::from_seconds(at.seconds().div_euclid(width) * width);
    for row in pieces.iter().flatten().chain(&before) {
        let bucket = floor(row.minute, HOUR_SECONDS);
        let key = LatencyKey { namespace: row.namespace, subscription: row.subscription, bucket, route: row.route };
        hours.entry(key).or_default().add(row.histogram.iter().copied());
    }
    for (key, histogram) in &hours {
        let key = LatencyKey { bucket: floor(key.bucket, DAY_SECONDS), ..*key };
        days.entry(key).or_default().add(histogram.0.iter().map(|(bucket, count)| (*bucket, *count)));
    }
    if !hours.is_empty() {
        store::merge_hours(tx, hours).await?;
        store::merge_days(tx, days).await?;
    }
    Ok(pieces.len() + before.len())
}

/// The hours and the days that a range covers: whole UTC days where it can be, hours before and after. The range is widened to whole hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cover {
    /// From the start of an hour.
    pub from: Timestamp,
    /// The first whole day.
    pub days_from: Timestamp,
    /// The end of the last whole day.
    pub days_to: Timestamp,
    /// To before this.
    pub to: Timestamp,
}

impl Cover {
    pub(super) fn of(from: Timestamp, to: Timestamp) -> Self {
        let floor = |at: Timestamp, width: i64| Timestamp::from_seconds(at.seconds().div_euclid(width) * width);
        let from = floor(from, HOUR_SECONDS);
        let days_from = floor(Timestamp::from_seconds(from.seconds() + DAY_SECONDS - 1), DAY_SECONDS);
        let days_to = floor(to, DAY_SECONDS).max(days_from);
        Self { from, days_from, days_to, to }
    }
}

pub(super) fn row(
    namespace: ids::Uuid,
    subscription: ids::Uuid,
    route: ids::Uuid,
    minute: Timestamp,
    histogram: Vec<(u16, u64)>,
) -> LatencyRow {
    LatencyRow {
        namespace: NamespaceId::from_uuid(namespace),
        subscription: SubscriptionId::from_uuid(subscription),
        route: RouteId::from_uuid(route),
        minute,
        histogram,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packing_keeps_every_count(pairs in prop::collection::btree_map(any::<u16>(), any::<u64>(), 0..100)) {
            let mut one = Histogram::default();
            one.add(pairs.clone());
            let mut two = Histogram::default();
            two.add_packed(&one.pack()).expect("it was packed here");
            prop_assert_eq!(two.into_pairs(), pairs.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn packed_rows_are_what_was_packed(
            rows in prop::collection::vec((0_u8..3, 0_u8..3, 0_u8..3, 0_i64..100_000_000, prop::collection::btree_map(any::<u16>(), any::<u64>(), 0..5)), 0..20),
            json in any::<bool>(),
        ) {
            let of = |(namespace, subscription, route, minute, histogram): &(u8, u8, u8, i64, BTreeMap<u16, u64>)| LatencyRow {
                namespace: NamespaceId::from_bytes([*namespace; 16]),
                subscription: SubscriptionId::from_bytes([*subscription; 16]),
                route: RouteId::from_bytes([*route; 16]),
                minute: Timestamp::from_seconds(minute * 60),
                histogram: histogram.iter().map(|(bucket, count)| (*bucket, *count)).collect(),
            };
            let rows: Vec<LatencyRow> = rows.iter().map(of).collect();
            let borrowed: Vec<&LatencyRow> = rows.iter().collect();
            let bytes = if json { serde_json::to_vec(&rows).expect("json") } else { pack_rows(&borrowed) };
            prop_assert_eq!(unpack_rows(&bytes).expect("it was packed here"), rows);
            if !json && bytes.len() > 1 {
                prop_assert!(unpack_rows(&bytes[..bytes.len() - 1]).is_err(), "what is cut off is no rows");
            }
        }

        #[test]
        fn hours_and_days_cover_a_range_once(from in 0_i64..400, quarters in 1_i64..1000) {
            let at = |quarter: i64| Timestamp::from_seconds(quarter * 900);
            let cover = Cover::of(at(from), at(from + quarters));
            for hour in 0..400 {
                let at = Timestamp::from_seconds(hour * HOUR_SECONDS);
                let in_hours = (at >= cover.from && at < cover.days_from.min(cover.to)) || (at >= cover.days_to && at < cover.to && at >= cover.from);
                let in_days = at >= cover.days_from && at < cover.days_to;
                let asked = hour * 4 + 3 >= from && hour * 4 < from + quarters;
                prop_assert_eq!(u8::from(in_hours) + u8::from(in_days), u8::from(asked), "hour {} of {:?}", hour, cover);
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_no_histogram() {
        assert!(Histogram::default().add_packed(&[1]).is_err());
        assert!(Histogram::default().add_packed(&[0xff; 20]).is_err());
    }
}
