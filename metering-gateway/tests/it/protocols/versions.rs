//! What the versions of HTTP have of their own: `100 Continue`, trailers both ways, and WebSockets over HTTP/2.

use std::sync::atomic::Ordering::Relaxed;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use gateway_control::units::Micros;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::{
    body::{Body, Incoming},
    client::conn::{http1, http2},
    ext::Protocol,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::*;
use crate::harness::upstream::FLOODED;

async fn connect(stage: &Stage) -> TcpStream {
    TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection")
}

async fn over_http2<B>(stage: &Stage) -> http2::SendRequest<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(connect(stage).await)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A gRPC call with one message, by a client that looks at nothing but what it is sent: head, bytes and trailers of the answer.
pub async fn grpc(stage: &Stage, method: &str, message: &str, fields: &[(&str, &str)]) -> (HeaderMap, usize, HeaderMap) {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.put_slice(message.as_bytes());
    let mut request = Request::post(format!("http://gateway/demo.Echo/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-api-key", stage.world.live.reveal());
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.freeze())).expect("a request");
    let answer = over_http2(stage).await.send_request(request).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    let body = tokio::time::timeout(SOON, body.collect()).await.expect("in time").expect("an end in order");
    let trailers = body.trailers().cloned().unwrap_or_default();
    (parts.headers, body.to_bytes().len(), trailers)
}

/// Sends the head of an upload that waits for `100 Continue`, and returns what comes first.
async fn expecting(stage: &Stage, key: &str) -> (TcpStream, String) {
    let mut stream = connect(stage).await;
    let head =
        format!("POST /weather/v1/echo HTTP/1.1\r\nhost: gateway\r\nx-api-key: {key}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut buffer = vec![0; 4096];
    let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("soon").expect("an answer");
    (stream, String::from_utf8_lossy(&buffer[..read]).into_owned())
}

#[tokio::test]
async fn a_body_is_asked_for_only_from_admitted_callers() {
    let stage = Stage::new().await;
    let (_, first) = expecting(&stage, "tk_live_garbage").await;
    assert!(first.starts_with("HTTP/1.1 401 "), "no 100 before it: {first}");
    // Where the body would be, no request can be found, and who is not asked for it is told.
    assert!(first.contains("\r\nconnection: close\r\n"), "{first}");
    let (mut stream, first) = expecting(&stage, stage.world.live.reveal()).await;
    assert_eq!(first, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(SOON, stream.read(&mut answer)).await.expect("soon").expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(r#""body":"hello""#), "{answer}");
    stage.portal.calls_of(stage.world.requests, 1).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_body_is_asked_for_behind_an_answer_that_has_not_left_yet() {
    let stage = Stage::new().await;
    let key = stage.world.live.reveal();
    let mut stream = connect(&stage).await;
    let head = |method: &str, more: &str| format!("{method} /weather/v1/echo HTTP/1.1\r\nhost: gateway\r\nx-api-key: {key}\r\n{more}\r\n");
    let both = head("GET", "") + &head("POST", "expect: 100-continue\r\ncontent-length: 5\r\n");
    stream.write_all(both.as_bytes()).await.expect("sent");
    let mut text = String::new();
    let mut until = async |what: &str| {
        while !text.contains(what) {
            let mut buffer = vec![0; 4096];
            let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.unwrap_or_else(|_| panic!("no {what} behind {text}"));
            text.push_str(&String::from_utf8_lossy(&buffer[..read.expect("an answer")]));
        }
        if what.contains("100") {
            stream.write_all(b"hello").await.expect("sent");
        }
    };
    until("\r\n\r\n{").await;
    until("}HTTP/1.1 100 Continue\r\n\r\n").await;
    until(r#""body":"hello""#).await;
    stage.portal.calls_of(stage.world.requests, 2).await;
    stage.gateway.stop().await;
}

fn with_trailer(stage: &Stage) -> Request<impl Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + use<>> {
    let trailers: HeaderMap = [(header::HeaderName::from_static("x-checksum"), "42".parse().expect("a value"))].into_iter().collect();
    let frames = [Frame::data(Bytes::from_static(b"piece")), Frame::trailers(trailers)].map(Ok);
    Request::post("http://gateway/weather/v1/echo")
        .header("host", "gateway")
        .header("trailer", "x-checksum")
        .header("x-api-key", stage.world.live.reveal())
        .body(StreamBody::new(tokio_stream::iter(frames)))
        .expect("a request")
}

async fn echoed(answer: http::Response<Incoming>) -> Value {
    assert_eq!(answer.status(), StatusCode::OK);
    serde_json::from_slice(&answer.collect().await.expect("a body").to_bytes()).expect("JSON")
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_upstream() {
    let stage = Stage::new().await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(connect(&stage).await)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    for echo in [
        echoed(sender.send_request(with_trailer(&stage)).await.expect("an answer")).await,
        echoed(over_http2(&stage).await.send_request(with_trailer(&stage)).await.expect("an answer")).await,
    ] {
        assert_eq!((&echo["body"], &echo["trailers"]["x-checksum"]), (&"piece".into(), &"42".into()), "{echo}");
    }
    stage.portal.calls_of(stage.world.requests, 2).await;
    stage.gateway.stop().await;
}

/// Asks for a WebSocket by extended CONNECT.
fn extended(stage: &Stage, protocol: &'static str, path: &str) -> Request<Empty<Bytes>> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://gateway{path}"))
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("x-api-key", stage.world.live.reveal())
        .body(Empty::new())
        .expect("a request")
}

#[tokio::test]
async fn a_websocket_opens_over_http2() {
    let stage = Stage::new().await;
    let mut sender = over_http2(&stage).await;
    let answer = sender.send_request(extended(&stage, "websocket", "/weather/v1/ws")).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("sec-websocket-accept") && !answer.headers().contains_key("upgrade"), "{:?}", answer.headers());
    let upgraded = hyper::upgrade::on(answer).await.expect("a tunnel");
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.expect("sent");
        assert_eq!(socket.next().await.expect("a message").expect("a message"), Message::text(text));
    }
    let begin = Instant::now();
    stage.portal.remove(entry(EntryBody::ApiKey(stage.world.keys[0].clone())).id);
    let last = tokio::time::timeout(SOON, socket.next()).await.expect("soon").expect("a message").expect("a message");
    assert!(begin.elapsed() < A_SECOND, "{:?}", begin.elapsed());
    let Message::Close(Some(frame)) = last else { panic!("expected a close frame, got {last:?}") };
    assert_eq!(u16::from(frame.code), 1008);
    let (sum, _, incomplete) = recorded(&stage, stage.world.messages).await;
    assert_eq!((sum, incomplete), (Micros::units(4), true));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn connect_opens_nothing_else() {
    let stage = Stage::new().await;
    for (protocol, path, status) in [
        ("connect-udp", "/weather/v1/ws", StatusCode::METHOD_NOT_ALLOWED),
        // An upstream that does not know WebSockets there: its success must not be taken for an open one.
        ("websocket", "/weather/v1/echo", StatusCode::BAD_GATEWAY),
        ("websocket", "/weather/v1/nowhere", StatusCode::NOT_FOUND),
    ] {
        let answer = over_http2(&stage).await.send_request(extended(&stage, protocol, path)).await.expect("an answer");
        assert_eq!(answer.status(), status, "{protocol} {path}");
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn crumbs_of_cookies_reach_the_upstream_as_one() {
    let stage = Stage::new().await;
    let mut request = Request::get("http://gateway/weather/v1/echo").header("x-api-key", stage.world.live.reveal());
    for crumb in ["a=1", "b=2"] {
        request = request.header("cookie", crumb);
    }
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let echo = echoed(over_http2(&stage).await.send_request(request).await.expect("an answer")).await;
    let cookies: Vec<&Value> = echo["headers"].as_array().expect("headers").iter().filter(|header| header[0] == "cookie").collect();
    assert_eq!(cookies, [&serde_json::json!(["cookie", "a=1; b=2"])], "{echo}");
    stage.gateway.stop().await;
}

/// Waits until an upstream that floods is held up, and returns how far it came.
async fn held_up() -> u64 {
    let mut before = 0;
    eventually("the upstream is held up", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = FLOODED.load(Relaxed);
        (now > 0 && std::mem::replace(&mut before, now) == now).then_some(now)
    })
    .await
}

#[tokio::test]
async fn a_caller_that_does_not_read_stops_its_upstream() {
    // What the sockets of two connections hold, and some more.
    const MOST: u64 = 48 * 1024 * 1024;
    let stage = Stage::new().await;
    let mut unread = connect(&stage).await;
    let head = format!("GET /weather/v1/flood HTTP/1.1\r\nhost: gateway\r\nx-api-key: {}\r\n\r\n", stage.world.live.reveal());
    unread.write_all(head.as_bytes()).await.expect("sent");
    let first = held_up().await;
    let request = Request::get("http://gateway/weather/v1/flood").header("x-api-key", stage.world.live.reveal());
    let mut sender = over_http2(&stage).await;
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).expect("a request")).await.expect("an answer");
    let both = held_up().await;
    assert!(first < MOST && both - first < MOST, "{first} {both}");
    // A revoked call ends although its caller does not read that it does.
    stage.portal.remove(entry(EntryBody::ApiKey(stage.world.keys[0].clone())).id);
    let rows = stage.portal.calls_of(stage.world.requests, 2).await;
    assert_eq!(rows.iter().map(|row| row.incomplete).sum::<u64>(), 2);
    let body = answer.into_body().collect();
    assert!(tokio::time::timeout(SOON, body).await.expect("in time").is_err(), "the stream is reset");
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, unread.read_to_end(&mut rest)).await.expect("the connection is closed");
    assert!(!rest.ends_with(b"0\r\n\r\n"), "and not as if it were whole");
    stage.gateway.stop().await;
}
