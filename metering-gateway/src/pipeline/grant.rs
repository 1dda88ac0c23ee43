//! What a key may do on a route: resolved from the policy once, and kept by each core for the calls that follow.
//!
//! A grant holds while the index has the version it was resolved under; after a change of policy it is resolved again at its next call. Limiters and
//! quota cells come from the shared registries, so what was used of them outlives both.

mod limits;

use std::{
    cell::{Cell, RefCell},
    hint::black_box,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use calendar::{Period, Timestamp};
use gateway_control::{
    credential::KeyDigest,
    headers::{APPLICATION, MODE, NAMESPACE, PLAN, SUBSCRIPTION},
    policy::SubscriptionState,
    usage::Mode,
};
use http::{HeaderName, HeaderValue, header};
use ids::RouteId;
pub use limits::{AppliedLimit, HardQuota, PeriodQuotas};
use limits::{applied_limits, limits_policy};
use smallvec::SmallVec;

use super::{authenticate::api_key::Shown, respond::Failure, said::RATE_LIMIT_POLICY, standing::Standing};
use crate::{
    core::{Core, FastMap},
    limits::places::NamespaceCalls,
    policy::{
        entries::{CompiledKey, CompiledPlan, CompiledRoute, CompiledSubscription},
        index::Index,
        services::Upstream,
    },
    upstream::{Group, Patience},
};

/// The most grants that a core keeps; beyond it, it forgets all and resolves again.
const MAX_GRANTS: usize = 65_536;

/// So many bytes come from memory at once.
const CACHE_LINE: usize = 64;

/// What a key may do on a route. Where many keys call, hardly anything of a key's own is in the processor's caches when it does: so there is little of
/// it, and what admission reads first lies together, at the beginning.
#[derive(Debug)]
#[repr(C)]
pub struct Grant {
    /// The index under which this was last found to hold.
    version: Cell<u64>,
    /// The key.
    pub key: CompiledKey,
    /// The route.
    pub route: Arc<CompiledRoute>,
    period: RefCell<Rc<PeriodQuotas>>,
    /// Rate limits that apply.
    pub limits: SmallVec<[AppliedLimit; 2]>,
    /// The open calls of the key's namespace on this core.
    pub calls: NamespaceCalls,
    /// The plan version that the subscription is on.
    pub plan: Arc<CompiledPlan>,
    /// Where calls go.
    pub upstream: Arc<Upstream>,
    /// Its addresses, as this core uses them.
    pub group: Rc<Group>,
    /// What the upstream is told with each call: where it is called, and who calls.
    pub told: Standing,
    /// `RateLimit-Policy`; nothing where there is no limit.
    pub limits_policy: Rc<Standing>,
    /// How long calls wait for the upstream.
    pub patience: Patience,
    /// The subscription that pays.
    pub subscription: CompiledSubscription,
    /// The rules of the index under which this was last found to hold.
    rules: Cell<u64>,
}

/// What calls are charged by, as the policy has it at one moment.
#[derive(Debug)]
pub struct Terms {
    subscription: CompiledSubscription,
    plan: Arc<CompiledPlan>,
    /// Absent where the route is no more.
    route: Option<Arc<CompiledRoute>>,
}

/// What a core knows of a key that a caller shows.
#[derive(Debug)]
pub struct Known {
    /// The digest of its text.
    pub digest: KeyDigest,
    /// What it may do, if that was found before and nothing has changed since.
    pub grant: Option<Rc<Grant>>,
}

/// A core's grants.
#[derive(Debug, Default)]
pub struct Grants {
    grants: RefCell<FastMap<u64, Rc<Grant>>>,
    /// Values of `RateLimit-Policy`, which are the same for many grants.
    policies: RefCell<FastMap<HeaderValue, Rc<Standing>>>,
}

impl Grants {
    /// What a key may do on the route, if that was found before and nothing has changed since: one look-up then answers whose key it is, too.
    pub fn known(&self, index: &Index, shown: &Shown<'_>, route: &Arc<CompiledRoute>, now: Timestamp) -> Known {
        let near = self.grants.borrow().get(&place(shown, route.id)).cloned();
        // The digest takes about as long as the memory does.
        near.iter().for_each(|grant| grant.fetch());
        let digest = shown.digest();
        Known { grant: near.filter(|grant| grant.is_of(&digest) && grant.is_as_found(index, route, now)), digest }
    }

    /// What the key may do on the route.
    ///
    /// # Errors
    /// When nothing: the failure says why.
    pub fn get(
        &self,
        core: &Core,
        index: &Index,
        (shown, key): (&Shown<'_>, &CompiledKey),
        route: &Arc<CompiledRoute>,
        now: Timestamp,
    ) -> Result<Rc<Grant>, Failure> {
        let place = place(shown, route.id);
        if let Some(grant) = self.grants.borrow().get(&place).filter(|grant| grant.is_current(index, key, route)) {
            return Ok(grant.clone());
        }
        let grant = Rc::new(Grant::resolve(core, index, key, route, now)?);
        let mut grants = self.grants.borrow_mut();
        if grants.len() >= MAX_GRANTS {
            grants.clear();
            self.policies.borrow_mut().clear();
        }
        grants.insert(place, grant.clone());
        Ok(grant)
    }

    /// What grants say of their limits, kept once for all that say the same.
    fn limits_policy(&self, limits: &[AppliedLimit], plan: &CompiledPlan, period: Period) -> Rc<Standing> {
        let Some(value) = limits_policy(limits, plan, period) else { return Rc::default() };
        let made = || Rc::new(Standing::new(vec![(RATE_LIMIT_POLICY, value.clone())]));
        self.policies.borrow_mut().entry(value.clone()).or_insert_with(made).clone()
    }
}

/// Where a grant is kept. Two that would stand in one place, which callers cannot bring about, replace each other.
fn place(shown: &Shown<'_>, route: RouteId) -> u64 {
    shown.distinction() ^ route.uuid().as_u64_pair().1
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
        let limits_policy = core.grants.limits_policy(&limits, plan, period.period);
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

    /// Has the processor fetch what a call will need of the grant, all of it at once: asked for where it is needed, each piece would wait for the one before.
    fn fetch(&self) {
        let period = self.period.borrow();
        self.limits.iter().for_each(|applied| _ = black_box(applied.limiter.full_at_ns()));
        period.hard.iter().for_each(|quota| _ = black_box(quota.cell.finished.load(Ordering::Relaxed)));
        self.told.lines().iter().step_by(CACHE_LINE).for_each(|byte| _ = black_box(*byte));
        _ = black_box(self.calls.open());
        period.hard.iter().for_each(|quota| _ = black_box(quota.cell.taken_ns()));
    }

    fn is_of(&self, digest: &KeyDigest) -> bool {
        self.key.digest == *digest
    }

    /// Whether nothing has changed since it was found.
    fn is_as_found(&self, index: &Index, route: &Arc<CompiledRoute>, now: Timestamp) -> bool {
        self.version.get() == index.version && Arc::ptr_eq(&self.route, route) && !self.key.expired(now)
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
