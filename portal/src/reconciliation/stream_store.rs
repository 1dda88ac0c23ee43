//! The SQL that compares what gateways count of a stream with what was taken of it.

use calendar::Timestamp;
use ids::{JournalId, Uuid};
use rust_decimal::Decimal;

use crate::{db::Tx, error::Result};

/// A stream of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamKey {
    pub journal: JournalId,
    pub stream: i32,
}

/// The next stream in the order of their keys, of those that either side knows.
pub(super) async fn next_stream(tx: &mut Tx, after: Option<(Uuid, i32)>) -> Result<Option<StreamKey>> {
    let (journal, stream) = after.unzip();
    let row = sqlx::query!(
        r#"SELECT journal_id AS "journal_id!", stream AS "stream!"
           FROM (SELECT journal_id, stream FROM usage_streams UNION SELECT journal_id, stream FROM gateway_streams) s
           WHERE $1::uuid IS NULL OR (journal_id, stream) > ($1, $2) ORDER BY journal_id, stream LIMIT 1"#,
        journal,
        stream,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| StreamKey { journal: JournalId::from_uuid(row.journal_id), stream: row.stream }))
}

/// Both sides' counts of a stream.
#[derive(Debug)]
pub(super) struct Counts {
    /// The portal's running count of calls with a final record.
    pub recorded: Option<i64>,
    /// The same, counted from the segments that are there.
    pub in_segments: Decimal,
    /// The calls among them that the gateway has admitted in its present run, as far as it has reported.
    pub in_segments_of_run: Decimal,
    pub first_receipt: Option<i64>,
    pub next_receipt: Option<i64>,
    pub finished: Option<i64>,
    pub open: Option<i64>,
    pub broken: Option<i64>,
    pub is_exact: Option<bool>,
    /// Since when the gateway's counts stand still with nothing left to send.
    pub steady_since: Option<Timestamp>,
    pub reported_at: Option<Timestamp>,
}

pub(super) async fn counts(tx: &mut Tx, key: StreamKey) -> Result<Counts> {
    let counts = sqlx::query_as!(
        Counts,
        r#"WITH finals AS (
               SELECT (f ->> 0)::bigint AS first, (f ->> 1)::bigint AS last
               FROM usage_segments s, jsonb_array_elements(s.final_receipts) f WHERE s.journal_id = $1 AND s.stream = $2)
           SELECT u.recorded AS "recorded?", coalesce((SELECT sum(last - first + 1) FROM finals), 0) AS "in_segments!",
               coalesce((SELECT sum(least(last, g.next_receipt - 1) - greatest(first, g.first_receipt) + 1) FROM finals
                         WHERE last >= g.first_receipt AND first < g.next_receipt), 0) AS "in_segments_of_run!",
               g.first_receipt AS "first_receipt?", g.next_receipt AS "next_receipt?", g.finished AS "finished?", g.open AS "open?",
               g.broken AS "broken?", g.is_exact AS "is_exact?", g.steady_since AS "steady_since?", g.reported_at AS "reported_at?"
           FROM (SELECT 1) one
           LEFT JOIN usage_streams u ON u.journal_id = $1 AND u.stream = $2
           LEFT JOIN gateway_streams g ON g.journal_id = $1 AND g.stream = $2"#,
        key.journal.uuid(),
        key.stream,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(counts)
}

/// Segments that should be there and are not, as ranges: those below where both sides say the stream has come, which the gateway does not wait to send.
/// What a gateway does not report of has to be filled up `in_order_before`.
pub(super) async fn missing(tx: &mut Tx, key: StreamKey, in_order_before: Timestamp) -> Result<Vec<(i64, i64)>> {
    let rows = sqlx::query!(
        r#"WITH bound AS (
               SELECT greatest(g.next_seq, u.accepted_through + 1,
                          (SELECT max(s.seq) FROM usage_segments s WHERE s.journal_id = $1 AND s.stream = $2 AND s.accepted_at < $3), 0) AS next_seq,
                      coalesce(g.pending, '{}') AS pending
               FROM (SELECT 1) one
               LEFT JOIN usage_streams u ON u.journal_id = $1 AND u.stream = $2
               LEFT JOIN gateway_streams g ON g.journal_id = $1 AND g.stream = $2),
           taken AS (
               SELECT coalesce(range_agg(int8range(s.seq, s.seq, '[]')), '{}') AS seqs FROM usage_segments s WHERE s.journal_id = $1 AND s.stream = $2)
           SELECT lower(r) AS "first!", upper(r) - 1 AS "last!"
           FROM bound, taken, unnest(int8multirange(int8range(0, bound.next_seq)) - bound.pending - taken.seqs) r ORDER BY 1 LIMIT 100"#,
        key.journal.uuid(),
        key.stream,
        in_order_before,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.first, row.last)).collect())
}

/// What is known of a segment that is not there.
#[derive(Debug)]
pub(super) struct MissingSegment {
    pub seq: i64,
    pub was_accepted: bool,
    pub is_acked: bool,
    pub records: Option<i64>,
    pub finals: Option<i64>,
    /// The first ranges of its receipt numbers, if it was told of after it was sent.
    pub numbers: Option<String>,
    /// The numbers that were given out while it was written: the gateway's word, or those between its neighbours.
    pub first_receipt: Option<i64>,
    pub next_receipt: Option<i64>,
}

pub(super) async fn missing_segments(tx: &mut Tx, key: StreamKey, seqs: &[i64]) -> Result<Vec<MissingSegment>> {
    let rows = sqlx::query_as!(
        MissingSegment,
        r#"SELECT m.seq AS "seq!", m.seq <= coalesce(u.accepted_through, -1) AS "was_accepted!", g.acked_at IS NOT NULL AS "is_acked!",
               g.records AS "records?", g.finals AS "finals?",
               (SELECT string_agg(CASE WHEN lower(r) = upper(r) - 1 THEN lower(r)::text ELSE lower(r) || ' to ' || upper(r) - 1 END, ', ' ORDER BY r)
                FROM unnest(g.final_receipts) r) AS "numbers?",
               coalesce(g.first_receipt,
                   (SELECT s.next_receipt FROM usage_segments s WHERE s.journal_id = $1 AND s.stream = $2 AND s.seq < m.seq ORDER BY s.seq DESC LIMIT 1), 1)
               AS "first_receipt?",
               coalesce(g.next_receipt,
                   (SELECT s.next_receipt FROM usage_segments s WHERE s.journal_id = $1 AND s.stream = $2 AND s.seq > m.seq ORDER BY s.seq LIMIT 1),
                   (SELECT s.next_receipt FROM gateway_streams s WHERE s.journal_id = $1 AND s.stream = $2))
               AS "next_receipt?"
           FROM unnest($3::bigint[]) m (seq)
           LEFT JOIN usage_streams u ON u.journal_id = $1 AND u.stream = $2
           LEFT JOIN gateway_segments g ON g.journal_id = $1 AND g.stream = $2 AND g.seq = m.seq
           ORDER BY m.seq"#,
        key.journal.uuid(),
        key.stream,
        seqs,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

/// A segment of which both sides know, and differently.
#[derive(Debug)]
pub(super) struct DifferingSegment {
    pub seq: i64,
    pub told_records: i64,
    pub records: i64,
    pub told_finals: Option<i64>,
    pub finals: Decimal,
}

pub(super) async fn differing_segments(tx: &mut Tx, key: StreamKey) -> Result<Vec<DifferingSegment>> {
    let rows = sqlx::query_as!(
        DifferingSegment,
        r#"SELECT s.seq, g.records AS told_records, s.records, g.finals AS told_finals, f.count AS "finals!"
           FROM gateway_segments g
           JOIN usage_segments s ON s.journal_id = g.journal_id AND s.stream = g.stream AND s.seq = g.seq
           CROSS JOIN LATERAL (SELECT coalesce(sum((r ->> 1)::bigint - (r ->> 0)::bigint + 1), 0) AS count FROM jsonb_array_elements(s.final_receipts) r) f
           WHERE g.journal_id = $1 AND g.stream = $2 AND g.acked_at IS NOT NULL
             AND (g.records <> s.records OR g.next_receipt <> s.next_receipt OR g.finals <> f.count)
           ORDER BY s.seq LIMIT 100"#,
        key.journal.uuid(),
        key.stream,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

/// Keeps the numbers of earlier runs that never got a record: the broken calls, by name. After a loss of power a journal goes on at a ceiling some 2^32
/// numbers higher, which nobody took: no calls are.
pub(super) async fn set_broken(tx: &mut Tx, key: StreamKey, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "WITH finals AS (
             SELECT range_agg(int8range((f ->> 0)::bigint, (f ->> 1)::bigint, '[]')) AS numbers
             FROM usage_segments s, jsonb_array_elements(s.final_receipts) f WHERE s.journal_id = $1 AND s.stream = $2),
         broken AS (
             SELECT r FROM finals, gateway_streams g, unnest(int8multirange(int8range(1, greatest(g.first_receipt, 1))) - coalesce(finals.numbers, '{}')) r
             WHERE g.journal_id = $1 AND g.stream = $2),
         summed AS (
             SELECT coalesce(sum(upper(r) - lower(r)) FILTER (WHERE upper(r) - lower(r) < 2147483648), 0) AS count,
                 coalesce(sum(upper(r) - lower(r)) FILTER (WHERE upper(r) - lower(r) >= 2147483648), 0) AS skipped,
                 (SELECT string_agg(n, ', ') FROM (
                     SELECT CASE WHEN lower(b.r) = upper(b.r) - 1 THEN lower(b.r)::text ELSE lower(b.r) || ' to ' || upper(b.r) - 1 END AS n
                     FROM broken b WHERE upper(b.r) - lower(b.r) < 2147483648 ORDER BY b.r LIMIT 20) named) AS numbers
             FROM broken)
         UPDATE gateway_streams g SET broken_before = summed.count, broken_numbers = summed.numbers, skipped = summed.skipped, compared_at = $3
         FROM summed WHERE g.journal_id = $1 AND g.stream = $2",
        key.journal.uuid(),
        key.stream,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
