//! WebSockets: messages are counted both ways, in parts while the socket is open, and revocation closes it.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use gateway_control::{policy::EntryBody, units::Micros};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

use crate::harness::{SOON, Stage, eventually, policy::entry};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(stage: &Stage) -> Socket {
    let mut request = format!("ws://{}/weather/v1/ws", stage.gateway.addresses.data).into_client_request().expect("a request");
    request.headers_mut().insert("x-api-key", stage.world.live.reveal().parse().expect("a value"));
    let (socket, answer) = connect_async(request).await.expect("a WebSocket");
    assert_eq!(answer.status().as_u16(), 101);
    assert!(answer.headers().contains_key("x-request-id"));
    socket
}

async fn echo(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.expect("sent");
    let back = tokio::time::timeout(SOON, socket.next()).await.expect("soon").expect("a message").expect("a message");
    assert_eq!(back, Message::text(text));
}

#[tokio::test]
async fn messages_are_counted_both_ways() {
    let stage = Stage::new().await;
    let mut socket = connect(&stage).await;
    for size in [1, 200, 70_000] {
        echo(&mut socket, &"x".repeat(size)).await;
    }
    socket.send(Message::Ping("p".into())).await.expect("sent");
    socket.close(None).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}
    let rows = stage.portal.calls_of(stage.world.messages, 1).await;
    assert_eq!(rows.iter().map(|row| row.sum.0).sum::<i128>(), Micros::units(6).0);
    assert_eq!((rows[0].key.status, rows[0].incomplete), (101, 0));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_open_socket_is_recorded_in_parts() {
    let stage = Stage::with(|_| (), |config| config.interim_interval = Duration::from_millis(300)).await;
    let mut socket = connect(&stage).await;
    echo(&mut socket, "one").await;
    let sum = || stage.portal.rows().iter().filter(|row| row.key.meter == stage.world.messages).map(|row| row.sum.0).sum::<i128>();
    eventually("an interim record arrives while the socket is open", async || (sum() == Micros::units(2).0).then_some(())).await;
    assert!(stage.portal.rows().iter().all(|row| row.count == 0), "no call has ended");
    echo(&mut socket, "two").await;
    socket.close(None).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}
    stage.portal.calls_of(stage.world.messages, 1).await;
    assert_eq!(sum(), Micros::units(4).0, "parts add up");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn revocation_closes_with_1008_within_a_second() {
    let stage = Stage::new().await;
    let mut socket = connect(&stage).await;
    echo(&mut socket, "hello").await;
    let revoked_at = Instant::now();
    stage.portal.remove(entry(EntryBody::ApiKey(stage.world.keys[0].clone())).id);
    let last = tokio::time::timeout(SOON, socket.next()).await.expect("soon").expect("a message").expect("a message");
    assert!(revoked_at.elapsed() < Duration::from_secs(1), "P1: within a second, not {:?}", revoked_at.elapsed());
    let Message::Close(Some(frame)) = last else { panic!("expected a close frame, got {last:?}") };
    assert_eq!(frame.code, CloseCode::Policy);
    let rows = stage.portal.calls_of(stage.world.messages, 1).await;
    assert_eq!((rows[0].sum, rows[0].incomplete), (Micros::units(2), 1));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_change_that_concerns_others_leaves_a_socket_open() {
    let stage = Stage::new().await;
    let mut socket = connect(&stage).await;
    echo(&mut socket, "before").await;
    stage.portal.remove(entry(EntryBody::ApiKey(stage.world.keys[1].clone())).id);
    tokio::time::sleep(Duration::from_millis(500)).await;
    echo(&mut socket, "after").await;
    drop(socket);
    stage.gateway.stop().await;
}
