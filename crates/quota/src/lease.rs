//! A gateway's slice of a hard quota: what it may spend without asking, and how much of it to ask for.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::{MICROUNITS_PER_UNIT, NANOS_PER_SECOND};

/// How long before its end a lease is no longer spent: by then clocks and a paused thread have had their time.
pub const SPEND_MARGIN_NS: u64 = 5 * NANOS_PER_SECOND;

/// Until when a grant may be spent, on the monotonic clock that showed `sent_at_ns` when the request for it was **sent**: the ledger started to count
/// later than that, so the gateway stops earlier than the ledger does.
pub const fn spend_until_ns(sent_at_ns: u64, lasts_ns: u64) -> u64 {
    sent_at_ns.saturating_add(lasts_ns.saturating_sub(SPEND_MARGIN_NS))
}

/// What one gateway holds of one quota in one period. All its cores share it: `remaining` is the one atomic that a call writes.
///
/// A lease that has expired is dead: it is replaced by a new one, never revived. Permits keep the lease they took from, so that what they give back
/// after its end is not spent again.
#[derive(Debug)]
pub struct Lease {
    remaining: AtomicI64,
    /// All that was granted, written by the exchange only.
    granted: AtomicI64,
    spend_until_ns: AtomicU64,
}

/// Why a lease does not pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRefusal {
    /// It holds less than was wanted. Whether the quota is used up only the ledger can say.
    Short {
        /// What it holds, in micro-units.
        remaining: i64,
    },
    /// Its time is over.
    Expired,
}

impl Lease {
    /// A first grant, in micro-units, with the end that [`spend_until_ns`] gives it.
    pub const fn new(granted: i64, spend_until_ns: u64) -> Self {
        Self { remaining: AtomicI64::new(granted), granted: AtomicI64::new(granted), spend_until_ns: AtomicU64::new(spend_until_ns) }
    }

    /// Takes all of `microunits` or nothing. A negative amount takes nothing.
    pub fn try_take(&self, microunits: i64, now_ns: u64) -> Result<(), LeaseRefusal> {
        if self.has_expired(now_ns) {
            return Err(LeaseRefusal::Expired);
        }
        let wanted = microunits.max(0);
        self.remaining
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |remaining| (remaining >= wanted).then(|| remaining - wanted))
            .map(|_| ())
            .map_err(|remaining| LeaseRefusal::Short { remaining })
    }

    /// Puts back what a call took and did not use. Into the lease it was taken from, whatever became of that.
    pub fn give_back(&self, microunits: i64) {
        self.remaining.fetch_add(microunits.max(0), Ordering::AcqRel);
    }

    /// Takes what a call used beyond its reservation. The lease may go into debt by it; later grants pay that first.
    pub fn charge(&self, microunits: i64) {
        self.remaining.fetch_sub(microunits.max(0), Ordering::AcqRel);
    }

    /// Adds a further grant and its later end. Refused when the lease has expired by now: the ledger may then have counted what was left as spent.
    pub fn extend(&self, granted: i64, spend_until_ns: u64, now_ns: u64) -> Result<(), LeaseRefusal> {
        if self.has_expired(now_ns) {
            return Err(LeaseRefusal::Expired);
        }
        self.granted.fetch_add(granted.max(0), Ordering::AcqRel);
        self.remaining.fetch_add(granted.max(0), Ordering::AcqRel);
        self.spend_until_ns.fetch_max(spend_until_ns, Ordering::AcqRel);
        Ok(())
    }

    /// Takes out up to `at_most` to hand it back to the ledger, and says how much that was. It can no longer be spent here.
    pub fn withdraw(&self, at_most: i64) -> i64 {
        let share = |remaining: i64| remaining.min(at_most).max(0);
        let before = self
            .remaining
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |remaining| Some(remaining - share(remaining)))
            .unwrap_or_else(|unchanged| unchanged);
        let withdrawn = share(before);
        self.granted.fetch_sub(withdrawn, Ordering::AcqRel);
        withdrawn
    }

    /// What is left, in micro-units; below zero when more was used than reserved.
    pub fn remaining(&self) -> i64 {
        self.remaining.load(Ordering::Acquire)
    }

    /// What calls took and did not give back: what [`RateOfUse`] observes.
    pub fn spent(&self) -> i64 {
        self.granted.load(Ordering::Acquire) - self.remaining()
    }

    /// Whether spending has stopped.
    pub fn has_expired(&self, now_ns: u64) -> bool {
        now_ns >= self.spend_until_ns.load(Ordering::Acquire)
    }
}

/// How fast a lease is spent: a moving average in which an observation of one second weighs half.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateOfUse {
    per_second: i64,
    last: Option<(i64, u64)>,
}

impl RateOfUse {
    /// Takes in the lease's total [`Lease::spent`] at an instant.
    pub fn observe(&mut self, spent: i64, now_ns: u64) {
        let Some((spent_before, at)) = self.last else {
            self.last = Some((spent, now_ns));
            return;
        };
        let elapsed = i128::from(now_ns.saturating_sub(at));
        if elapsed == 0 {
            return;
        }
        let second = i128::from(NANOS_PER_SECOND);
        let seen = i128::from(spent.saturating_sub(spent_before).max(0)) * second / elapsed;
        // The weight of what is seen is elapsed / (elapsed + 1 s): a longer look counts for more, and none for all.
        let average = (i128::from(self.per_second) * second + seen * elapsed) / (second + elapsed);
        self.per_second = i64::try_from(average).unwrap_or(i64::MAX);
        self.last = Some((spent, now_ns));
    }

    /// A new lease counts from zero: the rate stays.
    pub const fn restart(&mut self) {
        self.last = None;
    }

    /// Micro-units a second.
    pub const fn per_second(&self) -> i64 {
        self.per_second
    }
}

/// More is asked for when so small a part of what should be held is left.
const LOW_WATER_PART: i64 = 4;

/// How much a gateway asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizing {
    /// How long the units held should last at the rate of use. Longer means fewer exchanges, and more units out of reach of other gateways until they recall
    /// them.
    pub horizon_ns: u64,
    /// The most to hold.
    pub max_microunits: i64,
}

impl Default for Sizing {
    fn default() -> Self {
        Self { horizon_ns: 4 * NANOS_PER_SECOND, max_microunits: 100_000 * MICROUNITS_PER_UNIT }
    }
}

impl Sizing {
    /// What to hold at a rate of use: the horizon's worth, at least one unit.
    pub fn target(&self, rate: &RateOfUse) -> i64 {
        let worth = i128::from(rate.per_second()) * i128::from(self.horizon_ns) / i128::from(NANOS_PER_SECOND);
        i64::try_from(worth).unwrap_or(i64::MAX).min(self.max_microunits).max(MICROUNITS_PER_UNIT)
    }

    /// What to ask for: nothing above the low-water mark, which is a quarter of the target (a second's worth), and what is missing to the target below it.
    pub fn want(&self, rate: &RateOfUse, remaining: i64) -> i64 {
        let target = self.target(rate);
        if remaining > target / LOW_WATER_PART { 0 } else { target.saturating_sub(remaining) }
    }

    /// What to hand back unasked: all beyond twice the target.
    pub fn surplus(&self, rate: &RateOfUse, remaining: i64) -> i64 {
        remaining.saturating_sub(self.target(rate).saturating_mul(2)).max(0)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    const UNIT: i64 = MICROUNITS_PER_UNIT;
    const SECOND: u64 = NANOS_PER_SECOND;

    #[test]
    fn pays_until_it_is_empty_or_over() {
        let lease = Lease::new(3 * UNIT, 10 * SECOND);
        assert_eq!(lease.try_take(2 * UNIT, SECOND), Ok(()));
        assert_eq!(lease.try_take(2 * UNIT, SECOND), Err(LeaseRefusal::Short { remaining: UNIT }));
        assert_eq!(lease.try_take(UNIT, 10 * SECOND - 1), Ok(()));
        assert_eq!(lease.try_take(0, 10 * SECOND), Err(LeaseRefusal::Expired));
        assert_eq!(lease.spent(), 3 * UNIT);
        lease.give_back(UNIT);
        assert_eq!((lease.remaining(), lease.spent()), (UNIT, 2 * UNIT));
        assert_eq!(lease.try_take(UNIT + 1, SECOND), Err(LeaseRefusal::Short { remaining: UNIT }), "one micro-unit too many");
    }

    #[test]
    fn spending_stops_five_seconds_before_the_end_counted_from_the_sending() {
        assert_eq!(spend_until_ns(100 * SECOND, 30 * SECOND), 125 * SECOND);
        assert_eq!(spend_until_ns(100 * SECOND, 3 * SECOND), 100 * SECOND, "a grant that is too short is never spent");
    }

    #[test]
    fn an_expired_lease_is_not_revived() {
        let lease = Lease::new(UNIT, 10 * SECOND);
        assert_eq!(lease.extend(UNIT, 20 * SECOND, 9 * SECOND), Ok(()));
        assert_eq!(lease.remaining(), 2 * UNIT);
        assert_eq!(lease.extend(UNIT, 15 * SECOND, 19 * SECOND), Ok(()));
        assert!(!lease.has_expired(19 * SECOND), "an earlier end does not shorten it");
        assert_eq!(lease.extend(UNIT, 40 * SECOND, 20 * SECOND), Err(LeaseRefusal::Expired));
        assert_eq!(lease.remaining(), 3 * UNIT);
    }

    #[test]
    fn debt_is_paid_by_the_next_grant() {
        let lease = Lease::new(UNIT, 10 * SECOND);
        assert_eq!(lease.try_take(UNIT, SECOND), Ok(()));
        lease.charge(2 * UNIT);
        assert_eq!(lease.withdraw(UNIT), 0);
        assert_eq!(lease.extend(3 * UNIT, 10 * SECOND, SECOND), Ok(()));
        assert_eq!((lease.remaining(), lease.spent()), (UNIT, 3 * UNIT));
        assert_eq!(lease.withdraw(5 * UNIT), UNIT);
        assert_eq!((lease.remaining(), lease.spent()), (0, 3 * UNIT));
    }

    #[test]
    fn follows_the_rate_of_use() {
        let mut rate = RateOfUse::default();
        let sizing = Sizing::default();
        assert_eq!(sizing.target(&rate), UNIT, "one unit when nothing is known");
        for second in 0..20 {
            rate.observe(second * 100 * UNIT, second as u64 * SECOND);
        }
        assert!((99 * UNIT..=100 * UNIT).contains(&rate.per_second()), "{}", rate.per_second());
        let target = sizing.target(&rate);
        assert!((396 * UNIT..=400 * UNIT).contains(&target));
        assert_eq!(sizing.want(&rate, target / LOW_WATER_PART + 1), 0);
        assert_eq!(sizing.want(&rate, target / LOW_WATER_PART), target - target / LOW_WATER_PART);
        assert_eq!(sizing.want(&rate, -UNIT), target + UNIT);
        assert_eq!(sizing.surplus(&rate, 3 * target), target);
        assert_eq!(sizing.surplus(&rate, target), 0);
        for second in 20..60 {
            rate.observe(1900 * UNIT, second * SECOND);
        }
        assert_eq!(sizing.target(&rate), UNIT, "down to one unit when the use ends");
    }

    /// Threads take, use and give back while grants come and go: what was taken and kept is never more than what was granted and kept.
    #[test]
    fn threads_never_spend_more_than_was_granted() {
        for round in 0..50_i64 {
            let lease = Lease::new(100 * UNIT, u64::MAX);
            let (taken, withdrawn, granted) = thread::scope(|scope| {
                let takers: Vec<_> = (0..4_i64)
                    .map(|taker| {
                        let lease = &lease;
                        scope.spawn(move || {
                            let mut kept = 0;
                            for turn in 0..500 {
                                let wanted = (1 + (turn + taker + round) % 3) * UNIT / 2;
                                if lease.try_take(wanted, SECOND).is_ok() {
                                    kept += wanted;
                                    if turn % 5 == 0 {
                                        lease.give_back(wanted);
                                        kept -= wanted;
                                    }
                                }
                            }
                            kept
                        })
                    })
                    .collect();
                let (mut withdrawn, mut granted) = (0, 100 * UNIT);
                for _ in 0..20 {
                    withdrawn += lease.withdraw(3 * UNIT);
                    lease.extend(5 * UNIT, u64::MAX, SECOND).expect("it does not end");
                    granted += 5 * UNIT;
                }
                (takers.into_iter().map(|taker| taker.join().expect("no panic")).sum::<i64>(), withdrawn, granted)
            });
            assert_eq!(taken + withdrawn + lease.remaining(), granted, "round {round}");
            assert!(lease.remaining() >= 0);
            assert_eq!(lease.spent(), taken);
        }
    }

    proptest! {
        #[test]
        fn nothing_overflows(spent in proptest::collection::vec((0_i64..=i64::MAX, 0_u64..=u64::MAX), 1..8), remaining: i64) {
            let mut rate = RateOfUse::default();
            for (spent, at) in spent {
                rate.observe(spent, at);
                prop_assert!(rate.per_second() >= 0);
            }
            let sizing = Sizing::default();
            let target = sizing.target(&rate);
            prop_assert!((UNIT..=sizing.max_microunits).contains(&target));
            prop_assert!(sizing.want(&rate, remaining) >= 0);
            prop_assert!(sizing.surplus(&rate, remaining) >= 0);
            if sizing.surplus(&rate, remaining) > 0 {
                prop_assert_eq!(sizing.want(&rate, remaining), 0);
            }
        }
    }
}
