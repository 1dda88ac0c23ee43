//! Stock quotes, with a WebSocket that sends every price change of the symbols one subscribes to.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{
        Path, Query, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use calendar::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, problem, wave};

const SYMBOLS: [(&str, &str, f64); 6] = [
    ("AURX", "Aurora Mining", 84.2),
    ("BRGE", "Bridge & Tunnel", 141.7),
    ("FERY", "Northern Ferries", 23.9),
    ("HARB", "Harbour Freight", 312.4),
    ("LOCK", "Canal Locks", 57.1),
    ("TOLL", "Tollkeeper Holdings", 199.0),
];
const TICK: Duration = Duration::from_millis(500);

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/v1/symbols", get(symbols)).route("/v1/quotes/{symbol}", get(quote)).route("/v1/stream", get(stream))
}

fn price_of(symbol: &str, at: Timestamp) -> Option<Value> {
    let (symbol, name, base) = SYMBOLS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(symbol))?;
    let tick = at.micros() / i64::try_from(TICK.as_micros()).unwrap_or(1);
    let drift = (tick as f64 / 7_200.0 + wave(symbol, 0) * 10.0).sin() * 0.03;
    let price = base * (1.0 + drift + (wave(symbol, tick as u64) - 0.5) * 0.004);
    Some(json!({ "symbol": symbol, "name": name, "price": format!("{price:.2}"), "currency": "USD", "at": at }))
}

async fn symbols() -> Json<Value> {
    let symbols: Vec<_> = SYMBOLS.iter().map(|(symbol, name, _)| json!({ "symbol": symbol, "name": name })).collect();
    Json(json!({ "symbols": symbols }))
}

async fn quote(State(shared): State<Shared>, Path(symbol): Path<String>) -> Response {
    price_of(&symbol, shared.clock.now()).map_or_else(
        || problem(StatusCode::NOT_FOUND, "This symbol is unknown. GET /v1/symbols lists those that are."),
        |quote| Json(quote).into_response(),
    )
}

#[derive(Deserialize)]
struct StreamQuery {
    /// Symbols, separated by commas; all without it.
    symbols: Option<String>,
}

async fn stream(State(shared): State<Shared>, Query(query): Query<StreamQuery>, upgrade: WebSocketUpgrade) -> Response {
    let wanted: Vec<String> = match query.symbols {
        Some(list) => list.split(',').map(|symbol| symbol.trim().to_uppercase()).collect(),
        None => SYMBOLS.iter().map(|(symbol, ..)| (*symbol).to_owned()).collect(),
    };
    if let Some(unknown) = wanted.iter().find(|symbol| price_of(symbol, shared.clock.now()).is_none()) {
        return problem(StatusCode::BAD_REQUEST, &format!("The symbol `{unknown}` is unknown. GET /v1/symbols lists those that are."));
    }
    upgrade.max_message_size(64 * 1024).on_upgrade(async move |socket| send_prices(socket, shared, wanted).await)
}

/// Sends one message a tick, a symbol after the other, until the caller or the process ends it. Texts from the caller are answered as they are.
async fn send_prices(mut socket: WebSocket, shared: Shared, wanted: Vec<String>) {
    let mut ticks = tokio::time::interval(TICK);
    let mut symbols = wanted.iter().cycle();
    loop {
        let message = tokio::select! {
            _ = ticks.tick() => match symbols.next().and_then(|symbol| price_of(symbol, shared.clock.now())) {
                Some(quote) => Message::text(quote.to_string()),
                None => return,
            },
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => Message::text(json!({ "echo": text.as_str() }).to_string()),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_))) => {
                    // The answer to a close is sent by reading on; there is nothing more to read.
                    while let Some(Ok(_)) = socket.recv().await {}
                    return;
                }
                Some(Err(_)) | None => return,
            },
            () = shared.shutdown.cancelled() => Message::Close(Some(CloseFrame { code: close_code::AWAY, reason: "the server stops".into() })),
        };
        let last = matches!(message, Message::Close(_));
        if socket.send(message).await.is_err() || last {
            return;
        }
    }
}
