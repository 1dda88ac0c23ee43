//! A client program: calls through the gateway with a key.

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use reqwest::{
    Client, RequestBuilder, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// A program with a key.
#[derive(Debug, Clone)]
pub struct Caller {
    http: Client,
    gateway: String,
    key: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
    /// What came after the body.
    pub trailers: HeaderMap,
}

/// A WebSocket's messages, counted.
#[derive(Debug, Default)]
pub struct Conversation {
    /// What was sent.
    pub sent: u64,
    /// What came back, in order.
    pub received: Vec<Value>,
}

impl Caller {
    /// A program that calls this gateway with this key.
    pub fn new(gateway: &str, key: &str) -> anyhow::Result<Self> {
        Ok(Self { http: crate::visitor::client()?, gateway: gateway.to_owned(), key: key.to_owned() })
    }

    /// Reads something.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        read(self.http.get(format!("{}{path}", self.gateway)).header("x-api-key", &self.key)).await
    }

    /// Sends JSON. Trailers are asked for, as clients that understand them do.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.gateway)).header("x-api-key", &self.key).header("te", "trailers");
        read(request.json(body)).await
    }

    /// Has text generated.
    pub async fn generate(&self, prompt: &str, max_tokens: u32, stream: bool) -> anyhow::Result<Answer> {
        self.post("/textgen/v1/generate", &json!({ "prompt": prompt, "max_tokens": max_tokens, "stream": stream })).await
    }

    /// Opens a WebSocket, sends texts, reads until each was answered, and closes.
    pub async fn converse(&self, path: &str, texts: &[&str]) -> anyhow::Result<Conversation> {
        let mut request = format!("{}{path}", self.gateway.replacen("http", "ws", 1)).into_client_request()?;
        request.headers_mut().insert("x-api-key", HeaderValue::from_str(&self.key)?);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.context("the WebSocket does not open")?;
        let mut conversation = Conversation::default();
        for text in texts {
            socket.send(Message::text(*text)).await?;
            conversation.sent += 1;
        }
        let (mut echoes, mut closing) = (0, false);
        while let Some(message) = socket.next().await {
            if let Message::Text(text) = message? {
                let value: Value = serde_json::from_str(&text)?;
                echoes += usize::from(value.get("echo").is_some());
                conversation.received.push(value);
            }
            // What is on its way when this end closes is still read, and counted.
            if !closing && echoes == texts.len() && conversation.received.len() > echoes {
                closing = true;
                socket.close(None).await?;
            }
        }
        Ok(conversation)
    }
}

impl Answer {
    /// A header's or trailer's text; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).or_else(|| self.trailers.get(name)).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("the answer ({}) is no JSON: {}", self.status, self.body))
    }

    /// The slug of the problem that it is, such as `too-fast`.
    pub fn problem(&self) -> String {
        let kind = self.json().ok().and_then(|body| body["type"].as_str().map(str::to_owned)).unwrap_or_default();
        kind.rsplit(':').next().unwrap_or_default().to_owned()
    }
}

async fn read(request: RequestBuilder) -> anyhow::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let collected = reqwest::Body::from(response).collect().await.context("the answer was cut off")?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&collected.to_bytes()).into_owned(), trailers })
}
