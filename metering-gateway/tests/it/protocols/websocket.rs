//! WebSockets, with the package websockets.

use gateway_control::units::Micros;
use metering_gateway::Config;
use serde_json::{Value, json};

use super::*;

async fn scene(world: impl FnOnce(&mut World), adjust: impl FnOnce(&mut Config)) -> (Stage, Peer) {
    (Stage::with(world, adjust).await, Peer::start())
}

fn socket(stage: &Stage, key: &str) -> Value {
    json!({ "do": "websocket", "url": format!("ws://{}/weather/v1/ws", stage.gateway.addresses.data), "key": key, "messages": 3 })
}

fn live(stage: &Stage, hold: bool) -> Value {
    let mut command = socket(stage, stage.world.live.reveal());
    command["hold"] = json!(hold);
    command
}

#[tokio::test]
async fn websocket_authentication() {
    let (stage, mut peer) = scene(|_| (), |_| ()).await;
    for key in ["", "tk_live_garbage"] {
        assert_eq!(peer.call(socket(&stage, key)).await["status"], 401);
    }
    let end = peer.call(live(&stage, false)).await;
    assert_eq!((&end["status"], &end["got"], &end["code"]), (&json!(101), &json!(3), &json!(1000)), "{end}");
    stage.portal.calls_of(stage.world.messages, 1).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn websocket_limits() {
    let (stage, mut peer) = scene(two_calls, |_| ()).await;
    for status in [101, 101, 429] {
        let end = peer.call(live(&stage, false)).await;
        assert_eq!(end["status"], status, "{end}");
    }
    stage.portal.calls_of(stage.world.messages, 2).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn websocket_metering() {
    let (stage, mut peer) = scene(|_| (), |_| ()).await;
    let mut command = live(&stage, false);
    // Messages of several frames and buffers.
    command["times"] = json!(10_000);
    let end = peer.call(command).await;
    assert_eq!((&end["got"], &end["code"]), (&json!(3), &json!(1000)), "{end}");
    assert_eq!(recorded(&stage, stage.world.messages).await, (Micros::units(6), 101, false), "both ways");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn websocket_client_abort() {
    let (stage, mut peer) = scene(|_| (), |_| ()).await;
    peer.ask(live(&stage, true)).await;
    peer.first().await;
    peer.kill().await;
    assert_eq!(recorded(&stage, stage.world.messages).await, (Micros::units(6), 101, true));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn websocket_upstream_abort() {
    let (stage, mut peer) = scene(|_| (), |_| ()).await;
    let mut command = live(&stage, true);
    (command["messages"], command["say"]) = (json!(1), json!("die"));
    let end = peer.call(command).await;
    assert_eq!(end["code"], 1006, "no goodbye is made up: {end}");
    assert_eq!(recorded(&stage, stage.world.messages).await, (Micros::units(1), 101, true));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn websocket_revocation() {
    let (stage, mut peer) = scene(|_| (), |_| ()).await;
    peer.ask(live(&stage, true)).await;
    peer.first().await;
    let end = revoke(&stage, &mut peer).await;
    assert_eq!(end["code"], 1008, "{end}");
    assert_eq!(recorded(&stage, stage.world.messages).await, (Micros::units(6), 101, true));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn websocket_drain() {
    // It does not go on until the gateway has no patience left with what is open.
    let (stage, mut peer) = scene(|_| (), |config| config.drain_timeout = 10 * SOON).await;
    peer.ask(live(&stage, true)).await;
    peer.first().await;
    stage.gateway.ask_to_stop();
    let end = peer.end().await;
    assert_eq!(end["code"], 1001, "going away: {end}");
    stage.gateway.stop().await;
    assert_eq!(units(&stage.portal.calls_of(stage.world.messages, 1).await), Micros::units(6));
}
