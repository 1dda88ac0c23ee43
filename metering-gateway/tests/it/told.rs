//! What the access log and spans tell of calls that are odd, hostile or failed, and what becomes of both when nobody takes them.

use std::{path::PathBuf, time::Duration};

use axum::{Router, routing::post};
use gateway_control::options::ServiceOptions;
use http::Request;
use metering_gateway::{Config, observe::settings::AccessLogMode};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    harness::{SOON, Stage, eventually, policy::World, portal::MockPortal, process::GatewayProcess, refused, serve, upstream},
    observe::{Collector, attribute},
};

/// A gateway whose access log is a file.
struct Logged {
    stage: Stage,
    folder: TempDir,
}

impl Logged {
    async fn new(mode: AccessLogMode, world: impl FnOnce(&mut World), adjust: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Self::file(&folder);
        let stage = Stage::with(world, |config| {
            config.observe.access_log = mode;
            config.observe.access_log_file = Some(file);
            adjust(config);
        })
        .await;
        Self { stage, folder }
    }

    fn file(folder: &TempDir) -> PathBuf {
        folder.path().join("access.log")
    }

    /// Sends bytes on a connection of their own, and returns what came until its end.
    async fn raw(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(self.stage.gateway.addresses.data).await.expect("a connection");
        stream.write_all(text.as_bytes()).await.expect("it is read");
        let mut answer = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it ends soon").expect("it ends in order");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Stops the gateway: its log.
    async fn ended(self) -> (String, Vec<Value>) {
        self.stage.gateway.stop().await;
        let text = std::fs::read_to_string(Self::file(&self.folder)).expect("the log");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (text, lines)
    }
}

async fn process(settings: &[(&str, &str)]) -> (GatewayProcess, MockPortal, World, TempDir) {
    let world = World::new(upstream::start().await);
    let portal = MockPortal::start(&world).await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings: Vec<(&str, &str)> = settings.iter().copied().chain([("GATEWAY_DRAIN_DELAY", "0s")]).collect();
    let gateway = GatewayProcess::start(&portal, folder.path(), &settings).await;
    (gateway, portal, world, folder)
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_keep_the_gateway() {
    let (gateway, _portal, world, _folder) = process(&[("GATEWAY_ACCESS_LOG", "all")]).await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    // More than a pipe and the log's own buffer hold.
    let url = format!("http://{}/weather/v1/echo?x={}", gateway.data, "v".repeat(4_000));
    for _ in 0..100 {
        let answer = client.get(&url).header("x-api-key", world.live.reveal()).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
    }
    drop(client);
    gateway.terminate();
    let (code, log) = gateway.ended_unread(SOON * 2).await;
    assert_eq!(code, Some(0), "{log:#?}");
    let lost = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|event| event["lines"].as_u64());
    assert!(lost.is_some_and(|lost| (10..=100).contains(&lost)), "{log:#?}");
}

#[tokio::test]
async fn no_key_stands_in_ids_hosts_methods_and_paths() {
    let (collector, url) = Collector::start().await;
    let observe = |config: &mut Config| {
        config.observe.otlp_endpoint = Some(url);
        config.observe.trace_sample_ratio = Some(1.0);
    };
    let logged = Logged::new(AccessLogMode::All, |_| (), observe).await;
    let key = logged.stage.world.live.reveal().to_owned();
    let end = format!("connection: close\r\nx-api-key: {key}\r\n\r\n");
    let kept = logged.raw(&format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g:81\r\nx-request-id: mine-1\r\n{end}")).await;
    assert!(kept.contains("x-request-id: mine-1\r\n"), "{kept}");
    for id in [key.clone(), format!("a.{key}"), key.replace("tk_", "tk%5f"), "tk_test_1".to_owned()] {
        let answer = logged.raw(&format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-request-id: {id}\r\n{end}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains(&format!("x-request-id: {id}")), "{answer}");
    }
    for line in [
        format!("GET /weather/v1/echo HTTP/1.1\r\nhost: {key}:80\r\n"),
        "GET /weather/v1/echo HTTP/1.1\r\nhost: user:hidden0@h\r\n".to_owned(),
        "GET http://user:hidden0@h/weather/v1/echo HTTP/1.1\r\nhost: h\r\n".to_owned(),
        format!("{key} /weather/v1/any/x HTTP/1.1\r\nhost: g\r\n"),
        "GET /weather/v1/any/x;token=hidden1?redirect=https%3A%2F%2Fx%3Ftoken%3Dhidden2&passphrase=hidden3&author=me HTTP/1.1\r\nhost: g\r\n"
            .to_owned(),
    ] {
        let answer = logged.raw(&format!("{line}{end}")).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{line} gave {answer}");
    }
    let (log, lines) = logged.ended().await;
    assert_eq!(lines.len(), 10, "{log}");
    let spans: Vec<Span> = collector.0.lock().expect("no panic").iter().map(|(_, span)| span.clone()).collect();
    for (name, text) in [("access log", &log), ("spans", &format!("{spans:?}"))] {
        assert!(!text.contains(&key[8..]) && !text.contains("tk_test_1"), "a key stands in the {name}: {text}");
        assert!(!text.contains("hidden") && text.contains("author=me"), "a secret stands in the {name}: {text}");
    }
    check_odd_spans(&spans);
}

/// The names and attributes of OpenTelemetry's semantic conventions for HTTP.
fn check_odd_spans(spans: &[Span]) {
    let of = |kind: SpanKind, name: &str, value: &str| {
        let found = spans.iter().find(|span| span.kind == kind as i32 && attribute(span, name).is_some_and(|text| text.contains(value)));
        found.unwrap_or_else(|| panic!("no {kind:?} with {name} of {value} in {spans:?}"))
    };
    let odd = of(SpanKind::Server, "http.request.method", "_OTHER");
    assert_eq!(odd.name, "HTTP /weather/v1/any/{*rest}");
    assert_eq!(attribute(odd, "http.request.method_original").as_deref(), Some("REDACTED"));
    let odd = of(SpanKind::Client, "http.request.method", "_OTHER");
    assert_eq!((odd.name.as_str(), attribute(odd, "http.request.method_original").as_deref()), ("HTTP", Some("REDACTED")));
    let called = of(SpanKind::Client, "url.full", "author=me");
    let port = attribute(called, "server.port").expect("a port");
    let expected = format!("http://127.0.0.1:{port}/base/v1/any/x;token=REDACTED?redirect=REDACTED&passphrase=REDACTED&author=me");
    assert_eq!(attribute(called, "url.full"), Some(expected));
    assert_eq!(attribute(called, "http.request.method_original"), None);
    let named = of(SpanKind::Server, "server.port", "81");
    assert_eq!(attribute(named, "server.address").as_deref(), Some("g"));
    let unnamed = spans.iter().find(|span| attribute(span, "server.address").as_deref() == Some("h"));
    assert_eq!(unnamed.map(|span| attribute(span, "server.port")), Some(None), "a host without a port names none");
}

#[tokio::test]
async fn what_is_no_request_has_a_line() {
    let logged = Logged::new(AccessLogMode::Errors, |_| (), |_| ()).await;
    let mut ids = Vec::new();
    for text in ["GET / HTTP/9.9\r\nhost: g\r\n\r\n".to_owned(), format!("GET / HTTP/1.1\r\nhost: g\r\nx: {}", "v".repeat(65_536))] {
        let answer = logged.raw(&text).await;
        let id = answer.split_once("x-request-id: ").and_then(|(_, rest)| rest.split_once("\r\n"));
        ids.push(id.unwrap_or_else(|| panic!("no id in {answer}")).0.to_owned());
    }
    let metrics =
        logged.stage.client.get(logged.stage.gateway.admin("/metrics")).send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("tollkeeper_gateway_problems_total{problem=\"head-too-large\"} 1\n"), "{metrics}");
    let (log, lines) = logged.ended().await;
    assert_eq!(lines.len(), 2, "{log}");
    for (line, (id, status, problem)) in lines.iter().zip([(&ids[0], 400, "malformed-request"), (&ids[1], 431, "head-too-large")]) {
        assert_eq!(
            (&line["request_id"], &line["status"], &line["problem"]),
            (&id.as_str().into(), &status.into(), &problem.into()),
            "{line}"
        );
        assert_eq!((&line["client"], &line["outcome"], &line["protocol"]), (&"127.0.0.1".into(), &"complete".into(), &"HTTP/1.1".into()));
        assert!(line["time"].is_string() && line["method"].is_null() && line["path"].is_null(), "nothing of it was read: {line}");
    }
}

#[tokio::test]
async fn the_log_of_errors_has_grpc_calls_that_were_denied() {
    let logged = Logged::new(AccessLogMode::Errors, |_| (), |_| ()).await;
    let stream = TcpStream::connect(logged.stage.gateway.addresses.data).await.expect("a connection");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::post("http://g/weather/v1/echo").header("content-type", "application/grpc").body(()).expect("a request");
    let (answer, _) = sender.ready().await.expect("open").send_request(request, true).expect("sent");
    let answer = answer.await.expect("an answer");
    assert_eq!((answer.status(), &answer.headers()["tollkeeper-problem"]), (StatusCode::OK, &"key-missing".parse().expect("a value")));
    let (log, lines) = logged.ended().await;
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!((&lines[0]["status"], &lines[0]["problem"]), (&200.into(), &"key-missing".into()));
}

#[tokio::test]
async fn an_upstream_that_is_not_reached_is_named() {
    let (collector, url) = Collector::start().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    let options = ServiceOptions { addresses: vec![nobody.to_string()], ..ServiceOptions::default() };
    let observe = |config: &mut Config| {
        config.observe.otlp_endpoint = Some(url);
        config.observe.trace_sample_ratio = Some(1.0);
    };
    let logged = Logged::new(AccessLogMode::All, |world| world.service.options = options.stated(), observe).await;
    assert_eq!(logged.stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::BAD_GATEWAY);
    let (log, lines) = logged.ended().await;
    assert_eq!(lines.len(), 1, "{log}");
    let line = &lines[0];
    assert_eq!((&line["problem"], &line["upstream_address"]), (&"upstream-unreachable".into(), &nobody.to_string().into()), "{line}");
    assert_eq!(line["upstream_tries"], 1, "{line}");
    let spans = collector.0.lock().expect("no panic");
    let client = &spans.iter().find(|(_, span)| span.kind == SpanKind::Client as i32).expect("a span of the request").1;
    assert_eq!(attribute(client, "network.peer.port"), Some(nobody.port().to_string()));
    assert_eq!(attribute(client, "http.request.resend_count"), None);
}

#[tokio::test]
async fn spans_that_a_collector_rejects_are_counted() {
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "too old".into() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let collector = serve(Router::new().route("/v1/traces", post(async move || answer.clone()))).await;
    let stage = Stage::with(
        |_| (),
        |config| {
            config.observe.otlp_endpoint = Some(format!("http://{collector}").parse().expect("a URL"));
            config.observe.trace_sample_ratio = Some(1.0);
        },
    )
    .await;
    assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    eventually("one span is taken and one is not", async || {
        let metrics = stage.client.get(stage.gateway.admin("/metrics")).send().await.ok()?.text().await.ok()?;
        let has = |name: &str| metrics.contains(&format!("tollkeeper_gateway_trace_spans_{name}_total 1\n"));
        (has("exported") && has("failed")).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn the_log_tells_why_a_collector_was_not_reached() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let url = format!("http://{nobody}");
    let (gateway, _portal, world, _folder) = process(&[("GATEWAY_OTLP_ENDPOINT", &url), ("GATEWAY_TRACE_SAMPLE_RATIO", "1")]).await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let call = client.get(format!("http://{}/weather/v1/echo", gateway.data)).header("x-api-key", world.live.reveal());
    assert_eq!(call.send().await.expect("an answer").status(), StatusCode::OK);
    gateway.terminate();
    let (code, _, log) = gateway.ended(SOON).await;
    assert_eq!(code, Some(0));
    let told = log.iter().find(|line| line.contains("spans were not exported"));
    assert!(told.is_some_and(|line| line.contains("Connection refused")), "{log:#?}");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_ends_the_start() {
    for (endpoint, fix) in [
        ("ftp://127.0.0.1/", "http:// or https://"),
        ("http://user:hidden@127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://user@127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://127.0.0.1:4318/?a=b", "without `?`"),
    ] {
        let why = tokio::time::timeout(Duration::from_secs(5), refused(|config| config.observe.otlp_endpoint = endpoint.parse().ok()));
        let why = why.await.expect("it ends at once");
        assert!(why.contains("GATEWAY_OTLP_ENDPOINT") && why.contains(fix) && !why.contains("hidden"), "{endpoint}: {why}");
    }
}
