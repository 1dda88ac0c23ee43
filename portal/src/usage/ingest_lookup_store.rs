//! The SQL by which ingest finds out what the portal knows of a batch's ids.

use std::collections::{HashMap, HashSet};

use gateway_control::{policy::BillableRule, usage::UsageRow};
use ids::{ApplicationId, MeterId, NamespaceId, PlanVersionId, RouteId, SubscriptionId, Uuid};

use crate::{db::Tx, error::Result};

/// What the portal knows of the ids that a batch names.
#[derive(Debug)]
pub(super) struct Known {
    subscriptions: HashSet<(NamespaceId, SubscriptionId)>,
    pub applications: HashSet<(NamespaceId, ApplicationId)>,
    pub routes: HashSet<RouteId>,
    pub meters: HashSet<MeterId>,
    /// The billable rule of each plan version.
    pub rules: HashMap<PlanVersionId, BillableRule>,
}

impl Known {
    pub(super) fn has_subscription(&self, namespace: NamespaceId, subscription: SubscriptionId) -> bool {
        self.subscriptions.contains(&(namespace, subscription))
    }
}

pub(super) async fn known(tx: &mut Tx, rows: &[UsageRow]) -> Result<Known> {
    let distinct =
        |id: fn(&UsageRow) -> (Uuid, Uuid)| -> (Vec<Uuid>, Vec<Uuid>) { rows.iter().map(id).collect::<HashSet<_>>().into_iter().unzip() };
    let (tenants, ids) = distinct(|row| (row.key.namespace.uuid(), row.key.subscription.uuid()));
    let subscriptions = sqlx::query!(
        "SELECT tenant_id, id FROM subscriptions WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        &tenants,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(|row| (NamespaceId::from_uuid(row.tenant_id), SubscriptionId::from_uuid(row.id)))
    .collect();
    let (tenants, ids) = distinct(|row| (row.key.namespace.uuid(), row.key.application.uuid()));
    let applications = sqlx::query!(
        "SELECT tenant_id, id FROM applications WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))",
        &tenants,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(|row| (NamespaceId::from_uuid(row.tenant_id), ApplicationId::from_uuid(row.id)))
    .collect();
    let routes: HashSet<Uuid> = rows.iter().map(|row| row.key.route.uuid()).collect();
    let routes = sqlx::query_scalar!("SELECT id FROM routes WHERE id = ANY($1)", &routes.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(RouteId::from_uuid)
        .collect();
    let meters: HashSet<Uuid> = rows.iter().map(|row| row.key.meter.uuid()).collect();
    let meters = sqlx::query_scalar!("SELECT id FROM meters WHERE id = ANY($1)", &meters.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(MeterId::from_uuid)
        .collect();
    let rules = rules(tx, rows).await?;
    Ok(Known { subscriptions, applications, routes, meters, rules })
}

async fn rules(tx: &mut Tx, rows: &[UsageRow]) -> Result<HashMap<PlanVersionId, BillableRule>> {
    let versions: HashSet<Uuid> = rows.iter().map(|row| row.key.plan_version.uuid()).collect();
    let rows = sqlx::query!("SELECT id, billable FROM plan_versions WHERE id = ANY($1)", &versions.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(|row| Ok((PlanVersionId::from_uuid(row.id), serde_json::from_value(row.billable)?))).collect()
}
