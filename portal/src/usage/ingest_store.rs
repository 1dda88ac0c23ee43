//! The SQL by which ingest takes a segment: the proof, its rows, and where its stream stands.

use calendar::Timestamp;
use gateway_control::{
    credential::KeyDigest,
    usage::{AnsweredBy, BatchAck, Digest, LatencyRow, Mode, SegmentRef, UsageBatch, UsageRow},
};
use ids::{JournalId, Uuid};
use serde_json::Value;

use super::{copy::BinaryCopy, ingest::Unattributed, last_used::LastUsed, latency::pack_rows};
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// How many rows one statement writes.
pub(super) const CHUNK_ROWS: usize = 20_000;

/// Makes the commit wait for this server's disk, and for the synchronous standby's where one is configured: what is acknowledged is then safe.
pub(super) async fn commit_on_standby(tx: &mut Tx) -> Result<()> {
    sqlx::query!("SET LOCAL synchronous_commit = 'on'").execute(&mut **tx).await?;
    Ok(())
}

/// Writes the proof that a segment was taken; `false` if it stands already. Waits for a transaction that is about to write it.
pub(super) async fn insert_segment(tx: &mut Tx, batch: &UsageBatch, now: Timestamp) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO usage_segments (journal_id, stream, seq, segment_digest, prev_digest, fold_version, records, rows, next_receipt, final_receipts,
                                     accepted_at, rolled_up_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL) ON CONFLICT (journal_id, stream, seq) DO NOTHING",
        batch.segment.journal_id.uuid(),
        i32::from(batch.segment.stream),
        bigint(batch.segment.seq)?,
        &batch.segment.segment_digest.0[..],
        &batch.segment.prev_digest.0[..],
        i32::from(batch.fold_version),
        bigint(batch.records)?,
        i32::try_from(batch.rows.len()).map_err(Error::internal)?,
        bigint(batch.next_receipt)?,
        serde_json::to_value(&batch.final_receipts)?,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn segment_digest(tx: &mut Tx, segment: &SegmentRef) -> Result<Option<Digest>> {
    let digest = sqlx::query_scalar!(
        "SELECT segment_digest FROM usage_segments WHERE journal_id = $1 AND stream = $2 AND seq = $3",
        segment.journal_id.uuid(),
        i32::from(segment.stream),
        bigint(segment.seq)?,
    )
    .fetch_optional(&mut **tx)
    .await?;
    digest
        .map(|bytes| <[u8; 32]>::try_from(bytes).map(KeyDigest).map_err(|_| Error::internal(anyhow::anyhow!("a digest is not 32 bytes"))))
        .transpose()
}

pub(super) async fn insert_unattributed(tx: &mut Tx, segment: &SegmentRef, rows: &[Unattributed<'_>], now: Timestamp) -> Result<()> {
    for chunk in rows.chunks(CHUNK_ROWS) {
        let values = chunk.iter().map(|it| serde_json::to_value(it.row).map(without_nul)).collect::<serde_json::Result<Vec<_>>>()?;
        let reasons: Vec<String> = chunk.iter().map(|it| it.reason.clone()).collect();
        sqlx::query!(
            "INSERT INTO usage_unattributed (journal_id, stream, seq, row, reason, accepted_at)
             SELECT $1, $2, $3, r.row, r.reason, $6 FROM unnest($4::jsonb[], $5::text[]) r (row, reason)",
            segment.journal_id.uuid(),
            i32::from(segment.stream),
            bigint(segment.seq)?,
            &values,
            &reasons,
            now,
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

fn dimensions(pairs: &[(String, String)]) -> Option<Value> {
    let object: serde_json::Map<String, Value> = pairs.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    (!object.is_empty()).then(|| without_nul(Value::Object(object)))
}

/// Postgres' `jsonb` cannot hold U+0000, which an upstream may well send: it becomes U+FFFD.
fn without_nul(value: Value) -> Value {
    let clean = |text: String| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(values) => Value::Array(values.into_iter().map(without_nul).collect()),
        Value::Object(object) => Value::Object(object.into_iter().map(|(name, value)| (clean(name), without_nul(value))).collect()),
        other => other,
    }
}

pub(super) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Live => "live",
        Mode::Test => "test",
    }
}

/// What `COPY` writes; the order of the fields in [`insert_rows`].
const COPY_ROWS: &str = "COPY usage_rows (namespace_id, subscription_id, plan_version_id, period_start, application_id, api_key_id, route_id, meter_id, \
    dimensions, status, answered_by, mode, minute, count, incomplete, sum, min, max, last, last_at, uniques, journal_id, stream, seq, accepted_at, billable) \
    FROM STDIN (FORMAT binary)";
const COPY_FIELDS: i16 = 26;
/// What a row takes in the binary format, about.
const ROW_BYTES: usize = 400;

/// The rows of a segment, each with what its plan version's rule says of it, and when the segment was accepted.
pub(super) type SegmentRows<'a> = (&'a SegmentRef, Timestamp, &'a [(&'a UsageRow, bool)]);

/// Writes the rows of segments.
pub(super) async fn insert_rows(tx: &mut Tx, segments: &[SegmentRows<'_>]) -> Result<()> {
    let mut copy = BinaryCopy::new(COPY_FIELDS);
    let mut sink = tx.copy_in_raw(COPY_ROWS).await?;
    for (segment, now, rows) in segments {
        for chunk in rows.chunks(CHUNK_ROWS) {
            let sent = match copied(&mut copy, segment, chunk, *now) {
                Ok(bytes) => sink.send(bytes).await.map(|_| ()).map_err(Error::from),
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                sink.abort("the rows could not be sent").await?;
                return Err(error);
            }
        }
    }
    sink.send(copy.finish()).await?;
    sink.finish().await?;
    Ok(())
}

fn copied(copy: &mut BinaryCopy, segment: &SegmentRef, rows: &[(&UsageRow, bool)], now: Timestamp) -> Result<Vec<u8>> {
    copy.reserve(rows.len() * ROW_BYTES);
    for (row, billable) in rows {
        let key = &row.key;
        copy.row();
        for id in [key.namespace.uuid(), key.subscription.uuid(), key.plan_version.uuid()] {
            copy.uuid(id);
        }
        copy.timestamp(key.period_start);
        for id in [key.application.uuid(), key.api_key.uuid(), key.route.uuid(), key.meter.uuid()] {
            copy.uuid(id);
        }
        match dimensions(&key.dimensions) {
            Some(value) => copy.jsonb(&value),
            None => copy.null(),
        }
        copy.smallint(i16::try_from(key.status).map_err(Error::internal)?);
        copy.text(match key.answered_by {
            AnsweredBy::Upstream => "upstream",
            AnsweredBy::Gateway => "gateway",
        });
        copy.text(mode_name(key.mode));
        copy.timestamp(key.minute);
        copy.bigint(bigint(row.count)?);
        copy.bigint(bigint(row.incomplete)?);
        for quantity in [row.sum, row.min, row.max, row.last] {
            copy.numeric(quantity);
        }
        copy.timestamp(row.last_at);
        if row.uniques.is_empty() {
            copy.null()
        } else {
            copy.bigints(&row.uniques)
        }
        copy.uuid(segment.journal_id.uuid());
        copy.integer(i32::from(segment.stream));
        copy.bigint(bigint(segment.seq)?);
        copy.timestamp(now);
        copy.boolean(*billable);
    }
    Ok(copy.take())
}

/// Keeps the histograms of a segment until they are merged.
pub(super) async fn insert_latency(tx: &mut Tx, rows: &[&LatencyRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!("INSERT INTO usage_latency_pending (histograms) VALUES ($1)", pack_rows(rows)).execute(&mut **tx).await?;
    Ok(())
}

/// Moves the stream's marks over what is now contiguous. The row is locked first and the segments are read after that, so that of two transactions
/// which close a gap together the later one sees both.
pub(super) async fn advance_stream(tx: &mut Tx, batch: &UsageBatch, recorded: u64) -> Result<BatchAck> {
    let (journal, stream) = (batch.segment.journal_id, batch.segment.stream);
    sqlx::query!(
        "INSERT INTO usage_streams AS s (journal_id, stream, next_receipt, recorded) VALUES ($1, $2, $3, $4)
         ON CONFLICT (journal_id, stream)
         DO UPDATE SET next_receipt = greatest(s.next_receipt, excluded.next_receipt), recorded = s.recorded + excluded.recorded",
        journal.uuid(),
        i32::from(stream),
        bigint(batch.next_receipt)?,
        bigint(recorded)?,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "UPDATE usage_streams s SET accepted_through = coalesce((
             SELECT max(g.seq) FROM (
                 SELECT u.seq, u.seq - row_number() OVER (ORDER BY u.seq) AS before FROM usage_segments u
                 WHERE u.journal_id = $1 AND u.stream = $2 AND u.seq > s.accepted_through
             ) g WHERE g.before = s.accepted_through), s.accepted_through)
         WHERE s.journal_id = $1 AND s.stream = $2",
        journal.uuid(),
        i32::from(stream),
    )
    .execute(&mut **tx)
    .await?;
    ack(tx, journal, stream).await
}

/// Where a stream stands.
pub(super) async fn ack(tx: &mut Tx, journal: JournalId, stream: u16) -> Result<BatchAck> {
    let row = sqlx::query!(
        r#"SELECT l.epoch, s.accepted_through AS "accepted_through?"
           FROM ledger_state l LEFT JOIN usage_streams s ON s.journal_id = $1 AND s.stream = $2"#,
        journal.uuid(),
        i32::from(stream),
    )
    .fetch_one(&mut **tx)
    .await?;
    let accepted_through = row.accepted_through.and_then(|seq| u64::try_from(seq).ok());
    // Commits wait for the standby (see `commit_on_standby`), so what is accepted is safe.
    Ok(BatchAck { ledger_epoch: row.epoch, accepted_through, safe_through: accepted_through })
}

/// Rows that another transaction is writing are left to the next batch.
pub(super) async fn set_last_used(tx: &mut Tx, uses: &[LastUsed]) -> Result<()> {
    let tenants: Vec<Uuid> = uses.iter().map(|it| it.namespace.uuid()).collect();
    let keys: Vec<Uuid> = uses.iter().map(|it| it.api_key.uuid()).collect();
    let times: Vec<Timestamp> = uses.iter().map(|it| it.at).collect();
    sqlx::query!(
        "WITH due AS (
             SELECT k.tenant_id, k.id, u.at FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) u (tenant_id, id, at)
             JOIN api_keys k ON k.tenant_id = u.tenant_id AND k.id = u.id
             WHERE k.last_used_at IS NULL OR k.last_used_at <= u.at - interval '1 minute'
             FOR NO KEY UPDATE OF k SKIP LOCKED)
         UPDATE api_keys k SET last_used_at = due.at FROM due WHERE k.tenant_id = due.tenant_id AND k.id = due.id",
        &tenants,
        &keys,
        &times as &[Timestamp],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) fn bigint(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(Error::internal)
}
