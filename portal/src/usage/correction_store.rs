//! The SQL of corrections. Every statement names the tenant, but for the operators' list of all.

use calendar::Timestamp;
use ids::{CorrectionId, InvoiceId, MeterId, PlanVersionId, SubscriptionId, TenantId, Uuid};
use rating::{Currency, Money};
use rust_decimal::Decimal;

use super::{
    corrections::{Correction, NewCorrection, Outcome},
    figures::{Charge, PeriodUnits},
};
use crate::{
    audit::Who,
    db::Tx,
    error::{Error, Result},
    identity::Actor,
};

/// Keeps it, with how far it moved its quota.
pub(super) async fn insert(tx: &mut Tx, actor: &Actor, new: &NewCorrection, quota_moved: Decimal, now: Timestamp) -> Result<()> {
    let who = Who::from(actor);
    let currency = new.cost_after.currency();
    sqlx::query!(
        "INSERT INTO usage_corrections (namespace_id, id, subscription_id, plan_version_id, period_start, meter_id, units, reason, reference, actor_kind,
             actor_id, idempotency_key, outcome, currency, cost_before, cost_after, credit_note_id, created_at, quota_moved)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        new.tenant.uuid(),
        new.id.uuid(),
        new.subscription.uuid(),
        new.plan_version.uuid(),
        new.period_start,
        new.meter.uuid(),
        new.units,
        new.reason,
        new.reference,
        who.kind,
        who.id,
        new.idempotency_key,
        new.outcome.as_str(),
        currency.code(),
        new.cost_before.amount(),
        new.cost_after.amount(),
        new.credit_note.map(InvoiceId::uuid),
        now,
        quota_moved,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The running period's quota moves with the correction, and never below nothing. Answers by how many units.
pub(super) async fn move_quota(tx: &mut Tx, new: &NewCorrection) -> Result<Decimal> {
    let used = sqlx::query_scalar!(
        "INSERT INTO quota_ledger AS l (namespace_id, subscription_id, meter_id, period_start) VALUES ($1, $2, $3, $4)
         ON CONFLICT (namespace_id, subscription_id, meter_id, period_start) DO UPDATE SET used = l.used RETURNING used",
        new.tenant.uuid(),
        new.subscription.uuid(),
        new.meter.uuid(),
        new.period_start,
    )
    .fetch_one(&mut **tx)
    .await?;
    let moved = (used + new.units).max(Decimal::ZERO) - used;
    sqlx::query!(
        "UPDATE quota_ledger SET used = used + $5 WHERE namespace_id = $1 AND subscription_id = $2 AND meter_id = $3 AND period_start = $4",
        new.tenant.uuid(),
        new.subscription.uuid(),
        new.meter.uuid(),
        new.period_start,
        moved,
    )
    .execute(&mut **tx)
    .await?;
    Ok(moved)
}

pub(super) async fn sums(tx: &mut Tx, tenant: TenantId, subscription: SubscriptionId, period_start: Timestamp) -> Result<Vec<PeriodUnits>> {
    let rows = sqlx::query!(
        r#"SELECT meter_id, plan_version_id, sum(units) AS "units!" FROM usage_corrections
           WHERE namespace_id = $1 AND subscription_id = $2 AND period_start = $3 GROUP BY meter_id, plan_version_id ORDER BY meter_id, plan_version_id"#,
        tenant.uuid(),
        subscription.uuid(),
        period_start,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| PeriodUnits {
            meter: MeterId::from_uuid(row.meter_id),
            plan_version: PlanVersionId::from_uuid(row.plan_version_id),
            units: row.units.normalize(),
        })
        .collect())
}

struct Row {
    namespace_id: Uuid,
    id: Uuid,
    subscription_id: Uuid,
    plan_version_id: Uuid,
    period_start: Timestamp,
    meter_id: Uuid,
    meter_name: String,
    unit: String,
    units: Decimal,
    reason: String,
    reference: String,
    actor: String,
    idempotency_key: String,
    outcome: String,
    currency: String,
    cost_before: Decimal,
    cost_after: Decimal,
    credit_note_id: Option<Uuid>,
    created_at: Timestamp,
}

impl Row {
    fn into_correction(self) -> Result<Correction> {
        let currency: Currency = self.currency.parse().map_err(Error::internal)?;
        let money = |amount| Money::new(amount, currency).map_err(Error::internal);
        let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == self.outcome);
        Ok(Correction {
            id: CorrectionId::from_uuid(self.id),
            tenant: TenantId::from_uuid(self.namespace_id),
            subscription: SubscriptionId::from_uuid(self.subscription_id),
            plan_version: PlanVersionId::from_uuid(self.plan_version_id),
            period_start: self.period_start,
            meter: MeterId::from_uuid(self.meter_id),
            meter_name: self.meter_name,
            unit: self.unit,
            units: self.units.normalize(),
            reason: self.reason,
            reference: self.reference,
            actor: self.actor,
            idempotency_key: self.idempotency_key,
            outcome: outcome.ok_or_else(|| Error::internal(anyhow::anyhow!("`{}` is no outcome", self.outcome)))?,
            cost_before: money(self.cost_before)?.round(),
            cost_after: money(self.cost_after)?.round(),
            credit_note: self.credit_note_id.map(InvoiceId::from_uuid),
            created_at: self.created_at,
        })
    }
}

macro_rules! corrections {
    ($sql:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            Row,
            r#"SELECT c.namespace_id, c.id, c.subscription_id, c.plan_version_id, c.period_start, c.meter_id, m.name AS meter_name, m.unit, c.units, c.reason,
                   c.reference, coalesce(u.name, o.name, c.actor_kind) AS "actor!", c.idempotency_key, c.outcome, c.currency, c.cost_before, c.cost_after,
                   c.credit_note_id, c.created_at
               FROM usage_corrections c JOIN meters m ON m.id = c.meter_id
               LEFT JOIN users u ON u.id = c.actor_id
               LEFT JOIN api_tokens t ON t.id = c.actor_id LEFT JOIN users o ON o.id = t.user_id "# + $sql
            $(, $argument)*
        )
    };
}

pub(super) async fn list(
    tx: &mut Tx,
    tenant: Option<TenantId>,
    subscription: Option<SubscriptionId>,
    limit: i64,
    offset: i64,
) -> Result<Vec<Correction>> {
    let rows = corrections!(
        "WHERE ($1::uuid IS NULL OR c.namespace_id = $1) AND ($2::uuid IS NULL OR c.subscription_id = $2)
         ORDER BY c.created_at DESC, c.id DESC LIMIT $3 OFFSET $4",
        tenant.map(TenantId::uuid),
        subscription.map(SubscriptionId::uuid),
        limit,
        offset
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Row::into_correction).collect()
}

/// The most corrections that one charge shows.
const MAX_OF_CHARGE: i64 = 200;

pub(super) async fn of_charge(tx: &mut Tx, charge: &Charge) -> Result<Vec<Correction>> {
    let rows = corrections!(
        "WHERE c.namespace_id = $1 AND c.subscription_id = $2 AND c.period_start = $3 AND c.meter_id = $4 ORDER BY c.created_at, c.id LIMIT $5",
        charge.tenant.uuid(),
        charge.subscription.uuid(),
        charge.period_start,
        charge.meter.uuid(),
        MAX_OF_CHARGE
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Row::into_correction).collect()
}

/// Those that became a credit note.
pub(super) async fn of_credit_note(tx: &mut Tx, tenant: TenantId, note: InvoiceId) -> Result<Vec<Correction>> {
    let rows = corrections!("WHERE c.namespace_id = $1 AND c.credit_note_id = $2 ORDER BY c.created_at, c.id", tenant.uuid(), note.uuid())
        .fetch_all(&mut **tx)
        .await?;
    rows.into_iter().map(Row::into_correction).collect()
}

pub(super) async fn by_key(tx: &mut Tx, tenant: TenantId, key: &str) -> Result<Option<Correction>> {
    let row = corrections!("WHERE c.namespace_id = $1 AND c.idempotency_key = $2", tenant.uuid(), key).fetch_optional(&mut **tx).await?;
    row.map(Row::into_correction).transpose()
}
