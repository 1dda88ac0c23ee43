//! Upstreams that speak HTTP/2: streams share connections, both bodies flow at once, and what was not processed goes elsewhere.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use gateway_control::options::{RouteOptions, RouteTimeouts, ServiceOptions, UpstreamProtocol};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::harness::{
    SOON, Stage, eventually,
    http2::{self, Http2Upstream},
    policy::World,
};

/// A gateway of one core in front of an upstream that speaks HTTP/2 by prior knowledge.
async fn stage(max_streams: u32) -> (Stage, Http2Upstream) {
    let upstream = http2::start(max_streams).await;
    let address = upstream.address;
    let stage = Stage::with(|world| speak_http2(world, &format!("http://{address}/base")), |config| config.cores = Some(1)).await;
    (stage, upstream)
}

fn speak_http2(world: &mut World, upstream: &str) {
    world.service.upstream = upstream.into();
    world.service.options = Some(Box::new(ServiceOptions { protocol: UpstreamProtocol::Http2, ..ServiceOptions::default() }));
}

/// A caller's HTTP/2 connection to the gateway.
async fn caller(stage: &Stage) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
    let (sender, connection) = h2::client::handshake(stream).await.expect("a preface");
    tokio::spawn(async move { drop(connection.await) });
    sender.ready().await.expect("a connection")
}

fn post(stage: &Stage, path: &str) -> Request<()> {
    let builder = Request::post(format!("http://{}{path}", stage.gateway.addresses.data)).header("te", "trailers");
    builder.header("x-api-key", stage.world.live.reveal()).body(()).expect("a request")
}

async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(SOON, what).await.expect("in time")
}

#[tokio::test]
async fn many_calls_share_a_connection_and_arrive_in_the_form_of_http2() {
    let (stage, upstream) = stage(100).await;
    for _ in 0..5 {
        let answer = stage.get("/weather/v1/any/echo?q=1").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let echo: Value = answer.json().await.expect("JSON");
        assert_eq!((&echo["scheme"], &echo["target"]), (&"http".into(), &"/base/v1/any/echo?q=1".into()));
        assert_eq!(echo["authority"], upstream.address.to_string());
        let names: Vec<&str> =
            echo["headers"].as_array().expect("headers").iter().map(|header| header[0].as_str().expect("a name")).collect();
        assert!(!names.contains(&"host") && !names.contains(&"connection") && !names.contains(&"x-api-key"), "{names:?}");
        assert!(names.contains(&"tollkeeper-application"), "{names:?}");
    }
    let body = "x".repeat(300_000);
    let call = stage.client.post(stage.gateway.url("/weather/v1/any/echo")).header("x-api-key", stage.world.live.reveal());
    let echo: Value = call.body(body.clone()).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(echo["body"], body);
    assert_eq!(upstream.seen.connections.load(SeqCst), 1);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn both_sides_stream_at_once_and_trailers_pass_both_ways() {
    let (stage, _upstream) = stage(100).await;
    let mut caller = caller(&stage).await;
    let (answer, mut request) = caller.send_request(post(&stage, "/weather/v1/any/bidi"), false).expect("sent");
    // The head comes while the request is still going on, and each piece before the next is sent.
    let answer = soon(answer).await.expect("a head");
    assert_eq!(answer.status(), StatusCode::OK);
    let mut answer = answer.into_body();
    for piece in ["one", "two", "three"] {
        request.send_data(Bytes::from(piece), false).expect("sent");
        let echoed = soon(answer.data()).await.expect("a piece").expect("no error");
        assert_eq!(echoed, piece);
    }
    // The time that an upstream has for its head is long over; the caller was waited for.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let trailers: HeaderMap = [(http::HeaderName::from_static("x-asked"), HeaderValue::from_static("yes"))].into_iter().collect();
    request.send_trailers(trailers).expect("sent");
    assert!(soon(answer.data()).await.is_none());
    let trailers = soon(answer.trailers()).await.expect("no error").expect("trailers");
    assert_eq!((&trailers["grpc-status"], &trailers["x-asked"]), (&"0".parse().expect("text"), &"yes".parse().expect("text")));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_request_that_goes_on_does_not_time_out_but_a_silent_upstream_does() {
    let (stage, _upstream) = stage(100).await;
    let mut caller = caller(&stage).await;
    let (answer, mut request) = caller.send_request(post(&stage, "/weather/v1/any/echo"), false).expect("sent");
    for _ in 0..2 {
        // Longer than the upstream may take for its head.
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        request.send_data(Bytes::from("slow "), false).expect("sent");
    }
    request.send_data(Bytes::new(), true).expect("sent");
    assert_eq!(soon(answer).await.expect("a head").status(), StatusCode::OK);
    let (answer, _) = caller.send_request(post(&stage, "/weather/v1/any/hang"), true).expect("sent");
    assert_eq!(soon(answer).await.expect("a head").status(), StatusCode::GATEWAY_TIMEOUT);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_answer_of_a_head_alone_is_whole() {
    let (stage, _upstream) = stage(100).await;
    let mut caller = caller(&stage).await;
    let (answer, _) = caller.send_request(post(&stage, "/weather/v1/any/status"), true).expect("sent");
    let answer = soon(answer).await.expect("a head");
    assert_eq!((answer.status(), &answer.headers()["grpc-status"]), (StatusCode::NO_CONTENT, &"7".parse().expect("text")));
    assert!(answer.body().is_end_stream());
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_lacks_announced_bytes_is_not_whole() {
    let (stage, _upstream) = stage(100).await;
    let answer = stage.get("/weather/v1/any/short").send().await;
    let body = match answer {
        Ok(answer) => answer.bytes().await,
        Err(error) => Err(error),
    };
    body.expect_err("a body that ends early is an error");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn no_connection_gets_more_streams_than_its_peer_allows() {
    let (stage, upstream) = stage(2).await;
    // The first call lets the gateway learn what is allowed.
    stage.get("/weather/v1/any/echo").send().await.expect("an answer");
    let mut calls = Vec::new();
    for number in 1..=6 {
        calls.push(tokio::spawn(stage.get("/weather/v1/any/hold").send()));
        eventually("it is under way", async || (upstream.seen.holding.load(SeqCst) == number).then_some(())).await;
    }
    assert_eq!((upstream.seen.peak_streams.load(SeqCst), upstream.seen.connections.load(SeqCst)), (2, 3));
    upstream.seen.held.add_permits(6);
    for call in calls {
        assert_eq!(soon(call).await.expect("no panic").expect("an answer").status(), StatusCode::OK);
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn calls_that_come_at_once_share_the_connection_that_is_being_made() {
    let (stage, upstream) = stage(100).await;
    let calls: Vec<_> = (0..8).map(|_| tokio::spawn(stage.get("/weather/v1/any/hold").send())).collect();
    eventually("all are under way", async || (upstream.seen.holding.load(SeqCst) == 8).then_some(())).await;
    assert_eq!(upstream.seen.connections.load(SeqCst), 1);
    upstream.seen.held.add_permits(8);
    for call in calls {
        assert_eq!(soon(call).await.expect("no panic").expect("an answer").status(), StatusCode::OK);
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn streams_are_waited_for_when_no_more_connections_may_be_made() {
    let upstream = http2::start(2).await;
    let address = upstream.address;
    let stage = Stage::with(
        |world| {
            speak_http2(world, &format!("http://{address}/base"));
            world.service.connect_timeout_ms = 5_000;
            world.service.first_byte_timeout_ms = 20_000;
            let options = world.service.options.as_mut().expect("options");
            (options.max_connections, options.max_waiting) = (Some(2), Some(3));
        },
        |config| config.cores = Some(2),
    )
    .await;
    stage.get("/weather/v1/any/echo").send().await.expect("an answer");
    let mut calls = Vec::new();
    for _ in 0..7 {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let call = client.get(stage.gateway.url("/weather/v1/any/hold")).header("x-api-key", stage.world.live.reveal());
        calls.push(tokio::spawn(call.send()));
    }
    eventually("some are under way", async || (upstream.seen.holding.load(SeqCst) >= 2).then_some(())).await;
    upstream.seen.held.add_permits(7);
    let mut served = 0;
    for call in calls {
        let status = soon(call).await.expect("no panic").expect("an answer").status();
        assert!([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&status), "{status}");
        served += usize::from(status == StatusCode::OK);
    }
    assert!(served >= 5, "only {served} were served");
    assert!(upstream.seen.peak_streams.load(SeqCst) <= 2 && upstream.seen.peak_connections.load(SeqCst) <= 2);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn what_was_refused_or_came_after_a_goodbye_is_sent_again_whatever_its_method() {
    let (stage, upstream) = stage(100).await;
    let call = |path: &str, body: &'static str| {
        let call = stage.client.post(stage.gateway.url(path)).header("x-api-key", stage.world.live.reveal());
        async move { call.body(body).send().await.expect("an answer") }
    };
    assert_eq!(call("/weather/v1/any/echo", "").await.status(), StatusCode::OK);
    upstream.seen.refuse.store(true, SeqCst);
    let answer = call("/weather/v1/any/once", "whole").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let echo: Value = answer.json().await.expect("JSON");
    assert_eq!(echo["body"], "whole");
    assert!(!upstream.seen.refuse.load(SeqCst), "it was refused once");
    for round in 0..5 {
        assert_eq!(call("/weather/v1/any/goodbye", "x").await.status(), StatusCode::OK, "round {round}");
        assert_eq!(call("/weather/v1/any/echo", "x").await.status(), StatusCode::OK, "round {round}");
    }
    assert!(upstream.seen.connections.load(SeqCst) > 4, "each goodbye ended a connection");
    // A connection that breaks under a call that was seen is a failure: nobody knows what the upstream has done.
    assert_eq!(call("/weather/v1/any/cut", "x").await.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(call("/weather/v1/any/echo", "x").await.status(), StatusCode::OK);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_resets_its_stream_and_no_other() {
    let (stage, upstream) = stage(100).await;
    let other = tokio::spawn(stage.get("/weather/v1/any/hold").send());
    eventually("the other is under way", async || (upstream.seen.holding.load(SeqCst) == 1).then_some(())).await;
    let mut caller = caller(&stage).await;
    for ends in [true, false] {
        let before = upstream.seen.calls.load(SeqCst);
        let (answer, mut request) = caller.send_request(post(&stage, "/weather/v1/any/hang"), ends).expect("sent");
        eventually("the call has arrived", async || (upstream.seen.calls.load(SeqCst) > before).then_some(())).await;
        let resets = upstream.seen.resets.load(SeqCst);
        request.send_reset(h2::Reason::CANCEL);
        drop((answer, request));
        eventually("the upstream's stream is reset", async || (upstream.seen.resets.load(SeqCst) > resets).then_some(())).await;
    }
    upstream.seen.held.add_permits(1);
    assert_eq!(soon(other).await.expect("no panic").expect("an answer").status(), StatusCode::OK);
    assert_eq!(upstream.seen.connections.load(SeqCst), 1);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_runs_out_of_time_resets_its_stream_though_its_caller_goes_on() {
    let upstream = http2::start(100).await;
    let address = upstream.address;
    let stage = Stage::with(
        |world| {
            speak_http2(world, &format!("http://{address}/base"));
            let timeouts = RouteTimeouts { total_ms: Some(500), ..RouteTimeouts::default() };
            world.route("/weather/v1/any/{*rest}").options = RouteOptions { timeouts, ..RouteOptions::default() }.stated();
        },
        |config| config.cores = Some(1),
    )
    .await;
    let mut caller = caller(&stage).await;
    let (answer, mut request) = caller.send_request(post(&stage, "/weather/v1/any/hang"), false).expect("sent");
    request.send_data(Bytes::from("more will come"), false).expect("sent");
    assert_eq!(soon(answer).await.expect("a head").status(), StatusCode::GATEWAY_TIMEOUT);
    eventually("the upstream's stream is reset", async || (upstream.seen.resets.load(SeqCst) == 1).then_some(())).await;
    drop(request);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_stops_its_own_answer_only() {
    let (stage, upstream) = stage(100).await;
    let mut callers = Vec::new();
    for _ in 0..8 {
        let mut caller = caller(&stage).await;
        let (answer, _) = caller.send_request(post(&stage, "/weather/v1/any/flood"), true).expect("sent");
        callers.push((caller, soon(answer).await.expect("a head")));
    }
    let settled = eventually("the floods have stopped", async || {
        let before = upstream.seen.flooded.load(SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
        (before > 0 && upstream.seen.flooded.load(SeqCst) == before).then_some(before)
    })
    .await;
    assert!(settled < 8 * 4 * 1024 * 1024, "{settled} bytes wait for callers that do not read");
    let echo = soon(stage.get("/weather/v1/any/echo").send()).await.expect("an answer");
    assert_eq!(echo.status(), StatusCode::OK);
    // A head needs no window; a body does.
    soon(echo.text()).await.expect("a whole answer");
    assert_eq!(upstream.seen.connections.load(SeqCst), 1, "all on one connection");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_its_caller() {
    let (stage, _upstream) = stage(100).await;
    let mut caller = caller(&stage).await;
    let (_answer, mut request) = caller.send_request(post(&stage, "/weather/v1/any/hang"), false).expect("sent");
    let mut sent = 0;
    loop {
        request.reserve_capacity(64 * 1024);
        let capacity = tokio::time::timeout(Duration::from_millis(500), poll_fn(|cx| request.poll_capacity(cx))).await;
        let Ok(Some(Ok(capacity))) = capacity else { break };
        request.send_data(Bytes::from(vec![0; capacity]), false).expect("sent");
        sent += capacity;
        assert!(sent < 32 * 1024 * 1024, "an upload is buffered without a bound");
    }
    assert!(sent > 0);
    drop(request);
    stage.gateway.stop().await;
}

/// An upstream over TLS that agrees on one of some protocols, and speaks HTTP/2 where HTTP/2 was agreed on and the harness's upstream otherwise.
async fn secured(protocols: &[&str]) -> (u16, String, Arc<http2::Seen>) {
    let plain = crate::harness::upstream::start().await;
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a server");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let seen = http2::Seen::new();
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), shared.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    return http2::serve(stream, 100, seen).await;
                }
                let mut behind = TcpStream::connect(plain).await.expect("the upstream");
                // Either side may end first; that is how connections end.
                drop(tokio::io::copy_bidirectional(&mut stream, &mut behind).await);
            });
        }
    });
    (port, cert.pem(), seen)
}

async fn secured_stage(protocols: &[&str], protocol: UpstreamProtocol) -> (Stage, Arc<http2::Seen>) {
    let (port, certificate, seen) = secured(protocols).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), certificate).expect("a certificate");
    let stage = Stage::with(
        |world| {
            world.service.upstream = format!("https://localhost:{port}/base");
            world.service.options = ServiceOptions { protocol, ..ServiceOptions::default() }.stated();
        },
        |config| {
            config.cores = Some(1);
            config.upstream_ca_file = Some(file.path().to_owned());
        },
    )
    .await;
    (stage, seen)
}

#[tokio::test]
async fn what_is_spoken_over_tls_is_agreed_on() {
    use UpstreamProtocol::{Auto, Http1, Http2};
    for (offered, protocol, over_http2, status) in [
        (&["h2", "http/1.1"][..], Auto, true, StatusCode::OK),
        (&["h2", "http/1.1"], Http1, false, StatusCode::OK),
        (&["h2", "http/1.1"], Http2, true, StatusCode::OK),
        (&["http/1.1"], Auto, false, StatusCode::OK),
        (&[], Auto, false, StatusCode::OK),
        // Who insists on HTTP/2 gets nothing else.
        (&["http/1.1"], Http2, false, StatusCode::BAD_GATEWAY),
        (&[], Http2, false, StatusCode::BAD_GATEWAY),
    ] {
        let (stage, seen) = secured_stage(offered, protocol).await;
        for _ in 0..2 {
            let answer = stage.get("/weather/v1/echo").send().await.expect("an answer");
            assert_eq!(answer.status(), status, "{offered:?} {protocol:?}");
        }
        assert_eq!(seen.calls.load(SeqCst), if over_http2 { 2 } else { 0 }, "{offered:?} {protocol:?}");
        stage.gateway.stop().await;
    }
}

#[tokio::test]
async fn a_websocket_goes_over_http1_to_an_upstream_that_prefers_http2() {
    let (stage, seen) = secured_stage(&["h2", "http/1.1"], UpstreamProtocol::Auto).await;
    assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(seen.calls.load(SeqCst), 1, "calls go over HTTP/2");
    let mut request = stage.gateway.url("/weather/v1/ws").replace("http://", "ws://").into_client_request().expect("a request");
    request.headers_mut().insert("x-api-key", stage.world.live.reveal().parse().expect("a value"));
    let (mut socket, _) = soon(tokio_tungstenite::connect_async(request)).await.expect("a WebSocket");
    socket.send(Message::text("over HTTP/1.1")).await.expect("sent");
    assert_eq!(soon(socket.next()).await.expect("a message").expect("no error"), Message::text("over HTTP/1.1"));
    socket.close(None).await.expect("closed");
    stage.gateway.stop().await;
}
