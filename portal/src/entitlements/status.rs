//! Where a subscription stands with its quotas, for pages.

use calendar::{Period, Timestamp};
use gateway_control::{lease::QuotaSlot, units::Micros};
use ids::{MeterId, NamespaceId, SubscriptionId, TenantId};
use quota::Enforcement;

use super::{exchange::period_from, recount_store, store};
use crate::{db::Tx, error::Result};

/// One quota of a subscription in its running period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaStatus {
    /// What is counted.
    pub meter: MeterId,
    /// The meter's name.
    pub meter_name: String,
    /// What one unit is called, in the singular.
    pub unit: String,
    /// Hard or soft.
    pub enforcement: Enforcement,
    /// What the period allows, with what operators granted on top.
    pub limit: Micros,
    /// What accepted usage adds up to.
    pub used: Micros,
    /// What gateways hold, or spent and have not reported yet.
    pub held: Micros,
    /// The running period.
    pub period: Period,
}

impl QuotaStatus {
    /// What is left by accepted usage; not below zero.
    pub fn remaining(&self) -> Micros {
        Micros((self.limit.0 - self.used.0).max(0))
    }

    /// How much of the limit is used, in whole percent; above 100 when a soft quota is exceeded.
    pub fn percent_used(&self) -> u32 {
        if self.limit.0 <= 0 {
            return 100;
        }
        u32::try_from(self.used.0.saturating_mul(100) / self.limit.0).unwrap_or(u32::MAX)
    }
}

/// The quotas of a subscription's plan version, in the plan's order; empty if it has none. Whoever calls has asked the actor's permission.
pub async fn quota_status(tx: &mut Tx, tenant: TenantId, subscription: SubscriptionId, now: Timestamp) -> Result<Vec<QuotaStatus>> {
    let namespace = NamespaceId::of(tenant);
    let Some(terms) = store::terms(tx, namespace, subscription).await? else { return Ok(Vec::new()) };
    let period = period_from(&terms, now)?;
    let mut quotas = Vec::with_capacity(terms.quotas.len());
    for quota in &terms.quotas {
        let Some(meter) = store::meter(tx, quota.meter).await? else { continue };
        let slot = QuotaSlot { namespace, subscription, meter: quota.meter, period_start: period.from };
        quotas.push(QuotaStatus {
            meter: quota.meter,
            meter_name: meter.name,
            unit: meter.unit,
            enforcement: quota.enforcement,
            limit: Micros(i128::from(quota.limit_microunits) + recount_store::granted_by_operators(tx, &slot).await?.0),
            used: store::used(tx, &slot).await?,
            held: Micros(store::holdings(tx, &slot).await?.iter().map(|holding| holding.outstanding()).sum()),
            period,
        });
    }
    Ok(quotas)
}
