//! The numbers of lease exchanges, on the real binary: none is used twice of one journal, however the process ends and whatever is left of its files
//! (SEMANTICS Q3).

use std::{fs, path::Path};

use quota::{Enforcement, QuotaLimit, WhenUnreachable};
use reqwest::StatusCode;

use crate::harness::{eventually, policy::World, portal::MockPortal, process::GatewayProcess, upstream};

/// So many exchanges are made in each life of the process: more than the numbers that a life takes before its first exchange.
const EXCHANGES: usize = 6;

async fn setting() -> (World, MockPortal) {
    let mut world = World::new(upstream::start().await);
    let meter = world.requests;
    let (enforcement, when_unreachable) = (Enforcement::Hard, WhenUnreachable::Deny);
    world.plan.quotas = vec![QuotaLimit { meter, limit_microunits: 1_000_000_000_000, enforcement, when_unreachable }];
    let portal = MockPortal::start(&world).await;
    portal.limit(world.requests, 1_000_000);
    (world, portal)
}

/// A process that has made some exchanges and is killed.
async fn live_and_die(world: &World, portal: &MockPortal, folder: &Path) {
    let gateway = GatewayProcess::start(portal, folder, &[("GATEWAY_LEASE_WAIT", "5s")]).await;
    let (client, before) = (reqwest::Client::new(), portal.exchanges().len());
    let url = format!("http://{}/weather/v1/echo", gateway.data);
    eventually("leases are exchanged", async || {
        let answer = client.get(&url).header("x-api-key", world.live.reveal()).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        (portal.exchanges().len() >= before + EXCHANGES).then_some(())
    })
    .await;
    gateway.kill().await;
}

/// Checks that numbers rise, those of runs included, and returns the numbers of the runs.
fn runs(portal: &MockPortal) -> Vec<u64> {
    let (mut runs, mut last) = (Vec::new(), 0);
    for exchange in portal.exchanges() {
        let run = exchange.run.expect("the gateway says which run it is").number;
        if runs.last() != Some(&run) {
            assert!(run > last, "run {run} begins after exchange {last}");
            (last, _) = (run, runs.push(run));
        }
        assert!(exchange.exchange > last, "exchange {} of run {run} comes after {last}", exchange.exchange);
        last = exchange.exchange;
    }
    runs
}

#[tokio::test]
async fn no_number_is_used_twice_though_the_process_is_killed() {
    let (world, portal) = setting().await;
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..3 {
        live_and_die(&world, &portal, folder.path()).await;
    }
    assert_eq!(runs(&portal).len(), 3);
    assert_eq!(portal.conflicts(), 0, "the portal had no cause to complain");
}

#[tokio::test]
async fn a_process_that_lost_its_numbers_goes_on_well_above_those_that_were_used() {
    let (world, portal) = setting().await;
    let folder = tempfile::tempdir().expect("a folder");
    live_and_die(&world, &portal, folder.path()).await;
    fs::remove_file(folder.path().join("lease-exchange")).expect("it was there");
    live_and_die(&world, &portal, folder.path()).await;
    assert_eq!(portal.conflicts(), 1, "it was told once");
    let told = runs(&portal);
    live_and_die(&world, &portal, folder.path()).await;
    assert_eq!((told.len(), runs(&portal).len(), portal.conflicts()), (2, 3, 1), "and that was kept");
}
