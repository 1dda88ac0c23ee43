//! SIGTERM under load, on the real binary: no call fails, every answer is recorded and shipped, every lease is given back, and the process ends in time
//! with 0.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use quota::{Enforcement, QuotaLimit, WhenUnreachable};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

use crate::harness::{SOON, Stage, policy::World, portal::MockPortal, process::GatewayProcess, upstream};

const DELAY: Duration = Duration::from_secs(1);
/// A connection that is silent for longer than this while the gateway leaves may be closed. It is less than the gateway's own grace of a second; a caller
/// that the machine kept from asking for so long is no sign of a fault.
const SILENCE: Duration = Duration::from_millis(700);

/// What all callers share.
struct Load {
    gateway: SocketAddr,
    key: String,
    /// Answers that arrived whole.
    answered: AtomicU64,
    /// When the gateway was asked to stop: set before it hears of it.
    asked: OnceLock<Instant>,
}

impl Load {
    /// A connection; none once the gateway has left. Only a refused one is an orderly no, and only after the delay.
    async fn connect(&self) -> Option<TokioIo<TcpStream>> {
        match TcpStream::connect(self.gateway).await {
            Ok(stream) => {
                stream.set_nodelay(true).expect("a connection");
                Some(TokioIo::new(stream))
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
                assert!(self.is_leaving(), "refused before the delay was over");
                None
            }
        }
    }

    /// Whether the delay is over, by the clock: this process may be late to act on it.
    fn is_leaving(&self) -> bool {
        self.asked.get().is_some_and(|asked| asked.elapsed() >= DELAY)
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let uri = format!("http://{}/weather/v1/echo", self.gateway);
        let request = Request::get(uri).header(header::HOST, self.gateway.to_string()).header("x-api-key", &self.key);
        request.body(Empty::new()).expect("a request")
    }

    async fn took(&self, answer: http::Response<hyper::body::Incoming>) {
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.expect("the whole body");
        self.answered.fetch_add(1, SeqCst);
    }

    /// HTTP/1.1 with keep-alive: a new connection only after an answer said `Connection: close`.
    async fn keeps_alive(self: Arc<Self>, pause: Duration) {
        while let Some(connection) = self.connect().await {
            let (mut sender, driver) = http1::handshake(connection).await.expect("a connection");
            let driver = tokio::spawn(driver);
            let mut silent_since = Instant::now();
            loop {
                let answer = match sender.send_request(self.request()).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        let silent = silent_since.elapsed();
                        assert!(
                            self.is_leaving() && silent > SILENCE,
                            "no answer on a connection that was silent for {silent:?}: {error:?}"
                        );
                        break;
                    }
                };
                let last = answer.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
                self.took(answer).await;
                if last {
                    break;
                }
                silent_since = Instant::now();
                tokio::time::sleep(pause).await;
            }
            drop(sender);
            let ended = driver.await.expect("no panic");
            assert!(ended.is_ok() || self.is_leaving() && silent_since.elapsed() > SILENCE, "the connection ends in order: {ended:?}");
        }
    }

    /// HTTP/1.1 with a connection for each call.
    async fn connects_anew(self: Arc<Self>) {
        while let Some(connection) = self.connect().await {
            let (mut sender, driver) = http1::handshake(connection).await.expect("a connection");
            tokio::spawn(driver);
            let mut request = self.request();
            request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            self.took(sender.send_request(request).await.expect("an answer on a new connection")).await;
        }
    }

    /// HTTP/2: a new connection once GOAWAY was heard. What had not been sent by then is sent on the new one. By h2 itself, because the queue before it that
    /// hyper has may lose a request as the connection ends.
    async fn multiplexes(self: Arc<Self>) {
        while let Some(connection) = self.connect().await {
            let (sender, driver) = h2::client::handshake(connection.into_inner()).await.expect("a connection");
            tokio::spawn(driver);
            let streams = (0..3).map(|_| async {
                let mut sender: h2::client::SendRequest<Bytes> = sender.clone();
                while poll_fn(|cx| sender.poll_ready(cx)).await.is_ok() {
                    let Ok((answer, _)) = sender.send_request(self.request().map(drop), true) else { return };
                    let mut answer = match answer.await {
                        Ok(answer) => answer,
                        Err(error) => {
                            assert!(was_not_processed(&error), "a request that was sent got no answer: {error:?}");
                            return;
                        }
                    };
                    assert_eq!(answer.status(), StatusCode::OK);
                    while let Some(data) = answer.body_mut().data().await {
                        let length = data.expect("the whole body").len();
                        answer.body_mut().flow_control().release_capacity(length).expect("what was read");
                    }
                    self.answered.fetch_add(1, SeqCst);
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            });
            futures_util::future::join_all(streams).await;
        }
    }
}

/// RFC 9113, 6.8: what GOAWAY without an error ends was not processed, and may be sent again.
fn was_not_processed(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

/// A connection that was silent until the listeners closed still gets its answer, and is told that it is the last one.
async fn asks_late(load: &Load, connection: TokioIo<TcpStream>) {
    let (mut sender, driver) = http1::handshake(connection).await.expect("a connection");
    tokio::spawn(driver);
    let refused = async {
        while TcpStream::connect(load.gateway).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, refused).await.expect("the listeners close soon");
    let since = load.asked.get().map(Instant::elapsed).expect("it was asked to stop");
    match sender.send_request(load.request()).await {
        Ok(answer) => {
            assert_eq!(answer.headers()[header::CONNECTION], "close");
            load.took(answer).await;
        }
        Err(error) => assert!(since > DELAY + SILENCE, "a silent connection was not answered {since:?} after the stop: {error:?}"),
    }
}

fn quota(world: &mut World) {
    let meter = world.requests;
    let limit_microunits = 1_000_000_000_000;
    world.plan.quotas =
        vec![QuotaLimit { meter, limit_microunits, enforcement: Enforcement::Hard, when_unreachable: WhenUnreachable::Deny }];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_fails_no_call() {
    let mut world = World::new(upstream::start().await);
    quota(&mut world);
    let portal = MockPortal::start(&world).await;
    portal.limit(world.requests, 1_000_000);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("GATEWAY_DRAIN_DELAY", "1s"), ("GATEWAY_DRAIN_TIMEOUT", "10s"), ("GATEWAY_LEASE_WAIT", "5s")];
    let gateway = GatewayProcess::start(&portal, folder.path(), &settings).await;
    let key = world.live.reveal().to_owned();
    let load = Arc::new(Load { gateway: gateway.data, key: key.clone(), answered: AtomicU64::new(0), asked: OnceLock::new() });
    let mut callers = tokio::task::JoinSet::new();
    for pause_ms in [0, 1, 5, 250].into_iter().chain(10..100) {
        callers.spawn(load.clone().keeps_alive(Duration::from_millis(pause_ms)));
    }
    (0..16).for_each(|_| _ = callers.spawn(load.clone().connects_anew()));
    (0..2).for_each(|_| _ = callers.spawn(load.clone().multiplexes()));
    let silent = load.connect().await.expect("a connection");

    let stream = format!("http://{}/weather/v1/stream?pieces=80", gateway.data);
    let stream = reqwest::Client::new().get(stream).header("x-api-key", &key).send().await.expect("a stream");
    let mut socket = format!("ws://{}/weather/v1/ws", gateway.data).into_client_request().expect("a request");
    socket.headers_mut().insert("x-api-key", key.parse().expect("a value"));
    let (mut socket, _) = connect_async(socket).await.expect("a WebSocket");
    tokio::time::sleep(Duration::from_millis(700)).await;

    let asked = *load.asked.get_or_init(Instant::now);
    gateway.terminate();
    tokio::time::sleep(DELAY / 2).await;
    assert_eq!(gateway.ready().await, Some(503), "not ready while it still serves");
    assert_eq!(reqwest::get(format!("http://{}/healthz", gateway.admin)).await.expect("an answer").status(), StatusCode::OK);
    tokio::time::sleep((DELAY - Duration::from_millis(20)).saturating_sub(asked.elapsed())).await;
    let before = load.answered.load(SeqCst);
    asks_late(&load, silent).await;
    let last = tokio::time::timeout(SOON, socket.next()).await.expect("soon").expect("a message").expect("a message");
    assert!(matches!(&last, Message::Close(Some(frame)) if frame.code == CloseCode::Away), "{last:?}");
    let text = stream.text().await.expect("the whole stream");
    assert!(text.ends_with("data: 79\n\n"), "{text}");
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call failed");
    }
    let (code, _, log) = gateway.ended(Duration::from_secs(10)).await;
    assert_eq!(code, Some(0), "{}", log.join("\n"));
    assert!(asked.elapsed() < Duration::from_secs(10), "within the drain timeout, not {:?}", asked.elapsed());

    let answered = load.answered.load(SeqCst);
    assert!(before > 100, "there was load: {before}");
    // The stream counts as a call too.
    let calls: u64 = portal.rows().iter().filter(|row| row.key.meter == world.requests).map(|row| row.count).sum();
    assert_eq!(calls, answered + 1, "every answered call was shipped before the end");
    assert_eq!(u64::try_from(portal.granted_units()), Ok(answered + 1), "leases were given back but for what was spent");
}

/// An answer that began before the stop could not say that it was the last of its connection.
#[tokio::test]
async fn who_asks_right_behind_an_answer_that_began_before_the_stop_is_answered() {
    let stage = Stage::new().await;
    let key = stage.world.live.reveal();
    let mut stream = TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
    let head = |path: &str| format!("GET /weather/v1/{path} HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n");
    let mut text = String::new();
    // It goes on for longer than everything that the gateway waits for.
    stream.write_all(head("stream?pieces=70").as_bytes()).await.expect("an open connection");
    until(&mut stream, &mut text, "data: 0").await;
    assert!(!text.contains("connection: close"), "{text}");
    stage.gateway.ask_to_stop();
    until(&mut stream, &mut text, "\r\n0\r\n\r\n").await;
    text.clear();
    stream.write_all(head("echo").as_bytes()).await.expect("an open connection");
    until(&mut stream, &mut text, "}").await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("\r\nconnection: close\r\n"), "{text}");
    stage.gateway.stop().await;
}

async fn until(stream: &mut TcpStream, text: &mut String, what: &str) {
    let mut buffer = vec![0; 16 * 1024];
    while !text.contains(what) {
        let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("it goes on").expect("an open connection");
        assert!(read > 0, "closed before {what} in {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}
