//! All SQL of meters.

use ids::MeterId;

use super::{Aggregation, Meter};
use crate::{
    db::{Tx, on_constraint},
    error::{Error, Result},
};

struct Row {
    id: uuid::Uuid,
    slug: String,
    name: String,
    unit: String,
    aggregation: String,
    created_at: calendar::Timestamp,
}

impl TryFrom<Row> for Meter {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let aggregation: Aggregation = row.aggregation.parse().map_err(|reason: String| Error::internal(anyhow::anyhow!(reason)))?;
        Ok(Self { id: MeterId::from_uuid(row.id), slug: row.slug, name: row.name, unit: row.unit, aggregation, created_at: row.created_at })
    }
}

pub(super) async fn meters(tx: &mut Tx) -> Result<Vec<Meter>> {
    let rows =
        sqlx::query_as!(Row, "SELECT id, slug, name, unit, aggregation, created_at FROM meters ORDER BY slug").fetch_all(&mut **tx).await?;
    rows.into_iter().map(Meter::try_from).collect()
}

pub(super) async fn meter(tx: &mut Tx, id: MeterId) -> Result<Option<Meter>> {
    let row = sqlx::query_as!(Row, "SELECT id, slug, name, unit, aggregation, created_at FROM meters WHERE id = $1", id.uuid());
    row.fetch_optional(&mut **tx).await?.map(Meter::try_from).transpose()
}

pub(super) async fn meter_by_slug(tx: &mut Tx, slug: &str) -> Result<Option<Meter>> {
    let row = sqlx::query_as!(Row, "SELECT id, slug, name, unit, aggregation, created_at FROM meters WHERE slug = $1", slug);
    row.fetch_optional(&mut **tx).await?.map(Meter::try_from).transpose()
}

pub(super) async fn insert(tx: &mut Tx, meter: &Meter) -> Result<()> {
    sqlx::query!(
        "INSERT INTO meters (id, slug, name, unit, aggregation, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        meter.id.uuid(),
        meter.slug,
        meter.name,
        meter.unit,
        meter.aggregation.as_str(),
        meter.created_at,
    )
    .execute(&mut **tx)
    .await
    .map_err(on_constraint("meters_slug_key", || Error::invalid("slug", "Another meter has this slug; choose another one.")))?;
    Ok(())
}

pub(super) async fn insert_unless_there(tx: &mut Tx, meter: &Meter) -> Result<()> {
    sqlx::query!(
        "INSERT INTO meters (id, slug, name, unit, aggregation, created_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (slug) DO NOTHING",
        meter.id.uuid(),
        meter.slug,
        meter.name,
        meter.unit,
        meter.aggregation.as_str(),
        meter.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
