//! A real upstream: echoes, streams with trailers, WebSockets, and ways to fail.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, WebSocketUpgrade, ws::Message},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::json;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::serve;

pub async fn start() -> SocketAddr {
    let router = Router::new()
        .route("/base/v1/echo", any(echo))
        .route("/base/v1/echo/{city}", any(echo))
        .route("/base/v1/status/{code}", get(status))
        .route("/base/v1/slow", get(slow))
        .route("/base/v1/stream", get(stream))
        .route("/base/v1/broken", get(broken))
        .route("/base/v1/flood", get(flood))
        .route("/base/v1/stall", any(stall))
        .route("/base/v1/units/{units}", get(units))
        .route("/base/v1/ws", any(websocket))
        .fallback(async || (StatusCode::NOT_FOUND, "the upstream has no such page"));
    serve(router).await
}

/// What arrived.
async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await.ok();
    let trailers: HashMap<String, String> = collected.as_ref().and_then(|body| body.trailers()).map_or_else(HashMap::new, |trailers| {
        trailers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
    });
    let body = collected.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers: Vec<(String, String)> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
    let answer = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
        "trailers": trailers,
    });
    ([("x-upstream", "yes"), ("keep-alive", "timeout=5"), ("ratelimit", "forged")], Json(answer)).into_response()
}

async fn status(Path(code): Path<u16>) -> StatusCode {
    StatusCode::from_u16(code).expect("a status")
}

async fn slow() -> StatusCode {
    tokio::time::sleep(Duration::from_secs(60)).await;
    StatusCode::OK
}

async fn units(Path(units): Path<String>) -> Response {
    ([("x-units", units)], "counted").into_response()
}

/// A piece each 50 ms, as long as somebody reads; ends after `pieces` with a trailer that declares as many units.
async fn stream(request: Request) -> Response {
    let pieces: usize =
        request.uri().query().and_then(|query| query.strip_prefix("pieces=")).map_or(3, |count| count.parse().expect("a number"));
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    tokio::spawn(async move {
        for piece in 0..pieces {
            if sender.send(Ok(Frame::data(Bytes::from(format!("data: {piece}\n\n"))))).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let units = HeaderValue::from_str(&pieces.to_string()).expect("a value");
        let trailers: HeaderMap = [(HeaderName::from_static("x-units"), units)].into_iter().collect();
        let _ = sender.send(Ok(Frame::trailers(trailers))).await;
    });
    let body = Body::new(StreamBody::new(ReceiverStream::new(receiver)));
    ([("content-type", "text/event-stream"), ("trailer", "x-units")], body).into_response()
}

/// Begins an answer at once, and never goes on.
async fn stall() -> Response {
    let first = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from("first"))]);
    Body::from_stream(first.chain(futures_util::stream::pending())).into_response()
}

/// How many bytes were taken of floods.
pub static FLOODED: AtomicU64 = AtomicU64::new(0);

/// Bytes without an end.
async fn flood() -> Response {
    let pieces = futures_util::stream::repeat_with(|| {
        FLOODED.fetch_add(16_384, Relaxed);
        Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16_384]))
    });
    Body::from_stream(pieces).into_response()
}

/// Breaks off after two pieces.
async fn broken() -> Response {
    let pieces = ["one", "two"].into_iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
    let pieces = tokio_stream::iter(pieces.chain([Err(std::io::Error::other("broken off, as asked"))]));
    Body::from_stream(pieces.throttle(Duration::from_millis(100))).into_response()
}

/// Sends every message back; at `die` it is gone without a goodbye.
async fn websocket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.next().await {
            if message == Message::Text("die".into()) {
                return;
            }
            // After a close frame the answer to it is sent while the end is waited for.
            if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}
