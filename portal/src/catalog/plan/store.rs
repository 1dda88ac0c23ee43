//! All SQL of plans.

use std::collections::{BTreeMap, BTreeSet};

use calendar::Timestamp;
use ids::{ApiProductId, MeterId, PlanId, PlanVersionId, RateCardId};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::{NewPlan, Plan, PlanVersion, VersionTerms};
use crate::{
    catalog::rate_card::RateCard,
    db::{Tx, on_constraint},
    error::{Error, Result},
};

struct PlanRow {
    id: Uuid,
    slug: String,
    name: String,
    summary: String,
    position: i32,
    created_at: Timestamp,
    archived_at: Option<Timestamp>,
}

impl From<PlanRow> for Plan {
    fn from(row: PlanRow) -> Self {
        let PlanRow { id, slug, name, summary, position, created_at, archived_at } = row;
        Self { id: PlanId::from_uuid(id), slug, name, summary, position, created_at, archived_at }
    }
}

pub(super) async fn plans(tx: &mut Tx) -> Result<Vec<Plan>> {
    let rows = sqlx::query_as!(
        PlanRow,
        "SELECT id, slug, name, summary, position, created_at, archived_at FROM plans ORDER BY archived_at IS NOT NULL, position, slug"
    );
    Ok(rows.fetch_all(&mut **tx).await?.into_iter().map(Plan::from).collect())
}

pub(super) async fn plan_by_slug(tx: &mut Tx, slug: &str) -> Result<Option<Plan>> {
    let row =
        sqlx::query_as!(PlanRow, "SELECT id, slug, name, summary, position, created_at, archived_at FROM plans WHERE slug = $1", slug);
    Ok(row.fetch_optional(&mut **tx).await?.map(Plan::from))
}

/// Versions of a plan are numbered under its lock.
pub(super) async fn lock_plan(tx: &mut Tx, id: PlanId) -> Result<Option<Plan>> {
    let row = sqlx::query_as!(
        PlanRow,
        "SELECT id, slug, name, summary, position, created_at, archived_at FROM plans WHERE id = $1 FOR UPDATE",
        id.uuid()
    );
    Ok(row.fetch_optional(&mut **tx).await?.map(Plan::from))
}

pub(super) async fn insert_plan(tx: &mut Tx, plan: &Plan) -> Result<()> {
    sqlx::query!(
        "INSERT INTO plans (id, slug, name, summary, position, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        plan.id.uuid(),
        plan.slug,
        plan.name,
        plan.summary,
        plan.position,
        plan.created_at,
    )
    .execute(&mut **tx)
    .await
    .map_err(on_constraint("plans_slug_key", || Error::invalid("slug", "Another plan has this slug; choose another one.")))?;
    Ok(())
}

pub(super) async fn update_plan(tx: &mut Tx, id: PlanId, input: &NewPlan) -> Result<bool> {
    let done = sqlx::query!(
        "UPDATE plans SET name = $2, summary = $3, position = $4 WHERE id = $1",
        id.uuid(),
        input.name,
        input.summary,
        input.position
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn set_archived(tx: &mut Tx, id: PlanId, at: Option<Timestamp>) -> Result<bool> {
    let done =
        sqlx::query!("UPDATE plans SET archived_at = $2 WHERE id = $1", id.uuid(), at as Option<Timestamp>).execute(&mut **tx).await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn published_version_ids(tx: &mut Tx, slug: Option<&str>) -> Result<Vec<PlanVersionId>> {
    let ids = sqlx::query_scalar!(
        "SELECT DISTINCT ON (p.id) v.id FROM plan_versions v JOIN plans p ON p.id = v.plan_id
         WHERE v.published_at IS NOT NULL AND p.archived_at IS NULL AND ($1::text IS NULL OR p.slug = $1)
         ORDER BY p.id, v.version DESC",
        slug,
    );
    Ok(ids.fetch_all(&mut **tx).await?.into_iter().map(PlanVersionId::from_uuid).collect())
}

pub(super) async fn version_ids_of(tx: &mut Tx, plan: PlanId) -> Result<Vec<PlanVersionId>> {
    let ids = sqlx::query_scalar!("SELECT id FROM plan_versions WHERE plan_id = $1", plan.uuid());
    Ok(ids.fetch_all(&mut **tx).await?.into_iter().map(PlanVersionId::from_uuid).collect())
}

/// Versions with all their parts, in the order of plans and versions.
pub(super) async fn versions(tx: &mut Tx, ids: &[PlanVersionId]) -> Result<Vec<PlanVersion>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let mut products = products_of(tx, &ids).await?;
    let mut cards = cards_of(tx, &ids).await?;
    let rows = sqlx::query!(
        r#"SELECT v.id, v.version, v.currency, v.cadence, v.published_at, v.created_at,
                  v.rate_limits AS "rate_limits: Json<Vec<quota::RateLimit>>", v.quotas AS "quotas: Json<Vec<quota::QuotaLimit>>",
                  v.billable AS "billable: Json<gateway_control::policy::BillableRule>",
                  p.id AS plan_id, p.slug, p.name, p.summary, p.position, p.created_at AS plan_created_at, p.archived_at
           FROM plan_versions v JOIN plans p ON p.id = v.plan_id
           WHERE v.id = ANY($1) ORDER BY p.position, p.slug, v.version"#,
        &ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(PlanVersion {
                id: PlanVersionId::from_uuid(row.id),
                plan: Plan {
                    id: PlanId::from_uuid(row.plan_id),
                    slug: row.slug,
                    name: row.name,
                    summary: row.summary,
                    position: row.position,
                    created_at: row.plan_created_at,
                    archived_at: row.archived_at,
                },
                version: row.version,
                currency: row.currency.parse().map_err(Error::internal)?,
                cadence: row.cadence.parse().map_err(Error::internal)?,
                rate_limits: row.rate_limits.0,
                quotas: row.quotas.0,
                billable: row.billable.0,
                products: products.remove(&row.id).unwrap_or_default(),
                rate_cards: cards.remove(&row.id).unwrap_or_default(),
                published_at: row.published_at,
                created_at: row.created_at,
            })
        })
        .collect()
}

async fn products_of(tx: &mut Tx, versions: &[Uuid]) -> Result<BTreeMap<Uuid, Vec<ApiProductId>>> {
    let rows = sqlx::query!(
        "SELECT c.plan_version_id, c.product_id FROM plan_version_products c JOIN api_products p ON p.id = c.product_id
         WHERE c.plan_version_id = ANY($1) ORDER BY lower(p.name), p.id",
        versions,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut products: BTreeMap<Uuid, Vec<ApiProductId>> = BTreeMap::new();
    for row in rows {
        products.entry(row.plan_version_id).or_default().push(ApiProductId::from_uuid(row.product_id));
    }
    Ok(products)
}

async fn cards_of(tx: &mut Tx, versions: &[Uuid]) -> Result<BTreeMap<Uuid, Vec<RateCard>>> {
    let rows = sqlx::query!(
        "SELECT id, plan_version_id, name, meter_id, price, terms FROM rate_cards WHERE plan_version_id = ANY($1) ORDER BY position",
        versions,
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut cards: BTreeMap<Uuid, Vec<RateCard>> = BTreeMap::new();
    for row in rows {
        cards.entry(row.plan_version_id).or_default().push(RateCard {
            id: RateCardId::from_uuid(row.id),
            name: row.name,
            meter: row.meter_id.map(MeterId::from_uuid),
            terms: join_terms(row.price, row.terms)?,
        });
    }
    Ok(cards)
}

/// `terms` holds what [`rating::RateCard`] has beside the price.
fn join_terms(price: Value, mut terms: Value) -> Result<rating::RateCard> {
    if let Some(terms) = terms.as_object_mut() {
        terms.insert("price".to_owned(), price);
    }
    Ok(serde_json::from_value(terms)?)
}

/// The inverse of [`join_terms`].
fn split_terms(card: &rating::RateCard) -> Result<(Value, Value)> {
    let mut terms = serde_json::to_value(card)?;
    let price = terms.as_object_mut().and_then(|terms| terms.remove("price")).unwrap_or_else(|| json!(null));
    Ok((price, terms))
}

/// Numbers the version after the plan's last one. Whoever calls holds the plan's lock.
pub(super) async fn insert_version(tx: &mut Tx, id: PlanVersionId, plan: PlanId, terms: &VersionTerms, now: Timestamp) -> Result<()> {
    let draft = sqlx::query_scalar!("SELECT version FROM plan_versions WHERE plan_id = $1 AND published_at IS NULL", plan.uuid());
    if let Some(version) = draft.fetch_optional(&mut **tx).await? {
        return Err(Error::conflict(format!("Version {version} of this plan is a draft still: edit, publish or delete it first.")));
    }
    sqlx::query!(
        "INSERT INTO plan_versions (id, plan_id, version, currency, cadence, rate_limits, quotas, billable, created_at)
         VALUES ($1, $2, (SELECT coalesce(max(version), 0) + 1 FROM plan_versions WHERE plan_id = $2), $3, $4, $5, $6, $7, $8)",
        id.uuid(),
        plan.uuid(),
        terms.currency.code(),
        terms.cadence.as_str(),
        serde_json::to_value(&terms.rate_limits)?,
        serde_json::to_value(&terms.quotas)?,
        serde_json::to_value(&terms.billable)?,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn update_version(tx: &mut Tx, id: PlanVersionId, terms: &VersionTerms) -> Result<()> {
    sqlx::query!(
        "UPDATE plan_versions SET currency = $2, cadence = $3, rate_limits = $4, quotas = $5, billable = $6
         WHERE id = $1 AND published_at IS NULL",
        id.uuid(),
        terms.currency.code(),
        terms.cadence.as_str(),
        serde_json::to_value(&terms.rate_limits)?,
        serde_json::to_value(&terms.quotas)?,
        serde_json::to_value(&terms.billable)?,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_parts(tx: &mut Tx, id: PlanVersionId, cards: &[RateCard], products: &[ApiProductId]) -> Result<()> {
    for (position, card) in (0_i32..).zip(cards) {
        let (price, terms) = split_terms(&card.terms)?;
        sqlx::query!(
            "INSERT INTO rate_cards (id, plan_version_id, position, name, meter_id, price, terms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            card.id.uuid(),
            id.uuid(),
            position,
            card.name,
            card.meter.map(MeterId::uuid),
            price,
            terms,
        )
        .execute(&mut **tx)
        .await?;
    }
    let products: Vec<Uuid> = products.iter().map(|product| product.uuid()).collect();
    sqlx::query!("INSERT INTO plan_version_products (plan_version_id, product_id) SELECT $1, unnest($2::uuid[])", id.uuid(), &products)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn delete_parts(tx: &mut Tx, id: PlanVersionId) -> Result<()> {
    sqlx::query!("DELETE FROM rate_cards WHERE plan_version_id = $1", id.uuid()).execute(&mut **tx).await?;
    sqlx::query!("DELETE FROM plan_version_products WHERE plan_version_id = $1", id.uuid()).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn delete_version(tx: &mut Tx, id: PlanVersionId) -> Result<()> {
    sqlx::query!("DELETE FROM plan_versions WHERE id = $1 AND published_at IS NULL", id.uuid()).execute(&mut **tx).await?;
    Ok(())
}

/// Locks a version; the inner value is when it was published.
pub(super) async fn lock_version(tx: &mut Tx, id: PlanVersionId) -> Result<Option<Option<Timestamp>>> {
    let row = sqlx::query!("SELECT published_at FROM plan_versions WHERE id = $1 FOR UPDATE", id.uuid());
    Ok(row.fetch_optional(&mut **tx).await?.map(|row| row.published_at))
}

pub(super) async fn publish_version(tx: &mut Tx, id: PlanVersionId, now: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE plan_versions SET published_at = $2 WHERE id = $1 AND published_at IS NULL", id.uuid(), now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The names of the products of a version that are drafts.
pub(super) async fn unpublished_products(tx: &mut Tx, id: PlanVersionId) -> Result<Vec<String>> {
    let names = sqlx::query_scalar!(
        "SELECT p.name FROM plan_version_products c JOIN api_products p ON p.id = c.product_id
         WHERE c.plan_version_id = $1 AND p.published_at IS NULL ORDER BY lower(p.name)",
        id.uuid(),
    );
    Ok(names.fetch_all(&mut **tx).await?)
}

pub(super) async fn known_products(tx: &mut Tx, products: &[ApiProductId]) -> Result<BTreeSet<ApiProductId>> {
    let products: Vec<Uuid> = products.iter().map(|product| product.uuid()).collect();
    let ids = sqlx::query_scalar!("SELECT id FROM api_products WHERE id = ANY($1)", &products);
    Ok(ids.fetch_all(&mut **tx).await?.into_iter().map(ApiProductId::from_uuid).collect())
}

pub(super) async fn known_meters(tx: &mut Tx) -> Result<BTreeSet<MeterId>> {
    let ids = sqlx::query_scalar!("SELECT id FROM meters");
    Ok(ids.fetch_all(&mut **tx).await?.into_iter().map(MeterId::from_uuid).collect())
}
