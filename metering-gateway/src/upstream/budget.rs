//! How many retries a core may add to the calls of an upstream: a fifth of the calls, and ten a second so that quiet upstreams have some too. When an
//! upstream fails as a whole, retries end soon and the load on it stays as it was.

use std::cell::Cell;

/// What a retry costs.
const RETRY: u32 = 1_000;
/// What a call brings: a fifth of a retry.
const PER_CALL: u32 = 200;
/// What each second brings, up to as much.
const QUIET_MAX: u32 = 10 * RETRY;
/// The most that is saved up.
const MAX: u32 = 100 * RETRY;

/// A core's budget for one group.
#[derive(Debug)]
pub struct RetryBudget {
    saved: Cell<u32>,
    /// Retries that were made.
    pub retries: Cell<u64>,
    /// Retries that there was no budget for.
    pub refused: Cell<u64>,
    /// Both, when they were last told of.
    told: Cell<(u64, u64)>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: Cell::new(QUIET_MAX), retries: Cell::default(), refused: Cell::default(), told: Cell::default() }
    }
}

impl RetryBudget {
    /// A call begins.
    #[inline]
    pub fn call(&self) {
        self.saved.set((self.saved.get() + PER_CALL).min(MAX));
    }

    /// A second has passed.
    pub fn tick(&self) {
        self.saved.set(self.saved.get().max(QUIET_MAX));
    }

    /// Retries that were made and refused since this was last asked.
    pub fn untold(&self) -> (u64, u64) {
        let now = (self.retries.get(), self.refused.get());
        let before = self.told.replace(now);
        (now.0 - before.0, now.1 - before.1)
    }

    /// Takes a retry, if there is one.
    pub fn take(&self) -> bool {
        let left = self.saved.get().checked_sub(RETRY);
        let counter = if left.is_some() { &self.retries } else { &self.refused };
        counter.set(counter.get() + 1);
        if let Some(left) = left {
            self.saved.set(left);
        }
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_calls_may_be_retried_beside_a_few_each_second() {
        let budget = RetryBudget::default();
        let few = (0..100).filter(|_| budget.take()).count();
        assert_eq!(few, 10);
        let share = (0..1_000).filter(|_| {
            budget.call();
            budget.take()
        });
        assert_eq!(share.count(), 200);
        (0..1_000).for_each(|_| budget.tick());
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10, "time alone saves up little");
        (0..100_000).for_each(|_| budget.call());
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), 100, "what is saved up is bounded");
        assert_eq!((budget.retries.get(), budget.refused.get()), (320, 90 + 800 + 90 + 900));
    }
}
