//! The SQL by which ingest finds out what the portal knows of a batch's ids.

use std::collections::{HashMap, HashSet};

use gateway_control::{policy::BillableRule, usage::UsageRow};
use ids::{ApplicationId, MeterId, NamespaceId, PlanVersionId, RouteId, SubscriptionId, Uuid};
use quota::{Enforcement, QuotaLimit};

use super::rollup::is_billable;
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
    /// The meters that plan versions limit hard.
    hard: HashSet<(PlanVersionId, MeterId)>,
}

impl Known {
    pub(super) fn has_subscription(&self, namespace: NamespaceId, subscription: SubscriptionId) -> bool {
        self.subscriptions.contains(&(namespace, subscription))
    }

    /// Whether a row counts; one of an unknown plan version does not.
    pub(super) fn bills(&self, row: &UsageRow) -> bool {
        self.rules.get(&row.key.plan_version).is_some_and(|rule| is_billable(row, rule))
    }

    /// Whether a plan version has a hard quota of a meter.
    pub(super) fn is_hard(&self, version: PlanVersionId, meter: MeterId) -> bool {
        self.hard.contains(&(version, meter))
    }
}

pub(super) async fn known<'a>(tx: &mut Tx, rows: impl Iterator<Item = &'a UsageRow> + Clone) -> Result<Known> {
    let distinct =
        |id: fn(&UsageRow) -> (Uuid, Uuid)| -> (Vec<Uuid>, Vec<Uuid>) { rows.clone().map(id).collect::<HashSet<_>>().into_iter().unzip() };
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
    let routes: HashSet<Uuid> = rows.clone().map(|row| row.key.route.uuid()).collect();
    let routes = sqlx::query_scalar!("SELECT id FROM routes WHERE id = ANY($1)", &routes.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(RouteId::from_uuid)
        .collect();
    let meters: HashSet<Uuid> = rows.clone().map(|row| row.key.meter.uuid()).collect();
    let meters = sqlx::query_scalar!("SELECT id FROM meters WHERE id = ANY($1)", &meters.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(MeterId::from_uuid)
        .collect();
    let versions: HashSet<Uuid> = rows.clone().map(|row| row.key.plan_version.uuid()).collect();
    let versions =
        sqlx::query!("SELECT id, billable, quotas FROM plan_versions WHERE id = ANY($1)", &versions.into_iter().collect::<Vec<_>>())
            .fetch_all(&mut **tx)
            .await?;
    let (mut rules, mut hard) = (HashMap::new(), HashSet::new());
    for version in versions {
        let id = PlanVersionId::from_uuid(version.id);
        rules.insert(id, serde_json::from_value(version.billable)?);
        let quotas: Vec<QuotaLimit> = serde_json::from_value(version.quotas)?;
        hard.extend(quotas.iter().filter(|quota| quota.enforcement == Enforcement::Hard).map(|quota| (id, quota.meter)));
    }
    Ok(Known { subscriptions, applications, routes, meters, rules, hard })
}
