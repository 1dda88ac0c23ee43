//! What is told of calls and of the gateway: metrics, spans, the access log, and that no secret is in any of them.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::HeaderMap, routing::post};
use bytes::Bytes;
use metering_gateway::observe::settings::AccessLogMode;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::any_value::Value as AnyValue,
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message as _;
use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{SOON, Stage, eventually, policy::World, portal::MockPortal, process::GatewayProcess, serve, upstream};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that takes OTLP over HTTP and keeps the spans, with what the resource says.
#[derive(Clone, Default)]
pub struct Collector(pub Arc<Mutex<Vec<(String, Span)>>>);

impl Collector {
    /// It, and where it is.
    pub async fn start() -> (Self, url::Url) {
        let collector = Self::default();
        let router = Router::new().route("/v1/traces", post(Self::take)).with_state(collector.clone());
        (collector, format!("http://{}", serve(router).await).parse().expect("a URL"))
    }

    async fn take(State(collector): State<Self>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
        let mut spans = collector.0.lock().expect("no panic");
        for batch in request.resource_spans {
            let service = batch.resource.iter().flat_map(|resource| &resource.attributes).find(|attribute| attribute.key == "service.name");
            let service = format!("{:?}", service.and_then(|service| service.value.clone()));
            spans.extend(batch.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| (service.clone(), span)));
        }
        ExportTraceServiceResponse::default().encode_to_vec()
    }

    async fn spans(&self, count: usize) -> Vec<Span> {
        eventually(&format!("{count} spans"), async || {
            let spans = self.0.lock().expect("no panic");
            assert!(spans.len() <= count && spans.iter().all(|(service, _)| service.contains("tollkeeper-gateway")), "{spans:?}");
            (spans.len() == count).then(|| spans.iter().map(|(_, span)| span.clone()).collect())
        })
        .await
    }
}

/// An attribute as text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    Some(match value {
        AnyValue::StringValue(text) => text,
        AnyValue::IntValue(number) => number.to_string(),
        other => panic!("{name} is {other:?}"),
    })
}

/// A header as it arrived at the upstream.
fn arrived(echo: &Value, name: &str) -> Option<String> {
    let headers = echo["headers"].as_array().expect("headers");
    headers.iter().find(|header| header[0] == name).map(|header| header[1].as_str().expect("text").to_owned())
}

#[tokio::test]
async fn a_call_makes_a_span_and_one_for_the_request_to_the_upstream() {
    let (collector, url) = Collector::start().await;
    let stage = Stage::with(|_| (), |config| config.observe.otlp_endpoint = Some(url)).await;
    let call = stage.get("/weather/v1/echo/oslo?city=a&token=hidden").header("traceparent", PARENT).header("tracestate", "vendor=1");
    let echo: Value = call.header("user-agent", "probe/1").send().await.expect("an answer").json().await.expect("JSON");
    let mut spans = collector.spans(2).await;
    spans.sort_by_key(|span| span.kind != SpanKind::Server as i32);
    let [server, client] = <[Span; 2]>::try_from(spans).expect("two spans");
    assert_eq!((server.name.as_str(), server.kind), ("GET /weather/v1/echo/{city}", SpanKind::Server as i32));
    assert_eq!((client.name.as_str(), client.kind), ("GET", SpanKind::Client as i32));
    assert_eq!(hex::encode(&server.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((hex::encode(&server.parent_span_id).as_str(), &client.parent_span_id), ("00f067aa0ba902b7", &server.span_id));
    let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", hex::encode(&client.span_id));
    assert_eq!(arrived(&echo, "traceparent"), Some(expected), "the upstream's parent is the gateway's request to it");
    assert_eq!(arrived(&echo, "tracestate").as_deref(), Some("vendor=1"));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/weather/v1/echo/{city}"),
        ("url.path", "/weather/v1/echo/oslo"),
        ("url.query", "city=a&token=REDACTED"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("server.address", "127.0.0.1"),
        ("user_agent.original", "probe/1"),
        ("tollkeeper.key.id", &stage.world.keys[0].id.to_string()),
    ] {
        assert_eq!(attribute(&server, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(attribute(&client, "http.response.status_code").as_deref(), Some("200"));
    assert!(attribute(&client, "server.port").is_some() && attribute(&client, "error.type").is_none());
    assert_eq!(attribute(&client, "network.peer.address").as_deref(), Some("127.0.0.1"));
    assert_eq!(attribute(&client, "network.peer.port"), attribute(&client, "server.port"));
    assert_eq!(attribute(&client, "http.request.resend_count"), None, "it was sent once");
    assert!(server.start_time_unix_nano <= client.start_time_unix_nano && client.end_time_unix_nano <= server.end_time_unix_nano);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn failures_are_errors_of_their_spans_and_denials_are_not() {
    let (collector, url) = Collector::start().await;
    let stage = Stage::with(
        |_| (),
        |config| {
            config.observe.otlp_endpoint = Some(url);
            config.observe.trace_sample_ratio = Some(1.0);
        },
    )
    .await;
    assert_eq!(stage.get("/weather/v1/status/503").send().await.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
    let denied = stage.client.get(stage.gateway.url("/weather/v1/echo")).send().await.expect("an answer");
    assert_eq!(denied.status(), StatusCode::UNAUTHORIZED);
    stage.gateway.stop().await;
    // Nothing is waited for: what was queued is exported before the end.
    let spans: Vec<Span> = collector.0.lock().expect("no panic").iter().map(|(_, span)| span.clone()).collect();
    let of = |kind: SpanKind, status: &str| {
        let found =
            spans.iter().find(|span| span.kind == kind as i32 && attribute(span, "http.response.status_code").as_deref() == Some(status));
        let found = found.unwrap_or_else(|| panic!("no {kind:?} of {status} in {spans:?}"));
        let code = found.status.as_ref().map(|status| status.code);
        (code == Some(SpanStatus::Error as i32), attribute(found, "error.type"), found.parent_span_id.is_empty())
    };
    assert_eq!(of(SpanKind::Server, "503"), (true, Some("503".into()), true));
    assert_eq!(of(SpanKind::Client, "503"), (true, Some("503".into()), false));
    assert_eq!(of(SpanKind::Server, "401"), (false, None, true));
    assert_eq!(spans.len(), 3, "a denied call goes to no upstream");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let url = format!("http://{nobody}").parse().expect("a URL");
    let stage = Stage::with(|_| (), |config| config.observe.otlp_endpoint = Some(url)).await;
    let answer = stage.get("/weather/v1/echo").header("traceparent", PARENT).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    eventually("the spans are counted as failed", async || {
        let metrics = stage.client.get(stage.gateway.admin("/metrics")).send().await.ok()?.text().await.ok()?;
        metrics.contains("tollkeeper_gateway_trace_spans_failed_total 2\n").then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn without_a_collector_a_trace_passes_through() {
    let stage = Stage::new().await;
    let echo = async |parent: Option<&str>| -> Value {
        let call = stage.get("/weather/v1/echo");
        let call = parent.into_iter().fold(call, |call, parent| call.header("traceparent", parent));
        call.send().await.expect("an answer").json().await.expect("JSON")
    };
    assert_eq!(arrived(&echo(Some(PARENT)).await, "traceparent").as_deref(), Some(PARENT));
    assert_eq!(arrived(&echo(Some("00-zz-1-01")).await, "traceparent"), None, "what is no context stays here");
    assert_eq!(arrived(&echo(None).await, "traceparent"), None);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn the_access_log_tells_of_calls_and_holds_no_secret() {
    let mut world = World::new(upstream::start().await);
    // One route takes any path.
    world.plan.rate_limits.clear();
    let portal = MockPortal::start(&world).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (collector, url) = Collector::start().await;
    let settings = [
        ("GATEWAY_ACCESS_LOG", "all"),
        ("GATEWAY_DRAIN_DELAY", "0s"),
        ("GATEWAY_LOG", "debug"),
        ("GATEWAY_OTLP_ENDPOINT", url.as_str()),
        ("GATEWAY_TRACE_SAMPLE_RATIO", "1"),
    ];
    let gateway = GatewayProcess::start(&portal, folder.path(), &settings).await;
    let key = world.live.reveal();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = |path: &str| format!("http://{}{path}", gateway.data);
    let calls = [
        client.get(url("/weather/v1/echo?city=oslo")).header("x-api-key", key),
        client.get(url("/weather/v1/echo")).bearer_auth(key),
        client.get(url("/weather/v1/echo")).basic_auth(key, Some(key)),
        client.get(url(&format!("/weather/v1/echo?api_key={key}&x={key}"))),
        client.get(url(&format!("/weather/v1/echo?{key}"))),
        client.get(url(&format!("/weather/v1/echo/{key}"))).header("x-api-key", key),
        client.get(url(&format!("/nowhere/{key}"))),
        client.get(url("/weather/v1/echo")).header("x-api-key", key).header("user-agent", format!("bot {key}")).header("cookie", key),
        client.get(url("/weather/v1/echo")).header("x-api-key", format!("{key}x")).header("referer", format!("http://a/?k={key}")),
        client.post(url("/weather/v1/echo")).header("x-api-key", key).body(key.to_owned()),
        client.get(url("/weather/v1/status/500")).header("x-api-key", key),
    ];
    let count = calls.len();
    for call in calls {
        call.send().await.expect("an answer").bytes().await.expect("the whole answer");
    }
    gateway.terminate();
    let (code, out, log) = gateway.ended(SOON).await;
    assert_eq!(code, Some(0));
    let secret = &key[8..];
    let spans = format!("{:?}", collector.0.lock().expect("no panic"));
    for (name, text) in [("access log", &out), ("log", &log.join("\n")), ("spans", &spans)] {
        assert!(!text.is_empty() && !text.contains(secret), "a key stands in the {name}: {text}");
        assert!(!text.contains(portal.credential.reveal()), "the gateway's credential stands in the {name}");
    }
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    assert_eq!(lines.len(), count, "{out}");
    let first = &lines[0];
    for (name, value) in [
        ("method", "GET"),
        ("path", "/weather/v1/echo"),
        ("query", "city=oslo"),
        ("protocol", "HTTP/1.1"),
        ("client", "127.0.0.1"),
        ("answered_by", "upstream"),
        ("outcome", "complete"),
        ("key", &world.keys[0].id.to_string()),
        ("subscription", &world.subscription.id.to_string()),
        ("mode", "live"),
    ] {
        assert_eq!(first[name], value, "{name} in {first}");
    }
    assert!(first["status"] == 200 && first["duration_seconds"].is_f64() && first["upstream_seconds"].is_f64(), "{first}");
    assert!(first["answer_bytes"].as_u64().is_some_and(|bytes| bytes > 0) && first["trace_id"].is_string());
    let denied = lines.iter().find(|line| line["problem"] == "key-missing").expect("a denied call");
    assert_eq!((&denied["status"], &denied["answered_by"], &denied["key"]), (&401.into(), &"gateway".into(), &Value::Null));
}

#[tokio::test]
async fn the_log_of_errors_has_errors_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.log");
    let stage = Stage::with(
        |_| (),
        |config| {
            config.observe.access_log = AccessLogMode::Errors;
            config.observe.access_log_file = Some(file.clone());
        },
    )
    .await;
    for path in ["/weather/v1/echo", "/weather/v1/status/404", "/weather/v1/echo", "/weather/v1/status/502", "/none"] {
        stage.get(path).send().await.expect("an answer").bytes().await.expect("the whole answer");
    }
    stage.gateway.stop().await;
    let text = std::fs::read_to_string(&file).expect("the log");
    let statuses: Vec<u64> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["status"].as_u64().expect("a status")).collect();
    assert_eq!(statuses, [404, 502, 404]);
}

#[tokio::test]
async fn the_metrics_are_as_prometheus_wants_them() {
    let stage = Stage::new().await;
    for path in ["/weather/v1/echo", "/weather/v1/status/503", "/none"] {
        stage.get(path).send().await.expect("an answer").bytes().await.expect("the whole answer");
    }
    let metrics = stage.client.get(stage.gateway.admin("/metrics")).send().await.expect("an answer").text().await.expect("text");
    check_metrics(&metrics);
    for line in [
        "tollkeeper_gateway_admitted_calls_total{status=\"2xx\",answered_by=\"upstream\"} 1",
        "tollkeeper_gateway_call_duration_seconds_count{status=\"5xx\"} 1",
        "tollkeeper_gateway_call_duration_seconds_bucket{le=\"+Inf\",status=\"2xx\"} 1",
        "tollkeeper_gateway_upstream_duration_seconds_count{status=\"2xx\"} 1",
        "tollkeeper_gateway_problems_total{problem=\"no-route\"} 1",
        "tollkeeper_gateway_ready 1",
        "tollkeeper_gateway_draining 0",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line} is not in:\n{metrics}");
    }
    let names = ["journal_unshipped_records", "policy_generation", "policy_age_seconds", "connections", "quota_leases_held", "build_info"];
    for name in names {
        assert!(metrics.contains(&format!("# TYPE tollkeeper_gateway_{name} gauge\n")), "{name}");
    }
    // Whoever calls and whatever they call: the same lines.
    let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    for city in 0..20 {
        stage.get(&format!("/weather/v1/echo/{city}")).send().await.expect("an answer");
    }
    let more = stage.client.get(stage.gateway.admin("/metrics")).send().await.expect("an answer").text().await.expect("text");
    assert_eq!(lines(&metrics), lines(&more));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn the_status_tells_how_the_gateway_is() {
    let stage = Stage::new().await;
    stage.get("/weather/v1/echo").send().await.expect("an answer");
    let status =
        async || -> Value { stage.client.get(stage.gateway.admin("/status")).send().await.expect("an answer").json().await.expect("JSON") };
    let cached = eventually("the policy is cached", async || {
        let status = status().await;
        (status["policy"]["cached_generation"] == status["generation"]).then_some(status)
    })
    .await;
    assert_eq!((&cached["ready"], &cached["policy"]["connected"], &cached["policy"]["keys"]), (&true.into(), &true.into(), &2.into()));
    assert!(cached["policy"]["age_seconds"].as_u64().is_some_and(|age| age < 10) && cached["policy"]["cache_error"].is_null(), "{cached}");
    assert_eq!(
        (&cached["draining_since"], &cached["journal"]["streams"], &cached["journal"]["failures"]),
        (&Value::Null, &2.into(), &Value::Array(vec![]))
    );
    assert!(
        cached["version"].is_string() && cached["uptime_seconds"].is_u64() && cached["connections"].as_i64().is_some_and(|open| open >= 1)
    );
    stage.portal.go_away();
    eventually("the portal is missed", async || (status().await["policy"]["connected"] == false).then_some(())).await;
    stage.gateway.stop().await;
}

/// `promtool check metrics` has nothing to say.
pub fn check_metrics(metrics: &str) {
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut promtool = promtool.expect("promtool, of the Debian package `prometheus`; `scripts/setup test` installs it");
    promtool.stdin.take().expect("its input").write_all(metrics.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("its end");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_alert_rules_are_valid() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/tollkeeper/files/alerts.yaml");
    let output = Command::new("promtool").args(["check", "rules", "--lint=all", "--lint-fatal", rules]).output();
    let output = output.expect("promtool, of the Debian package `prometheus`; `scripts/setup test` installs it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}
