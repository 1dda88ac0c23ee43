//! The SQL of [`super::streams`].

use ids::{GatewayId, JournalId};

use super::streams::{Gap, StreamStatus, Unattributed};
use crate::{db::Tx, error::Result};

pub(super) async fn list(tx: &mut Tx) -> Result<Vec<StreamStatus>> {
    let rows = sqlx::query!(
        r#"SELECT j.gateway_id, s.journal_id, s.stream, s.accepted_through, s.next_receipt, s.recorded,
                  last.accepted_at AS "last_accepted_at?", beyond.count AS "beyond!", beyond.highest, beyond.since
           FROM usage_streams s
           JOIN gateway_journals j ON j.journal_id = s.journal_id
           CROSS JOIN LATERAL (
               SELECT count(*), max(u.seq) AS highest, greatest(min(u.accepted_at), (
                   SELECT l.accepted_at FROM usage_segments l
                   WHERE l.journal_id = s.journal_id AND l.stream = s.stream AND l.seq = s.accepted_through)) AS since FROM usage_segments u
               WHERE u.journal_id = s.journal_id AND u.stream = s.stream AND u.seq > s.accepted_through) beyond
           LEFT JOIN LATERAL (
               SELECT u.accepted_at FROM usage_segments u WHERE u.journal_id = s.journal_id AND u.stream = s.stream
               ORDER BY u.seq DESC LIMIT 1) last ON true
           ORDER BY last.accepted_at DESC NULLS LAST LIMIT 1000"#
    )
    .fetch_all(&mut **tx)
    .await?;
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let mut streams: Vec<StreamStatus> = rows
        .into_iter()
        .map(|row| StreamStatus {
            gateway: GatewayId::from_uuid(row.gateway_id),
            journal: JournalId::from_uuid(row.journal_id),
            stream: u16::try_from(row.stream).unwrap_or(u16::MAX),
            accepted_through: u64::try_from(row.accepted_through).ok(),
            // A journal gives out 1 first.
            admitted: number(row.next_receipt).saturating_sub(1),
            recorded: number(row.recorded),
            last_accepted_at: row.last_accepted_at,
            gap: row
                .highest
                .zip(row.since)
                .map(|(highest, since)| Gap { missing: number(highest - row.accepted_through - row.beyond), since }),
        })
        .collect();
    streams.sort_by_key(|stream| (stream.gateway, stream.journal, stream.stream));
    Ok(streams)
}

pub(super) async fn unattributed(tx: &mut Tx) -> Result<Unattributed> {
    let rows = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM usage_unattributed"#).fetch_one(&mut **tx).await?;
    let reasons = sqlx::query!(
        r#"SELECT reason, count(*) AS "count!" FROM usage_unattributed GROUP BY reason ORDER BY count(*) DESC, reason LIMIT 10"#
    )
    .fetch_all(&mut **tx)
    .await?;
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Unattributed { rows: number(rows), reasons: reasons.into_iter().map(|row| (row.reason, number(row.count))).collect() })
}
