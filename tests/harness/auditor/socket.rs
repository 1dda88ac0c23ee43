//! WebSockets, both ends of them: the client sends, the upstream answers each message, and the client closes.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::{Request, Response, StatusCode, body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        handshake::derive_accept_key,
        protocol::{Role, frame::coding::CloseCode},
    },
};

use super::{
    MARK,
    book::{Book, Fate, Plan},
};

/// The client's end. It is whole when the server has answered its close frame: a gateway that ends it says another code, or nothing.
pub(super) async fn exchange(book: &Book, (authority, key): (&str, &str), mark: u64, plan: &Plan) -> anyhow::Result<Fate> {
    let mut request = format!("ws://{authority}{}/{mark}", plan.path).into_client_request()?;
    request.headers_mut().insert("x-api-key", key.parse()?);
    let Ok(stream) = TcpStream::connect(authority).await else { return Ok(Fate::NotSent) };
    stream.set_nodelay(true)?;
    let (mut socket, head) = match client_async(request, stream).await {
        Ok(opened) => opened,
        Err(Error::Http(answer)) => return Ok(Fate::Whole { status: answer.status().as_u16(), by_upstream: false }),
        Err(_) => return Ok(Fate::Broken),
    };
    let by_upstream = head.headers().get(MARK).is_some_and(|value| value.as_bytes() == mark.to_string().as_bytes());
    for number in 0..plan.messages {
        book.asks(mark, 1);
        if socket.send(Message::text(format!("message {number}"))).await.is_err() {
            return Ok(Fate::Broken);
        }
        match socket.next().await {
            Some(Ok(Message::Text(_))) => book.was_told(mark),
            _ => return Ok(Fate::Broken),
        }
    }
    if socket.close(None).await.is_err() {
        return Ok(Fate::Broken);
    }
    match socket.next().await {
        Some(Ok(Message::Close(frame))) if frame.as_ref().is_none_or(|frame| frame.code == CloseCode::Normal) => {
            Ok(Fate::Whole { status: StatusCode::SWITCHING_PROTOCOLS.as_u16(), by_upstream })
        }
        _ => Ok(Fate::Broken),
    }
}

/// What the upstream answers to a handshake; `None` if it is none.
pub(super) fn handshake<B: Default>(request: &Request<Incoming>, mark: u64) -> Option<hyper::http::Result<Response<B>>> {
    let key = request.headers().get("sec-websocket-key")?;
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", derive_accept_key(key.as_bytes()))
        .header(MARK, mark.to_string());
    Some(answer.body(B::default()))
}

/// The upstream's end: answers each message after a pause.
pub(super) async fn answer(book: Book, mark: u64, plan: Plan, upgrade: OnUpgrade) {
    // A gateway that is killed leaves it half open.
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if !message.is_text() {
            continue;
        }
        book.was_asked(mark, 1);
        pause(plan.pause).await;
        book.tells(mark);
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
