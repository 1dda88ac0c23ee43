//! The SQL by which ingest adds a batch's sums to the rollups.

use std::collections::BTreeMap;

use calendar::Timestamp;
use ids::Uuid;
use rust_decimal::Decimal;

use super::{
    check::units,
    ingest_store::{CHUNK_ROWS, bigint, mode_name},
    rollup::{RollupKey, Sums},
};
use crate::{
    db::Tx,
    error::{Error, Result},
};

/// The same statement for both widths of bucket.
macro_rules! add_sums {
    ($name:ident, $table:tt) => {
        pub(super) async fn $name(tx: &mut Tx, sums: &BTreeMap<RollupKey, Sums>) -> Result<()> {
            let sums: Vec<_> = sums.iter().collect();
            for chunk in sums.chunks(CHUNK_ROWS) {
                let ids = |id: fn(&RollupKey) -> Uuid| chunk.iter().map(|(key, _)| id(key)).collect::<Vec<_>>();
                let times = |at: fn(&RollupKey) -> Timestamp| chunk.iter().map(|(key, _)| at(key)).collect::<Vec<_>>();
                let quantities = |of: fn(&Sums) -> i128| chunk.iter().map(|(_, sums)| quantity(of(sums))).collect::<Vec<_>>();
                let statuses =
                    chunk.iter().map(|(key, _)| i16::try_from(key.status)).collect::<Result<Vec<_>, _>>().map_err(Error::internal)?;
                let modes: Vec<&str> = chunk.iter().map(|(key, _)| mode_name(key.mode)).collect();
                let billables: Vec<bool> = chunk.iter().map(|(key, _)| key.billable).collect();
                let counts = chunk.iter().map(|(_, sums)| bigint(sums.count)).collect::<Result<Vec<_>>>()?;
                let last_ats: Vec<Timestamp> = chunk.iter().map(|(_, sums)| sums.last_at).collect();
                sqlx::query!(
                    "INSERT INTO " + $table + " AS t (namespace_id, subscription_id, plan_version_id, period_start, bucket, application_id, api_key_id,
                         route_id, meter_id, status, mode, billable, count, sum, min, max, last, last_at)
                     SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::uuid[], $7::uuid[],
                         $8::uuid[], $9::uuid[], $10::smallint[], $11::text[], $12::boolean[], $13::bigint[], $14::numeric[], $15::numeric[],
                         $16::numeric[], $17::numeric[], $18::timestamptz[])
                     ON CONFLICT (namespace_id, subscription_id, bucket, meter_id, route_id, api_key_id, status, mode, billable, plan_version_id,
                                  period_start, application_id)
                     DO UPDATE SET count = t.count + excluded.count, sum = t.sum + excluded.sum,
                         min = least(t.min, excluded.min), max = greatest(t.max, excluded.max),
                         last = CASE WHEN excluded.last_at >= t.last_at THEN excluded.last ELSE t.last END,
                         last_at = greatest(t.last_at, excluded.last_at)",
                    &ids(|key| key.namespace.uuid()),
                    &ids(|key| key.subscription.uuid()),
                    &ids(|key| key.plan_version.uuid()),
                    &times(|key| key.period_start) as &[Timestamp],
                    &times(|key| key.bucket) as &[Timestamp],
                    &ids(|key| key.application.uuid()),
                    &ids(|key| key.api_key.uuid()),
                    &ids(|key| key.route.uuid()),
                    &ids(|key| key.meter.uuid()),
                    &statuses,
                    &modes as &[&str],
                    &billables,
                    &counts,
                    &quantities(|sums| sums.sum),
                    &quantities(|sums| sums.min),
                    &quantities(|sums| sums.max),
                    &quantities(|sums| sums.last),
                    &last_ats as &[Timestamp],
                )
                .execute(&mut **tx)
                .await?;
            }
            Ok(())
        }
    };
}
add_sums!(add_quarter_hours, "usage_rollup_15m");
add_sums!(add_days, "usage_rollup_day");

pub(super) fn quantity(micros: i128) -> Decimal {
    units(gateway_control::units::Micros(micros))
}
