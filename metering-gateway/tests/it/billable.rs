//! What is billable (SEMANTICS M8), as far as the gateway decides it: what is recorded at all, as whose answer, and what a quota is spent on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{SinkExt as _, StreamExt as _};
use gateway_control::{
    credential::CredentialKind,
    policy::{BillableRule, UnitSource},
    units::Micros,
    usage::{AnsweredBy, Mode},
};
use quota::{Enforcement, QuotaLimit, WhenUnreachable};
use reqwest::{Method, StatusCode};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::harness::{SOON, Stage, credential, eventually, policy::ORIGIN};

async fn problems(stage: &Stage) -> BTreeMap<String, u64> {
    let text = stage.client.get(stage.gateway.admin("/metrics")).send().await.expect("an answer").text().await.expect("text");
    let lines = text.lines().filter_map(|line| line.strip_prefix("tollkeeper_gateway_problems_total{problem=\"")?.split_once("\"} "));
    lines.map(|(problem, count)| (problem.to_owned(), count.parse().expect("a number"))).filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn each_answer_is_recorded_as_what_it_was() {
    let stage = Stage::with(|world| world.service.sandbox = Some(world.service.upstream.clone()), |_| ()).await;
    let call = |method, path: &str, key: &str| {
        let call = stage.client.request(method, stage.gateway.url(path));
        if key.is_empty() { call } else { call.header("x-api-key", key) }
    };
    let (live, test) = (stage.world.live.reveal(), stage.world.test.reveal());
    let unknown = credential(CredentialKind::Live);
    let echo = "/weather/v1/echo";
    for (method, path, key, status) in [
        (Method::GET, echo, live, 200),
        (Method::HEAD, echo, live, 200),
        (Method::GET, "/weather/v1/status/301", live, 301),
        (Method::GET, "/weather/v1/status/404", live, 404),
        (Method::GET, "/weather/v1/status/401", live, 401),
        (Method::GET, "/weather/v1/status/503", live, 503),
        // The upstream does not answer in time: the gateway does.
        (Method::GET, "/weather/v1/slow", live, 504),
        (Method::GET, echo, test, 200),
        // Denied.
        (Method::GET, echo, "", 401),
        (Method::GET, echo, unknown.reveal(), 401),
        (Method::DELETE, echo, live, 405),
        (Method::GET, "/nothing", live, 404),
    ] {
        let answer = call(method.clone(), path, key).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        answer.bytes().await.expect("a body");
    }
    let preflight = call(Method::OPTIONS, echo, "").header("origin", ORIGIN).header("access-control-request-method", "GET");
    assert_eq!(preflight.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    let counted = problems(&stage).await;
    let expected = [("key-invalid", 1), ("key-missing", 1), ("method-not-allowed", 1), ("no-route", 1), ("upstream-timeout", 1)];
    assert_eq!(counted, expected.map(|(problem, count)| (problem.to_owned(), count)).into(), "what is denied is counted");

    // The end ships everything, so that what is not there now was never recorded.
    let Stage { portal, gateway, world, .. } = stage;
    gateway.stop().await;
    // Rows of two segments may be about the same.
    let mut recorded = BTreeMap::new();
    for row in portal.rows() {
        let (is_own, is_test) = (row.key.answered_by == AnsweredBy::Gateway, row.key.mode == Mode::Test);
        *recorded.entry((row.key.status, is_own, is_test)).or_default() += row.count;
    }
    let mut expected: BTreeMap<(u16, bool, bool), u64> = [301, 401, 404, 503].map(|status| ((status, false, false), 1)).into();
    expected.extend([((200, false, false), 2), ((200, false, true), 1), ((504, true, false), 1)]);
    assert_eq!(recorded, expected, "status, whether the gateway's own, whether with a test key");
    assert!(portal.rows().iter().all(|row| row.key.meter == world.requests && row.sum == Micros::units(row.count as i64)));
    let receipts: u64 = portal.batches().iter().flat_map(|batch| &batch.final_receipts).map(|(from, to)| to - from + 1).sum();
    assert_eq!(receipts, 8, "what is denied takes no receipt");
}

#[tokio::test]
async fn quotas_count_what_the_plan_bills() {
    let stage = Stage::with(
        |world| {
            world.plan.billable = BillableRule { statuses: vec![(200, 299), (413, 413)], except: vec![204] };
            world.service.sandbox = Some(world.service.upstream.clone());
            let limit = QuotaLimit {
                meter: world.requests,
                limit_microunits: 3_000_000,
                enforcement: Enforcement::Hard,
                when_unreachable: WhenUnreachable::Deny,
            };
            world.plan.quotas = vec![limit];
            world.service.first_byte_timeout_ms = 100;
        },
        |config| (config.lease_wait, config.max_request_body_bytes) = (Duration::from_millis(500), 1_000),
    )
    .await;
    stage.portal.limit(stage.world.requests, 3);
    let status = async |path: &str| stage.get(path).send().await.expect("an answer").status().as_u16();
    // By the plan's rule 404 and 204 are free, and what the gateway answers always is.
    for path in ["status/404", "status/204", "status/500", "slow"].repeat(3) {
        let expected = path.strip_prefix("status/").map_or(504, |status| status.parse().expect("a status"));
        let path = format!("/weather/v1/{path}");
        eventually("it is admitted", async || (status(&path).await == expected).then_some(())).await;
    }
    // Also with a status that the plan bills of an upstream.
    for _ in 0..5 {
        let pieces = (0..5).map(|_| Ok::<_, std::convert::Infallible>("x".repeat(500)));
        let call = stage.client.post(stage.gateway.url("/weather/v1/echo")).header("x-api-key", stage.world.live.reveal());
        let answer = call.body(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    for _ in 0..5 {
        let sandbox = stage.client.get(stage.gateway.url("/weather/v1/echo")).header("x-api-key", stage.world.test.reveal());
        assert_eq!(sandbox.send().await.expect("an answer").status(), StatusCode::OK, "a test key uses up nothing");
    }
    for _ in 0..3 {
        eventually("it is admitted", async || (status("/weather/v1/echo").await == 200).then_some(())).await;
    }
    eventually("used up", async || {
        let status = status("/weather/v1/echo").await;
        assert_ne!(status, 200, "a fourth call was admitted");
        (status == 429).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn seconds_are_recorded_in_parts_and_add_up() {
    let adjust = |config: &mut metering_gateway::Config| config.interim_interval = Duration::from_millis(300);
    let stage = Stage::with(|world| world.route("/weather/v1/ws").meters[0].source = UnitSource::Seconds, adjust).await;
    let mut request = format!("ws://{}/weather/v1/ws", stage.gateway.addresses.data).into_client_request().expect("a request");
    request.headers_mut().insert("x-api-key", stage.world.live.reveal().parse().expect("a value"));
    let asked = Instant::now();
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("a socket");
    let opened = Instant::now();
    let seconds = || stage.portal.rows().iter().map(|row| row.sum.0).sum::<i128>();
    eventually("two parts are recorded", async || (seconds() > 600_000).then_some(())).await;
    socket.send(Message::Text("hello".into())).await.expect("sent");
    tokio::time::timeout(SOON, socket.next()).await.expect("soon").expect("a message").expect("a message");
    let least = opened.elapsed();
    socket.close(None).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}
    let rows = stage.portal.calls_of(stage.world.messages, 1).await;
    let sum = u128::try_from(rows.iter().map(|row| row.sum.0).sum::<i128>()).expect("time goes on");
    let (least, most) = (least.as_micros(), asked.elapsed().as_micros());
    assert!((least..=most).contains(&sum), "{least} <= {sum} <= {most}: each moment once");
    stage.gateway.stop().await;
}
