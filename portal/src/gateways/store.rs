//! All SQL of this domain.

use std::collections::HashMap;

use calendar::Timestamp;
use gateway_control::{credential::KeyDigest, status::GatewayStatus};
use ids::{GatewayId, JournalId, NamespaceId, Uuid};

use super::{Authenticated, Gateway, Instance};
use crate::{db::Tx, error::Result};

#[derive(Debug)]
struct Row {
    id: Uuid,
    name: String,
    hint: String,
    namespaces: Option<Vec<Uuid>>,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
    previous_until: Option<Timestamp>,
}

impl Row {
    fn into_gateway(self, instances: Vec<Instance>) -> Gateway {
        Gateway {
            id: GatewayId::from_uuid(self.id),
            name: self.name,
            hint: self.hint,
            namespaces: self.namespaces.map(namespaces),
            created_at: self.created_at,
            revoked_at: self.revoked_at,
            previous_until: self.previous_until,
            instances,
        }
    }
}

fn namespaces(uuids: Vec<Uuid>) -> Vec<NamespaceId> {
    uuids.into_iter().map(NamespaceId::from_uuid).collect()
}

fn uuids(namespaces: &[NamespaceId]) -> Vec<Uuid> {
    namespaces.iter().map(|namespace| namespace.uuid()).collect()
}

pub(super) async fn insert(tx: &mut Tx, gateway: &Gateway, digest: &KeyDigest) -> Result<(), sqlx::Error> {
    let namespaces = gateway.namespaces.as_deref().map(uuids);
    sqlx::query!(
        "INSERT INTO gateways (id, name, digest, hint, namespaces, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        gateway.id.uuid(),
        gateway.name,
        &digest.0[..],
        gateway.hint,
        namespaces.as_deref(),
        gateway.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn first_unknown_namespace(tx: &mut Tx, namespaces: &[NamespaceId]) -> Result<Option<NamespaceId>> {
    let unknown = sqlx::query_scalar!(
        r#"SELECT n.id AS "id!" FROM unnest($1::uuid[]) n (id)
           WHERE NOT EXISTS (SELECT 1 FROM tenants t WHERE t.id = n.id) LIMIT 1"#,
        &uuids(namespaces)
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(unknown.map(NamespaceId::from_uuid))
}

pub(super) async fn list(tx: &mut Tx) -> Result<Vec<Gateway>> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT id, name, hint, namespaces, created_at, revoked_at, previous_until
         FROM gateways ORDER BY revoked_at IS NOT NULL, lower(name), id LIMIT 1000"
    )
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut instances = instances(tx, &ids).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let own = instances.remove(&row.id).unwrap_or_default();
            row.into_gateway(own)
        })
        .collect())
}

pub(super) async fn get(tx: &mut Tx, id: GatewayId) -> Result<Option<Gateway>> {
    let row = sqlx::query_as!(
        Row,
        "SELECT id, name, hint, namespaces, created_at, revoked_at, previous_until FROM gateways WHERE id = $1",
        id.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    let mut instances = instances(tx, &[id.uuid()]).await?;
    Ok(row.map(|row| {
        let own = instances.remove(&row.id).unwrap_or_default();
        row.into_gateway(own)
    }))
}

async fn instances(tx: &mut Tx, gateways: &[Uuid]) -> Result<HashMap<Uuid, Vec<Instance>>> {
    let rows = sqlx::query!(
        "SELECT gateway_id, journal_id, bound_at, last_seen_at, status FROM gateway_journals
         WHERE gateway_id = ANY($1) ORDER BY last_seen_at DESC NULLS LAST, journal_id",
        gateways
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut instances: HashMap<Uuid, Vec<Instance>> = HashMap::new();
    for row in rows {
        instances.entry(row.gateway_id).or_default().push(Instance {
            journal: JournalId::from_uuid(row.journal_id),
            bound_at: row.bound_at,
            last_seen_at: row.last_seen_at,
            // A status of a format that this version cannot read is shown as none.
            status: row.status.and_then(|status| serde_json::from_value::<GatewayStatus>(status).ok()),
        });
    }
    Ok(instances)
}

pub(super) async fn namespaces_by_name(tx: &mut Tx, names: &[&str]) -> Result<HashMap<String, NamespaceId>> {
    let rows = sqlx::query!("SELECT id, namespace FROM tenants WHERE namespace = ANY($1)", names as &[&str]).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.namespace, NamespaceId::from_uuid(row.id))).collect())
}

pub(super) async fn namespace_names(tx: &mut Tx, namespaces: &[NamespaceId]) -> Result<Vec<String>> {
    let names = sqlx::query_scalar!("SELECT namespace FROM tenants WHERE id = ANY($1) ORDER BY namespace", &uuids(namespaces))
        .fetch_all(&mut **tx)
        .await?;
    Ok(names)
}

pub(super) async fn get_for_update(tx: &mut Tx, id: GatewayId) -> Result<Option<Gateway>> {
    sqlx::query!("SELECT id FROM gateways WHERE id = $1 FOR UPDATE", id.uuid()).fetch_optional(&mut **tx).await?;
    get(tx, id).await
}

pub(super) async fn rotate(tx: &mut Tx, id: GatewayId, digest: &KeyDigest, hint: &str, previous_until: Option<Timestamp>) -> Result<()> {
    sqlx::query!(
        "UPDATE gateways SET digest = $2, hint = $3, previous_until = $4,
             previous_digest = CASE WHEN $4::timestamptz IS NULL THEN NULL ELSE digest END
         WHERE id = $1",
        id.uuid(),
        &digest.0[..],
        hint,
        previous_until,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn revoke(tx: &mut Tx, id: GatewayId, now: Timestamp) -> Result<()> {
    sqlx::query!("UPDATE gateways SET revoked_at = $2, previous_digest = NULL, previous_until = NULL WHERE id = $1", id.uuid(), now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn by_digest(tx: &mut Tx, digest: &KeyDigest, now: Timestamp) -> Result<Option<Authenticated>> {
    let row = sqlx::query!(
        "SELECT id, namespaces FROM gateways
         WHERE revoked_at IS NULL AND (digest = $1 OR (previous_digest = $1 AND previous_until > $2))",
        &digest.0[..],
        now,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Authenticated { id: GatewayId::from_uuid(row.id), digest: *digest, namespaces: row.namespaces.map(namespaces) }))
}

pub(super) async fn journal_owner(tx: &mut Tx, journal: JournalId) -> Result<Option<GatewayId>> {
    let owner = sqlx::query_scalar!("SELECT gateway_id FROM gateway_journals WHERE journal_id = $1", journal.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(owner.map(GatewayId::from_uuid))
}

pub(super) async fn count_journals(tx: &mut Tx, gateway: GatewayId) -> Result<i64> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM gateway_journals WHERE gateway_id = $1"#, gateway.uuid())
        .fetch_one(&mut **tx)
        .await?;
    Ok(count)
}

pub(super) async fn insert_journal(tx: &mut Tx, journal: JournalId, gateway: GatewayId, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "INSERT INTO gateway_journals (journal_id, gateway_id, bound_at) VALUES ($1, $2, $3) ON CONFLICT (journal_id) DO NOTHING",
        journal.uuid(),
        gateway.uuid(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn set_status(tx: &mut Tx, status: &GatewayStatus, now: Timestamp) -> Result<()> {
    sqlx::query!(
        "UPDATE gateway_journals SET status = $2, last_seen_at = $3 WHERE journal_id = $1",
        status.journal_id.uuid(),
        serde_json::to_value(status)?,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
