//! Whether what a gateway counts of its journal can be right. Pure. What it says is kept for reconciliation, which compares it with what was accepted.

use gateway_control::status::{GatewayStatus, SegmentReport, StreamReport};

use crate::error::{Error, Result};

/// The most streams of a report.
const MAX_STREAMS: usize = 1024;
/// The most segments of a report.
const MAX_SEGMENTS: usize = 5000;
/// The most ranges of a stream or a segment.
const MAX_RANGES: usize = 1000;
/// The largest number that Postgres' ranges of `bigint` end at.
const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// Refuses a report that no gateway makes; the error names the field.
pub(super) fn check(status: &GatewayStatus) -> Result<()> {
    if status.streams.len() > MAX_STREAMS {
        return Err(Error::invalid("streams", format!("At most {MAX_STREAMS} are read.")));
    }
    if status.segments.len() > MAX_SEGMENTS {
        return Err(Error::invalid("segments", format!("At most {MAX_SEGMENTS} are read.")));
    }
    for (index, stream) in status.streams.iter().enumerate() {
        check_stream(stream).map_err(|(field, reason)| Error::invalid(format!("streams[{index}].{field}"), reason))?;
    }
    for (index, segment) in status.segments.iter().enumerate() {
        check_segment(segment).map_err(|(field, reason)| Error::invalid(format!("segments[{index}].{field}"), reason))?;
    }
    Ok(())
}

fn check_stream(stream: &StreamReport) -> Result<(), (&'static str, &'static str)> {
    let counts = [stream.finished, stream.open, stream.broken, stream.next_receipt];
    if counts.iter().any(|count| *count > MAX_NUMBER) {
        return Err(("next_receipt", "Numbers above 2^63 - 2 are not used."));
    }
    if stream.first_receipt > stream.next_receipt {
        return Err(("first_receipt", "The first number of the run is not above the next one."));
    }
    if !are_ranges(&stream.pending)
        || stream.pending.last().is_some_and(|(_, last)| *last >= stream.next_seq)
        || stream.next_seq > MAX_NUMBER
    {
        return Err(("pending", "At most 1000 ranges are read; they are inclusive, rise, do not overlap, and lie below `next_seq`."));
    }
    Ok(())
}

fn check_segment(segment: &SegmentReport) -> Result<(), (&'static str, &'static str)> {
    if [segment.seq, segment.records, segment.next_receipt, segment.finals.unwrap_or(0)].iter().any(|number| *number > MAX_NUMBER) {
        return Err(("seq", "Numbers above 2^63 - 2 are not used."));
    }
    if segment.first_receipt.is_some_and(|first| first > segment.next_receipt) {
        return Err(("first_receipt", "The first number is not above the next one."));
    }
    if !are_ranges(&segment.final_receipts) || segment.final_receipts.last().is_some_and(|(_, last)| *last > MAX_NUMBER) {
        return Err(("final_receipts", "At most 1000 ranges are read; they are inclusive, rise and do not overlap."));
    }
    Ok(())
}

fn are_ranges(ranges: &[(u64, u64)]) -> bool {
    ranges.len() <= MAX_RANGES && ranges.iter().all(|(first, last)| first <= last) && ranges.windows(2).all(|pair| pair[0].1 < pair[1].0)
}

/// Ranges as Postgres reads them: `{[1,4],[7,7]}`.
pub(super) fn multirange(ranges: &[(u64, u64)]) -> String {
    let texts: Vec<String> = ranges.iter().map(|(first, last)| format!("[{first},{last}]")).collect();
    format!("{{{}}}", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_rise_and_are_bounded() {
        assert!(are_ranges(&[(1, 4), (5, 5), (9, 12)]));
        for bad in [vec![(4, 1)], vec![(1, 4), (4, 5)], vec![(5, 5), (1, 1)], vec![(1, 1); 1001]] {
            assert!(!are_ranges(&bad), "{bad:?}");
        }
        assert_eq!(multirange(&[(1, 4), (7, 7)]), "{[1,4],[7,7]}");
        assert_eq!(multirange(&[]), "{}");
    }
}
