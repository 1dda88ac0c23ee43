//! Plain calls, with httpx: over HTTP/1.1, over HTTP/2 by prior knowledge, and over TLS, where ALPN chooses.

use std::{fs, process::Stdio};

use gateway_control::units::Micros;
use metering_gateway::Config;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, process::Command};

use super::*;

/// How the caller comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Http1,
    Http2,
    Tls,
}

struct Scene {
    stage: Stage,
    peer: Peer,
    way: Way,
    certificates: TempDir,
}

impl Scene {
    async fn new(way: Way, world: impl FnOnce(&mut World)) -> Self {
        let certificates = tempfile::tempdir().expect("a folder");
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs::write(certificates.path().join("default.crt"), cert.pem()).expect("a certificate");
        fs::write(certificates.path().join("default.key"), signing_key.serialize_pem()).expect("a key");
        let folder = certificates.path().to_owned();
        let patient = |made: &mut World| {
            made.service.first_byte_timeout_ms = 30_000;
            world(made);
        };
        let secured = |config: &mut Config| config.listener.tls_cert_dir = Some(folder);
        let stage = Stage::with(patient, secured).await;
        Self { stage, peer: Peer::start(), way, certificates }
    }

    fn command(&self, path: &str, key: &str) -> Value {
        let tls = self.stage.gateway.addresses.tls.expect("a listener");
        let (version, url) = match self.way {
            Way::Http1 => (1, self.stage.gateway.url(path)),
            Way::Http2 => (2, self.stage.gateway.url(path)),
            Way::Tls => (0, format!("https://localhost:{}{path}", tls.port())),
        };
        json!({ "do": "http", "version": version, "url": url, "key": key, "ca": self.certificates.path().join("default.crt") })
    }

    fn live(&self, path: &str) -> Value {
        self.command(path, self.stage.world.live.reveal())
    }

    async fn call(&mut self, path: &str) -> Value {
        let command = self.live(path);
        self.peer.call(command).await
    }

    async fn start(&mut self, path: &str) {
        let command = self.live(path);
        self.peer.ask(command).await;
    }
}

async fn authentication(way: Way) {
    let mut scene = Scene::new(way, |_| ()).await;
    for (key, problem) in [("", "key-missing"), ("tk_live_garbage", "key-invalid")] {
        let command = scene.command("/weather/v1/echo", key);
        let denied = scene.peer.call(command).await;
        assert_eq!(denied["status"], 401, "{denied}");
        assert!(field_text(&denied["body"]).contains(problem), "{denied}");
    }
    let answer = scene.call("/weather/v1/echo").await;
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(answer["version"], if way == Way::Http1 { "HTTP/1.1" } else { "HTTP/2" });
    let echo: Value = serde_json::from_str(field_text(&answer["body"])).expect("JSON");
    let seen = |name: &str| {
        let found = echo["headers"].as_array().expect("headers").iter().find(|header| header[0] == name);
        found.map(|header| header[1].as_str().expect("text").to_owned())
    };
    assert_eq!(seen("tollkeeper-namespace"), Some(scene.stage.world.subscription.namespace.to_string()));
    assert_eq!(seen("x-forwarded-proto").as_deref(), Some(if way == Way::Tls { "https" } else { "http" }));
    assert_eq!(seen("x-api-key"), None);
    scene.stage.portal.calls_of(scene.stage.world.requests, 1).await;
    scene.stage.gateway.stop().await;
}

fn field_text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text but {value}"))
}

async fn limits(way: Way) {
    let mut scene = Scene::new(way, two_calls).await;
    let mut command = scene.live("/weather/v1/echo");
    command["times"] = json!(3);
    let answer = scene.peer.call(command).await;
    assert_eq!(answer["statuses"], json!([200, 200, 429]), "{answer}");
    assert!(field(&answer, "headers", "retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    assert!(field_text(&answer["body"]).contains("too-fast"));
    assert_eq!(units(&scene.stage.portal.calls_of(scene.stage.world.requests, 2).await), Micros::units(2), "the denied one is not billed");
    scene.stage.gateway.stop().await;
}

async fn metering(way: Way) {
    let mut scene = Scene::new(way, |_| ()).await;
    let answer = scene.call("/weather/v1/units/12.5").await;
    assert_eq!((&answer["status"], &answer["body"]), (&json!(200), &json!("counted")), "{answer}");
    assert_eq!(recorded(&scene.stage, scene.stage.world.tokens).await, (Micros(12_500_000), 200, false));
    // A body of unknown length goes through piece by piece.
    let mut command = scene.live("/weather/v1/echo");
    (command["method"], command["pieces"]) = (json!("POST"), json!(5));
    let answer = scene.peer.call(command).await;
    let echo: Value = serde_json::from_str(field_text(&answer["body"])).expect("JSON");
    assert_eq!(echo["body"], "0123456789".repeat(5), "{echo}");
    assert_eq!(units(&scene.stage.portal.calls_of(scene.stage.world.requests, 2).await), Micros::units(2));
    scene.stage.gateway.stop().await;
}

async fn client_abort(way: Way) {
    let mut scene = Scene::new(way, |_| ()).await;
    scene.start("/weather/v1/stream?pieces=1000").await;
    scene.peer.first().await;
    scene.peer.cancel().await;
    assert_eq!(scene.peer.end().await["status"], 200);
    // No trailer came, so the route's default stands.
    assert_eq!(recorded(&scene.stage, scene.stage.world.tokens).await, (Micros::units(7), 200, true));
    scene.stage.gateway.stop().await;
}

async fn upstream_abort(way: Way) {
    let mut scene = Scene::new(way, |_| ()).await;
    let answer = scene.call("/weather/v1/broken").await;
    assert_eq!((&answer["status"], &answer["body"]), (&json!(200), &json!("onetwo")), "{answer}");
    assert!(field_text(&answer["error"]).contains("ProtocolError"), "the caller can tell that it is not whole: {answer}");
    assert_eq!(recorded(&scene.stage, scene.stage.world.tokens).await, (Micros::units(7), 200, true));
    scene.stage.gateway.stop().await;
}

async fn revocation(way: Way) {
    let mut scene = Scene::new(way, |_| ()).await;
    scene.start("/weather/v1/stream?pieces=1000").await;
    scene.peer.first().await;
    let end = revoke(&scene.stage, &mut scene.peer).await;
    assert!(field_text(&end["error"]).contains("ProtocolError"), "the answer is broken off: {end}");
    assert_eq!(recorded(&scene.stage, scene.stage.world.tokens).await, (Micros::units(7), 200, true));
    // The same while the answer is still waited for.
    scene.stage.portal.change(entry(EntryBody::ApiKey(scene.stage.world.keys[0].clone())));
    eventually("the key works again", async || {
        let status = scene.stage.get("/weather/v1/status/204").send().await.expect("an answer").status();
        status.is_success().then_some(())
    })
    .await;
    scene.start("/weather/v1/slow").await;
    open_calls(&scene.stage, 1).await;
    // A call is left alone while it is so young that it would soon be over anyway.
    tokio::time::sleep(Duration::from_millis(350)).await;
    let end = revoke(&scene.stage, &mut scene.peer).await;
    assert_eq!(end["status"], 401, "{end}");
    scene.stage.gateway.stop().await;
}

/// With curl: httpx takes the notice that a connection will end for its end.
async fn drain(way: Way) {
    let scene = Scene::new(way, |_| ()).await;
    let Value::Object(command) = scene.live("/weather/v1/stream?pieces=20") else { unreachable!("a command is an object") };
    let key = format!("x-api-key: {}", scene.stage.world.live.reveal());
    let mut curl = Command::new("curl");
    curl.args(["-sSN", "--fail", "--max-time", "10", "-H", &key]);
    match way {
        Way::Http1 => _ = curl.arg("--http1.1"),
        Way::Http2 => _ = curl.arg("--http2-prior-knowledge"),
        Way::Tls => _ = curl.args(["--http2", "--cacert", field_text(&command["ca"])]),
    }
    let mut curl = curl.arg(field_text(&command["url"])).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("curl is installed");
    let mut out = curl.stdout.take().expect("a pipe");
    let mut body = vec![0; 9];
    tokio::time::timeout(SOON, out.read_exact(&mut body)).await.expect("soon").expect("the first piece");
    scene.stage.gateway.ask_to_stop();
    tokio::time::timeout(SOON, out.read_to_end(&mut body)).await.expect("soon").expect("an end");
    assert!(curl.wait().await.expect("it ends").success(), "curl takes the answer for whole");
    assert!(body.ends_with(b"data: 19\n\n"), "{}", String::from_utf8_lossy(&body));
    assert_eq!(recorded(&scene.stage, scene.stage.world.tokens).await, (Micros::units(20), 200, false));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn http1_authentication() {
    authentication(Way::Http1).await;
}
#[tokio::test]
async fn http2_authentication() {
    authentication(Way::Http2).await;
}
#[tokio::test]
async fn tls_authentication() {
    authentication(Way::Tls).await;
}
#[tokio::test]
async fn http1_limits() {
    limits(Way::Http1).await;
}
#[tokio::test]
async fn http2_limits() {
    limits(Way::Http2).await;
}
#[tokio::test]
async fn tls_limits() {
    limits(Way::Tls).await;
}
#[tokio::test]
async fn http1_metering() {
    metering(Way::Http1).await;
}
#[tokio::test]
async fn http2_metering() {
    metering(Way::Http2).await;
}
#[tokio::test]
async fn tls_metering() {
    metering(Way::Tls).await;
}
#[tokio::test]
async fn http1_client_abort() {
    client_abort(Way::Http1).await;
}
#[tokio::test]
async fn http2_client_abort() {
    client_abort(Way::Http2).await;
}
#[tokio::test]
async fn tls_client_abort() {
    client_abort(Way::Tls).await;
}
#[tokio::test]
async fn http1_upstream_abort() {
    upstream_abort(Way::Http1).await;
}
#[tokio::test]
async fn http2_upstream_abort() {
    upstream_abort(Way::Http2).await;
}
#[tokio::test]
async fn tls_upstream_abort() {
    upstream_abort(Way::Tls).await;
}
#[tokio::test]
async fn http1_revocation() {
    revocation(Way::Http1).await;
}
#[tokio::test]
async fn http2_revocation() {
    revocation(Way::Http2).await;
}
#[tokio::test]
async fn tls_revocation() {
    revocation(Way::Tls).await;
}
#[tokio::test]
async fn http1_drain() {
    drain(Way::Http1).await;
}
#[tokio::test]
async fn http2_drain() {
    drain(Way::Http2).await;
}
#[tokio::test]
async fn tls_drain() {
    drain(Way::Tls).await;
}
