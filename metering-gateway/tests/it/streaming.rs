//! Streams pass as they come, and are metered whole (SEMANTICS M1, M8).

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use gateway_control::{policy::EntryBody, units::Micros};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;

use crate::harness::{Stage, eventually, policy::entry};

#[tokio::test]
async fn events_arrive_one_by_one_and_the_trailer_is_billed() {
    let stage = Stage::new().await;
    let connection = tokio::net::TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.expect("HTTP");
    tokio::spawn(connection);
    let request = Request::get("/weather/v1/stream?pieces=4")
        .header("host", "gateway")
        .header("te", "trailers")
        .header("x-api-key", stage.world.live.reveal())
        .body(Empty::<Bytes>::new())
        .expect("a request");
    let started = Instant::now();
    let mut answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut pieces, mut arrivals, mut trailers) = (Vec::new(), Vec::new(), None);
    while let Some(frame) = answer.body_mut().frame().await {
        match frame.expect("a frame").into_data() {
            Ok(data) => {
                pieces.push(data);
                arrivals.push(started.elapsed());
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    assert_eq!(pieces.concat(), b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n");
    assert_eq!(pieces.len(), 4, "each piece by itself");
    assert!(arrivals[3] - arrivals[0] >= Duration::from_millis(100), "not all at the end: {arrivals:?}");
    assert_eq!(trailers.expect("trailers")["x-units"], "4");
    let rows = stage.portal.calls_of(stage.world.tokens, 1).await;
    assert_eq!((rows[0].sum, rows[0].incomplete), (Micros::units(4), 0));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_trailer_is_billed_even_when_the_caller_does_not_take_trailers() {
    let stage = Stage::new().await;
    let text = stage.get("/weather/v1/stream?pieces=2").send().await.expect("an answer").text().await.expect("a body");
    assert_eq!(text, "data: 0\n\ndata: 1\n\n");
    assert_eq!(stage.portal.calls_of(stage.world.tokens, 1).await[0].sum, Micros::units(2));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_is_recorded_as_such() {
    let stage = Stage::new().await;
    let answer = stage.get("/weather/v1/stream?pieces=1000").send().await.expect("an answer");
    let mut body = answer.bytes_stream();
    body.next().await.expect("a piece").expect("a piece");
    drop(body);
    let rows = stage.portal.calls_of(stage.world.tokens, 1).await;
    // No trailer came, so the route's default stands.
    assert_eq!((rows[0].sum, rows[0].incomplete, rows[0].key.status), (Micros::units(7), 1, 200));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn revocation_resets_an_open_stream() {
    let stage = Stage::new().await;
    let answer = stage.get("/weather/v1/stream?pieces=1000").send().await.expect("an answer");
    let mut body = answer.bytes_stream();
    body.next().await.expect("a piece").expect("a piece");
    let revoked_at = Instant::now();
    stage.portal.remove(entry(EntryBody::ApiKey(stage.world.keys[0].clone())).id);
    let broken = loop {
        match body.next().await {
            Some(Ok(_)) => (),
            Some(Err(error)) => break error,
            None => panic!("the stream ended as if it were whole"),
        }
    };
    assert!(revoked_at.elapsed() < Duration::from_secs(1), "P1: within a second, not {:?} ({broken})", revoked_at.elapsed());
    assert_eq!(stage.portal.calls_of(stage.world.tokens, 1).await[0].incomplete, 1);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn declared_units_are_defaulted_and_clamped() {
    let stage = Stage::new().await;
    for units in ["12.5", "0.000001", "-3", "many", "5000"] {
        let answer = stage.get(&format!("/weather/v1/units/{units}")).send().await.expect("an answer");
        assert_eq!(answer.text().await.expect("a body"), "counted");
    }
    let rows = stage.portal.calls_of(stage.world.tokens, 5).await;
    let sum: i128 = rows.iter().map(|row| row.sum.0).sum();
    // 12.5 + 0.000001 + two defaults of 7 + the bound of 1000.
    assert_eq!(Micros(sum).to_string(), "1026.500001");
    let metrics = eventually("the faults are counted", async || {
        let text = stage.client.get(stage.gateway.admin("/metrics")).send().await.ok()?.text().await.ok()?;
        text.contains("tollkeeper_gateway_units_clamped_total 1").then_some(text)
    })
    .await;
    assert!(metrics.contains("tollkeeper_gateway_units_defaulted_total 2"), "{metrics}");
    assert!(metrics.contains("tollkeeper_gateway_units_malformed_total 2"), "{metrics}");
    stage.gateway.stop().await;
}
