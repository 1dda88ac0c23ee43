//! Streaming bodies: server-sent events, whose pieces pass as they come and whose bytes are counted while they do.

use gateway_control::{policy::UnitSource, units::Micros};
use metering_gateway::Config;
use serde_json::{Value, json};

use super::*;

const EVENTS: &str = "/weather/v1/stream";

/// The stream's bytes are what is billed.
fn bytes(world: &mut World) {
    let meters = &mut world.route(EVENTS).meters;
    meters[1].source = UnitSource::ResponseBytes;
    meters[1].max_units = Micros::units(1_000_000);
}

async fn scene(world: impl FnOnce(&mut World), adjust: impl FnOnce(&mut Config)) -> (Stage, Peer) {
    let stage = Stage::with(
        |made| {
            bytes(made);
            world(made);
        },
        adjust,
    )
    .await;
    (stage, Peer::start())
}

fn events(stage: &Stage, count: usize, key: &str) -> Value {
    json!({ "do": "http", "version": 1, "url": stage.gateway.url(&format!("{EVENTS}?pieces={count}")), "key": key })
}

fn live(stage: &Stage, count: usize) -> Value {
    events(stage, count, stage.world.live.reveal())
}

#[tokio::test]
async fn sse_authentication() {
    let (stage, mut peer) = scene(|_| (), |_| ()).await;
    let denied = peer.call(events(&stage, 3, "")).await;
    assert_eq!((&denied["status"], &denied["headers"]["content-type"]), (&json!(401), &json!("application/problem+json")), "{denied}");
    let answer = peer.call(live(&stage, 3)).await;
    assert_eq!((&answer["status"], &answer["headers"]["content-type"]), (&json!(200), &json!("text/event-stream")), "{answer}");
    stage.portal.calls_of(stage.world.tokens, 1).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn sse_limits() {
    let (stage, mut peer) = scene(two_calls, |_| ()).await;
    let mut command = live(&stage, 1);
    command["times"] = json!(3);
    assert_eq!(peer.call(command).await["statuses"], json!([200, 200, 429]));
    stage.portal.calls_of(stage.world.tokens, 2).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn sse_metering() {
    let (stage, mut peer) = scene(|_| (), |config| config.interim_interval = Duration::from_millis(300)).await;
    peer.ask(live(&stage, 40)).await;
    peer.first().await;
    let sum = || units(&stage.portal.rows().into_iter().filter(|row| row.key.meter == stage.world.tokens).collect::<Vec<_>>());
    eventually("a part is recorded while the stream is open", async || (sum() > Micros(0)).then_some(())).await;
    assert!(stage.portal.rows().iter().all(|row| row.count == 0), "no call has ended");
    let end = peer.end().await;
    assert_eq!(end["error"], Value::Null, "{end}");
    stage.portal.calls_of(stage.world.tokens, 1).await;
    assert_eq!(sum(), Micros::units(end["bytes"].as_i64().expect("a number")), "each byte once");
    stage.gateway.stop().await;
}

/// The bytes that a call recorded are those of whole events, and no more than were sent.
async fn partly(stage: &Stage) {
    let (sum, status, incomplete) = recorded(stage, stage.world.tokens).await;
    assert!(sum > Micros(0) && status == 200 && incomplete, "{sum} {status} {incomplete}");
}

#[tokio::test]
async fn sse_client_abort() {
    let (stage, mut peer) = scene(|_| (), |_| ()).await;
    peer.ask(live(&stage, 1_000)).await;
    peer.first().await;
    peer.cancel().await;
    peer.end().await;
    partly(&stage).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn sse_upstream_abort() {
    let breaks = |world: &mut World| {
        bytes(world);
        let meters = world.route(EVENTS).meters.clone();
        world.route("/weather/v1/broken").meters = meters;
    };
    let (stage, mut peer) = scene(breaks, |_| ()).await;
    let mut command = live(&stage, 1);
    command["url"] = json!(stage.gateway.url("/weather/v1/broken"));
    let end = peer.call(command).await;
    assert!(end["error"].as_str().is_some_and(|error| error.contains("ProtocolError")), "{end}");
    assert_eq!(recorded(&stage, stage.world.tokens).await, (Micros::units(6), 200, true));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn sse_revocation() {
    let (stage, mut peer) = scene(|_| (), |_| ()).await;
    peer.ask(live(&stage, 1_000)).await;
    peer.first().await;
    let end = revoke(&stage, &mut peer).await;
    assert!(end["error"].as_str().is_some_and(|error| error.contains("ProtocolError")), "{end}");
    partly(&stage).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn sse_drain() {
    let (stage, mut peer) = scene(|_| (), |config| config.drain_timeout = Duration::from_secs(1)).await;
    peer.ask(live(&stage, 1_000)).await;
    peer.first().await;
    let begin = Instant::now();
    stage.gateway.ask_to_stop();
    let end = peer.end().await;
    assert!(end["error"].as_str().is_some_and(|error| error.contains("ProtocolError")), "{end}");
    assert!(begin.elapsed() < SOON, "a stream without an end does not hold the gateway");
    partly(&stage).await;
    stage.gateway.stop().await;
}
