//! How one core finds an address to be: how busy, how fast, how often it failed.
//!
//! Each core learns for itself, in plain cells: what it shares with the others would be a line of memory that every call on every core writes. A core
//! that takes few calls learns slowly, and each has to meet its own failures before it leaves an address out.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How fast an old latency is forgotten: after this time without an answer nothing is left of it.
const LATENCY_MEMORY: Duration = Duration::from_secs(10);
/// How slow an answer a failure counts as; each in a row counts as twice as slow, up to the second.
const FAILURE_PENALTY_MICROS: f64 = 500_000.0;
const MAX_PENALTY_MICROS: f64 = 10_000_000.0;
/// The longest that an address is left out, unless the first time is longer.
const MAX_EJECTION: Duration = Duration::from_secs(300);

/// How an address does, as one core sees it.
#[derive(Debug, Default)]
pub struct Health {
    /// Calls that are under way.
    pub in_flight: Cell<u32>,
    /// Heads of answers that came.
    pub answers: Cell<u64>,
    /// Calls that failed.
    pub failures: Cell<u64>,
    /// Microseconds until the head of an answer, weighed by age; 0 before the first.
    latency: Cell<f64>,
    measured: Cell<Option<Instant>>,
    failures_in_row: Cell<u32>,
    ejected_until: Cell<Option<Instant>>,
    /// How often it was left out in a row.
    ejections: Cell<u32>,
}

impl Health {
    /// A head came after `took`, and not one that says that something behind is broken.
    pub fn succeeded(&self, took: Duration, now: Instant) {
        self.answers.set(self.answers.get() + 1);
        self.measure(took, now);
        self.failures_in_row.set(0);
        if self.ejections.get() > 0 {
            self.recover(now);
        }
    }

    /// An answer came, or failed to come, after `took`.
    pub fn measure(&self, took: Duration, now: Instant) {
        let sample = took.as_secs_f64() * 1e6;
        let kept = match self.measured.replace(Some(now)) {
            None => 0.0,
            Some(before) => weight(now.saturating_duration_since(before)),
        };
        // Something slow is believed at once, something fast by and by.
        let latency = self.latency.get() * kept;
        self.latency.set(if sample > latency { sample } else { latency + sample * (1.0 - kept) });
    }

    /// A call failed, which counts as a very slow answer: else an address that fails at once would be the fastest. Returns how many have failed in a row.
    pub fn failed(&self, now: Instant) -> u32 {
        let penalty = (2.0 * self.latency_micros(now)).clamp(FAILURE_PENALTY_MICROS, MAX_PENALTY_MICROS);
        self.measure(Duration::from_secs_f64(penalty / 1e6), now);
        self.failures.set(self.failures.get() + 1);
        let in_row = self.failures_in_row.get() + 1;
        self.failures_in_row.set(in_row);
        in_row
    }

    /// Leaves the address out for a time that doubles with each time in a row. When it is over, one more failure is enough for the next.
    pub fn eject(&self, base: Duration, threshold: u32, now: Instant) -> Duration {
        let ejections = self.ejections.get().saturating_add(1);
        self.ejections.set(ejections);
        let time = base.saturating_mul(1 << (ejections - 1).min(16)).min(MAX_EJECTION.max(base));
        self.ejected_until.set(Some(now + time));
        self.failures_in_row.set(threshold.saturating_sub(1));
        time
    }

    /// Forgets an ejection for each minute without one.
    fn recover(&self, now: Instant) {
        if let Some(until) = self.ejected_until.get()
            && now > until + Duration::from_secs(60)
        {
            self.ejections.set(self.ejections.get() - 1);
            self.ejected_until.set(Some(now));
        }
    }

    /// Until when it is left out, if it is.
    pub fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.ejected_until.get().filter(|until| *until > now)
    }

    /// The latency as it counts now, in microseconds; 0 when nothing is known.
    pub fn latency_micros(&self, now: Instant) -> f64 {
        self.measured.get().map_or(0.0, |at| self.latency.get() * weight(now.saturating_duration_since(at)))
    }

    /// Whether one more call would cost less here than elsewhere: calls under way x latency. An address of which nothing is known, or nothing recent, is
    /// tried, but not flooded: it counts as four times as fast as the other, and no more.
    pub fn is_cheaper_than(&self, other: &Self, now: Instant) -> bool {
        let (here, there) = (self.latency_micros(now), other.latency_micros(now));
        let least = here.max(there) / 4.0 + 1.0;
        let cost = |health: &Self, latency: f64| f64::from(health.in_flight.get() + 1) * latency.max(least);
        cost(self, here) < cost(other, there)
    }
}

/// How much of a measure is left after a time. For short times this is the exponential, without its cost.
fn weight(age: Duration) -> f64 {
    (1.0 - age.as_secs_f64() / LATENCY_MEMORY.as_secs_f64()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_slow_costs_more_until_it_is_forgotten() {
        let (slow, fast, now) = (Health::default(), Health::default(), Instant::now());
        slow.succeeded(Duration::from_millis(100), now);
        fast.succeeded(Duration::from_millis(1), now);
        assert!(fast.is_cheaper_than(&slow, now));
        fast.in_flight.set(10);
        assert!(slow.is_cheaper_than(&fast, now), "a long queue makes the fast one cost more");
        fast.in_flight.set(1);
        assert!(fast.is_cheaper_than(&slow, now));
        fast.succeeded(Duration::from_millis(1), now + 20 * SECOND);
        assert!(slow.is_cheaper_than(&fast, now + 20 * SECOND), "after a while it is tried again");
        slow.in_flight.set(8);
        assert!(fast.is_cheaper_than(&slow, now + 20 * SECOND), "and not flooded");
    }

    #[test]
    fn failing_at_once_is_not_being_fast() {
        let (failing, working, now) = (Health::default(), Health::default(), Instant::now());
        working.succeeded(Duration::from_millis(100), now);
        failing.failed(now);
        assert!(working.is_cheaper_than(&failing, now));
    }

    #[test]
    fn ejections_grow_and_one_more_failure_is_enough_for_the_next() {
        let (health, mut now) = (Health::default(), Instant::now());
        for (failures, expected) in [(3, SECOND), (1, 2 * SECOND), (1, 4 * SECOND)] {
            let in_row = (0..failures).map(|_| health.failed(now)).last();
            assert_eq!(in_row, Some(3));
            assert_eq!(health.eject(SECOND, 3, now), expected);
            assert!(health.ejected_until(now).is_some());
            now += expected;
            assert_eq!(health.ejected_until(now), None);
        }
        health.succeeded(SECOND, now);
        assert_eq!(health.failed(now), 1, "an answer ends the row");
        assert_eq!(health.eject(SECOND, 3, now), 8 * SECOND, "one answer does not make it good");
        health.succeeded(SECOND, now + 100 * SECOND);
        assert_eq!(health.eject(SECOND, 3, now + 101 * SECOND), 8 * SECOND, "a quiet minute takes one off");
        (0..40).for_each(|_| _ = health.eject(SECOND, 3, now));
        assert_eq!(health.eject(SECOND, 3, now), MAX_EJECTION);
    }
}
