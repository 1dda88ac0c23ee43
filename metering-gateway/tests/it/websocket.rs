//! WebSockets: messages are counted both ways, in parts while the socket is open, and revocation closes it.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use gateway_control::{
    policy::{EntryBody, UnitSource},
    units::Micros,
};
use ids::{PlanVersionId, SubscriptionId};
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

/// The units of messages that are recorded by now.
fn messages(stage: &Stage) -> i128 {
    stage.portal.rows().iter().filter(|row| row.key.meter == stage.world.messages).map(|row| row.sum.0).sum()
}

/// SEMANTICS M1: what was used before a change of the policy stands in a record of its own, and only a change that concerns the exchange makes one.
#[tokio::test]
async fn a_change_that_concerns_a_socket_is_where_a_part_ends() {
    let stage = Stage::with(|_| (), |config| config.interim_interval = Duration::from_secs(3_600)).await;
    let mut socket = connect(&stage).await;
    echo(&mut socket, "before").await;

    stage.portal.remove(entry(EntryBody::ApiKey(stage.world.keys[1].clone())).id);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(messages(&stage), 0, "another key is no concern of this exchange");

    // The application gets another plan, which is another subscription.
    let mut plan = stage.world.plan.clone();
    plan.id = PlanVersionId::new();
    let mut subscription = stage.world.subscription.clone();
    (subscription.id, subscription.plan_version) = (SubscriptionId::new(), plan.id);
    stage.portal.change(entry(EntryBody::PlanVersion(plan)));
    stage.portal.change(entry(EntryBody::Subscription(subscription.clone())));
    stage.portal.remove(entry(EntryBody::Subscription(stage.world.subscription.clone())).id);
    eventually("what came before the plan is recorded", async || (messages(&stage) == Micros::units(2).0).then_some(())).await;

    // The route counts something else from now on.
    echo(&mut socket, "between").await;
    let mut route = stage.world.routes.iter().find(|route| route.path == "/weather/v1/ws").expect("the route").clone();
    route.meters[0].source = UnitSource::Seconds;
    stage.portal.change(entry(EntryBody::Route(route)));
    eventually("what came before the route is recorded", async || (messages(&stage) == Micros::units(4).0).then_some(())).await;
    assert!(stage.portal.rows().iter().all(|row| row.count == 0), "no call has ended");

    // It ends as it began: under the plan version that admitted it, counting what the route counted then.
    echo(&mut socket, "after").await;
    socket.close(None).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}
    let rows = stage.portal.calls_of(stage.world.messages, 1).await;
    assert_eq!(messages(&stage), Micros::units(6).0, "parts add up");
    assert!(rows.iter().all(|row| (row.key.plan_version, row.key.subscription) == (stage.world.plan.id, stage.world.subscription.id)));
    stage.gateway.stop().await;
}

/// SEMANTICS M1: the record is there before the server's close frame is handed on, not when the connections end, which a server may leave open.
#[tokio::test]
async fn a_closed_socket_is_recorded_before_its_connections_end() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = server.local_addr().expect("an address");
    let (ended, held) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let (stream, _) = server.accept().await.expect("a connection");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.expect("sent");
            }
            if socket.flush().await.is_err() {
                break;
            }
        }
        // It keeps its connection.
        let _ = held.await;
        drop(socket);
    });
    let stage = Stage::with(|world| world.service.upstream = format!("http://{address}"), |_| ()).await;
    let mut socket = connect(&stage).await;
    echo(&mut socket, "hello").await;
    socket.close(None).await.expect("closed");
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            break;
        }
    }
    let closed_at = Instant::now();
    let rows = stage.portal.calls_of(stage.world.messages, 1).await;
    assert_eq!((rows.iter().map(|row| row.sum.0).sum::<i128>(), rows[0].incomplete), (Micros::units(2).0, 0));
    assert!(closed_at.elapsed() < Duration::from_secs(4), "before the gateway gives the server up");
    let gone = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(SOON, gone).await.expect("the gateway closes the connection, though the server does not");
    drop(ended);
    serving.await.expect("the server ends");
    stage.gateway.stop().await;
}
