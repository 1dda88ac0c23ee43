//! Deterministic simulation of gateways, a portal and what goes wrong between them (SEMANTICS Q1 to Q5, M4).
//!
//! The gateways run the real [`quota::Book`] and [`quota::Lease`], the portal the real [`quota::Ledger`]; only messages, clocks, disks and calls are
//! simulated. One seed gives one run, always the same. A failure prints its seed; `TOLLKEEPER_SIM_SEED=<seed>` runs that one alone and
//! `TOLLKEEPER_SIM_RUNS=<n>` sets how many are run.

#![allow(clippy::print_stdout, reason = "a run says what happened in it, and each mutant by which seed it was caught")]

mod gateway;
mod mutant;
mod portal;
mod random;
mod truth;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use mutant::Mutant;
use world::{Report, World};

/// How many seeds a test run tries.
const RUNS: u64 = 3_000;
/// Within so many seeds each mutant must be caught.
const RUNS_PER_MUTANT: u64 = 400;
const THREADS: u64 = 2;

#[allow(clippy::disallowed_methods, reason = "the simulation's settings are read here and nowhere else")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn the_promises_hold_under_all_faults() {
    let seeds = match number("TOLLKEEPER_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TOLLKEEPER_SIM_RUNS").unwrap_or(RUNS),
    };
    let next = AtomicU64::new(seeds.start);
    let run = || {
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return sum;
            }
            match World::new(seed, None).run() {
                Ok(report) => sum.add(&report),
                Err(fault) => panic!("seed {seed}: {fault}\nrun it again with TOLLKEEPER_SIM_SEED={seed}"),
            }
        }
    };
    let sum = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().fold(Report::default(), |mut sum, thread| {
            sum.add(&thread.join().expect("a run has failed; its seed is above"));
            sum
        })
    });
    println!("{sum:?}");
    if seeds.end - seeds.start >= RUNS {
        // A simulation in which nothing happens proves nothing.
        let Report { admitted, used_up, unknown, exposed, crashes, lost_disks, restores, recalls, written_off, lowered, late, .. } = sum;
        for (what, count) in [
            ("admitted", admitted),
            ("used up", used_up),
            ("unknown", unknown),
            ("exposed", exposed),
            ("crashes", crashes),
            ("lost disks", lost_disks),
            ("restores", restores),
            ("recalls", recalls),
            ("written off", written_off),
            ("lowered", lowered),
            ("late answers", late),
        ] {
            assert!(count > 100, "{what}: only {count}");
        }
    }
}

#[test]
fn each_mutant_is_caught() {
    let missed: Vec<_> = Mutant::ALL
        .into_iter()
        .filter(|mutant| {
            let caught = (0..RUNS_PER_MUTANT).find_map(|seed| World::new(seed, Some(*mutant)).run().err().map(|fault| (seed, fault)));
            match &caught {
                Some((seed, fault)) => println!("{mutant:?}: caught by seed {seed}: {}", fault.lines().next().unwrap_or_default()),
                None => println!("{mutant:?}: not caught"),
            }
            caught.is_none()
        })
        .collect();
    assert!(missed.is_empty(), "the simulation does not notice {missed:?}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..20 {
        assert_eq!(World::new(seed, None).run(), World::new(seed, None).run(), "seed {seed}");
    }
}
