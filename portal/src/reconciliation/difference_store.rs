//! The SQL of differences: settling what was looked at, and listing them.

use calendar::Timestamp;
use ids::{DifferenceId, InvoiceId, JournalId, NamespaceId, SubscriptionId, Uuid};
use rust_decimal::Decimal;

use super::{
    Difference,
    finding::{Finding, Kind, Place, Scope},
};
use crate::{
    db::Tx,
    error::{Error, Result},
};

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(Error::internal)
}

/// Keeps what was found in the scope, resolves what was not found again, and answers the kinds and sentences of what is new.
pub(super) async fn settle(tx: &mut Tx, scope: &Scope, findings: &[Finding], now: Timestamp) -> Result<Vec<(Kind, String)>> {
    let mut news = Vec::new();
    for finding in findings {
        if keep(tx, scope, finding, now).await? {
            news.push((finding.kind, finding.detail.clone()));
        }
    }
    let kinds: Vec<String> = findings.iter().map(|finding| finding.kind.as_str().to_owned()).collect();
    let subjects: Vec<String> = findings.iter().map(|finding| finding.subject.clone()).collect();
    let stretch = scope.stretch;
    sqlx::query!(
        "UPDATE reconciliation_differences SET resolved_at = $2
         WHERE scope = $1 AND resolved_at IS NULL AND ($3::timestamptz IS NULL OR (at >= $3 AND at < $4))
           AND NOT EXISTS (SELECT FROM unnest($5::text[], $6::text[]) f (kind, subject)
                           WHERE f.kind = reconciliation_differences.kind AND f.subject = reconciliation_differences.subject)",
        scope.name,
        now,
        stretch.map(|stretch| stretch.from) as Option<Timestamp>,
        stretch.map(|stretch| stretch.to) as Option<Timestamp>,
        &kinds,
        &subjects,
    )
    .execute(&mut **tx)
    .await?;
    Ok(news)
}

/// Whether it is new.
async fn keep(tx: &mut Tx, scope: &Scope, finding: &Finding, now: Timestamp) -> Result<bool> {
    let place = finding.place;
    let inserted = sqlx::query_scalar!(
        r#"INSERT INTO reconciliation_differences (id, kind, scope, at, subject, namespace_id, subscription_id, invoice_id, journal_id, stream, seq,
               expected, found, detail, first_seen_at, last_seen_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
           ON CONFLICT (scope, kind, subject) WHERE resolved_at IS NULL
           DO UPDATE SET expected = excluded.expected, found = excluded.found, detail = excluded.detail, last_seen_at = excluded.last_seen_at
           RETURNING (xmax = 0) AS "inserted!""#,
        DifferenceId::new().uuid(),
        finding.kind.as_str(),
        scope.name,
        finding.at as Option<Timestamp>,
        finding.subject,
        place.namespace.map(NamespaceId::uuid),
        place.subscription.map(SubscriptionId::uuid),
        place.invoice.map(InvoiceId::uuid),
        place.journal.map(JournalId::uuid),
        place.stream.map(i32::from),
        place.seq.map(signed).transpose()?,
        finding.expected,
        finding.found,
        finding.detail,
        now,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(inserted)
}

struct Row {
    id: Uuid,
    kind: String,
    at: Option<Timestamp>,
    namespace_id: Option<Uuid>,
    tenant_name: Option<String>,
    subscription_id: Option<Uuid>,
    invoice_id: Option<Uuid>,
    journal_id: Option<Uuid>,
    gateway_id: Option<Uuid>,
    stream: Option<i32>,
    seq: Option<i64>,
    expected: Decimal,
    found: Decimal,
    detail: String,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

impl Row {
    fn into_difference(self) -> Result<Difference> {
        Ok(Difference {
            id: DifferenceId::from_uuid(self.id),
            kind: Kind::parse(&self.kind)?,
            at: self.at,
            place: Place {
                namespace: self.namespace_id.map(NamespaceId::from_uuid),
                subscription: self.subscription_id.map(SubscriptionId::from_uuid),
                invoice: self.invoice_id.map(InvoiceId::from_uuid),
                journal: self.journal_id.map(JournalId::from_uuid),
                stream: self.stream.and_then(|stream| u16::try_from(stream).ok()),
                seq: self.seq.and_then(|seq| u64::try_from(seq).ok()),
            },
            tenant_name: self.tenant_name,
            gateway: self.gateway_id.map(ids::GatewayId::from_uuid),
            expected: self.expected.normalize(),
            found: self.found.normalize(),
            detail: self.detail,
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            resolved_at: self.resolved_at,
        })
    }
}

/// Open differences, oldest first, or resolved ones, newest first; of one subscription if it is named.
pub(super) async fn list(
    tx: &mut Tx,
    of: Option<(NamespaceId, SubscriptionId)>,
    resolved: bool,
    limit: i64,
    offset: i64,
) -> Result<Vec<Difference>> {
    let (namespace, subscription) = of.unzip();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT d.id, d.kind, d.at AS "at?", d.namespace_id, t.name AS "tenant_name?", d.subscription_id, d.invoice_id, d.journal_id,
               j.gateway_id AS "gateway_id?", d.stream, d.seq, d.expected, d.found, d.detail, d.first_seen_at, d.last_seen_at, d.resolved_at
           FROM reconciliation_differences d
           LEFT JOIN tenants t ON t.id = d.namespace_id
           LEFT JOIN gateway_journals j ON j.journal_id = d.journal_id
           WHERE (d.resolved_at IS NOT NULL) = $1 AND ($2::uuid IS NULL OR (d.namespace_id = $2 AND d.subscription_id = $3))
           ORDER BY d.resolved_at DESC NULLS FIRST, d.first_seen_at, d.id LIMIT $4 OFFSET $5"#,
        resolved,
        namespace.map(NamespaceId::uuid),
        subscription.map(SubscriptionId::uuid),
        limit,
        offset,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Row::into_difference).collect()
}

/// How many are open, by kind.
pub(super) async fn counts(tx: &mut Tx) -> Result<Vec<(Kind, i64)>> {
    let rows = sqlx::query!(
        r#"SELECT kind, count(*) AS "count!" FROM reconciliation_differences WHERE resolved_at IS NULL GROUP BY kind ORDER BY kind"#
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| Ok((Kind::parse(&row.kind)?, row.count))).collect()
}

/// Forgets what was resolved long ago, and what gateways told long ago of segments.
pub(super) async fn remove_old(tx: &mut Tx, resolved_before: Timestamp, told_before: Timestamp) -> Result<()> {
    sqlx::query!("DELETE FROM reconciliation_differences WHERE resolved_at < $1", resolved_before).execute(&mut **tx).await?;
    sqlx::query!("DELETE FROM gateway_segments WHERE told_at < $1", told_before).execute(&mut **tx).await?;
    Ok(())
}
