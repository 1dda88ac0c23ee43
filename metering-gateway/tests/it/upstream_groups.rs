//! Upstreams with several addresses: calls are spread, failing addresses are left out and come back, names are followed.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use gateway_control::options::ServiceOptions;
use metering_gateway::{
    Config,
    upstream::{Resolve, Resolving},
};
use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{
    Stage, eventually,
    member::{AT_ONCE, Manner, Member, nobody},
};

/// A gateway of one core in front of some addresses.
async fn stage(addresses: &[SocketAddr], adjust: impl FnOnce(&mut Config)) -> Stage {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let options = ServiceOptions { addresses, ..ServiceOptions::default() };
    Stage::with(
        |world| world.service.options = options.stated(),
        |config| {
            config.cores = Some(1);
            adjust(config);
        },
    )
    .await
}

async fn status(stage: &Stage) -> StatusCode {
    stage.get("/weather/v1/any/x").send().await.expect("an answer").status()
}

/// Sends calls, some at once, and returns how often each status came.
async fn calls(stage: &Stage, count: usize, at_once: usize) -> HashMap<StatusCode, usize> {
    let mut statuses = HashMap::new();
    let (mut running, mut left) = (tokio::task::JoinSet::new(), count);
    while left > 0 || !running.is_empty() {
        while left > 0 && running.len() < at_once {
            left -= 1;
            running.spawn(stage.get("/weather/v1/any/x").send());
        }
        let answer = running.join_next().await.expect("a call").expect("no panic").expect("an answer");
        *statuses.entry(answer.status()).or_default() += 1;
    }
    statuses
}

fn all_ok(count: usize) -> HashMap<StatusCode, usize> {
    [(StatusCode::OK, count)].into()
}

#[tokio::test]
async fn calls_are_spread_and_a_slow_address_gets_fewer() {
    let members = [Member::start(AT_ONCE).await, Member::start(AT_ONCE).await, Member::start(AT_ONCE).await];
    let gentle = Manner::Answer(Duration::from_millis(20));
    members.iter().for_each(|member| member.seen.be(gentle));
    let stage = stage(&members.each_ref().map(|member| member.address), |_| ()).await;
    assert_eq!(calls(&stage, 300, 24).await, all_ok(300));
    let shares = members.each_ref().map(|member| member.seen.calls());
    assert!(shares.iter().all(|share| *share >= 30), "{shares:?}");
    members[0].seen.be(Manner::Answer(Duration::from_millis(200)));
    // It is found out, and then left to itself as far as the others have room.
    assert_eq!(calls(&stage, 300, 12).await, all_ok(300));
    let slow = members[0].seen.calls() - shares[0];
    assert!(slow < 75, "the slow one got {slow} of 300");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_address_that_is_gone_costs_no_call() {
    let member = Member::start(AT_ONCE).await;
    let stage = stage(&[nobody().await, member.address, nobody().await], |_| ()).await;
    assert_eq!(calls(&stage, 60, 6).await, all_ok(60));
    // One record for each call, whatever was tried.
    stage.portal.rows();
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_failing_address_is_left_out_and_comes_back() {
    let (good, bad) = (Member::start(AT_ONCE).await, Member::start(Manner::Status(503)).await);
    let stage = stage(&[good.address, bad.address], |config| config.upstream.ejection_time = Duration::from_secs(2)).await;
    let statuses = eventually("the bad one is left out", async || {
        let before = bad.seen.calls();
        let statuses = calls(&stage, 40, 8).await;
        (bad.seen.calls() == before).then_some(statuses)
    })
    .await;
    assert_eq!(statuses, all_ok(40));
    assert!(bad.seen.calls() >= 5, "it was left out after {} failures", bad.seen.calls());
    bad.seen.be(AT_ONCE);
    let before = bad.seen.calls();
    eventually("it is tried again", async || {
        assert_eq!(calls(&stage, 40, 8).await.keys().copied().collect::<Vec<_>>(), [StatusCode::OK]);
        (bad.seen.calls() > before + 10).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn half_of_the_addresses_stay_in_use_whatever_they_answer() {
    let bad = Manner::Status(503);
    let members = [Member::start(bad).await, Member::start(bad).await, Member::start(bad).await, Member::start(AT_ONCE).await];
    let stage = stage(&members.each_ref().map(|member| member.address), |config| {
        config.upstream.ejection_time = Duration::from_secs(3600);
    })
    .await;
    calls(&stage, 400, 16).await;
    let before = members.each_ref().map(|member| member.seen.calls());
    assert!(before.iter().all(|calls| *calls >= 5), "each has had its chance: {before:?}");
    // Where the good one fails too, calls go to the bad one that was kept, for two may be left out and no more.
    members[3].seen.be(bad);
    calls(&stage, 100, 8).await;
    let used: Vec<usize> = (0..3).filter(|at| members[*at].seen.calls() > before[*at]).collect();
    assert_eq!(used.len(), 1, "{used:?} of the bad ones are in use");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_single_address_is_never_left_out() {
    let member = Member::start(Manner::Cut).await;
    let stage = stage(&[member.address], |config| config.upstream.max_retries = 0).await;
    assert_eq!(calls(&stage, 20, 1).await, [(StatusCode::BAD_GATEWAY, 20)].into());
    assert_eq!(member.seen.calls(), 20);
    stage.gateway.stop().await;
}

/// Names that a test decides about.
#[derive(Debug, Default)]
struct Book {
    addresses: Mutex<Vec<IpAddr>>,
    fails: AtomicBool,
}

impl Resolve for Book {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            assert_eq!(name, "weather.test");
            if self.fails.load(SeqCst) {
                return Err(io::Error::other("the name server is away"));
            }
            Ok(self.addresses.lock().expect("no panic").clone())
        })
    }
}

impl Book {
    fn say(&self, addresses: &[SocketAddr]) {
        *self.addresses.lock().expect("no panic") = addresses.iter().map(SocketAddr::ip).collect();
    }
}

#[tokio::test]
async fn names_are_followed_and_a_failing_resolution_changes_nothing() {
    let one = Member::start(AT_ONCE).await;
    let elsewhere = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), one.address.port());
    let other = Member::at(elsewhere, AT_ONCE).await;
    let book = Arc::new(Book::default());
    book.fails.store(true, SeqCst);
    let resolver = book.clone();
    let port = one.address.port();
    let stage = Stage::with(
        |world| world.service.upstream = format!("http://weather.test:{port}"),
        |config| {
            config.cores = Some(2);
            config.upstream.resolve_interval = Duration::from_millis(50);
            config.upstream.resolver = resolver;
        },
    )
    .await;
    let problem = stage.get("/weather/v1/any/x").send().await.expect("an answer");
    assert_eq!(problem.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(problem.json::<Value>().await.expect("a problem")["type"], "urn:tollkeeper:problem:upstream-unreachable");

    book.say(&[one.address]);
    book.fails.store(false, SeqCst);
    eventually("the name is known", async || (status(&stage).await == StatusCode::OK).then_some(())).await;
    assert_eq!(calls(&stage, 40, 4).await, all_ok(40));
    assert_eq!(other.seen.calls(), 0);

    book.say(&[other.address]);
    eventually("calls go where the name now leads", async || {
        let before = one.seen.calls();
        assert_eq!(calls(&stage, 20, 4).await, all_ok(20));
        (one.seen.calls() == before).then_some(())
    })
    .await;
    eventually("connections to the old address are closed", async || (one.seen.open() == 0).then_some(())).await;

    let unchanged = async |why: &str| {
        let before = one.seen.calls();
        let until = tokio::time::Instant::now() + Duration::from_secs(2);
        while tokio::time::Instant::now() < until {
            assert_eq!(calls(&stage, 20, 4).await, all_ok(20), "{why}");
        }
        assert_eq!(one.seen.calls(), before, "{why}");
    };
    book.fails.store(true, SeqCst);
    book.say(&[one.address]);
    unchanged("the name server is away").await;
    book.say(&[]);
    book.fails.store(false, SeqCst);
    unchanged("the name has no addresses").await;
    stage.gateway.stop().await;
}
