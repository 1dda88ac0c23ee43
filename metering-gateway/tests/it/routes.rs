//! What routes say beside method and path: hosts, conditions, rewriting, headers, body limits, origins, and how old a policy may be.

use std::time::Duration;

use gateway_control::{
    options::RouteOptions,
    policy::{EntryBody, Route},
};
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use ids::RouteId;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{
    Stage, eventually,
    policy::{ORIGIN, World, entry},
};

fn options(options: Value) -> Option<Box<RouteOptions>> {
    serde_json::from_value::<RouteOptions>(options).expect("options").stated()
}

/// One more route like that of `/weather/v1/echo`, with options.
fn add(world: &mut World, path: &str, said: Value) -> RouteId {
    let like = world.route("/weather/v1/echo").clone();
    let id = RouteId::new();
    world.routes.push(Route { id, path: path.into(), options: options(said), ..like });
    id
}

async fn json_of(call: RequestBuilder) -> Value {
    let answer = call.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.expect("JSON")
}

/// The values of a header as the upstream saw them.
fn seen<'a>(echo: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = echo["headers"].as_array().expect("headers");
    headers.iter().filter(|header| header[0] == name).map(|header| header[1].as_str().expect("text")).collect()
}

#[tokio::test]
async fn hosts_and_conditions_choose_the_route() {
    let stage = Stage::with(
        |world| {
            for (hosts, tag) in [(json!(["api.example.com"]), "exact"), (json!(["*.example.com"]), "wildcard")] {
                add(world, "/weather/v1/echo", json!({"hosts": hosts, "request_headers": {"set": [["x-route", tag]]}}));
            }
            let conditions = json!({"headers": [{"name": "x-edition", "value": "2"}], "query": [{"name": "format"}]});
            let mut edition = conditions.clone();
            edition["request_headers"] = json!({"set": [["x-route", "edition"]]});
            add(world, "/weather/v1/echo", edition);
        },
        |_| (),
    )
    .await;
    let route = async |host: &str, query: &str, edition: &str| {
        let call = stage.get(&format!("/weather/v1/echo{query}")).header("host", host).header("x-edition", edition);
        seen(&json_of(call).await, "x-route").first().map(|&route| route.to_owned())
    };
    assert_eq!(route("other.example", "", "1").await, None);
    assert_eq!(route("api.example.com:8443", "", "1").await.as_deref(), Some("exact"));
    assert_eq!(route("eu.EXAMPLE.com", "", "1").await.as_deref(), Some("wildcard"));
    assert_eq!(route("other.example", "?format=json", "2").await.as_deref(), Some("edition"));
    assert_eq!(route("other.example", "?format=json", "1").await, None);
    // HTTP/2 names the host in the target.
    let io = TokioIo::new(tokio::net::TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection"));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get("http://api.example.com/weather/v1/echo")
        .header("x-api-key", stage.world.live.reveal())
        .body(Empty::<bytes::Bytes>::new())
        .expect("a request");
    let body = sender.send_request(request).await.expect("an answer").into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(seen(&serde_json::from_slice(&body).expect("JSON"), "x-route"), ["exact"]);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn paths_and_headers_are_changed_as_the_route_says() {
    let stage = Stage::with(
        |world| {
            world.route("/weather/v1/echo/{city}").options = options(json!({
                "rewrite": "/v1/echo/{city}",
                "request_headers": {"remove": ["x-debug"], "set": [["x-tier", "gold"], ["authorization", "Basic dXBzdHJlYW0="]]},
                "response_headers": {"remove": ["x-upstream"], "set": [["cache-control", "no-store"]]},
            }));
            add(world, "/weather/cities/{city}/{*rest}", json!({"rewrite": "/v1/echo/{city}"}));
        },
        |_| (),
    )
    .await;
    let call =
        stage.get("/weather/v1/echo/oslo?q=1").header("x-debug", "1").header("x-tier", "forged").header("authorization", "Basic bWluZQ==");
    let answer = call.send().await.expect("an answer");
    assert!(!answer.headers().contains_key("x-upstream"));
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let echo: Value = answer.json().await.expect("JSON");
    assert_eq!(echo["target"], "/base/v1/echo/oslo?q=1");
    assert_eq!((seen(&echo, "x-debug"), seen(&echo, "x-tier")), (vec![], vec!["gold"]));
    assert_eq!(seen(&echo, "authorization"), ["Basic dXBzdHJlYW0="]);
    assert_eq!(seen(&echo, "x-forwarded-prefix"), Vec::<&str>::new(), "nothing was merely taken off");
    let echo = json_of(stage.client.get(stage.gateway.url("/weather/cities/rom%65/a/b?q=2")).bearer_auth(stage.world.live.reveal())).await;
    assert_eq!(echo["target"], "/base/v1/echo/rome?q=2");
    assert!(!echo.to_string().contains(stage.world.live.reveal()), "{echo}");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_bad_value_leaves_the_last_good_route_in_force() {
    let stage = Stage::new().await;
    let mut route = stage.world.routes[0].clone();
    route.options = options(json!({"request_headers": {"set": [["tollkeeper-plan", "gold"]]}}));
    stage.portal.change(entry(EntryBody::Route(route.clone())));
    let status = eventually("the status names it", async || stage.portal.status().filter(|status| !status.bad_entries.is_empty())).await;
    let bad = &status.bad_entries[0];
    assert_eq!(bad.entry, route.id.to_string());
    assert!(bad.reason.contains("options.request_headers.set: `tollkeeper-plan` is the gateway's own"), "{}", bad.reason);
    assert_eq!(seen(&json_of(stage.get("/weather/v1/echo")).await, "tollkeeper-plan"), ["pro"]);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_route_bounds_its_bodies() {
    let stage = Stage::with(
        |world| {
            let post = world.routes.iter_mut().find(|route| route.method.as_deref() == Some("POST")).expect("a POST route");
            post.options = options(json!({"max_request_body_bytes": 1_000}));
        },
        |config| config.max_request_body_bytes = 100,
    )
    .await;
    let post = |path: &str, body: reqwest::Body| {
        stage.client.post(stage.gateway.url(path)).header("x-api-key", stage.world.live.reveal()).body(body).send()
    };
    let status = |answer: reqwest::Result<Response>| answer.expect("an answer").status();
    assert_eq!(status(post("/weather/v1/echo", "x".repeat(1_000).into()).await), StatusCode::OK, "more than the gateway's default");
    assert_eq!(status(post("/weather/v1/echo", "x".repeat(1_001).into()).await), StatusCode::PAYLOAD_TOO_LARGE);
    let pieces = (0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(100)));
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    assert_eq!(status(post("/weather/v1/echo", chunked).await), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status(post("/weather/v1/any/x", "x".repeat(101).into()).await), StatusCode::PAYLOAD_TOO_LARGE, "the default elsewhere");
    stage.gateway.stop().await;
}

/// A preflight, or a call with the live key, from a browser's origin.
async fn from_origin(stage: &Stage, method: Method, path: &str, origin: &str) -> Response {
    let call = stage.client.request(method.clone(), stage.gateway.url(path)).header("origin", origin);
    let call = match method {
        Method::OPTIONS => call.header("access-control-request-method", "GET").header("access-control-request-headers", "x-api-key"),
        _ => call.header("x-api-key", stage.world.live.reveal()),
    };
    call.send().await.expect("an answer")
}

fn said<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    let mut values = answer.headers().get_all(name).iter();
    let first = values.next().map(|value| value.to_str().expect("text"));
    assert!(values.next().is_none(), "{name} stands there twice");
    first
}

#[tokio::test]
async fn origins_may_call_where_the_route_says_so() {
    const APP: &str = "https://app.example.com";
    let stage = Stage::with(
        |world| {
            let upstreams = json!({"set": [["x-any", "1"]]});
            world.route("/weather/v1/echo").options = options(json!({
                "response_headers": upstreams,
                "cors": {"origins": [APP], "credentials": true, "expose": ["x-total"], "max_age_s": 60},
            }));
            world.route("/weather/v1/echo/{city}").options = options(json!({"cors": {"origins": ["*"]}}));
        },
        |_| (),
    )
    .await;
    let echo = "/weather/v1/echo";
    let preflight = from_origin(&stage, Method::OPTIONS, echo, APP).await;
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(said(&preflight, "access-control-allow-origin"), Some(APP));
    assert_eq!(said(&preflight, "access-control-allow-credentials"), Some("true"));
    assert_eq!(said(&preflight, "access-control-max-age"), Some("60"));
    assert_eq!(said(&preflight, "access-control-allow-headers"), Some("x-api-key"));

    let answer = from_origin(&stage, Method::GET, echo, APP).await;
    assert_eq!((answer.status(), said(&answer, "access-control-allow-origin")), (StatusCode::OK, Some(APP)));
    assert_eq!(said(&answer, "access-control-allow-credentials"), Some("true"));
    assert!(said(&answer, "access-control-expose-headers").expect("names").ends_with(", x-request-id, x-total"));
    assert_eq!(said(&answer, "vary"), Some("origin"));
    // A denial can be read by the script too.
    let denied = stage.client.get(stage.gateway.url(echo)).header("origin", APP).send().await.expect("an answer");
    assert_eq!((denied.status(), said(&denied, "access-control-allow-origin")), (StatusCode::UNAUTHORIZED, Some(APP)));

    for path in [echo, "/weather/v1/status/200"] {
        for method in [Method::OPTIONS, Method::GET] {
            let answer = from_origin(&stage, method.clone(), path, "https://evil.example").await;
            assert_eq!(said(&answer, "access-control-allow-origin"), None, "{method} {path}");
        }
    }
    let elsewhere = from_origin(&stage, Method::GET, "/weather/v1/status/200", APP).await;
    assert_eq!(said(&elsewhere, "access-control-allow-origin"), None, "another route");
    for (path, origin, expected) in [(echo, ORIGIN, ORIGIN), ("/weather/v1/echo/oslo", "https://any.example", "*")] {
        for method in [Method::OPTIONS, Method::GET] {
            let answer = from_origin(&stage, method.clone(), path, origin).await;
            assert_eq!(said(&answer, "access-control-allow-origin"), Some(expected), "{method} {path}");
            assert_eq!(said(&answer, "access-control-allow-credentials"), None, "{method} {path}");
        }
    }
    // Preflights were never counted: of the calls above six were admitted.
    let counted = |rows: &[gateway_control::usage::UsageRow]| rows.iter().map(|row| row.count).sum::<u64>();
    assert_eq!(counted(&stage.portal.calls_of(stage.world.requests, 6).await), 6);
    stage.gateway.stop().await;
    assert_eq!(counted(&stage.portal.rows()), 6);
}

#[tokio::test]
async fn a_route_says_how_old_a_policy_may_be() {
    let stage = Stage::with(
        |world| {
            world.route("/weather/v1/status/{code}").options = options(json!({"max_policy_age_s": 5}));
            world.route("/weather/v1/echo/{city}").options = options(json!({"max_policy_age_s": 3_600}));
        },
        |config| config.max_policy_age = Duration::from_secs(10),
    )
    .await;
    let status = async |path: &str| stage.get(path).send().await.expect("an answer").status();
    stage.portal.go_away();
    let too_old = async |path: &str| {
        eventually(path, async || (status(path).await == StatusCode::SERVICE_UNAVAILABLE).then_some(())).await;
    };
    too_old("/weather/v1/status/200").await;
    assert_eq!(status("/weather/v1/echo").await, StatusCode::OK, "the gateway's default is longer");
    too_old("/weather/v1/echo").await;
    assert_eq!(status("/weather/v1/echo/oslo").await, StatusCode::OK, "longer than the gateway's default");
    assert_eq!(status("/weather/no-such-route").await, StatusCode::SERVICE_UNAVAILABLE);
    stage.portal.come_back();
    eventually("the portal is back", async || (status("/weather/v1/status/200").await == StatusCode::OK).then_some(())).await;
    stage.gateway.stop().await;
}

/// Each header that the gateway tells an upstream, as a caller would forge it: in its own spelling, with underscores, and twice.
#[tokio::test]
async fn nobody_can_forge_what_the_gateway_tells_upstreams() {
    use gateway_control::headers::{API_KEY, APPLICATION, MODE, NAMESPACE, PLAN, SUBSCRIPTION};
    let stage = Stage::new().await;
    let identity = [NAMESPACE, APPLICATION, SUBSCRIPTION, PLAN, MODE];
    let mut call = stage.get("/weather/v1/echo").header(header::AUTHORIZATION, format!("Bearer {}", stage.world.test.reveal()));
    let forwarded = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix"];
    for name in identity.into_iter().chain(forwarded).chain(["tollkeeper-added-later"]) {
        call = call.header(name, "forged").header(name, "forged again").header(name.replace('-', "_"), "forged");
        call = call.header(name.to_ascii_uppercase().as_str(), "forged");
    }
    let echo = json_of(call.header("x_api_key", "kept")).await;
    for name in identity {
        assert_eq!(seen(&echo, name).len(), 1, "{name}: {echo}");
        assert_ne!(seen(&echo, name), ["forged"], "{name}");
    }
    let text = echo["headers"].to_string();
    for name in identity.into_iter().chain(["tollkeeper-added-later"]) {
        assert_eq!(seen(&echo, &name.replace('-', "_")), Vec::<&str>::new(), "{name}");
    }
    for name in forwarded {
        assert!(!seen(&echo, name).iter().any(|value| value.contains("forged")), "{name}: {echo}");
    }
    assert_eq!(seen(&echo, "tollkeeper-added-later"), Vec::<&str>::new());
    assert_eq!((seen(&echo, API_KEY), seen(&echo, "authorization")), (vec![], vec![]));
    for secret in [&stage.world.live, &stage.world.test] {
        assert!(!text.contains(secret.reveal()), "{text}");
    }
    stage.gateway.stop().await;
}
