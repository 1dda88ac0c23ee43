//! The SQL of merged histograms.

use calendar::Timestamp;
use gateway_control::usage::LatencyRow;
use ids::{ApiProductId, ApplicationId, NamespaceId, PlanId, RouteId, SubscriptionId, Uuid};

use super::{
    latency::{Cover, Histogram, LatencyKey, row, unpack_rows},
    query::Query,
};
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// The most rows of the release before that are merged at once.
const UNMERGED_AT_ONCE: i64 = 20_000;
/// How many histograms one statement writes.
const CHUNK_ROWS: usize = 5000;

/// Takes the oldest pieces out of those that wait.
pub(super) async fn take_pending(tx: &mut Tx, at_most: usize) -> Result<Vec<Vec<LatencyRow>>> {
    let pieces = sqlx::query_scalar!(
        "DELETE FROM usage_latency_pending WHERE id IN (SELECT id FROM usage_latency_pending ORDER BY id LIMIT $1) RETURNING histograms",
        i64::try_from(at_most).map_err(Error::internal)?
    )
    .fetch_all(&mut **tx)
    .await?;
    pieces.iter().map(|bytes| unpack_rows(bytes)).collect()
}

/// Takes rows that portals of the release before have written.
pub(super) async fn take_unmerged(tx: &mut Tx) -> Result<Vec<LatencyRow>> {
    let rows = sqlx::query!(
        "DELETE FROM usage_latency WHERE (tableoid, ctid) IN (SELECT tableoid, ctid FROM usage_latency LIMIT $1)
         RETURNING namespace_id, subscription_id, route_id, minute, histogram",
        UNMERGED_AT_ONCE
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|it| Ok(row(it.namespace_id, it.subscription_id, it.route_id, it.minute, serde_json::from_value(it.histogram)?)))
        .collect()
}

/// The same statements for both widths of bucket. The lock of histograms is held, so that nobody else changes what is read here.
macro_rules! merge {
    ($name:ident, $table:tt) => {
        pub(super) async fn $name(tx: &mut Tx, merged: impl IntoIterator<Item = (LatencyKey, Histogram)>) -> Result<()> {
            let mut merged: Vec<(LatencyKey, Histogram)> = merged.into_iter().collect();
            for chunk in merged.chunks_mut(CHUNK_ROWS) {
                let ids = |id: fn(&LatencyKey) -> Uuid| chunk.iter().map(|(key, _)| id(key)).collect::<Vec<_>>();
                let (namespaces, subscriptions) = (ids(|key| key.namespace.uuid()), ids(|key| key.subscription.uuid()));
                let (buckets, routes): (Vec<Timestamp>, _) =
                    (chunk.iter().map(|(key, _)| key.bucket).collect(), ids(|key| key.route.uuid()));
                let known = sqlx::query!(
                    "SELECT t.namespace_id, t.subscription_id, t.bucket, t.route_id, t.histogram FROM "
                        + $table
                        + " t
                     JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[]) u (n, s, b, r)
                     ON t.namespace_id = u.n AND t.subscription_id = u.s AND t.bucket = u.b AND t.route_id = u.r",
                    &namespaces,
                    &subscriptions,
                    &buckets as &[Timestamp],
                    &routes,
                )
                .fetch_all(&mut **tx)
                .await?;
                for row in known {
                    let key = LatencyKey {
                        namespace: NamespaceId::from_uuid(row.namespace_id),
                        subscription: SubscriptionId::from_uuid(row.subscription_id),
                        bucket: row.bucket,
                        route: RouteId::from_uuid(row.route_id),
                    };
                    if let Ok(at) = chunk.binary_search_by(|(other, _)| other.cmp(&key)) {
                        chunk[at].1.add_packed(&row.histogram)?;
                    }
                }
                let histograms: Vec<Vec<u8>> = chunk.iter().map(|(_, histogram)| histogram.pack()).collect();
                sqlx::query!(
                    "INSERT INTO "
                        + $table
                        + " (namespace_id, subscription_id, bucket, route_id, histogram)
                     SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[], $5::bytea[])
                     ON CONFLICT (namespace_id, subscription_id, bucket, route_id) DO UPDATE SET histogram = excluded.histogram",
                    &namespaces,
                    &subscriptions,
                    &buckets as &[Timestamp],
                    &routes,
                    &histograms,
                )
                .execute(&mut **tx)
                .await?;
            }
            Ok(())
        }
    };
}
merge!(merge_hours, "usage_latency_hour");
merge!(merge_days, "usage_latency_day");

/// The merged histogram of a question, in rising order of buckets.
pub(super) async fn histogram(tx: &mut Tx, query: &Query, cover: Cover) -> Result<Vec<(u16, u64)>> {
    let histograms = sqlx::query_scalar!(
        r#"SELECT l.histogram AS "histogram!"
           FROM subscriptions s
           CROSS JOIN LATERAL (
               SELECT d.route_id, d.histogram FROM usage_latency_day d
               WHERE d.namespace_id = s.tenant_id AND d.subscription_id = s.id AND d.bucket >= $8 AND d.bucket < $9
               UNION ALL
               SELECT h.route_id, h.histogram FROM usage_latency_hour h
               WHERE h.namespace_id = s.tenant_id AND h.subscription_id = s.id AND h.bucket >= $2 AND h.bucket < least($8, $3)
               UNION ALL
               SELECT h.route_id, h.histogram FROM usage_latency_hour h
               WHERE h.namespace_id = s.tenant_id AND h.subscription_id = s.id AND h.bucket >= greatest($9, $2) AND h.bucket < $3) l
           WHERE s.tenant_id = $1
             AND ($4::uuid IS NULL OR l.route_id IN (SELECT id FROM routes WHERE product_id = $4))
             AND ($5::uuid IS NULL OR s.application_id = $5)
             AND ($6::uuid IS NULL OR s.plan_version_id IN (SELECT id FROM plan_versions WHERE plan_id = $6))
             AND ($7::uuid IS NULL OR s.id = $7)"#,
        query.tenant.uuid(),
        cover.from,
        cover.to,
        query.filter.product.map(ApiProductId::uuid),
        query.filter.application.map(ApplicationId::uuid),
        query.filter.plan.map(PlanId::uuid),
        query.filter.subscription.map(SubscriptionId::uuid),
        cover.days_from,
        cover.days_to,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut sum = Histogram::default();
    for histogram in &histograms {
        sum.add_packed(histogram)?;
    }
    Ok(sum.into_pairs())
}
