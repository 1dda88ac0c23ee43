//! All SQL of this domain.

use gateway_control::policy::{EntryKind, Generation};
use ids::{NamespaceId, Uuid};
use sqlx::PgConnection;

use super::{
    Position,
    compile::Compiled,
    facts::{ApiKeyFacts, Facts, PlanVersionFacts, RouteFacts, ServiceFacts, SubscriptionFacts},
};
use crate::error::{Error, Result};

/// The key of the advisory lock that the publisher holds: "policy" in ASCII.
const PUBLISHER_LOCK: i64 = 0x70_6f_6c_69_63_79;

/// An entry as the feed sends it: `body` is [`gateway_control::policy::EntryBody`] as JSON text, or `null`.
#[derive(Debug)]
pub struct Line {
    /// The generation of its last change.
    pub generation: i64,
    /// The entry's kind as JSON has it.
    pub kind: String,
    /// The entity.
    pub entity_id: Uuid,
    /// Its body.
    pub body: Option<String>,
}

/// A stretch of entries in the order of their generations, and where the whole stood in the same snapshot of the database.
#[derive(Debug)]
pub struct Page {
    /// The newest generation, and its epoch.
    pub newest: Position,
    /// The entries.
    pub lines: Vec<Line>,
}

/// The next entries after a generation, for a gateway that serves these namespaces (`None` for all). Tombstones of `quiet_through` and before are left
/// out. One statement, and so one snapshot of the database.
pub async fn page_after(
    connection: &mut PgConnection,
    after: Generation,
    quiet_through: Generation,
    namespaces: Option<&[NamespaceId]>,
    limit: i64,
) -> Result<Page> {
    let namespaces: Option<Vec<Uuid>> = namespaces.map(|list| list.iter().map(|namespace| namespace.uuid()).collect());
    let rows = sqlx::query!(
        r#"SELECT s.epoch, s.generation AS newest, e.generation AS "generation?", e.kind AS "kind?", e.entity_id AS "entity_id?", e.body::text AS body
           FROM policy_state s LEFT JOIN LATERAL (
               SELECT p.generation, p.kind, p.entity_id, p.body FROM policy_entries p
               WHERE p.generation > $1 AND (p.body IS NOT NULL OR p.generation > $2)
                 AND ($3::uuid[] IS NULL OR p.namespace_id IS NULL OR p.namespace_id = ANY($3))
               ORDER BY p.generation LIMIT $4
           ) e ON true
           ORDER BY e.generation"#,
        i64_of(after)?,
        i64_of(quiet_through)?,
        namespaces.as_deref(),
        limit,
    )
    .fetch_all(connection)
    .await?;
    let first = rows.first().ok_or_else(|| Error::internal(anyhow::anyhow!("policy_state is empty")))?;
    let newest = Position { epoch: first.epoch, generation: generation_of(first.newest)? };
    let lines = rows
        .into_iter()
        .filter_map(|row| Some(Line { generation: row.generation?, kind: row.kind?, entity_id: row.entity_id?, body: row.body }))
        .collect();
    Ok(Page { newest, lines })
}

/// Where the whole stands.
pub async fn position(connection: &mut PgConnection) -> Result<Position> {
    let row = sqlx::query!("SELECT epoch, generation FROM policy_state").fetch_one(connection).await?;
    Ok(Position { epoch: row.epoch, generation: generation_of(row.generation)? })
}

/// Becomes the publisher, unless another session is.
pub(super) async fn try_lead(connection: &mut PgConnection) -> Result<bool> {
    let leads = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "leads!""#, PUBLISHER_LOCK).fetch_one(connection).await?;
    Ok(leads)
}

pub(super) async fn has_changes(connection: &mut PgConnection) -> Result<bool> {
    let some = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM policy_outbox) AS "some!""#).fetch_one(connection).await?;
    Ok(some)
}

/// Where the whole stands, held until the transaction ends: whoever publishes without the advisory lock waits here.
pub(super) async fn position_for_update(connection: &mut PgConnection) -> Result<Position> {
    let row = sqlx::query!("SELECT epoch, generation FROM policy_state FOR UPDATE").fetch_one(connection).await?;
    Ok(Position { epoch: row.epoch, generation: generation_of(row.generation)? })
}

/// Takes committed rows out of the outbox. Rows of transactions that are still open are not seen, whatever their number, and come later.
pub(super) async fn take_changes(connection: &mut PgConnection, limit: i64) -> Result<Vec<(String, Uuid)>> {
    let rows = sqlx::query!(
        "DELETE FROM policy_outbox WHERE id IN (SELECT id FROM policy_outbox ORDER BY id LIMIT $1) RETURNING kind, entity_id",
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.kind, row.entity_id)).collect())
}

/// What stands published for these things, as `(entity, has a body, body)`.
pub(super) async fn published(
    connection: &mut PgConnection,
    kind: EntryKind,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, Option<serde_json::Value>)>> {
    let rows = sqlx::query!("SELECT entity_id, body FROM policy_entries WHERE kind = $1 AND entity_id = ANY($2)", kind_name(kind), ids)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.entity_id, row.body)).collect())
}

/// One entry to be written.
#[derive(Debug)]
pub(super) struct NewEntry {
    pub kind: EntryKind,
    pub entity_id: Uuid,
    pub generation: Generation,
    pub compiled: Compiled,
}

pub(super) async fn write(connection: &mut PgConnection, entries: &[NewEntry], newest: Generation) -> Result<()> {
    let kinds: Vec<&str> = entries.iter().map(|entry| kind_name(entry.kind)).collect();
    let ids: Vec<Uuid> = entries.iter().map(|entry| entry.entity_id).collect();
    let generations = entries.iter().map(|entry| i64_of(entry.generation)).collect::<Result<Vec<_>>>()?;
    let namespaces: Vec<Option<Uuid>> = entries.iter().map(|entry| entry.compiled.namespace.map(NamespaceId::uuid)).collect();
    let bodies = entries
        .iter()
        .map(|entry| entry.compiled.body.as_ref().map(serde_json::to_value).transpose())
        .collect::<serde_json::Result<Vec<_>>>()?;
    // A tombstone of something that is gone from its table keeps the namespace, so that the same gateways learn of it.
    sqlx::query!(
        "INSERT INTO policy_entries (kind, entity_id, generation, namespace_id, body)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::uuid[], $5::jsonb[])
         ON CONFLICT (kind, entity_id) DO UPDATE
         SET generation = excluded.generation, body = excluded.body, namespace_id = coalesce(excluded.namespace_id, policy_entries.namespace_id)",
        &kinds as &[&str],
        &ids,
        &generations,
        &namespaces as &[Option<Uuid>],
        &bodies as &[Option<serde_json::Value>],
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("UPDATE policy_state SET generation = $1", i64_of(newest)?).execute(connection).await?;
    Ok(())
}

/// Asks for a thing to be published again.
pub(super) async fn touch(connection: &mut PgConnection, kind: EntryKind, id: Uuid) -> Result<()> {
    sqlx::query!("INSERT INTO policy_outbox (kind, entity_id) VALUES ($1, $2)", kind_name(kind), id).execute(connection).await?;
    Ok(())
}

/// The present facts of these things. What is not there any more is left out.
pub(super) async fn read_facts(connection: &mut PgConnection, kind: EntryKind, ids: &[Uuid]) -> Result<Vec<(Uuid, Facts)>> {
    match kind {
        EntryKind::Settings => Ok(Vec::new()),
        EntryKind::Service => services(connection, ids).await,
        EntryKind::Route => routes(connection, ids).await,
        EntryKind::PlanVersion => plan_versions(connection, ids).await,
        EntryKind::Subscription => subscriptions(connection, ids).await,
        EntryKind::ApiKey => api_keys(connection, ids).await,
    }
}

async fn services(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, Facts)>> {
    let rows = sqlx::query_as!(
        ServiceFacts,
        "SELECT s.id, s.name, s.upstream_url, s.sandbox_url, s.connect_timeout_ms, s.first_byte_timeout_ms, s.options,
                p.published_at AS product_published_at
         FROM services s JOIN api_products p ON p.id = s.product_id WHERE s.id = ANY($1)",
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, Facts::Service(row))).collect())
}

async fn routes(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, Facts)>> {
    let rows = sqlx::query_as!(
        RouteFacts,
        "SELECT r.id, r.product_id, p.slug AS product_slug, r.service_id, r.method, r.path, r.rate_group, r.meters, r.options, r.retired_at,
                p.published_at AS product_published_at
         FROM routes r JOIN api_products p ON p.id = r.product_id WHERE r.id = ANY($1)",
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, Facts::Route(row))).collect())
}

async fn plan_versions(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, Facts)>> {
    let rows = sqlx::query_as!(
        PlanVersionFacts,
        r#"SELECT v.id, l.slug AS plan_slug, v.rate_limits, v.quotas, v.cadence, v.billable, v.published_at,
                  ARRAY(SELECT product_id FROM plan_version_products WHERE plan_version_id = v.id) AS "products!"
           FROM plan_versions v JOIN plans l ON l.id = v.plan_id WHERE v.id = ANY($1)"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, Facts::PlanVersion(row))).collect())
}

async fn subscriptions(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, Facts)>> {
    let rows = sqlx::query_as!(
        SubscriptionFacts,
        r#"SELECT tenant_id, id, application_id, plan_version_id, state, anchor_date::text AS "anchor_date!", time_zone
           FROM subscriptions WHERE id = ANY($1)"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, Facts::Subscription(row))).collect())
}

async fn api_keys(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<(Uuid, Facts)>> {
    let rows = sqlx::query_as!(
        ApiKeyFacts,
        "SELECT k.tenant_id, k.id, k.application_id, k.mode, k.digest, k.expires_at, k.revoked_at, a.archived_at AS application_archived_at
         FROM api_keys k JOIN applications a ON a.tenant_id = k.tenant_id AND a.id = k.application_id WHERE k.id = ANY($1)",
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, Facts::ApiKey(row))).collect())
}

/// The name of a kind in Postgres and in JSON.
pub(super) const fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Settings => "settings",
        EntryKind::Service => "service",
        EntryKind::Route => "route",
        EntryKind::PlanVersion => "plan_version",
        EntryKind::Subscription => "subscription",
        EntryKind::ApiKey => "api_key",
    }
}

fn i64_of(generation: Generation) -> Result<i64> {
    i64::try_from(generation.0).map_err(Error::internal)
}

fn generation_of(value: i64) -> Result<Generation> {
    u64::try_from(value).map(Generation).map_err(Error::internal)
}
