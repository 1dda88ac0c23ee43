//! What a key may do on a route: resolved from the policy once, and kept by each core for the calls that follow.
//!
//! A grant holds while the index has the version it was resolved under; after a change of policy it is resolved again at its next call. Limiters and
//! quota cells come from the shared registries, so what was used of them outlives both.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use calendar::{Period, Timestamp};
use gateway_control::{
    credential::KeyDigest,
    headers::{APPLICATION, MODE, NAMESPACE, PLAN, SUBSCRIPTION},
    lease::QuotaSlot,
    policy::SubscriptionState,
    usage::Mode,
};
use http::{HeaderName, HeaderValue, header};
use ids::RouteId;
use quota::{Enforcement, Fields, Limiter, MICROUNITS_PER_UNIT, NANOS_PER_SECOND, QuotaLimit, RateLimit, Scope};

use super::{respond::Failure, said::RATE_LIMIT_POLICY, standing::Standing};
use crate::{
    core::{Core, FastMap},
    limits::{places::NamespaceCalls, quota::QuotaCell, rate::Wanted},
    policy::{
        entries::{CompiledKey, CompiledPlan, CompiledRoute, CompiledSubscription},
        index::Index,
        services::Upstream,
    },
    upstream::{Group, Patience},
};

/// The most grants that a core keeps; beyond it, it forgets all and resolves again.
const MAX_GRANTS: usize = 65_536;

/// What a key may do on a route.
#[derive(Debug)]
pub struct Grant {
    /// The key.
    pub key: CompiledKey,
    /// The route.
    pub route: Arc<CompiledRoute>,
    /// The subscription that pays.
    pub subscription: CompiledSubscription,
    /// The plan version it is on.
    pub plan: Arc<CompiledPlan>,
    /// Where calls go.
    pub upstream: Arc<Upstream>,
    /// How long they wait there.
    pub patience: Patience,
    /// Its addresses, as this core uses them.
    pub group: Rc<Group>,
    /// Rate limits that apply.
    pub limits: Vec<AppliedLimit>,
    /// `RateLimit-Policy`; nothing where there is no limit.
    pub limits_policy: Standing,
    /// What the upstream is told with each call: where it is called, and who calls.
    pub told: Standing,
    /// The open calls of the key's namespace on this core.
    pub calls: NamespaceCalls,
    /// The index under which this was last found to hold.
    version: Cell<u64>,
    /// Its rules.
    rules: Cell<u64>,
    period: RefCell<Rc<PeriodQuotas>>,
}

/// A rate limit and its shared state.
#[derive(Debug)]
pub struct AppliedLimit {
    /// The limit.
    pub limit: RateLimit,
    /// Its name in the `RateLimit` fields.
    pub name: String,
    /// What is used of it.
    pub limiter: Arc<Limiter>,
}

/// The quotas of one period.
#[derive(Debug)]
pub struct PeriodQuotas {
    /// The quota period.
    pub period: Period,
    /// Hard quotas that a call on the route spends from.
    pub hard: Vec<HardQuota>,
}

/// A hard quota that a call spends from.
#[derive(Debug)]
pub struct HardQuota {
    /// The limit.
    pub limit: QuotaLimit,
    /// Its name in the `RateLimit` fields.
    pub name: String,
    /// What is held of it.
    pub cell: Arc<QuotaCell>,
    /// The place of the meter in the route.
    pub meter: usize,
    /// What a call reserves, in micro-units.
    pub reserve: i64,
}

/// What calls are charged by, as the policy has it at one moment.
#[derive(Debug)]
pub struct Terms {
    subscription: CompiledSubscription,
    plan: Arc<CompiledPlan>,
    /// Absent where the route is no more.
    route: Option<Arc<CompiledRoute>>,
}

/// A core's grants.
#[derive(Debug, Default)]
pub struct Grants(RefCell<FastMap<u64, Rc<Grant>>>);

impl Grants {
    /// What a key may do on the route, if that was found before and nothing has changed since: one look-up then answers whose key it is, too.
    pub fn known(&self, index: &Index, digest: &KeyDigest, route: &Arc<CompiledRoute>, now: Timestamp) -> Option<Rc<Grant>> {
        let grants = self.0.borrow();
        let grant = grants.get(&place(digest, route.id))?;
        let same = grant.version.get() == index.version && grant.key.digest == *digest && Arc::ptr_eq(&grant.route, route);
        (same && !grant.key.expired(now)).then(|| grant.clone())
    }

    /// What the key may do on the route.
    ///
    /// # Errors
    /// When nothing: the failure says why.
    pub fn get(
        &self,
        core: &Core,
        index: &Index,
        key: &CompiledKey,
        route: &Arc<CompiledRoute>,
        now: Timestamp,
    ) -> Result<Rc<Grant>, Failure> {
        let place = place(&key.digest, route.id);
        if let Some(grant) = self.0.borrow().get(&place).filter(|grant| grant.is_current(index, key, route)) {
            return Ok(grant.clone());
        }
        let grant = Rc::new(Grant::resolve(core, index, key, route, now)?);
        let mut grants = self.0.borrow_mut();
        if grants.len() >= MAX_GRANTS {
            grants.clear();
        }
        grants.insert(place, grant.clone());
        Ok(grant)
    }
}

/// Where a grant is kept. Two that would stand in one place, which callers cannot bring about, replace each other.
fn place(digest: &KeyDigest, route: RouteId) -> u64 {
    let [first, ..] = digest.0.as_chunks::<8>().0 else { return 0 };
    u64::from_le_bytes(*first) ^ route.uuid().as_u64_pair().1
}

impl Grant {
    /// Looks everything up that a call needs.
    fn resolve(core: &Core, index: &Index, key: &CompiledKey, route: &Arc<CompiledRoute>, now: Timestamp) -> Result<Self, Failure> {
        let (subscription, plan) = covering(index, key, route).ok_or(Failure::NotInPlan)?;
        match subscription.state {
            SubscriptionState::Active => (),
            SubscriptionState::Paused => return Err(Failure::Paused { plan: plan.plan.clone() }),
            SubscriptionState::PaymentOverdue => return Err(Failure::PaymentOverdue { plan: plan.plan.clone() }),
        }
        let service = index.services.get(&route.service).ok_or_else(|| Failure::internal("the route's service is not known"))?;
        let upstream = match key.mode {
            Mode::Live => service.live.clone(),
            Mode::Test => service.sandbox.clone().ok_or(Failure::NoSandbox)?,
        };
        let limits = applied_limits(core, key, subscription, plan, route)?;
        let period = Rc::new(PeriodQuotas::at(core, key, subscription, plan, route, now));
        let limits_policy = limits_policy(&limits, plan, &period);
        let told = told(&upstream, key, subscription, plan)?;
        Ok(Self {
            key: key.clone(),
            route: route.clone(),
            subscription: subscription.clone(),
            plan: plan.clone(),
            patience: route.patience(&upstream),
            group: core.pool.group(&upstream.group),
            upstream,
            limits,
            limits_policy,
            told,
            calls: core.places.of(key.namespace),
            version: Cell::new(index.version),
            rules: Cell::new(index.rules),
            period: RefCell::new(period),
        })
    }

    /// Whether this is what a new look-up would find. Other keys may have changed meanwhile, and rules that do not concern this one.
    fn is_current(&self, index: &Index, key: &CompiledKey, route: &Arc<CompiledRoute>) -> bool {
        if self.key != *key {
            return false;
        }
        if self.rules.get() == index.rules {
            self.version.set(index.version);
            return true;
        }
        let holds = Arc::ptr_eq(&self.route, route)
            && index.services.get(&route.service).is_some_and(|service| match key.mode {
                Mode::Live => Arc::ptr_eq(&service.live, &self.upstream),
                Mode::Test => service.sandbox.as_ref().is_some_and(|sandbox| Arc::ptr_eq(sandbox, &self.upstream)),
            })
            && covering(index, key, route)
                .is_some_and(|(subscription, plan)| *subscription == self.subscription && Arc::ptr_eq(plan, &self.plan));
        if holds {
            self.version.set(index.version);
            self.rules.set(index.rules);
        }
        holds
    }

    /// The quotas of the period that holds an instant.
    pub fn quotas_at(&self, core: &Core, now: Timestamp) -> Rc<PeriodQuotas> {
        let mut period = self.period.borrow_mut();
        if !period.period.contains(now) {
            *period = Rc::new(PeriodQuotas::at(core, &self.key, &self.subscription, &self.plan, &self.route, now));
        }
        period.clone()
    }

    /// Whether an exchange that was admitted under this grant may go on under another policy.
    pub fn still_holds(&self, index: &Index, digest: &KeyDigest, now: Timestamp) -> bool {
        let Some(key) = index.keys.get(digest) else { return false };
        let same = key.id == self.key.id && key.application == self.key.application && !key.expired(now);
        let covered = covering(index, key, &self.route).is_some_and(|(subscription, _)| subscription.state == SubscriptionState::Active);
        same && covered && index.services.contains_key(&self.route.service)
    }
}

impl Grant {
    /// By what a new call like this one would be charged, if that is not what was `seen` last: to begin with, what this grant was made of.
    pub fn changed_terms(&self, index: &Index, key: &CompiledKey, seen: Option<&Terms>) -> Option<Terms> {
        let (subscription, plan) = covering(index, key, &self.route)?;
        let route = index.router.by_id(self.route.id);
        let (of, on, by) = match seen {
            Some(terms) => (&terms.subscription, &terms.plan, terms.route.as_ref()),
            None => (&self.subscription, &self.plan, Some(&self.route)),
        };
        let same_route = match (by, route) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        let same = of == subscription && Arc::ptr_eq(on, plan) && same_route;
        (!same).then(|| Terms { subscription: subscription.clone(), plan: plan.clone(), route: route.cloned() })
    }
}

/// The subscription of the key's application whose plan covers the route's product. At most one is live (Q8); should there be more, one that lets
/// calls through is taken first.
fn covering<'a>(index: &'a Index, key: &CompiledKey, route: &CompiledRoute) -> Option<(&'a CompiledSubscription, &'a Arc<CompiledPlan>)> {
    let covers = |subscription: &'a CompiledSubscription| {
        let plan = index.plans.get(&subscription.plan_version).filter(|plan| plan.products.contains(&route.product))?;
        (subscription.namespace == key.namespace).then_some((subscription, plan))
    };
    let mut found = index.subscriptions_of(key.application).filter_map(covers);
    let first = found.next()?;
    if first.0.state == SubscriptionState::Active {
        return Some(first);
    }
    Some(found.find(|(subscription, _)| subscription.state == SubscriptionState::Active).unwrap_or(first))
}

fn applied_limits(
    core: &Core,
    key: &CompiledKey,
    subscription: &CompiledSubscription,
    plan: &CompiledPlan,
    route: &CompiledRoute,
) -> Result<Vec<AppliedLimit>, Failure> {
    let mut applied = Vec::new();
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
        let place = plan.rate_limits[..at].iter().filter(alike).count();
        let wanted = Wanted { limit, whose, place };
        let limiter =
            core.shared.rate_limits.get(&wanted, core.shared.monotonic_ns()).map_err(|error| Failure::internal(error.to_string()))?;
        let name = match &limit.route_group {
            Some(group) => format!("{}:{group}", limit.scope.as_str()),
            None => limit.scope.as_str().to_owned(),
        };
        applied.push(AppliedLimit { limit: limit.clone(), name, limiter });
    }
    Ok(applied)
}

impl PeriodQuotas {
    fn at(
        core: &Core,
        key: &CompiledKey,
        subscription: &CompiledSubscription,
        plan: &CompiledPlan,
        route: &CompiledRoute,
        now: Timestamp,
    ) -> Self {
        let period = subscription.period_at(plan.cadence, now);
        let mut hard = Vec::new();
        // Test calls are never billed, so they use up nothing.
        let limits = plan.quotas.iter().filter(|limit| limit.enforcement == Enforcement::Hard && key.mode == Mode::Live);
        for limit in limits {
            let Some(at) = route.meters.iter().position(|meter| meter.meter == limit.meter) else { continue };
            let slot = QuotaSlot { namespace: key.namespace, subscription: subscription.id, meter: limit.meter, period_start: period.from };
            let cell = core.shared.quotas.get(slot, period.to, limit.limit_microunits);
            cell.next_period_end.get_or_init(|| subscription.period_at(plan.cadence, period.to).to);
            let reserve = route.meters[at].max_micros;
            cell.note_reserve(reserve);
            hard.push(HardQuota { limit: *limit, name: quota_name(plan, limit), cell, meter: at, reserve });
        }
        Self { period, hard }
    }
}

/// A quota's name in the `RateLimit` fields: `quota`, or with the meter's id where a plan has several.
fn quota_name(plan: &CompiledPlan, limit: &QuotaLimit) -> String {
    if plan.quotas.len() == 1 { "quota".to_owned() } else { format!("quota:{}", limit.meter) }
}

fn limits_policy(limits: &[AppliedLimit], plan: &CompiledPlan, period: &PeriodQuotas) -> Standing {
    let mut fields = Fields::new();
    for applied in limits {
        fields.policy(&applied.name, applied.limit.requests.into(), applied.limit.per_seconds.into());
    }
    let window = period.period.to.since(period.period.from).as_secs();
    for limit in &plan.quotas {
        let units = u64::try_from(limit.limit_microunits / MICROUNITS_PER_UNIT).unwrap_or(0);
        fields.policy(&quota_name(plan, limit), units, window);
    }
    let value = Some(fields).filter(|fields| !fields.is_empty()).and_then(|fields| HeaderValue::from_bytes(fields.as_bytes()).ok());
    Standing::new(value.into_iter().map(|value| (RATE_LIMIT_POLICY, value)).collect())
}

impl Grant {
    /// `RateLimit`: what is left of the tightest rate limit and of each hard quota. Empty where there is no limit.
    pub fn limit_fields(&self, core: &Core, now: Timestamp) -> Fields {
        let mut fields = Fields::new();
        let now_ns = core.monotonic_ns();
        let states = self.limits.iter().map(|applied| (applied, applied.limiter.status(now_ns)));
        if let Some((applied, status)) = states.min_by_key(|(_, status)| status.remaining) {
            fields.limit(&applied.name, status.remaining.into(), status.reset_after_ns.div_ceil(NANOS_PER_SECOND));
        }
        let quotas = self.quotas_at(core, now);
        for quota in &quotas.hard {
            let remaining = (quota.cell.limit() - quota.cell.used()).max(0) / MICROUNITS_PER_UNIT;
            fields.limit(&quota.name, u64::try_from(remaining).unwrap_or(0), quotas.period.to.since(now).as_secs());
        }
        fields
    }
}

fn told(upstream: &Upstream, key: &CompiledKey, subscription: &CompiledSubscription, plan: &CompiledPlan) -> Result<Standing, Failure> {
    let value = |text: String| HeaderValue::try_from(text).map_err(|error| Failure::internal(error.to_string()));
    let mode = match key.mode {
        Mode::Live => "live",
        Mode::Test => "test",
    };
    Ok(Standing::new(vec![
        (header::HOST, value(upstream.authority.to_string())?),
        (HeaderName::from_static(NAMESPACE), value(key.namespace.to_string())?),
        (HeaderName::from_static(APPLICATION), value(key.application.to_string())?),
        (HeaderName::from_static(SUBSCRIPTION), value(subscription.id.to_string())?),
        (HeaderName::from_static(PLAN), value(plan.plan.clone())?),
        (HeaderName::from_static(MODE), HeaderValue::from_static(mode)),
    ]))
}
