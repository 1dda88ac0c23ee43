//! Connections to upstreams are bounded over all cores; calls wait in line within a bound; what is idle or old is closed.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use gateway_control::options::ServiceOptions;
use metering_gateway::Config;
use reqwest::StatusCode;
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::{
    harness::{
        SOON, Stage, eventually,
        member::{AT_ONCE, Manner, Member},
    },
    hostile::namespaces::settle,
};

async fn stage(member: &Member, options: ServiceOptions, adjust: impl FnOnce(&mut Config)) -> Stage {
    let address = member.address;
    Stage::with(
        |world| {
            world.service.upstream = format!("http://{address}");
            world.service.connect_timeout_ms = 5_000;
            world.service.first_byte_timeout_ms = 20_000;
            world.service.options = options.stated();
        },
        adjust,
    )
    .await
}

fn bounds(max_connections: u32, max_waiting: u32) -> ServiceOptions {
    ServiceOptions { max_connections: Some(max_connections), max_waiting: Some(max_waiting), ..ServiceOptions::default() }
}

type Call = tokio::task::JoinHandle<reqwest::Result<reqwest::Response>>;

fn call(stage: &Stage, target: &str) -> Call {
    // A connection of its own, so that calls come in at every core.
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let call = client.get(stage.gateway.url(&format!("/weather/v1/any/{target}")));
    tokio::spawn(call.header("x-api-key", stage.world.live.reveal()).send())
}

async fn status(call: Call) -> StatusCode {
    tokio::time::timeout(SOON, call).await.expect("in time").expect("no panic").expect("an answer").status()
}

#[tokio::test]
async fn the_bound_on_connections_holds_over_all_cores_and_everybody_is_served() {
    let member = Member::start(Manner::Answer(Duration::from_millis(20))).await;
    let stage = stage(&member, bounds(3, 100), |config| config.cores = Some(4)).await;
    let calls: Vec<_> = (0..60).map(|number| call(&stage, &number.to_string())).collect();
    for call in calls {
        assert_eq!(status(call).await, StatusCode::OK);
    }
    // Each call has a connection to itself; one that was closed may look open to a server that is busy.
    let peak = member.seen.peak_busy.load(SeqCst);
    assert!((1..=3).contains(&peak), "{peak} connections at once");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_idle_on_one_core_serves_the_others() {
    let member = Member::start(AT_ONCE).await;
    let stage = stage(&member, bounds(1, 100), |config| config.cores = Some(4)).await;
    for number in 0..40 {
        assert_eq!(status(call(&stage, &number.to_string())).await, StatusCode::OK, "call {number}");
    }
    assert!(member.seen.connections.load(SeqCst) > 1, "the calls came in at several cores");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn who_finds_no_place_in_line_is_told_so_and_who_leaves_makes_room() {
    let member = Member::start(Manner::Hold).await;
    let stage = stage(&member, bounds(1, 1), |config| config.cores = Some(1)).await;
    let first = call(&stage, "first");
    eventually("the first is under way", async || (member.seen.calls() == 1).then_some(())).await;
    let leaves = call(&stage, "leaves");
    let refused = eventually("the line is full", async || {
        let answer = call(&stage, "refused");
        let answer = tokio::time::timeout(Duration::from_millis(300), answer).await.ok()?;
        Some(answer.expect("no panic").expect("an answer"))
    })
    .await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    let problem: Value = refused.json().await.expect("a problem");
    assert_eq!(problem["type"], "urn:tollkeeper:problem:upstream-overloaded");
    leaves.abort();
    let waits = eventually("there is room in line", async || {
        let mut waits = call(&stage, "waits");
        // Who is refused is answered at once.
        tokio::time::timeout(Duration::from_millis(500), &mut waits).await.is_err().then_some(waits)
    })
    .await;
    member.seen.held.add_permits(10);
    assert_eq!(status(first).await, StatusCode::OK);
    assert_eq!(status(waits).await, StatusCode::OK);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_namespace_that_fills_the_line_leaves_the_others_a_place_and_their_turn() {
    let member = Member::start(Manner::Hold).await;
    let stage = stage(&member, bounds(1, 16), |config| config.cores = Some(1)).await;
    let neighbour = settle(&stage.portal, &stage.world);
    let under_way = call(&stage, "first");
    eventually("the first is under way", async || (member.seen.calls() == 1).then_some(())).await;
    let loud: Vec<_> = (0..40).map(|number| call(&stage, &format!("loud{number}"))).collect();
    let refused = async || loud.iter().filter(|call| call.is_finished()).count();
    eventually("the line is full", async || (refused().await == 24).then_some(())).await;
    let quiet = eventually("the neighbour is let in", async || {
        let request = stage.client.get(stage.gateway.url("/weather/v1/any/quiet")).header("x-api-key", &neighbour);
        let mut quiet = tokio::spawn(request.send());
        // Its key may be news to the gateway; who is refused is answered at once.
        tokio::time::timeout(Duration::from_millis(500), &mut quiet).await.is_err().then_some(quiet)
    })
    .await;
    member.seen.held.add_permits(100);
    assert_eq!(status(quiet).await, StatusCode::OK);
    assert_eq!(status(under_way).await, StatusCode::OK);
    let mut served = 0;
    for call in loud {
        served += usize::from(status(call).await == StatusCode::OK);
    }
    assert_eq!(served, 16, "those who had a place were served as well");
    let place = member.seen.targets().iter().position(|target| target.ends_with("/quiet")).expect("it came");
    assert!(place <= 3, "the neighbour was served after {place} others, though one of its calls waited");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn nobody_in_line_is_overtaken() {
    let member = Member::start(Manner::Hold).await;
    let stage = stage(&member, bounds(1, 100), |config| config.cores = Some(1)).await;
    let mut calls = Vec::new();
    for number in 0..6 {
        calls.push(call(&stage, &number.to_string()));
        // Each is in line, or under way, before the next comes.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(member.seen.calls(), 1);
    member.seen.held.add_permits(6);
    for call in calls {
        assert_eq!(status(call).await, StatusCode::OK);
    }
    let order: Vec<_> = member.seen.targets().iter().map(|target| target.rsplit('/').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(order, ["0", "1", "2", "3", "4", "5"]);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_wait_in_line_ends_with_the_time_that_a_connection_may_take() {
    let member = Member::start(Manner::Hold).await;
    let address = member.address;
    let stage = Stage::with(
        |world| {
            world.service.upstream = format!("http://{address}");
            world.service.options = bounds(1, 100).stated();
            world.service.first_byte_timeout_ms = 20_000;
        },
        |config| config.cores = Some(1),
    )
    .await;
    let first = call(&stage, "first");
    eventually("the first is under way", async || (member.seen.calls() == 1).then_some(())).await;
    assert_eq!(status(call(&stage, "second")).await, StatusCode::SERVICE_UNAVAILABLE);
    member.seen.held.add_permits(2);
    assert_eq!(status(first).await, StatusCode::OK);
    assert_eq!(status(call(&stage, "third")).await, StatusCode::OK);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_its_caller_abandons_closes_its_connection() {
    let member = Member::start(Manner::Hang).await;
    let stage = stage(&member, ServiceOptions::default(), |_| ()).await;
    let abandoned = call(&stage, "abandoned");
    eventually("the call is under way", async || (member.seen.calls() == 1).then_some(())).await;
    assert_eq!(member.seen.open(), 1);
    abandoned.abort();
    eventually("the connection is closed", async || (member.seen.open() == 0).then_some(())).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_old_ones_are_replaced() {
    let member = Member::start(AT_ONCE).await;
    let stage = stage(&member, ServiceOptions::default(), |config| {
        config.cores = Some(1);
        config.upstream.idle_timeout = Duration::from_secs(2);
        config.upstream.max_age = Duration::from_millis(500);
    })
    .await;
    let connections = || member.seen.connections.load(SeqCst);
    assert_eq!(status(call(&stage, "one")).await, StatusCode::OK);
    assert_eq!((connections(), member.seen.open()), (1, 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(status(call(&stage, "two")).await, StatusCode::OK);
    assert_eq!(connections(), 2, "the first had become too old");
    eventually("nothing is kept that nobody uses", async || (member.seen.open() == 0).then_some(())).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_vanishes_and_comes_back_is_found_again() {
    let member = Member::start(AT_ONCE).await;
    let stage = stage(&member, ServiceOptions::default(), |_| ()).await;
    assert_eq!(status(call(&stage, "before")).await, StatusCode::OK);
    let address = member.address;
    member.seen.be(Manner::Cut);
    member.vanish().await;
    eventually("it is gone", async || (status(call(&stage, "gone")).await == StatusCode::BAD_GATEWAY).then_some(())).await;
    let back = Member::at(address, AT_ONCE).await;
    eventually("it is back", async || (status(call(&stage, "back")).await == StatusCode::OK).then_some(())).await;
    assert!(back.seen.calls() > 0);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_tunnel_counts_as_a_connection_until_it_ends() {
    let stage = Stage::with(|world| world.service.options = bounds(1, 0).stated(), |config| config.cores = Some(1)).await;
    let mut request = stage.gateway.url("/weather/v1/ws").replace("http://", "ws://").into_client_request().expect("a request");
    request.headers_mut().insert("x-api-key", stage.world.live.reveal().parse().expect("a value"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("a WebSocket");
    let refused = stage.get("/weather/v1/echo").send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    socket.close(None).await.expect("closed");
    eventually("there is room again", async || {
        (stage.get("/weather/v1/echo").send().await.expect("an answer").status() == StatusCode::OK).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}
