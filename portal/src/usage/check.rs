//! Whether a batch is well-formed. Pure. What is refused here could not have been written by a gateway that folds as [`gateway_control::usage`] says; an
//! id or a time that is merely odd is no reason to refuse (SEMANTICS M5).

use calendar::Timestamp;
use gateway_control::{
    FORMAT,
    units::Micros,
    usage::{FOLD_VERSION, RowKey, UsageBatch, UsageRow},
};

use crate::error::{Error, Result};

/// The most rows of a batch.
const MAX_ROWS: usize = 500_000;
/// The most latency rows of a batch.
const MAX_LATENCY_ROWS: usize = 500_000;
/// The most ranges of receipt numbers.
const MAX_RANGES: usize = 500_000;
/// The most dimensions of a row.
const MAX_DIMENSIONS: usize = 16;
/// The longest name or value of a dimension, in bytes.
const MAX_DIMENSION_BYTES: usize = 256;
/// The most distinct values of a row.
const MAX_UNIQUES: usize = 1_000_000;
/// The most buckets of a histogram.
const MAX_BUCKETS: usize = 1024;
/// The largest quantity of a row: 10^15 units, in micro-units.
const MAX_QUANTITY: i128 = 1_000_000_000_000_000_000_000;
/// The most calls of a row: far above what a segment holds, and far enough below 2^63 that no sum of rows reaches it.
const MAX_CALLS: u64 = 1_000_000_000_000;
/// The largest number that Postgres' `bigint` holds.
const MAX_COUNT: u64 = i64::MAX as u64;

/// Refuses a batch that no gateway writes; the error names the field.
pub(super) fn check(batch: &UsageBatch) -> Result<()> {
    if batch.format != FORMAT {
        return Err(Error::invalid("format", format!("This portal reads usage of format {FORMAT}.")));
    }
    if batch.fold_version == 0 || batch.fold_version > FOLD_VERSION {
        return Err(Error::invalid(
            "fold_version",
            format!("This portal knows fold versions up to {FOLD_VERSION}. Upgrade the portal first."),
        ));
    }
    if batch.segment.seq > MAX_COUNT || batch.next_receipt > MAX_COUNT || batch.records > MAX_COUNT {
        return Err(Error::invalid("segment.seq", "Numbers above 2^63 - 1 are not used."));
    }
    at_most("rows", batch.rows.len(), MAX_ROWS)?;
    at_most("latency", batch.latency.len(), MAX_LATENCY_ROWS)?;
    at_most("final_receipts", batch.final_receipts.len(), MAX_RANGES)?;
    check_receipts(batch)?;
    for (index, row) in batch.rows.iter().enumerate() {
        check_row(row).map_err(|(field, reason)| Error::invalid(format!("rows[{index}].{field}"), reason))?;
    }
    if let Some(at) = batch.rows.windows(2).position(|pair| pair[0].key >= pair[1].key) {
        return Err(Error::invalid(format!("rows[{}]", at + 1), "Rows stand in the order of their keys, and each key stands once."));
    }
    for (index, row) in batch.latency.iter().enumerate() {
        let named = |field: &str| format!("latency[{index}].{field}");
        if row.minute != row.minute.floor_minute() {
            return Err(Error::invalid(named("minute"), "This is not the start of a minute."));
        }
        at_most("latency.histogram", row.histogram.len(), MAX_BUCKETS)?;
        if row.histogram.windows(2).any(|pair| pair[0].0 >= pair[1].0) || row.histogram.iter().any(|(_, count)| *count > MAX_COUNT) {
            return Err(Error::invalid(named("histogram"), "Buckets stand in rising order, each once, with counts below 2^63."));
        }
    }
    Ok(())
}

fn at_most(field: &'static str, len: usize, most: usize) -> Result<()> {
    if len <= most {
        return Ok(());
    }
    Err(Error::invalid(field, format!("At most {most} are read, and these are {len}.")))
}

/// The ranges rise, do not touch each other backwards, and lie below the next number.
fn check_receipts(batch: &UsageBatch) -> Result<()> {
    let mut from = 0;
    for (first, last) in &batch.final_receipts {
        if *first < from || last < first || *last >= batch.next_receipt {
            return Err(Error::invalid("final_receipts", "Ranges are inclusive, rise, do not overlap, and lie below `next_receipt`."));
        }
        from = last + 1;
    }
    Ok(())
}

fn check_row(row: &UsageRow) -> Result<(), (&'static str, &'static str)> {
    let key: &RowKey = &row.key;
    if key.minute != key.minute.floor_minute() {
        return Err(("minute", "This is not the start of a minute."));
    }
    if key.status > 999 {
        return Err(("status", "This is not an HTTP status."));
    }
    if key.dimensions.len() > MAX_DIMENSIONS || key.dimensions.iter().any(|(name, value)| name.len().max(value.len()) > MAX_DIMENSION_BYTES)
    {
        return Err(("dimensions", "At most 16 dimensions are read, with names and values of at most 256 bytes."));
    }
    if row.count > MAX_CALLS || row.incomplete > row.count {
        return Err(("count", "Counts lie below 10^12, and the incomplete exchanges are among them."));
    }
    for (field, quantity) in [("sum", row.sum), ("min", row.min), ("max", row.max), ("last", row.last)] {
        if !(0..=MAX_QUANTITY).contains(&quantity.0) {
            return Err((field, "Quantities lie between 0 and 10^15 units."));
        }
    }
    if row.uniques.len() > MAX_UNIQUES {
        return Err(("uniques", "At most 1000000 distinct values are read."));
    }
    Ok(())
}

/// How many receipt numbers the ranges hold. Call after [`check`].
pub(super) fn receipts(batch: &UsageBatch) -> u64 {
    batch.final_receipts.iter().map(|(first, last)| last - first + 1).sum()
}

/// The first instant that a row's minute can have: before it, nothing was metered.
fn earliest() -> Timestamp {
    // 2020-01-01T00:00:00Z
    Timestamp::from_seconds(1_577_836_800)
}

/// Whether the minute of a row can be right. A gateway whose clock is more than 2 s off is not ready (M9), so a day is generous.
pub(super) fn is_plausible(minute: Timestamp, now: Timestamp) -> bool {
    minute >= earliest() && minute <= now.plus(std::time::Duration::from_secs(86_400))
}

/// Micro-units as Postgres holds them, in units.
pub(super) fn quantity(micros: i128) -> rust_decimal::Decimal {
    units(Micros(micros))
}

/// A quantity as Postgres holds it, in units. Call after [`check`], which bounds it.
fn units(quantity: Micros) -> rust_decimal::Decimal {
    rust_decimal::Decimal::try_from_i128_with_scale(quantity.0, 6).unwrap_or(rust_decimal::Decimal::MAX).normalize()
}
