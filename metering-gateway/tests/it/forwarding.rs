//! What reaches the upstream, and what comes back.

use gateway_control::policy::EntryBody;
use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{Stage, eventually, policy::entry};

/// The values of a header as the upstream saw them.
fn seen<'a>(echo: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = echo["headers"].as_array().expect("headers");
    headers.iter().filter(|header| header[0] == name).map(|header| header[1].as_str().expect("text")).collect()
}

#[tokio::test]
async fn the_path_is_rewritten_and_headers_are_clean() {
    let stage = Stage::new().await;
    let answer = stage
        .get("/weather/v1/echo/osl%6f?q=a%20b&q=2")
        .header("tollkeeper-namespace", "forged")
        .header("tollkeeper_plan", "forged")
        .header("tollkeeper-anything", "forged")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-forwarded-host", "forged")
        .header("connection", "x-secret-hop")
        .header("x-secret-hop", "1")
        .header("te", "gzip")
        .header("proxy-authorization", "Basic a2s6")
        .header("authorization", "Basic dXBzdHJlYW0=")
        .header("x-custom", "kept")
        .header("x-request-id", "my-call-7")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        (&answer.headers()["x-upstream"], &answer.headers()["x-request-id"]),
        (&"yes".parse().expect("a value"), &"my-call-7".parse().expect("a value"))
    );
    assert!(!answer.headers().contains_key("keep-alive"));
    assert!(!answer.headers().contains_key("ratelimit"), "what an upstream says of limits is not the gateway's");
    let echo: Value = answer.json().await.expect("JSON");
    assert_eq!(echo["target"], "/base/v1/echo/oslo?q=a%20b&q=2");
    let world = &stage.world;
    let expected = [
        ("x-api-key", vec![]),
        ("connection", vec![]),
        ("x-secret-hop", vec![]),
        ("te", vec![]),
        ("proxy-authorization", vec![]),
        ("tollkeeper_plan", vec![]),
        ("tollkeeper-anything", vec![]),
        ("authorization", vec!["Basic dXBzdHJlYW0=".to_owned()]),
        ("x-custom", vec!["kept".to_owned()]),
        ("x-forwarded-for", vec!["127.0.0.1".to_owned()]),
        ("x-forwarded-proto", vec!["http".to_owned()]),
        ("x-forwarded-host", vec![stage.gateway.addresses.data.to_string()]),
        ("x-request-id", vec!["my-call-7".to_owned()]),
        ("tollkeeper-namespace", vec![world.subscription.namespace.to_string()]),
        ("tollkeeper-application", vec![world.subscription.application.to_string()]),
        ("tollkeeper-subscription", vec![world.subscription.id.to_string()]),
        ("tollkeeper-plan", vec!["pro".to_owned()]),
        ("tollkeeper-mode", vec!["live".to_owned()]),
    ];
    for (name, values) in expected {
        assert_eq!(seen(&echo, name), values, "{name}");
    }
    let host = world.service.upstream.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/base")).expect("an address");
    assert_eq!(seen(&echo, "host"), [host]);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_bearer_key_does_not_reach_the_upstream() {
    let stage = Stage::new().await;
    let call = stage.client.get(stage.gateway.url("/weather/v1/echo")).bearer_auth(stage.world.live.reveal());
    let echo: Value = call.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(seen(&echo, "authorization"), Vec::<&str>::new());
    assert!(!echo.to_string().contains(stage.world.live.reveal()));
    let both = stage.get("/weather/v1/echo").bearer_auth(stage.world.live.reveal());
    let echo: Value = both.send().await.expect("an answer").json().await.expect("JSON");
    assert!(!echo.to_string().contains(stage.world.live.reveal()), "{echo}");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn test_keys_reach_the_sandbox_only() {
    let stage = Stage::with(
        |world| {
            world.service.sandbox = Some(world.service.upstream.clone());
            world.service.upstream = "http://127.0.0.1:1/".into();
        },
        |_| (),
    )
    .await;
    let call = stage.client.get(stage.gateway.url("/weather/v1/echo")).header("x-api-key", stage.world.test.reveal());
    let echo: Value = call.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(seen(&echo, "tollkeeper-mode"), ["test"]);
    let rows = stage.portal.calls_of(stage.world.requests, 1).await;
    assert_eq!(rows[0].key.mode, gateway_control::usage::Mode::Test);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn bodies_pass_and_large_ones_do_not() {
    let stage = Stage::with(|_| (), |config| config.max_request_body_bytes = 100_000).await;
    let post = |body: reqwest::Body| {
        stage.client.post(stage.gateway.url("/weather/v1/echo")).header("x-api-key", stage.world.live.reveal()).body(body).send()
    };
    let text = "x".repeat(100_000);
    let echo: Value = post(text.clone().into()).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(echo["body"], text);
    let declared = post("x".repeat(100_001).into()).await.expect("an answer");
    assert_eq!(declared.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let pieces = (0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(10_000)));
    let chunked = post(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))).await.expect("an answer");
    assert_eq!(chunked.status(), StatusCode::PAYLOAD_TOO_LARGE);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn upstreams_that_do_not_answer_are_the_gateways_failure() {
    let stage = Stage::new().await;
    let timed_out = stage.get("/weather/v1/slow").send().await.expect("an answer");
    assert_eq!(timed_out.status(), StatusCode::GATEWAY_TIMEOUT);
    let nowhere = gateway_control::policy::Service { upstream: "http://127.0.0.1:1".into(), ..stage.world.service.clone() };
    stage.portal.change(entry(EntryBody::Service(nowhere)));
    eventually("the new upstream is in force", async || {
        (stage.get("/weather/v1/slow").send().await.expect("an answer").status() == StatusCode::BAD_GATEWAY).then_some(())
    })
    .await;
    let body: Value = stage.get("/weather/v1/echo").send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(body["type"], "urn:tollkeeper:problem:upstream-unreachable");
    // Each was admitted, so each is recorded; none is billable, because no head came from the upstream.
    let rows = eventually("the failures are recorded", async || {
        let rows = stage.portal.rows();
        rows.iter().any(|row| row.key.status == 504).then_some(rows).filter(|rows| rows.iter().any(|row| row.key.status == 502))
    })
    .await;
    assert!(rows.iter().all(|row| row.key.answered_by == gateway_control::usage::AnsweredBy::Gateway && row.incomplete == row.count));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let stage = Stage::with(|_| (), |config| config.head_timeout = std::time::Duration::from_millis(300)).await;
    // The second is not enough to tell HTTP/1.1 from HTTP/2.
    for sent in [&b""[..], b"PRI"] {
        let mut connection = tokio::net::TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
        tokio::io::AsyncWriteExt::write_all(&mut connection, sent).await.expect("sent");
        let mut answer = Vec::new();
        let closed = tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut answer);
        // A close with unread bytes may reset the connection, which ends it as well.
        let _ = tokio::time::timeout(crate::harness::SOON, closed).await.expect("closed in time");
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn http2_callers_are_served_over_one_connection() {
    let stage = Stage::new().await;
    let connection = tokio::net::TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
    let io = hyper_util::rt::TokioIo::new(connection);
    let (sender, connection) = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let calls = (0..20).map(|call| {
        let mut sender = sender.clone();
        let request = http::Request::get(format!("http://api.example/weather/v1/echo?call={call}"))
            .header("x-api-key", stage.world.live.reveal())
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request");
        async move {
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 200);
            let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body").to_bytes();
            serde_json::from_slice::<Value>(&body).expect("JSON")
        }
    });
    for (call, echo) in futures_util::future::join_all(calls).await.iter().enumerate() {
        assert_eq!(echo["target"], format!("/base/v1/echo?call={call}"));
        assert_eq!(seen(echo, "x-forwarded-host"), ["api.example"]);
    }
    stage.portal.calls_of(stage.world.requests, 20).await;
    stage.gateway.stop().await;
}
