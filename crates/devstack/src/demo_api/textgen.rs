//! Text generation. It streams tokens as server-sent events and reports the tokens that it used: in the trailer `x-usage-tokens` of a stream, in
//! the header of that name of a plain answer.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Shared, problem, wave};

const USAGE: &str = "x-usage-tokens";
const WORDS: [&str; 32] = [
    "the", "toll", "keeper", "counts", "every", "call", "that", "passes", "and", "a", "patient", "river", "carries", "small", "boats",
    "toward", "open", "water", "where", "morning", "light", "falls", "on", "quiet", "roads", "while", "bells", "ring", "softly", "beyond",
    "green", "hills",
];
/// How fast tokens come: about as fast as a person reads.
const TOKEN_INTERVAL: Duration = Duration::from_millis(40);

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/v1/models", get(models)).route("/v1/generate", post(generate))
}

#[derive(Deserialize)]
struct GenerateRequest {
    prompt: String,
    max_tokens: Option<u32>,
    #[serde(default)]
    stream: bool,
}

async fn models() -> Json<serde_json::Value> {
    Json(json!({ "models": [{ "id": "ferry-1", "context_tokens": 4096 }, { "id": "ferry-1-mini", "context_tokens": 1024 }] }))
}

async fn generate(State(shared): State<Shared>, body: Result<Json<GenerateRequest>, axum::extract::rejection::JsonRejection>) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return problem(StatusCode::BAD_REQUEST, &format!("The body is not what is expected: {}", rejection.body_text())),
    };
    if request.prompt.trim().is_empty() {
        return problem(StatusCode::BAD_REQUEST, "`prompt` must not be empty.");
    }
    let max_tokens = request.max_tokens.unwrap_or(48);
    if !(1..=1024).contains(&max_tokens) {
        return problem(StatusCode::BAD_REQUEST, "`max_tokens` must be between 1 and 1024.");
    }
    let prompt_tokens = request.prompt.split_whitespace().count() as u32;
    let tokens: Vec<&'static str> = (0..max_tokens).map(|i| WORDS[(wave(&request.prompt, u64::from(i)) * 31.99) as usize]).collect();
    let used = HeaderValue::from(prompt_tokens + max_tokens);
    if request.stream {
        return stream(shared, tokens, prompt_tokens, used);
    }
    let usage = json!({ "prompt_tokens": prompt_tokens, "completion_tokens": max_tokens, "total_tokens": prompt_tokens + max_tokens });
    ([(USAGE, used)], Json(json!({ "text": tokens.join(" "), "usage": usage }))).into_response()
}

fn stream(shared: Shared, tokens: Vec<&'static str>, prompt_tokens: u32, used: HeaderValue) -> Response {
    let (sender, frames) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(4);
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(TOKEN_INTERVAL);
        let mut sent = 0;
        for token in tokens {
            tokio::select! {
                _ = pace.tick() => {}
                () = shared.shutdown.cancelled() => break,
            }
            let event = format!("data: {}\n\n", json!({ "token": token }));
            if sender.send(Ok(Frame::data(event.into()))).await.is_err() {
                return;
            }
            sent += 1;
        }
        let usage = json!({ "usage": { "prompt_tokens": prompt_tokens, "completion_tokens": sent } });
        let end = format!("data: {usage}\n\ndata: [DONE]\n\n");
        let trailers = HeaderMap::from_iter([(header::HeaderName::from_static(USAGE), used)]);
        if sender.send(Ok(Frame::data(end.into()))).await.is_ok() {
            // The caller may have gone between the last event and the trailer: there is nobody left to tell.
            drop(sender.send(Ok(Frame::trailers(trailers))).await);
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache"), (header::TRAILER, USAGE)];
    (headers, Body::new(StreamBody::new(ReceiverStream::new(frames)))).into_response()
}
