//! Who is let through, and what the others are told (SEMANTICS P5, Q1, Q7, M8).

use std::convert::Infallible;

use calendar::{Clock as _, SystemClock};
use gateway_control::{
    credential::{Credential, CredentialKind},
    policy::{EntryBody, SubscriptionState},
};
use metering_gateway::pipeline::authenticate::api_key;
use quota::{RateLimit, Scope};
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::Value;

use crate::harness::{
    Stage, credential, eventually,
    policy::{ORIGIN, entry},
};

/// Sends a call and expects a problem of this type.
async fn problem(request: RequestBuilder, status: u16, slug: &str) -> (reqwest::header::HeaderMap, Value) {
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), status, "{slug}");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    let headers = answer.headers().clone();
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["type"], format!("urn:tollkeeper:problem:{slug}"));
    assert_eq!(body["status"], status);
    assert!(!body["detail"].as_str().expect("a text").is_empty());
    assert_eq!(body["request_id"], headers["x-request-id"].to_str().expect("text"));
    (headers, body)
}

#[tokio::test]
async fn keys_are_checked() {
    let stage = Stage::new().await;
    let url = stage.gateway.url("/weather/v1/echo");
    let call = || stage.client.get(&url);
    let ok = call().header("x-api-key", stage.world.live.reveal()).send().await.expect("an answer");
    assert_eq!(ok.status(), StatusCode::OK);
    let bearer = call().bearer_auth(stage.world.live.reveal()).send().await.expect("an answer");
    assert_eq!(bearer.status(), StatusCode::OK);

    let (headers, _) = problem(call(), 401, "key-missing").await;
    assert!(headers.contains_key(header::WWW_AUTHENTICATE));
    let unknown = credential(CredentialKind::Live);
    let mut mistyped = stage.world.live.reveal().to_owned();
    mistyped.replace_range(10..11, if &mistyped[10..11] == "a" { "b" } else { "a" });
    for wrong in [unknown.reveal(), &mistyped, "tk_live_", "secret", stage.portal.credential.reveal()] {
        problem(call().header("x-api-key", wrong), 401, "key-invalid").await;
    }
    problem(call().header("x-api-key", stage.world.test.reveal()), 403, "no-sandbox").await;
    stage.gateway.stop().await;
}

/// Another key in whose place the gateway finds the one that calls.
fn alike(key: &Credential) -> Credential {
    let random = &key.reveal().as_bytes()[CredentialKind::PREFIX_LEN..][..32];
    // Mixing turns the first eight characters by two more than the next: each pair of eights changes places and is turned by as much.
    let mut text = [random[10..16].to_vec(), random[8..10].to_vec(), random[6..8].to_vec(), random[..6].to_vec()].concat();
    text.extend(&random[16..]);
    let index = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        _ => digit - b'a' + 36,
    };
    let bytes: Vec<u8> = text.into_iter().map(index).collect();
    let fill = |out: &mut [u8]| {
        out.iter_mut().zip(&bytes).for_each(|(place, byte)| *place = *byte);
        Ok::<_, Infallible>(())
    };
    let Ok(alike) = Credential::generate(key.kind(), fill);
    alike
}

#[tokio::test]
async fn a_key_that_is_looked_for_where_another_stands_is_none() {
    let stage = Stage::new().await;
    let forged = alike(&stage.world.live);
    let place = |key: &Credential| {
        let fields = [("x-api-key".parse().expect("a name"), key.reveal().parse().expect("a value"))].into_iter().collect();
        api_key::shown(&fields).expect("it is well-formed").distinction()
    };
    assert_ne!(forged.reveal(), stage.world.live.reveal());
    assert_eq!(place(&forged), place(&stage.world.live));
    for _ in 0..3 {
        assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
        let call = stage.client.get(stage.gateway.url("/weather/v1/echo"));
        problem(call.header("x-api-key", forged.reveal()), 401, "key-invalid").await;
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn revoked_and_expired_keys_stop_working_within_a_second() {
    let stage = Stage::new().await;
    let live = &stage.world.keys[0];
    let call = async || stage.get("/weather/v1/echo").send().await.expect("an answer").status();
    assert_eq!(call().await, StatusCode::OK);
    let revoked_at = std::time::Instant::now();
    stage.portal.remove(entry(EntryBody::ApiKey(live.clone())).id);
    eventually("the key is refused", async || (call().await == StatusCode::UNAUTHORIZED).then_some(())).await;
    assert!(revoked_at.elapsed().as_millis() < 1_000, "P1: within a second, not {:?}", revoked_at.elapsed());

    let in_a_moment = SystemClock.now().plus(std::time::Duration::from_millis(600));
    stage.portal.change(entry(EntryBody::ApiKey(gateway_control::policy::ApiKey { expires_at: Some(in_a_moment), ..live.clone() })));
    eventually("the key works again", async || (call().await == StatusCode::OK).then_some(())).await;
    eventually("the key expires", async || (call().await == StatusCode::UNAUTHORIZED).then_some(())).await;
    assert!(SystemClock.now() >= in_a_moment);
    // A call that was let through and then ended would be refused now and then.
    for _ in 0..20 {
        assert_eq!(call().await, StatusCode::UNAUTHORIZED);
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn subscriptions_are_checked() {
    let stage = Stage::new().await;
    let subscription = &stage.world.subscription;
    let change = |state| {
        stage.portal.change(entry(EntryBody::Subscription(gateway_control::policy::Subscription { state, ..subscription.clone() })));
    };
    let is = async |status: u16| {
        eventually("the change is in force", async || {
            (stage.get("/weather/v1/echo").send().await.expect("an answer").status().as_u16() == status).then_some(())
        })
        .await;
    };
    change(SubscriptionState::PaymentOverdue);
    is(402).await;
    let (_, body) = problem(stage.get("/weather/v1/echo"), 402, "payment-overdue").await;
    assert_eq!((&body["plan"], &body["upgrade_url"]), (&Value::from("pro"), &Value::from("https://portal.example/upgrade")));
    change(SubscriptionState::Paused);
    is(403).await;
    problem(stage.get("/weather/v1/echo"), 403, "subscription-paused").await;
    change(SubscriptionState::Active);
    is(200).await;
    stage.portal.remove(entry(EntryBody::Subscription(subscription.clone())).id);
    is(403).await;
    problem(stage.get("/weather/v1/echo"), 403, "not-in-plan").await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn rate_limits_deny_with_their_figures() {
    let limit = |requests, scope| RateLimit { requests, per_seconds: 3_600, burst: None, scope, route_group: None };
    let stage = Stage::with(|world| world.plan.rate_limits = vec![limit(3, Scope::ApiKey), limit(100, Scope::Subscription)], |_| ()).await;
    for left in (0..3).rev() {
        let answer = stage.get("/weather/v1/echo").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["ratelimit-policy"], "\"api_key\";q=3;w=3600, \"subscription\";q=100;w=3600");
        let state = answer.headers()["ratelimit"].to_str().expect("text").to_owned();
        assert!(state.starts_with(&format!("\"api_key\";r={left};t=")), "{state}");
    }
    let (headers, body) = problem(stage.get("/weather/v1/echo"), 429, "too-fast").await;
    assert_eq!((&body["limit_name"], &body["limit"], &body["used"]), (&Value::from("api_key"), &Value::from(3), &Value::from(3)));
    assert_eq!(body["plan"], "pro");
    assert!(body["resets_at"].is_string());
    let wait: u64 = headers[header::RETRY_AFTER].to_str().expect("text").parse().expect("seconds");
    assert!((1..=1_200).contains(&wait), "{wait}");
    assert!(headers["ratelimit"].to_str().expect("text").starts_with("\"api_key\";r=0;"));
    // The denied call took nothing from the other limit, and is not billed.
    let rows = stage.portal.calls_of(stage.world.requests, 3).await;
    assert!(rows.iter().all(|row| row.key.status == 200));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn routes_are_found_or_refused() {
    let stage = Stage::new().await;
    let call = |method, path: &str| stage.client.request(method, stage.gateway.url(path)).header("x-api-key", stage.world.live.reveal());
    problem(call(Method::GET, "/nothing"), 404, "no-route").await;
    let (headers, _) = problem(call(Method::DELETE, "/weather/v1/echo"), 405, "method-not-allowed").await;
    assert_eq!(headers[header::ALLOW], "GET, HEAD, POST");
    for path in ["/weather/v1/echo/a%2Fb", "/weather/v1/echo/%ff", "/weather//v1/echo"] {
        problem(call(Method::GET, path), 400, "ambiguous-path").await;
    }
    assert_eq!(call(Method::HEAD, "/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn browsers_of_the_portal_may_call() {
    let stage = Stage::new().await;
    let preflight = |origin: &'static str| {
        stage
            .client
            .request(Method::OPTIONS, stage.gateway.url("/weather/v1/echo"))
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "x-api-key")
            .send()
    };
    let allowed = preflight(ORIGIN).await.expect("an answer");
    assert_eq!(allowed.status(), StatusCode::NO_CONTENT);
    assert_eq!(allowed.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN);
    assert_eq!(allowed.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS], "x-api-key");
    let refused = preflight("https://elsewhere.example").await.expect("an answer");
    assert!(!refused.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));

    let answer = stage.get("/weather/v1/echo").header(header::ORIGIN, ORIGIN).send().await.expect("an answer");
    assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN);
    assert!(answer.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str().expect("text").contains("ratelimit"));
    // Preflights are no calls.
    stage.portal.calls_of(stage.world.requests, 1).await;
    stage.gateway.stop().await;
}
