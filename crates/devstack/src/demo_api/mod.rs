//! Upstreams for the demo products: a weather API, a text generator that streams, and stock quotes with a WebSocket. They answer from their inputs
//! and the clock alone, so they need no network and no data.
//!
//! Each lives below its own prefix (`/weather`, `/textgen`, `/quotes`), and once more below `/sandbox` for test keys, where every answer carries
//! the header `x-sandbox: true`.

mod quotes;
mod textgen;
mod weather;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    http::{HeaderValue, StatusCode},
    middleware,
    response::{IntoResponse, Response},
};
use calendar::Clock;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long open connections are waited for at the end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the handlers share.
#[derive(Debug, Clone)]
struct Shared {
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
}

/// The running demo upstreams.
#[derive(Debug)]
pub struct DemoApi {
    /// Where they listen.
    pub addr: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
    shutdown: CancellationToken,
}

impl DemoApi {
    /// Serves on `listener` until [`Self::stop`].
    pub fn start(listener: std::net::TcpListener, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let addr = listener.local_addr()?;
        let shutdown = CancellationToken::new();
        let router = router(Shared { clock, shutdown: shutdown.clone() });
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await });
        Ok(Self { addr, task, shutdown })
    }

    /// Ends open streams and stops. Who keeps a connection open and asks nothing is not waited for.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        if let Ok(stopped) = tokio::time::timeout(STOP_PATIENCE, &mut self.task).await {
            return Ok(stopped??);
        }
        self.task.abort();
        Ok(())
    }
}

fn router(shared: Shared) -> Router {
    let apis = Router::new()
        .nest("/weather", weather::routes())
        .nest("/textgen", textgen::routes())
        .nest("/quotes", quotes::routes())
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "There is no such resource.") })
        .with_state(shared);
    Router::new().nest("/sandbox", apis.clone().layer(middleware::map_response(mark_sandbox))).merge(apis)
}

async fn mark_sandbox(mut response: Response) -> Response {
    response.headers_mut().insert("x-sandbox", HeaderValue::from_static("true"));
    response
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let mut response =
        (status, Json(json!({ "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail }))).into_response();
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/problem+json"));
    response
}

/// A number in `0..1` that depends on the text and the salt alone (FNV-1a, folded): the demo's weather and prices are made of it.
fn wave(text: &str, salt: u64) -> f64 {
    let hash = text
        .bytes()
        .chain(salt.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3));
    ((hash ^ (hash >> 32)) & 0xffff_ffff) as f64 / f64::from(u32::MAX)
}
