//! What admission costs on the request path: a look at the limits, taking from them, and spending a lease.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
};

use criterion::{Criterion, criterion_group, criterion_main};
use quota::{Fields, Gcra, Lease, Limiter, MICROUNITS_PER_UNIT, RateLimit, Scope, take_all};

fn limiter(requests: u32) -> Limiter {
    let limit = RateLimit { requests, per_seconds: 1, burst: None, scope: Scope::ApiKey, route_group: None };
    Limiter::new(Gcra::new(&limit).expect("a valid limit"))
}

fn bench(c: &mut Criterion) {
    // A clock that moves by 2 µs a reading, so that limits of a million a second always admit.
    let time = AtomicU64::new(0);
    let clock = || time.fetch_add(2_000, Ordering::Relaxed);
    let limits: Vec<Limiter> = (0..4).map(|_| limiter(1_000_000)).collect();
    let four: Vec<&Limiter> = limits.iter().collect();
    c.bench_function("check one limit", |b| b.iter(|| limits[0].check(black_box(clock()))));
    c.bench_function("take from one limit", |b| b.iter(|| take_all(black_box(&four[..1]), clock).is_ok()));
    c.bench_function("take from four limits", |b| b.iter(|| take_all(black_box(&four), clock).is_ok()));
    let empty = limiter(1);
    empty.take(clock());
    let denying = [four[0], four[1], four[2], &empty];
    let standing = || 1_000_000;
    c.bench_function("be denied by the last of four", |b| b.iter(|| take_all(black_box(&denying), standing).is_err()));
    let lease = Lease::new(i64::MAX, u64::MAX);
    c.bench_function("spend a lease", |b| b.iter(|| lease.try_take(black_box(MICROUNITS_PER_UNIT), 1).is_ok()));
    c.bench_function("write both fields", |b| {
        b.iter(|| {
            let (mut policy, mut limit) = (Fields::new(), Fields::new());
            policy.policy("api_key", 100, 60);
            limit.limit("api_key", black_box(50), 30);
            (policy.as_bytes().len(), limit.as_bytes().len())
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
