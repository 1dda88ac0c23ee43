//! One limiter for each (whose, limit): all cores share it, and it outlives changes of policy.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ids::Uuid;
use quota::{Gcra, InvalidLimit, Limiter, RateLimit, Scope};

/// Above this many limiters, those that nobody holds and that are wholly refilled are dropped.
const PRUNE_ABOVE: usize = 100_000;

/// All limiters that are in use.
#[derive(Debug, Default)]
pub struct RateLimits(Mutex<Registry>);

#[derive(Debug, Default)]
struct Registry {
    limiters: HashMap<LimiterKey, Arc<Limiter>, foldhash::fast::RandomState>,
    prune_above: usize,
}

/// Whose limit, and which of theirs. The numbers are not part of it: a changed limit keeps what was used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LimiterKey {
    scope: Scope,
    whose: Uuid,
    route_group: Option<String>,
    per_seconds: u32,
    /// The place among limits that agree in all else.
    place: usize,
}

/// Which limiter is wanted.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The limit.
    pub limit: &'a RateLimit,
    /// The namespace, subscription, application or key that shares it.
    pub whose: Uuid,
    /// How many limits of the same plan with the same scope, group and window stand before it.
    pub place: usize,
}

impl RateLimits {
    /// The limiter, new or known. When its numbers changed, what was used of it carries over.
    ///
    /// # Errors
    /// When the limit makes no sense.
    pub fn get(&self, wanted: &Wanted<'_>, now_ns: u64) -> Result<Arc<Limiter>, InvalidLimit> {
        let gcra = Gcra::new(wanted.limit)?;
        let key = LimiterKey {
            scope: wanted.limit.scope,
            whose: wanted.whose,
            route_group: wanted.limit.route_group.clone(),
            per_seconds: wanted.limit.per_seconds,
            place: wanted.place,
        };
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registry.prune(now_ns);
        let limiter = match registry.limiters.get(&key) {
            Some(limiter) if limiter.gcra() == gcra => return Ok(limiter.clone()),
            Some(limiter) => Arc::new(limiter.carry_over(gcra, now_ns)),
            None => Arc::new(Limiter::new(gcra)),
        };
        registry.limiters.insert(key, limiter.clone());
        Ok(limiter)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).limiters.len()
    }
}

impl Registry {
    fn prune(&mut self, now_ns: u64) {
        if self.limiters.len() <= self.prune_above.max(PRUNE_ABOVE) {
            return;
        }
        self.limiters.retain(|_, limiter| Arc::strong_count(limiter) > 1 || limiter.status(now_ns).reset_after_ns > 0);
        // Twice of what is in use, so that pruning costs a constant time a limiter on average.
        self.prune_above = self.limiters.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_limit_is_shared_and_a_changed_one_keeps_what_was_used() {
        let limits = RateLimits::default();
        let limit = RateLimit { requests: 10, per_seconds: 10, burst: None, scope: Scope::ApiKey, route_group: None };
        let whose = Uuid::from_u128(1);
        let get = |limit: &RateLimit, whose| limits.get(&Wanted { limit, whose, place: 0 }, 0).expect("a valid limit");
        let limiter = get(&limit, whose);
        assert!(Arc::ptr_eq(&limiter, &get(&limit, whose)));
        assert!(!Arc::ptr_eq(&limiter, &get(&limit, Uuid::from_u128(2))));
        for _ in 0..5 {
            assert!(limiter.take(0).allowed);
        }
        let raised = get(&RateLimit { requests: 20, ..limit }, whose);
        assert_eq!(raised.status(0).remaining, 15);
    }
}
