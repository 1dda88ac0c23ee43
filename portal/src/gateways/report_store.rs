//! The SQL of what gateways count of their journals.

use calendar::Timestamp;
use gateway_control::status::{SegmentReport, StreamReport};
use ids::JournalId;

use super::report::multirange;
use crate::{
    db::Tx,
    error::{Error, Result},
};

fn bigint(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(Error::internal)
}

/// Keeps the last report of each stream.
pub(super) async fn set_streams(tx: &mut Tx, journal: JournalId, streams: &[StreamReport], now: Timestamp) -> Result<()> {
    let numbers = |of: fn(&StreamReport) -> u64| streams.iter().map(|stream| bigint(of(stream))).collect::<Result<Vec<_>>>();
    let ids: Vec<i32> = streams.iter().map(|stream| i32::from(stream.stream)).collect();
    let exact: Vec<bool> = streams.iter().map(|stream| stream.is_exact).collect();
    let pending: Vec<String> = streams.iter().map(|stream| multirange(&stream.pending)).collect();
    sqlx::query!(
        "INSERT INTO gateway_streams AS g (journal_id, stream, first_receipt, next_receipt, finished, open, broken, is_exact, next_seq, pending, reported_at)
         SELECT $1, r.stream, r.first_receipt, r.next_receipt, r.finished, r.open, r.broken, r.is_exact, r.next_seq, r.pending::int8multirange, $11
         FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::boolean[], $9::bigint[], $10::text[])
              r (stream, first_receipt, next_receipt, finished, open, broken, is_exact, next_seq, pending)
         ON CONFLICT (journal_id, stream) DO UPDATE SET first_receipt = excluded.first_receipt, next_receipt = excluded.next_receipt,
             finished = excluded.finished, open = excluded.open, broken = excluded.broken, is_exact = excluded.is_exact, next_seq = excluded.next_seq,
             pending = excluded.pending, reported_at = excluded.reported_at,
             steady_since = CASE
                 WHEN isempty(excluded.pending) AND (excluded.first_receipt, excluded.next_receipt, excluded.finished, excluded.open, excluded.broken)
                     = (g.first_receipt, g.next_receipt, g.finished, g.open, g.broken) THEN coalesce(g.steady_since, excluded.reported_at) END",
        journal.uuid(),
        &ids,
        &numbers(|stream| stream.first_receipt)?,
        &numbers(|stream| stream.next_receipt)?,
        &numbers(|stream| stream.finished)?,
        &numbers(|stream| stream.open)?,
        &numbers(|stream| stream.broken)?,
        &exact,
        &numbers(|stream| stream.next_seq)?,
        &pending,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps what was told of segments: first when they were sealed, then when their acks had come. What one report says twice is said by its first.
pub(super) async fn add_segments(tx: &mut Tx, journal: JournalId, segments: &[SegmentReport], now: Timestamp) -> Result<()> {
    let numbers = |of: fn(&SegmentReport) -> u64| segments.iter().map(|segment| bigint(of(segment))).collect::<Result<Vec<_>>>();
    let optional = |of: fn(&SegmentReport) -> Option<u64>| {
        segments.iter().map(|segment| of(segment).map(bigint).transpose()).collect::<Result<Vec<Option<i64>>>>()
    };
    let streams: Vec<i32> = segments.iter().map(|segment| i32::from(segment.stream)).collect();
    let acked: Vec<bool> = segments.iter().map(|segment| segment.acked).collect();
    let ranges: Vec<String> = segments.iter().map(|segment| multirange(&segment.final_receipts)).collect();
    sqlx::query!(
        r#"INSERT INTO gateway_segments AS g (journal_id, stream, seq, records, first_receipt, next_receipt, finals, final_receipts, acked_at, told_at)
           SELECT DISTINCT ON (r.stream, r.seq) $1::uuid, r.stream, r.seq, r.records, r.first_receipt, r.next_receipt, r.finals, r.ranges::int8multirange,
               CASE WHEN r.acked THEN $10::timestamptz END, $10
           FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::boolean[])
                WITH ORDINALITY r (stream, seq, records, first_receipt, next_receipt, finals, ranges, acked, place)
           ORDER BY r.stream, r.seq, r.place
           ON CONFLICT (journal_id, stream, seq) DO UPDATE SET records = excluded.records, next_receipt = excluded.next_receipt,
               first_receipt = coalesce(g.first_receipt, excluded.first_receipt), finals = coalesce(excluded.finals, g.finals),
               final_receipts = CASE WHEN excluded.finals IS NULL THEN g.final_receipts ELSE excluded.final_receipts END,
               acked_at = coalesce(g.acked_at, excluded.acked_at), told_at = excluded.told_at"#,
        journal.uuid(),
        &streams,
        &numbers(|segment| segment.seq)?,
        &numbers(|segment| segment.records)?,
        &optional(|segment| segment.first_receipt)? as &[Option<i64>],
        &numbers(|segment| segment.next_receipt)?,
        &optional(|segment| segment.finals)? as &[Option<i64>],
        &ranges,
        &acked,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
