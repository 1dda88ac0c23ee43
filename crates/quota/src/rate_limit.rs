//! Rate limits by the generic cell rate algorithm (ITU-T I.371), on one shared atomic for each limit.
//!
//! The atomic holds the *theoretical arrival time*: the instant at which the limit would be wholly refilled. A request moves it on by one interval
//! (`per_seconds / requests`, rounded up to whole nanoseconds, so that a limit is never exceeded), from `now` if it lies in the past, and is
//! admitted if it then lies at most `burst` intervals ahead of `now`.
//!
//! Several limits on one call are all checked before any is taken from. When a racing call takes the last request between check and taking, what was
//! already taken is given back, less what the limit refilled of it meanwhile. So a denied call takes from none, and nobody is ever admitted on credit
//! that was given back twice.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{InvalidLimit, NANOS_PER_SECOND, RateLimit};

/// The numbers of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    interval_ns: u64,
    capacity_ns: u64,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request is admitted.
    pub allowed: bool,
    /// How many more could come at once, after this one.
    pub remaining: u32,
    /// When the limit will be wholly refilled, if nothing comes.
    pub reset_after_ns: u64,
    /// When one request would be admitted; 0 for one that was.
    pub retry_after_ns: u64,
}

impl Gcra {
    /// The numbers of a limit, which must be valid.
    pub fn new(limit: &RateLimit) -> Result<Self, InvalidLimit> {
        limit.validate()?;
        let interval_ns = (u64::from(limit.per_seconds) * NANOS_PER_SECOND).div_ceil(u64::from(limit.requests));
        // A valid burst refills within 366 days, which is far within range.
        Ok(Self { interval_ns, capacity_ns: interval_ns.saturating_mul(u64::from(limit.burst())) })
    }

    /// What a request at `now_ns` meets when the limit is wholly refilled at `full_at_ns`, and the instant at which it is refilled after it.
    const fn decide(self, full_at_ns: u64, now_ns: u64) -> (Decision, u64) {
        let base = if full_at_ns > now_ns { full_at_ns } else { now_ns };
        let after = base.saturating_add(self.interval_ns);
        let used = after - now_ns;
        let decision = if used <= self.capacity_ns {
            let left = (self.capacity_ns - used) / self.interval_ns;
            Decision { allowed: true, remaining: to_u32(left), reset_after_ns: used, retry_after_ns: 0 }
        } else {
            Decision { allowed: false, remaining: 0, reset_after_ns: base - now_ns, retry_after_ns: used - self.capacity_ns }
        };
        (decision, after)
    }
}

const fn to_u32(value: u64) -> u32 {
    if value > u32::MAX as u64 { u32::MAX } else { value as u32 }
}

/// When a limit is wholly refilled. It is shared by all that draw on the limit; a new one is full.
#[derive(Debug, Default)]
pub struct GcraState(AtomicU64);

/// A limit and its state.
#[derive(Debug)]
pub struct Limiter {
    gcra: Gcra,
    state: GcraState,
}

impl Limiter {
    /// A limit of which nothing was used.
    pub const fn new(gcra: Gcra) -> Self {
        Self { gcra, state: GcraState(AtomicU64::new(0)) }
    }

    /// The same limit with other numbers: what is used of it, counted in requests, stays used. Requests that race with the change count to the old one.
    pub fn carry_over(&self, gcra: Gcra, now_ns: u64) -> Self {
        let used_ns = self.state.0.load(Ordering::Acquire).saturating_sub(now_ns);
        let scaled = u128::from(used_ns) * u128::from(gcra.interval_ns) / u128::from(self.gcra.interval_ns);
        let used_ns = u64::try_from(scaled).unwrap_or(u64::MAX).min(gcra.capacity_ns);
        Self { gcra, state: GcraState(AtomicU64::new(now_ns.saturating_add(used_ns))) }
    }

    /// The numbers.
    pub const fn gcra(&self) -> Gcra {
        self.gcra
    }

    /// When it is wholly refilled.
    pub fn full_at_ns(&self) -> u64 {
        self.state.0.load(Ordering::Acquire)
    }

    /// What a request would meet, without taking anything.
    pub fn check(&self, now_ns: u64) -> Decision {
        self.gcra.decide(self.state.0.load(Ordering::Acquire), now_ns).0
    }

    /// What is left without a request: as many as `remaining` may come at once.
    pub fn status(&self, now_ns: u64) -> Decision {
        let used = self.state.0.load(Ordering::Acquire).saturating_sub(now_ns);
        let left = self.gcra.capacity_ns.saturating_sub(used) / self.gcra.interval_ns;
        Decision { remaining: to_u32(left), reset_after_ns: used, ..self.check(now_ns) }
    }

    /// Takes one request if it is admitted.
    pub fn take(&self, now_ns: u64) -> Decision {
        let mut full_at = self.state.0.load(Ordering::Acquire);
        loop {
            let (decision, after) = self.gcra.decide(full_at, now_ns);
            if !decision.allowed {
                return decision;
            }
            match self.state.0.compare_exchange_weak(full_at, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return decision,
                Err(found) => full_at = found,
            }
        }
    }

    /// Undoes a [`Self::take`] of `elapsed_ns` ago.
    ///
    /// Had the request not been taken, the limit could since then have stood full, and idle, for at most `elapsed_ns`. That much of the interval
    /// is therefore kept back: it may have been refilled already, and would otherwise count twice.
    fn give_back(&self, elapsed_ns: u64) {
        self.state.0.fetch_sub(self.gcra.interval_ns.saturating_sub(elapsed_ns), Ordering::AcqRel);
    }
}

/// All limits admitted the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The place of the limit that has the least left; absent when there was no limit.
    pub tightest: Option<(usize, Decision)>,
}

/// A limit denied the request, and nothing was taken from any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// The place of the limit that denied; of several, the one that takes longest to admit again.
    pub index: usize,
    /// What it said.
    pub decision: Decision,
}

/// Takes one request from all limits, or from none. `clock` is the monotonic clock that all callers share, in nanoseconds: it is read once, and once
/// more if a racing call made it necessary to give back.
pub fn take_all(limits: &[&Limiter], clock: impl Fn() -> u64) -> Result<Admitted, Denied> {
    let now_ns = clock();
    let mut denied: Option<Denied> = None;
    for (index, limit) in limits.iter().enumerate() {
        let decision = limit.check(now_ns);
        if !decision.allowed && denied.is_none_or(|other| other.decision.retry_after_ns < decision.retry_after_ns) {
            denied = Some(Denied { index, decision });
        }
    }
    if let Some(denied) = denied {
        return Err(denied);
    }
    let mut tightest: Option<(usize, Decision)> = None;
    for (index, limit) in limits.iter().enumerate() {
        let decision = limit.take(now_ns);
        if !decision.allowed {
            // The acquired state was read before the clock, so no request in it has a later `now` than this.
            let elapsed_ns = clock().saturating_sub(now_ns);
            limits.iter().take(index).for_each(|taken| taken.give_back(elapsed_ns));
            return Err(Denied { index, decision });
        }
        if tightest.is_none_or(|(_, other)| decision.remaining < other.remaining) {
            tightest = Some((index, decision));
        }
    }
    Ok(Admitted { tightest })
}

#[cfg(test)]
mod tests;
