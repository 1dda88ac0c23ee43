//! The rate limits and hard quotas that apply to a grant's calls, and what the caller is told of them.

use std::sync::Arc;

use calendar::{Period, Timestamp};
use gateway_control::{lease::QuotaSlot, usage::Mode};
use http::HeaderValue;
use quota::{Enforcement, Fields, Limiter, MICROUNITS_PER_UNIT, NANOS_PER_SECOND, RateLimit, Scope, WhenUnreachable};
use smallvec::SmallVec;

use super::Grant;
use crate::{
    core::Core,
    limits::{quota::QuotaCell, rate::Wanted},
    pipeline::respond::Failure,
    policy::entries::{CompiledKey, CompiledPlan, CompiledRoute, CompiledSubscription},
};

/// A rate limit and its shared state.
#[derive(Debug)]
pub struct AppliedLimit {
    /// The place of the limit in the plan.
    pub place: usize,
    /// What is used of it.
    pub limiter: Arc<Limiter>,
}

/// The quotas of one period.
#[derive(Debug)]
pub struct PeriodQuotas {
    /// The quota period.
    pub period: Period,
    /// Hard quotas that a call on the route spends from.
    pub hard: SmallVec<[HardQuota; 1]>,
}

/// A hard quota that a call spends from.
#[derive(Debug)]
pub struct HardQuota {
    /// What is held of it.
    pub cell: Arc<QuotaCell>,
    /// The place of the limit in the plan.
    pub place: usize,
    /// What to do without the portal.
    pub when_unreachable: WhenUnreachable,
    /// The place of the meter in the route.
    pub meter: usize,
    /// What a call reserves, in micro-units.
    pub reserve: i64,
}

/// The rate limits of a plan that apply to calls of a key on a route.
///
/// # Errors
/// When one makes no sense.
pub(super) fn applied_limits(
    core: &Core,
    key: &CompiledKey,
    subscription: &CompiledSubscription,
    plan: &CompiledPlan,
    route: &CompiledRoute,
) -> Result<SmallVec<[AppliedLimit; 2]>, Failure> {
    let mut applied = SmallVec::new();
    for (at, limit) in plan.rate_limits.iter().enumerate() {
        if limit.route_group.is_some() && limit.route_group != route.group {
            continue;
        }
        let whose = match limit.scope {
            Scope::Namespace => key.namespace.uuid(),
            Scope::Subscription => subscription.id.uuid(),
            Scope::Application => key.application.uuid(),
            Scope::ApiKey => key.id.uuid(),
        };
        let alike = |other: &&RateLimit| {
            (other.scope, other.per_seconds, &other.route_group) == (limit.scope, limit.per_seconds, &limit.route_group)
        };
        let wanted = Wanted { limit, whose, place: plan.rate_limits[..at].iter().filter(alike).count() };
        let limiter =
            core.shared.rate_limits.get(&wanted, core.shared.monotonic_ns()).map_err(|error| Failure::internal(error.to_string()))?;
        applied.push(AppliedLimit { place: at, limiter });
    }
    Ok(applied)
}

impl PeriodQuotas {
    pub(super) fn at(
        core: &Core,
        key: &CompiledKey,
        subscription: &CompiledSubscription,
        plan: &CompiledPlan,
        route: &CompiledRoute,
        now: Timestamp,
    ) -> Self {
        let period = subscription.period_at(plan.cadence, now);
        let mut hard = SmallVec::new();
        // Test calls are never billed, so they use up nothing.
        let limits = plan.quotas.iter().enumerate().filter(|(_, limit)| limit.enforcement == Enforcement::Hard && key.mode == Mode::Live);
        for (place, limit) in limits {
            let Some(at) = route.meters.iter().position(|meter| meter.meter == limit.meter) else { continue };
            let slot = QuotaSlot { namespace: key.namespace, subscription: subscription.id, meter: limit.meter, period_start: period.from };
            let cell = core.shared.quotas.get(slot, period.to, limit.limit_microunits);
            cell.next_period_end.get_or_init(|| subscription.period_at(plan.cadence, period.to).to);
            let reserve = route.meters[at].max_micros;
            cell.note_reserve(reserve);
            hard.push(HardQuota { cell, place, when_unreachable: limit.when_unreachable, meter: at, reserve });
        }
        Self { period, hard }
    }
}

/// `RateLimit-Policy`: all limits that apply.
pub(super) fn limits_policy(limits: &[AppliedLimit], plan: &CompiledPlan, period: Period) -> Option<HeaderValue> {
    let mut fields = Fields::new();
    for AppliedLimit { place, .. } in limits {
        let limit = &plan.rate_limits[*place];
        fields.policy(&plan.rate_limit_names[*place], limit.requests.into(), limit.per_seconds.into());
    }
    let window = period.to.since(period.from).as_secs();
    for (limit, name) in plan.quotas.iter().zip(&plan.quota_names) {
        let units = u64::try_from(limit.limit_microunits / MICROUNITS_PER_UNIT).unwrap_or(0);
        fields.policy(name, units, window);
    }
    Some(fields).filter(|fields| !fields.is_empty()).and_then(|fields| HeaderValue::from_bytes(fields.as_bytes()).ok())
}

impl Grant {
    /// `RateLimit`: what is left of the tightest rate limit and of each hard quota. Empty where there is no limit.
    pub fn limit_fields(&self, core: &Core, now: Timestamp) -> Fields {
        let mut fields = Fields::new();
        let now_ns = core.monotonic_ns();
        let states = self.limits.iter().map(|applied| (applied, applied.limiter.status(now_ns)));
        if let Some((applied, status)) = states.min_by_key(|(_, status)| status.remaining) {
            fields.limit(
                &self.plan.rate_limit_names[applied.place],
                status.remaining.into(),
                status.reset_after_ns.div_ceil(NANOS_PER_SECOND),
            );
        }
        let quotas = self.quotas_at(core, now);
        for quota in &quotas.hard {
            let remaining = (quota.cell.limit() - quota.cell.used()).max(0) / MICROUNITS_PER_UNIT;
            fields.limit(&self.plan.quota_names[quota.place], u64::try_from(remaining).unwrap_or(0), quotas.period.to.since(now).as_secs());
        }
        fields
    }
}
