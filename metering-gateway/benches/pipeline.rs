//! What the stages of a call cost by themselves, and what cores that share one limit and one lease cost each other.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use calendar::Timestamp;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gateway_control::{
    credential::{Credential, CredentialKind, KeyDigest},
    policy::{ApiKey, EntryBody, EntryId, EntryKind, Generation, PolicyEntry},
    usage::Mode,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use ids::{ApiKeyId, ApplicationId, NamespaceId, Uuid};
use metering_gateway::{
    metrics::CoreMetrics,
    pipeline::{authenticate::api_key, path},
    policy::store::PolicyStore,
};
use quota::{Gcra, Lease, Limiter, MICROUNITS_PER_UNIT, RateLimit, Scope};

/// A number for each byte asked for, the same in every run.
fn credential(number: u32) -> Credential {
    let mut state = number.wrapping_add(1);
    let random = |out: &mut [u8]| {
        for byte in out {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        Ok::<_, std::convert::Infallible>(())
    };
    let Ok(credential) = Credential::generate(CredentialKind::Live, random);
    credential
}

fn key(number: u32, expires_at: Option<Timestamp>) -> PolicyEntry {
    let id = Uuid::from_u128(0x0190 << 112 | u128::from(number));
    let key = ApiKey {
        id: ApiKeyId::from_uuid(id),
        digest: credential(number).digest(),
        namespace: NamespaceId::from_uuid(Uuid::from_u128(1)),
        application: ApplicationId::from_uuid(Uuid::from_u128(u128::from(number / 10))),
        mode: Mode::Live,
        expires_at,
    };
    PolicyEntry { generation: Generation(1), id: EntryId { kind: EntryKind::ApiKey, id }, body: Some(EntryBody::ApiKey(key)) }
}

fn store(keys: u32) -> PolicyStore {
    let mut store = PolicyStore::default();
    store.begin_snapshot(Uuid::from_u128(1));
    (0..keys).for_each(|number| store.receive(key(number, None)));
    store.commit(Generation(1));
    store
}

fn authenticate(c: &mut Criterion) {
    let metrics = CoreMetrics::default();
    let now = Timestamp::from_seconds(1_700_000_000);
    let text = credential(7);
    c.bench_function("digest of a key", |b| b.iter(|| KeyDigest::of(black_box(text.reveal().as_bytes()))));
    for keys in [10_000, 1_000_000] {
        let mut store = store(keys);
        let callers: Vec<HeaderMap> = (0..4_096)
            .map(|at| {
                let value = HeaderValue::from_str(credential(at * 7_919 % keys).reveal()).expect("a key is a value");
                [(HeaderName::from_static("x-api-key"), value)].into_iter().collect()
            })
            .collect();
        let mut caller = callers.iter().cycle();
        c.bench_with_input(BenchmarkId::new("find one of so many keys", keys), &keys, |b, _| {
            let index = store.index();
            b.iter(|| {
                let shown = api_key::shown(caller.next().expect("a cycle"));
                shown.and_then(|shown| api_key::find(index, &shown.digest(), now, &metrics).map(|key| key.id)).is_ok()
            });
        });
        let mut generation = 1;
        c.bench_with_input(BenchmarkId::new("change one of so many keys", keys), &keys, |b, keys| {
            b.iter(|| {
                generation += 1;
                store.receive(key(generation as u32 % keys, Some(now)));
                store.commit(Generation(generation))
            });
        });
    }
}

fn paths(c: &mut Criterion) {
    c.bench_function("normalize a plain path", |b| b.iter(|| path::normalize(black_box("/v1/forecast/oslo/today")).is_ok()));
    c.bench_function("normalize an encoded path", |b| b.iter(|| path::normalize(black_box("/v1/forecast/troms%c3%b8/today")).is_ok()));
}

/// Every thread does what a call does to shared state: it takes from a limit and spends a lease. The time is that of one call on one thread.
fn shared(c: &mut Criterion) {
    let limit = RateLimit { requests: 1_000_000, per_seconds: 1, burst: None, scope: Scope::Subscription, route_group: None };
    let limiter = || Limiter::new(Gcra::new(&limit).expect("a valid limit"));
    for (name, everybody) in [("one limit and one lease for all threads", true), ("a limit and a lease for each thread", false)] {
        for threads in [1_usize, 2, 4] {
            c.bench_with_input(BenchmarkId::new(name, threads), &threads, |b, threads| {
                b.iter_custom(|rounds| {
                    let state: Vec<_> = (0..*threads).map(|_| (limiter(), Lease::new(i64::MAX, u64::MAX))).collect();
                    let time = Instant::now();
                    let slowest = AtomicU64::new(0);
                    std::thread::scope(|scope| {
                        for at in 0..*threads {
                            let (limiter, lease) = &state[if everybody { 0 } else { at }];
                            let slowest = &slowest;
                            scope.spawn(move || {
                                let started = Instant::now();
                                for _ in 0..rounds {
                                    // A clock that is so fast allows every call, under the highest limit that there is.
                                    let now_ns = 1_000 * time.elapsed().as_nanos() as u64;
                                    black_box(limiter.take(now_ns).allowed);
                                    black_box(lease.try_take(MICROUNITS_PER_UNIT, now_ns).is_ok());
                                }
                                slowest.fetch_max(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
                            });
                        }
                    });
                    Duration::from_nanos(slowest.into_inner())
                });
            });
        }
    }
}

criterion_group!(benches, authenticate, paths, shared);
criterion_main!(benches);
