//! How long the parts of a call may take, as its route says.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use gateway_control::{
    options::{RouteOptions, RouteTimeouts},
    policy::Service,
};
use reqwest::StatusCode;
use serde_json::Value;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

use crate::harness::{SOON, Stage, policy::World};

/// Far longer than any test waits: what ends before is ended by what the test is about.
const LONG_MS: u32 = 120_000;

/// A stage whose service waits long, with one route that does not.
async fn stage(path: &'static str, timeouts: RouteTimeouts, adjust: impl FnOnce(&mut World)) -> Stage {
    let world = |world: &mut World| {
        world.service = Service { connect_timeout_ms: LONG_MS, first_byte_timeout_ms: LONG_MS, ..world.service.clone() };
        let stalls = gateway_control::policy::Route {
            path: "/weather/v1/stall".into(),
            id: ids::RouteId::new(),
            ..world.route("/weather/v1/slow").clone()
        };
        world.routes.push(stalls);
        world.route(path).options = RouteOptions { timeouts, ..RouteOptions::default() }.stated();
        adjust(world);
    };
    Stage::with(world, |config| config.idle_timeout = Duration::from_secs(120)).await
}

/// A call that is answered 504 with this problem, and recorded as the gateway's own answer.
async fn times_out(stage: &Stage, path: &str, problem: &str) {
    let started = Instant::now();
    let answer = stage.get(path).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["type"], format!("urn:tollkeeper:problem:{problem}"));
    let rows = stage.portal.calls_of(stage.world.requests, 1).await;
    assert_eq!((rows[0].key.status, rows[0].incomplete), (504, 1));
    assert_eq!(rows[0].key.answered_by, gateway_control::usage::AnsweredBy::Gateway, "so it is not billable");
}

#[tokio::test]
async fn connecting() {
    // It accepts connections and never speaks, so that the handshake of TLS never ends.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", silent.local_addr().expect("an address"));
    let timeouts = RouteTimeouts { connect_ms: Some(200), ..RouteTimeouts::default() };
    let stage = stage("/weather/v1/echo", timeouts, |world| world.service.upstream = url).await;
    times_out(&stage, "/weather/v1/echo", "upstream-timeout").await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn the_first_byte() {
    let timeouts = RouteTimeouts { first_byte_ms: Some(200), ..RouteTimeouts::default() };
    let stage = stage("/weather/v1/slow", timeouts, |_| ()).await;
    times_out(&stage, "/weather/v1/slow", "upstream-timeout").await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn the_whole_call() {
    let timeouts = RouteTimeouts { total_ms: Some(300), ..RouteTimeouts::default() };
    let stage = stage("/weather/v1/slow", timeouts, |_| ()).await;
    times_out(&stage, "/weather/v1/slow", "deadline-exceeded").await;
    stage.gateway.stop().await;
}

/// Reads an answer that breaks off; returns how much came before.
async fn breaks_off(stage: &Stage, path: &str) -> usize {
    let answer = stage.get(path).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let mut body = answer.bytes_stream();
    let mut read = 0;
    let reading = async {
        loop {
            match body.next().await {
                Some(Ok(piece)) => read += piece.len(),
                Some(Err(_)) => return,
                None => panic!("the answer ended as if it were whole"),
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("it breaks off soon");
    read
}

#[tokio::test]
async fn an_answer_that_goes_on_for_too_long_breaks_off() {
    let timeouts = RouteTimeouts { total_ms: Some(700), ..RouteTimeouts::default() };
    let stage = stage("/weather/v1/stream", timeouts, |_| ()).await;
    assert!(breaks_off(&stage, "/weather/v1/stream?pieces=100000").await > 0);
    let rows = stage.portal.calls_of(stage.world.requests, 1).await;
    assert_eq!((rows[0].key.status, rows[0].incomplete), (200, 1));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_answer_on_which_nothing_passes_breaks_off_and_others_do_not() {
    let timeouts = RouteTimeouts { idle_ms: Some(1_000), ..RouteTimeouts::default() };
    let with_stream =
        |world: &mut World| world.route("/weather/v1/stream").options = RouteOptions { timeouts, ..RouteOptions::default() }.stated();
    let stage = stage("/weather/v1/stall", timeouts, with_stream).await;
    assert_eq!(breaks_off(&stage, "/weather/v1/stall").await, "first".len());
    let rows = stage.portal.calls_of(stage.world.requests, 1).await;
    assert_eq!((rows[0].key.status, rows[0].incomplete), (200, 1));
    // Two seconds of pieces that come all the time.
    let text = stage.get("/weather/v1/stream?pieces=40").send().await.expect("an answer").text().await.expect("the whole answer");
    assert_eq!(text.matches("data:").count(), 40);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_stops_is_refused() {
    let timeouts = RouteTimeouts { idle_ms: Some(300), ..RouteTimeouts::default() };
    let stage = stage("/weather/v1/echo", timeouts, |world| {
        let idle = world.route("/weather/v1/echo").options.clone();
        world.routes.iter_mut().filter(|route| route.path == "/weather/v1/echo").for_each(|route| route.options = idle.clone());
    })
    .await;
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>("first")]);
    let body = reqwest::Body::wrap_stream(first.chain(futures_util::stream::pending()));
    let call = stage.client.post(stage.gateway.url("/weather/v1/echo")).header("x-api-key", stage.world.live.reveal()).body(body);
    let answer = tokio::time::timeout(SOON, call.send()).await.expect("soon").expect("an answer");
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    let rows = stage.portal.calls_of(stage.world.requests, 1).await;
    assert_eq!((rows[0].key.status, rows[0].incomplete), (408, 1));
    stage.gateway.stop().await;
}

/// Opens a WebSocket, says one thing, and waits to be told why it is closed.
async fn closes_with(timeouts: RouteTimeouts, reason: &str) {
    let stage = stage("/weather/v1/ws", timeouts, |_| ()).await;
    let mut request = format!("ws://{}/weather/v1/ws", stage.gateway.addresses.data).into_client_request().expect("a request");
    request.headers_mut().insert("x-api-key", stage.world.live.reveal().parse().expect("a value"));
    let (mut socket, _) = connect_async(request).await.expect("a WebSocket");
    socket.send(Message::text("hello")).await.expect("sent");
    let next = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| {
        tokio::time::timeout(SOON, socket.next()).await.expect("soon").expect("a message").expect("a message")
    };
    assert_eq!(next(&mut socket).await, Message::text("hello"));
    let Message::Close(Some(frame)) = next(&mut socket).await else { panic!("expected a close frame") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Away, reason));
    let rows = stage.portal.calls_of(stage.world.messages, 1).await;
    assert_eq!((rows[0].key.status, rows[0].incomplete), (101, 1));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_websocket_on_which_nothing_passes_is_closed() {
    closes_with(RouteTimeouts { idle_ms: Some(1_000), ..RouteTimeouts::default() }, "nothing passed for too long").await;
}

#[tokio::test]
async fn a_websocket_that_lasts_too_long_is_closed() {
    closes_with(RouteTimeouts { total_ms: Some(1_000), ..RouteTimeouts::default() }, "the call took too long").await;
}
