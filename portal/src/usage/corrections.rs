//! Corrections of usage (SEMANTICS M11): units that an operator adds to a period, or takes off it. Accepted rows and their sums are never changed; a
//! correction is a row of its own, which is read beside them wherever a period's billable units are.

use calendar::Timestamp;
use ids::{CorrectionId, InvoiceId, MeterId, PlanVersionId, SubscriptionId, TenantId};
use rating::Money;
use rust_decimal::Decimal;

use super::{
    correction_store as store,
    figures::{Charge, PeriodUnits},
};
use crate::{
    audit,
    catalog::meter::plural,
    db::Tx,
    error::Result,
    identity::{Actor, Permission},
};

/// What became of a correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The period is open: it is rated with the correction when it is closed.
    OpenPeriod,
    /// A line on the subscription's next invoice.
    NextInvoice,
    /// An invoice of its own, after the subscription was canceled.
    FinalInvoice,
    /// A credit note.
    CreditNote,
    /// The period costs the same.
    NoCharge,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::OpenPeriod, Self::NextInvoice, Self::FinalInvoice, Self::CreditNote, Self::NoCharge];

    /// The name in JSON and in Postgres.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenPeriod => "open_period",
            Self::NextInvoice => "next_invoice",
            Self::FinalInvoice => "final_invoice",
            Self::CreditNote => "credit_note",
            Self::NoCharge => "no_charge",
        }
    }

    /// For people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OpenPeriod => "On the period's own invoice",
            Self::NextInvoice => "A line on the next invoice",
            Self::FinalInvoice => "A final invoice",
            Self::CreditNote => "A credit note",
            Self::NoCharge => "The cost does not change",
        }
    }
}

/// A correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Its id.
    pub id: CorrectionId,
    /// Whose usage.
    pub tenant: TenantId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The plan version that the units are rated under.
    pub plan_version: PlanVersionId,
    /// The start of the period.
    pub period_start: Timestamp,
    /// The meter.
    pub meter: MeterId,
    /// The meter's name.
    pub meter_name: String,
    /// What one unit is called.
    pub unit: String,
    /// Units added; negative if taken off.
    pub units: Decimal,
    /// Why.
    pub reason: String,
    /// What it goes back to: a ticket, a mail.
    pub reference: String,
    /// Who made it: a person's name, or `system`.
    pub actor: String,
    /// The key under which it was made once.
    pub idempotency_key: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What the period cost before.
    pub cost_before: Money,
    /// What it cost with it.
    pub cost_after: Money,
    /// The credit note, if it became one.
    pub credit_note: Option<InvoiceId>,
    /// When.
    pub created_at: Timestamp,
}

impl Correction {
    /// The name of its units: "1 call", "-2 calls".
    pub fn unit_name(&self) -> String {
        if self.units.abs() == Decimal::ONE { self.unit.clone() } else { plural(&self.unit) }
    }
}

/// A correction to be kept.
#[derive(Debug, Clone)]
pub struct NewCorrection {
    /// Its id.
    pub id: CorrectionId,
    /// Whose usage.
    pub tenant: TenantId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The plan version that the units are rated under.
    pub plan_version: PlanVersionId,
    /// The start of the period.
    pub period_start: Timestamp,
    /// The meter.
    pub meter: MeterId,
    /// Units added; negative if taken off.
    pub units: Decimal,
    /// Why.
    pub reason: String,
    /// What it goes back to.
    pub reference: String,
    /// The key under which it is made once.
    pub idempotency_key: String,
    /// What becomes of it.
    pub outcome: Outcome,
    /// What the period cost before.
    pub cost_before: Money,
    /// What it costs with it.
    pub cost_after: Money,
    /// The credit note, if it becomes one.
    pub credit_note: Option<InvoiceId>,
    /// Whether the period is running, so that the use of its quota moves, too.
    pub moves_quota: bool,
}

/// Keeps a correction, in the audit log as well. `billing` decides what becomes of it.
pub async fn keep(tx: &mut Tx, actor: &Actor, new: &NewCorrection, now: Timestamp) -> Result<()> {
    actor.require(Permission::Operate)?;
    let quota_moved = if new.moves_quota { store::move_quota(tx, new).await? } else { Decimal::ZERO };
    store::insert(tx, actor, new, quota_moved, now).await?;
    let entry = audit::Entry {
        tenant: Some(new.tenant),
        action: "usage.corrected",
        target: new.subscription.to_string(),
        before: Some(serde_json::json!({ "cost": new.cost_before })),
        after: Some(serde_json::json!({
            "correction": new.id, "period_start": new.period_start, "meter": new.meter, "units": new.units, "reason": new.reason,
            "reference": new.reference, "outcome": new.outcome.as_str(), "cost": new.cost_after,
        })),
    };
    audit::record(tx, actor, entry, now).await
}

/// Corrections, the newest first. Without a tenant everybody's, which only operators see.
pub async fn list(
    tx: &mut Tx,
    actor: &Actor,
    tenant: Option<TenantId>,
    subscription: Option<SubscriptionId>,
    limit: i64,
    offset: i64,
) -> Result<Vec<Correction>> {
    actor.require(tenant.map_or(Permission::Operate, Permission::View))?;
    store::list(tx, tenant, subscription, limit.clamp(1, 200), offset.max(0)).await
}

/// The corrections of the usage behind a charge, the oldest first, for those who pay for it and for operators.
pub async fn of_charge(tx: &mut Tx, actor: &Actor, charge: &Charge) -> Result<Vec<Correction>> {
    actor.require(Permission::View(charge.tenant))?;
    store::of_charge(tx, charge).await
}

/// The corrections that became a credit note: why it was issued. None where usage that came late made its period cheaper.
pub async fn of_credit_note(tx: &mut Tx, actor: &Actor, tenant: TenantId, note: InvoiceId) -> Result<Vec<Correction>> {
    actor.require(Permission::View(tenant))?;
    store::of_credit_note(tx, tenant, note).await
}

/// The correction that was made under a key.
pub async fn by_key(tx: &mut Tx, actor: &Actor, tenant: TenantId, key: &str) -> Result<Option<Correction>> {
    actor.require(Permission::Operate)?;
    store::by_key(tx, tenant, key).await
}

/// Adds a period's corrections to its billable units.
pub(super) async fn add_to(
    tx: &mut Tx,
    tenant: TenantId,
    subscription: SubscriptionId,
    period_start: Timestamp,
    units: &mut Vec<PeriodUnits>,
) -> Result<()> {
    for corrected in store::sums(tx, tenant, subscription, period_start).await? {
        let known = units.iter_mut().find(|known| known.meter == corrected.meter && known.plan_version == corrected.plan_version);
        match known {
            Some(known) => known.units += corrected.units,
            None => units.push(corrected),
        }
    }
    Ok(())
}
