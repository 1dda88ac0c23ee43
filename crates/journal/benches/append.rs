//! What metering costs the request path: admission and the final record of one call. The aim is under 200 ns, page faults and moving on included, at a rate that is
//! as high as one core gets.

#![allow(clippy::expect_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::NEW_YEAR;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use journal::{Config, Journal};

/// How many calls a second one core is taken to serve at the very most.
const CALLS_PER_SECOND: u32 = 250_000;
/// How many calls are timed together, so that reading the clock does not count.
const BATCH: u32 = 50;

/// The keeper seals and flushes on its own thread as in a gateway, and segments are acked at once.
fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder for the journal");
    let config = Config { retain_acked: Duration::ZERO, ..Config::default() };
    let mut opened = Journal::open(dir.path(), config, NEW_YEAR).expect("the journal opens");
    let journal = opened.journal.clone();
    let shipper = journal.clone();
    assert!(journal.on_sealed(move || drop(shipper.ack_through(0, u64::MAX, NEW_YEAR))));
    let keeper = journal::Keeper::start(journal.clone(), || (), || NEW_YEAR).expect("the keeper starts");
    let writer = &mut opened.writers[0];
    let usage = common::usage(1);
    let mut group = c.benchmark_group("journal");
    group.throughput(Throughput::Elements(1));
    group.bench_function("admit_and_append", |b| {
        b.iter_custom(|calls| {
            let start = Instant::now();
            let mut spent = Duration::ZERO;
            let mut done = 0;
            while done < calls {
                // Time between batches stands for the rest of the calls' work.
                while start.elapsed() < Duration::from_secs(1) * done as u32 / CALLS_PER_SECOND {
                    std::hint::spin_loop();
                }
                let batch = u64::from(BATCH).min(calls - done);
                let begun = Instant::now();
                for _ in 0..batch {
                    let receipt = writer.admit().expect("the keeper makes room in time");
                    writer.append(receipt, &usage).expect("an admitted call has room");
                }
                spent += begun.elapsed();
                done += batch;
            }
            spent
        });
    });
    group.finish();
    drop(keeper);
}

criterion_group!(benches, append);
criterion_main!(benches);
