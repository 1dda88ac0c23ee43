use std::{
    sync::{Barrier, atomic::AtomicUsize},
    thread,
};

use proptest::prelude::*;

use super::*;
use crate::Scope;

fn limit(requests: u32, per_seconds: u32, burst: Option<u32>) -> RateLimit {
    RateLimit { requests, per_seconds, burst, scope: Scope::Subscription, route_group: None }
}

fn limiter(requests: u32, per_seconds: u32, burst: Option<u32>) -> Limiter {
    Limiter::new(Gcra::new(&limit(requests, per_seconds, burst)).expect("a valid limit"))
}

const SECOND: u64 = NANOS_PER_SECOND;

#[test]
fn admits_the_burst_then_the_rate() {
    let limiter = limiter(10, 1, Some(3));
    let now = 5 * SECOND;
    assert_eq!(limiter.status(now).remaining, 3);
    for remaining in [2, 1, 0] {
        let decision = limiter.take(now);
        let reset_after_ns = u64::from(3 - remaining) * SECOND / 10;
        assert_eq!(decision, Decision { allowed: true, remaining, reset_after_ns, retry_after_ns: 0 });
    }
    let denied = Decision { allowed: false, remaining: 0, reset_after_ns: 3 * SECOND / 10, retry_after_ns: SECOND / 10 };
    assert_eq!(limiter.take(now), denied);
    assert_eq!(limiter.check(now + SECOND / 10 - 1), Decision { retry_after_ns: 1, reset_after_ns: SECOND / 5 + 1, ..denied });
    assert!(limiter.take(now + SECOND / 10).allowed);
    assert!(!limiter.take(now + SECOND / 10).allowed);
    assert_eq!(limiter.status(now + 10 * SECOND), Decision { allowed: true, remaining: 3, reset_after_ns: 0, retry_after_ns: 0 });
}

#[test]
fn the_longest_denial_is_named_and_nothing_is_taken() {
    let (roomy, slow, slower) = (limiter(100, 1, None), limiter(1, 60, None), limiter(1, 3600, None));
    assert!(take_all(&[&slow, &slower], || SECOND).is_ok());
    let denied = take_all(&[&roomy, &slow, &slower], || SECOND).expect_err("both slow limits are empty");
    assert_eq!(denied.index, 2);
    assert_eq!(denied.decision.retry_after_ns, 3600 * SECOND);
    assert_eq!(roomy.status(SECOND).remaining, 100);
    assert_eq!(take_all(&[], || SECOND), Ok(Admitted { tightest: None }));
}

#[test]
fn names_the_limit_with_the_least_left() {
    let (a, b) = (limiter(100, 1, None), limiter(5, 1, None));
    let admitted = take_all(&[&a, &b], || SECOND).expect("both are full");
    assert_eq!(admitted.tightest.map(|(index, decision)| (index, decision.remaining)), Some((1, 4)));
}

/// One interval is 10 ns. A takes at 100, B at 105, and A gives back at 105: the state is as if B had come alone.
#[test]
fn giving_back_leaves_what_others_alone_would_have_left() {
    let limiter = Limiter::new(Gcra { interval_ns: 10, capacity_ns: 20 });
    assert!(limiter.take(100).allowed);
    assert!(limiter.take(105).allowed);
    limiter.give_back(5);
    assert_eq!(limiter.state.0.load(Ordering::Acquire), 115);
    let slow = Limiter::new(Gcra { interval_ns: 10, capacity_ns: 20 });
    assert!(slow.take(100).allowed);
    slow.give_back(50);
    assert_eq!(slow.state.0.load(Ordering::Acquire), 110, "what was refilled meanwhile is not given back");
}

#[test]
fn changed_numbers_keep_what_was_used() {
    let old = limiter(10, 1, Some(10));
    (0..5).for_each(|_| assert!(old.take(SECOND).allowed));
    let gcra = |requests, burst| Gcra::new(&limit(requests, 60, Some(burst))).expect("a valid limit");
    assert_eq!(old.carry_over(gcra(60, 20), SECOND).status(SECOND).remaining, 15);
    assert_eq!(old.carry_over(gcra(60, 3), SECOND).status(SECOND).remaining, 0);
    assert_eq!(old.carry_over(gcra(60, 3), SECOND).check(SECOND).retry_after_ns, SECOND);
}

/// Slow and exact, from the definition of the arrival curve: a request may come if, counted from every admitted one on, the requests until now
/// and this one fit in `burst` and what refilled since.
struct Reference {
    interval_ns: u128,
    capacity_ns: u128,
    admitted: Vec<u64>,
}

impl Reference {
    fn new(gcra: Gcra) -> Self {
        Self { interval_ns: gcra.interval_ns.into(), capacity_ns: gcra.capacity_ns.into(), admitted: Vec::new() }
    }

    fn allows(&self, now_ns: u64) -> bool {
        let fits = |first: usize, at: u64| {
            let requests = (self.admitted.len() - first + 1) as u128;
            requests * self.interval_ns <= self.capacity_ns + u128::from(now_ns - at)
        };
        self.capacity_ns >= self.interval_ns && self.admitted.iter().enumerate().all(|(first, at)| fits(first, *at))
    }

    fn take(&mut self, now_ns: u64) -> bool {
        let allowed = self.allows(now_ns);
        if allowed {
            self.admitted.push(now_ns);
        }
        allowed
    }
}

fn any_limit() -> impl Strategy<Value = RateLimit> {
    (1_u32..2000, 1_u32..120, proptest::option::of(1_u32..50))
        .prop_map(|(requests, per_seconds, burst)| limit(requests, per_seconds, burst))
}

/// Steps of time that are short, about an interval, or long.
fn steps() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(prop_oneof![Just(0), 0..1_000_u64, 0..SECOND, 0..100 * SECOND], 1..150)
}

proptest! {
    #[test]
    fn decides_as_the_slow_reference(limit in any_limit(), steps in steps()) {
        let limiter = Limiter::new(Gcra::new(&limit).expect("a valid limit"));
        let mut reference = Reference::new(limiter.gcra());
        let mut now = SECOND;
        for step in steps {
            now += step;
            let status = limiter.status(now);
            let decision = limiter.take(now);
            prop_assert_eq!(decision.allowed, status.remaining > 0);
            prop_assert_eq!(decision.allowed, reference.take(now));
            if decision.allowed {
                prop_assert_eq!(decision.remaining, status.remaining - 1);
            } else {
                // Neither a nanosecond early nor late.
                prop_assert!(!reference.allows(now + decision.retry_after_ns - 1));
                prop_assert!(reference.allows(now + decision.retry_after_ns));
            }
            prop_assert_eq!(limiter.status(now + decision.reset_after_ns).remaining, limit.burst());
        }
    }

    /// The promise in the limit's own numbers, without the rounded interval: at most `burst + t * requests / per_seconds` in any stretch.
    #[test]
    fn no_stretch_of_time_holds_more_than_promised(limit in any_limit(), steps in steps()) {
        let limiter = Limiter::new(Gcra::new(&limit).expect("a valid limit"));
        let (mut now, mut admitted) = (SECOND, Vec::new());
        for step in steps {
            now += step;
            let decision = limiter.take(now);
            if decision.allowed {
                admitted.push(now);
                continue;
            }
            // Come again in the very nanosecond that was named.
            now += decision.retry_after_ns;
            prop_assert!(limiter.take(now).allowed);
            admitted.push(now);
        }
        for (first, from) in admitted.iter().enumerate() {
            for (count, to) in (1_u128..).zip(&admitted[first..]) {
                let refilled = u128::from(to - from) * u128::from(limit.requests) / (u128::from(limit.per_seconds) * u128::from(SECOND));
                prop_assert!(count <= u128::from(limit.burst()) + refilled);
            }
        }
    }

    #[test]
    fn a_denied_call_takes_from_none(limits in proptest::collection::vec(any_limit(), 1..5), steps in steps()) {
        let limiters: Vec<Limiter> = limits.iter().map(|limit| Limiter::new(Gcra::new(limit).expect("a valid limit"))).collect();
        let all: Vec<&Limiter> = limiters.iter().collect();
        let mut references: Vec<Reference> = limiters.iter().map(|limiter| Reference::new(limiter.gcra())).collect();
        let mut now = SECOND;
        for step in steps {
            now += step;
            let states: Vec<u64> = limiters.iter().map(|limiter| limiter.state.0.load(Ordering::Acquire)).collect();
            let expected = references.iter().all(|reference| reference.allows(now));
            match take_all(&all, || now) {
                Ok(_) => {
                    prop_assert!(expected);
                    references.iter_mut().for_each(|reference| assert!(reference.take(now)));
                }
                Err(denied) => {
                    prop_assert!(!expected);
                    prop_assert!(!references[denied.index].allows(now));
                    let after: Vec<u64> = limiters.iter().map(|limiter| limiter.state.0.load(Ordering::Acquire)).collect();
                    prop_assert_eq!(states, after);
                }
            }
        }
    }
}

/// Threads hammer three limits at one instant: exactly what the tightest holds is admitted, and the others lose exactly that.
#[test]
fn threads_never_pass_the_limit_at_one_instant() {
    for round in 0..200_u32 {
        let (wide, tight, other) = (limiter(10_000, 1, None), limiter(100, 1, Some(50 + round % 7)), limiter(10_000, 1, Some(51)));
        let barrier = Barrier::new(4);
        let admitted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..60 {
                        if take_all(&[&wide, &other, &tight], || SECOND).is_ok() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let admitted = u32::try_from(admitted.into_inner()).expect("a small number");
        // A call that is giving back holds a request for a moment, so that a racing call may be denied; so fewer than the limit may be admitted,
        // but what was admitted is exactly what is gone.
        assert!(admitted <= (50 + round % 7).min(51), "round {round}: {admitted}");
        for (name, limiter, burst) in [("wide", &wide, 10_000), ("other", &other, 51), ("tight", &tight, 50 + round % 7)] {
            assert_eq!(limiter.status(SECOND).remaining, burst - admitted, "round {round}: {name}");
        }
    }
}

/// The same under a clock that moves while calls race and give back.
#[test]
fn threads_never_pass_the_limit_under_a_moving_clock() {
    let hot = Limiter::new(Gcra { interval_ns: 20, capacity_ns: 100 });
    let picky = Limiter::new(Gcra { interval_ns: 31, capacity_ns: 93 });
    let clock = AtomicU64::new(1_000);
    let read = || clock.fetch_add(1, Ordering::AcqRel);
    let results: Vec<(Vec<u64>, Vec<u64>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (hot, picky, read) = (&hot, &picky, &read);
                scope.spawn(move || {
                    let (mut both, mut alone) = (Vec::new(), Vec::new());
                    for turn in 0..50_000 {
                        let taken_at = std::cell::Cell::new(None);
                        let clock = || {
                            let now = read();
                            taken_at.set(taken_at.get().or(Some(now)));
                            now
                        };
                        let first = |cell: &std::cell::Cell<Option<u64>>| cell.get().expect("the clock was read");
                        if (turn + worker) % 3 > 0 {
                            if take_all(&[hot, picky], clock).is_ok() {
                                both.push(first(&taken_at));
                            }
                        } else if take_all(&[hot], clock).is_ok() {
                            alone.push(first(&taken_at));
                        }
                    }
                    (both, alone)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let both: Vec<u64> = results.iter().flat_map(|(both, _)| both.iter().copied()).collect();
    let mut on_hot: Vec<u64> = results.iter().flat_map(|(both, alone)| both.iter().chain(alone).copied()).collect();
    on_hot.sort_unstable();
    assert!(!both.is_empty() && on_hot.len() > both.len());
    for (limiter, mut admitted) in [(&hot, on_hot), (&picky, both)] {
        admitted.sort_unstable();
        let (interval, capacity) = (limiter.gcra.interval_ns, limiter.gcra.capacity_ns);
        let state = limiter.state.0.load(Ordering::Acquire);
        for (first, from) in admitted.iter().enumerate() {
            let since = (admitted.len() - first) as u64;
            assert!(state >= from + since * interval, "more was given back than was taken");
            // Windows of up to 60 requests: longer ones follow from the state.
            for (count, to) in (1_u64..).zip(admitted[first..].iter().take(60)) {
                assert!(count * interval <= capacity + (to - from), "{count} from {from} to {to}");
            }
        }
    }
}
