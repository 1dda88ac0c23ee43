//! gRPC, with grpcio on both sides: unary calls and streams.

use gateway_control::{
    options::{HeaderEdits, RouteOptions, ServiceOptions, UpstreamProtocol},
    policy::{RouteMeter, UnitSource},
    units::Micros,
};
use metering_gateway::Config;
use serde_json::{Value, json};

use super::*;

struct Scene {
    stage: Stage,
    peer: Peer,
    /// The server, where it is to be killed.
    server: Option<Peer>,
}

fn one_service(world: &mut World, port: u16) {
    world.service.upstream = format!("http://127.0.0.1:{port}");
    world.service.first_byte_timeout_ms = 30_000;
    world.service.options = Some(Box::new(ServiceOptions { protocol: UpstreamProtocol::Http2, ..ServiceOptions::default() }));
    let meter = |meter, source, max| RouteMeter { meter, source, default_units: Micros::units(0), max_units: Micros::units(max) };
    let mut route = world.routes[0].clone();
    route.id = ids::RouteId::new();
    route.method = Some("POST".into());
    route.path = "/demo.Echo/{method}".into();
    route.strip_prefix = String::new();
    route.meters = vec![
        meter(world.requests, UnitSource::Call, 1),
        meter(world.messages, UnitSource::Messages, 10_000),
        meter(world.tokens, UnitSource::Trailer { name: "x-units".into() }, 10_000),
    ];
    world.routes.push(route);
}

impl Scene {
    async fn new(world: impl FnOnce(&mut World), adjust: impl FnOnce(&mut Config)) -> Self {
        Self::with(false, world, adjust).await
    }

    async fn with(apart: bool, world: impl FnOnce(&mut World), adjust: impl FnOnce(&mut Config)) -> Self {
        let mut peer = Peer::start();
        let mut server = apart.then(Peer::start);
        let port = server.as_mut().unwrap_or(&mut peer).serve().await;
        let stage = Stage::with(
            |made| {
                one_service(made, port);
                world(made);
            },
            adjust,
        )
        .await;
        Self { stage, peer, server }
    }

    fn command(&self, kind: &str, method: &str, body: &str) -> Value {
        let target = self.stage.gateway.addresses.data.to_string();
        json!({ "do": "grpc", "target": target, "kind": kind, "method": method, "body": body, "key": self.stage.world.live.reveal() })
    }

    async fn call(&mut self, kind: &str, method: &str, body: &str) -> Value {
        let command = self.command(kind, method, body);
        self.peer.call(command).await
    }

    /// Opens a stream both ways that has brought back one message and stays open.
    async fn open(&mut self) {
        let mut command = self.command("bidi", "Echo", "hello");
        command["hold"] = json!(true);
        self.peer.ask(command).await;
        self.peer.first().await;
    }

    async fn messages(&self) -> (Micros, u16, bool) {
        recorded(&self.stage, self.stage.world.messages).await
    }
}

#[tokio::test]
async fn grpc_unary_authentication() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    for (key, problem) in [("", "key-missing"), ("tk_live_garbage", "key-invalid")] {
        let mut command = scene.command("unary", "Unary", "hello");
        command["key"] = json!(key);
        let denied = scene.peer.call(command).await;
        assert_eq!(denied["code"], "UNAUTHENTICATED", "{denied}");
        assert_eq!(field(&denied, "trailers", "tollkeeper-problem"), problem);
        assert!(denied["details"].as_str().is_some_and(|details| details.contains("key")), "{denied}");
    }
    let unknown = scene.call("unary", "No/Such", "hello").await;
    assert_eq!(unknown["code"], "UNIMPLEMENTED", "{unknown}");
    let answer = scene.call("unary", "Unary", "hello").await;
    assert_eq!((&answer["code"], &answer["last"]), (&json!("OK"), &json!("hello")), "{answer}");
    assert_eq!(field(&answer, "trailers", "x-namespace"), scene.stage.world.subscription.namespace.to_string());
    assert_eq!(field(&answer, "trailers", "x-key"), "", "the credential goes no further");
    scene.stage.portal.calls_of(scene.stage.world.requests, 1).await;
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_unary_limits() {
    let mut scene = Scene::new(two_calls, |_| ()).await;
    for code in ["OK", "OK", "RESOURCE_EXHAUSTED"] {
        let answer = scene.call("unary", "Unary", "hello").await;
        assert_eq!(answer["code"], code, "{answer}");
        if code != "OK" {
            assert_eq!(field(&answer, "trailers", "tollkeeper-problem"), "too-fast");
            assert!(field(&answer, "trailers", "grpc-retry-pushback-ms").parse::<u64>().is_ok_and(|ms| ms >= 1_000));
            assert!(field(&answer, "trailers", "ratelimit").contains("r=0"), "{answer}");
        }
    }
    scene.stage.portal.calls_of(scene.stage.world.requests, 2).await;
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_unary_metering() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    let answer = scene.call("unary", "Unary", &"x".repeat(100_000)).await;
    assert_eq!(answer["code"], "OK", "{answer}");
    assert_eq!(scene.messages().await, (Micros::units(2), 200, false), "one each way");
    assert_eq!(recorded(&scene.stage, scene.stage.world.tokens).await.0, Micros::units(5), "as the trailer declares");
    // A failure is recorded with the status that its code stands for, so that the plan's rule decides about it.
    for (code, status) in [("INTERNAL", 500), ("NOT_FOUND", 404)] {
        let failed = scene.call("unary", "Fail", code).await;
        assert_eq!((&failed["code"], &failed["details"]), (&json!(code), &json!("as asked: 100 %")), "{failed}");
        eventually("the failure is recorded", async || scene.stage.portal.rows().iter().any(|row| row.key.status == status).then_some(()))
            .await;
    }
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_unary_client_abort() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    let command = scene.command("unary", "Sleep", "30");
    scene.peer.ask(command).await;
    open_calls(&scene.stage, 1).await;
    scene.peer.cancel().await;
    assert_eq!(scene.peer.end().await["code"], "CANCELLED");
    let (_, status, incomplete) = scene.messages().await;
    assert_eq!((status, incomplete), (499, true));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_unary_upstream_abort() {
    let mut scene = Scene::with(true, |_| (), |_| ()).await;
    let command = scene.command("unary", "Sleep", "30");
    scene.peer.ask(command).await;
    open_calls(&scene.stage, 1).await;
    // The call has reached the server once its connection carries it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.server.take().expect("a server").kill().await;
    let end = scene.peer.end().await;
    assert_eq!(end["code"], "UNAVAILABLE", "{end}");
    let (_, status, incomplete) = scene.messages().await;
    assert_eq!((status, incomplete), (502, true));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_unary_revocation() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    let command = scene.command("unary", "Sleep", "30");
    scene.peer.ask(command).await;
    open_calls(&scene.stage, 1).await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    let end = revoke(&scene.stage, &mut scene.peer).await;
    assert_eq!(end["code"], "UNAUTHENTICATED", "{end}");
    let (_, status, incomplete) = scene.messages().await;
    assert_eq!((status, incomplete), (401, true));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_unary_drain() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    let command = scene.command("unary", "Sleep", "1.5");
    scene.peer.ask(command).await;
    open_calls(&scene.stage, 1).await;
    scene.stage.gateway.ask_to_stop();
    assert_eq!(scene.peer.end().await["code"], "OK");
    assert_eq!(scene.messages().await, (Micros::units(2), 200, false));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_streaming_authentication() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    for kind in ["bidi", "client", "server"] {
        let mut command = scene.command(kind, "Echo", "hello");
        (command["key"], command["hold"]) = (json!(""), json!(true));
        let begin = Instant::now();
        let denied = scene.peer.call(command).await;
        assert_eq!(denied["code"], "UNAUTHENTICATED", "{denied}");
        assert!(begin.elapsed() < SOON, "the caller need not end its stream first");
    }
    let mut command = scene.command("bidi", "Echo", "hello");
    command["messages"] = json!(3);
    let answer = scene.peer.call(command).await;
    assert_eq!((&answer["code"], &answer["got"]), (&json!("OK"), &json!(3)), "{answer}");
    scene.stage.portal.calls_of(scene.stage.world.requests, 1).await;
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_streaming_limits() {
    let mut scene = Scene::new(two_calls, |_| ()).await;
    for code in ["OK", "OK", "RESOURCE_EXHAUSTED"] {
        let answer = scene.call("bidi", "Echo", "hello").await;
        assert_eq!(answer["code"], code, "{answer}");
    }
    scene.stage.portal.calls_of(scene.stage.world.requests, 2).await;
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_streaming_metering() {
    let mut scene = Scene::new(|_| (), |config| config.interim_interval = Duration::from_millis(300)).await;
    let messages = scene.stage.world.messages;
    let mut expected = 0;
    // Messages up and down: a client's stream, a server's, and both at once.
    for (calls, (kind, method, body, count, up_and_down)) in
        (1..).zip([("client", "Count", "x", 5, 5 + 1), ("server", "Ticks", "4", 1, 1 + 4), ("bidi", "Echo", "hello", 3, 3 + 3)])
    {
        let mut command = scene.command(kind, method, body);
        command["messages"] = json!(count);
        let answer = scene.peer.call(command).await;
        assert_eq!(answer["code"], "OK", "{answer}");
        expected += up_and_down;
        assert_eq!(units(&scene.stage.portal.calls_of(messages, calls).await), Micros::units(expected), "{kind}");
    }
    // While a stream is open, its messages are recorded in parts.
    scene.open().await;
    let sum = || units(&scene.stage.portal.rows().into_iter().filter(|row| row.key.meter == messages).collect::<Vec<_>>());
    eventually("a part is recorded", async || (sum() == Micros::units(expected + 2)).then_some(())).await;
    scene.peer.ask(json!({ "do": "send" })).await;
    assert_eq!(scene.peer.end().await["code"], "OK");
    assert_eq!(units(&scene.stage.portal.calls_of(messages, 4).await), Micros::units(expected + 2));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_messages_before_the_head_are_recorded_when_it_comes() {
    let mut scene = Scene::new(|_| (), |config| config.interim_interval = Duration::from_millis(300)).await;
    let messages = scene.stage.world.messages;
    let rows = || scene.stage.portal.rows().into_iter().filter(|row| row.key.meter == messages).collect::<Vec<_>>();
    let mut command = scene.command("client", "LateHead", "x");
    (command["messages"], command["hold"]) = (json!(5), json!(true));
    scene.peer.ask(command).await;
    // The server takes five messages, waits for several intervals, sends its head, and goes on reading.
    eventually("what came before the head is recorded", async || (units(&rows()) == Micros::units(5)).then_some(())).await;
    assert!(rows().iter().all(|row| row.count == 0 && row.key.status == 200), "as the upstream's answer, which has not ended");
    scene.peer.ask(json!({ "do": "send" })).await;
    let end = scene.peer.end().await;
    assert_eq!((&end["code"], &end["last"]), (&json!("OK"), &json!("5")), "{end}");
    assert_eq!(units(&scene.stage.portal.calls_of(messages, 1).await), Micros::units(5 + 1));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_streaming_client_abort() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    scene.open().await;
    scene.peer.cancel().await;
    assert_eq!(scene.peer.end().await["code"], "CANCELLED");
    assert_eq!(scene.messages().await, (Micros::units(2), 200, true));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_streaming_upstream_abort() {
    let mut scene = Scene::with(true, |_| (), |_| ()).await;
    let failed = scene.call("server", "FailLater", "INTERNAL").await;
    assert_eq!((&failed["code"], &failed["got"]), (&json!("INTERNAL"), &json!(1)), "{failed}");
    assert_eq!(scene.messages().await, (Micros::units(2), 200, true), "what was forwarded was used");
    let command = scene.command("server", "Ticks", "1000");
    scene.peer.ask(command).await;
    scene.peer.first().await;
    scene.server.take().expect("a server").kill().await;
    let end = scene.peer.end().await;
    assert_eq!(end["code"], "UNAVAILABLE", "{end}");
    let rows = scene.stage.portal.calls_of(scene.stage.world.messages, 2).await;
    assert!(rows.iter().all(|row| row.key.status == 200) && rows.iter().map(|row| row.incomplete).sum::<u64>() == 2, "{rows:?}");
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_streaming_revocation() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    scene.open().await;
    let end = revoke(&scene.stage, &mut scene.peer).await;
    assert_eq!(end["code"], "PERMISSION_DENIED", "the stream is reset: {end}");
    assert_eq!(scene.messages().await, (Micros::units(2), 200, true));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn grpc_streaming_drain() {
    let mut scene = Scene::new(|_| (), |config| config.drain_timeout = Duration::from_secs(3)).await;
    let mut ending = Peer::start();
    let mut command = scene.command("server", "Ticks", "15");
    ending.ask(command.clone()).await;
    ending.first().await;
    // One that would never end by itself.
    command = scene.command("server", "Ticks", "100000");
    scene.peer.ask(command).await;
    scene.peer.first().await;
    scene.stage.gateway.ask_to_stop();
    let whole = ending.end().await;
    assert_eq!((&whole["code"], &whole["got"]), (&json!("OK"), &json!(15)), "{whole}");
    let end = scene.peer.end().await;
    assert_eq!((&end["code"], &end["details"]), (&json!("UNAVAILABLE"), &json!("the gateway is stopping")), "{end}");
    scene.stage.gateway.stop().await;
    let rows = scene.stage.portal.calls_of(scene.stage.world.messages, 2).await;
    assert_eq!(rows.iter().map(|row| row.incomplete).sum::<u64>(), 1, "one was whole, one was ended");
}

#[tokio::test]
async fn a_deadline_is_passed_on() {
    let mut scene = Scene::new(|_| (), |_| ()).await;
    let mut command = scene.command("unary", "Sleep", "0");
    command["timeout"] = json!(7);
    let answer = scene.peer.call(command).await;
    let left: f64 = answer["last"].as_str().and_then(|left| left.parse().ok()).unwrap_or_else(|| panic!("no time in {answer}"));
    assert!((1.0..=7.0).contains(&left), "the server knows the deadline: {left}");
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn a_deadline_is_kept_by_the_gateway_itself() {
    // Neither the server nor the caller looks at the clock: the one is not told, the other does not care.
    let untold = |world: &mut World| {
        let route = world.route("/demo.Echo/{method}");
        let request_headers = HeaderEdits { remove: vec!["grpc-timeout".into()], ..HeaderEdits::default() };
        route.options = Some(Box::new(RouteOptions { request_headers, ..RouteOptions::default() }));
    };
    let scene = Scene::new(untold, |_| ()).await;
    for (method, message, code_in_head) in [("Sleep", "30", true), ("Ticks", "1000", false)] {
        let begin = Instant::now();
        let (head, messages, trailers) = super::versions::grpc(&scene.stage, method, message, &[("grpc-timeout", "400m")]).await;
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        let code = if code_in_head { head.get("grpc-status") } else { trailers.get("grpc-status") };
        assert_eq!(code.expect("a code"), "4", "{method}: {head:?} {trailers:?}");
        assert_eq!(messages > 0, !code_in_head);
    }
    let rows = scene.stage.portal.calls_of(scene.stage.world.requests, 2).await;
    let mut ends: Vec<(u16, u64)> = rows.iter().map(|row| (row.key.status, row.incomplete)).collect();
    ends.sort_unstable();
    assert_eq!(ends, [(200, 1), (504, 1)], "what was forwarded was used; what was not was not");
    scene.stage.gateway.stop().await;
}
