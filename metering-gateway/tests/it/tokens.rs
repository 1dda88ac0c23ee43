//! Tokens of language models: read from the answer's body on its way, as the vendors write them (SEMANTICS M8).

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{HeaderMap, Response, header},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use gateway_control::{
    policy::{RouteMeter, TokenKind, UnitSource},
    units::Micros,
    usage::UsageRow,
};
use ids::{MeterId, RouteId};
use metering_gateway::Config;
use quota::{Enforcement, QuotaLimit, WhenUnreachable};

use crate::harness::{Stage, eventually, policy::World, serve};

const PATH: &str = "/weather/v1/llm/{case}";

const CHAT: &str = r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":4}}}"#;
const CHAT_STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\
    \"completion_tokens\":10,\"total_tokens\":29,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n";
const RESPONSES_STREAM: &str = "event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":19,\"input_tokens_details\":\
    {\"cached_tokens\":4},\"output_tokens\":10,\"total_tokens\":29}}}\n\n";
const MESSAGE: &str =
    r#"{"type":"message","usage":{"input_tokens":15,"cache_read_input_tokens":4,"cache_creation_input_tokens":0,"output_tokens":10}}"#;
const MESSAGE_START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":15,\
    \"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\n";
const MESSAGE_DELTA: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":10}}\n\n";
/// [`CHAT`]'s usage, compressed.
const GZIPPED: &str = "H4sIAAAAAAACA6tWKi1OTE9VsqpWKijKzy0oiS/Jz07NK1ayMrTUUUoGiuSklmTm5yGEDXSUSvJLEnPgIkaWtbUAV8RwZUcAAAA=";

/// What a language model answers; `-open` leaves the answer open behind the last byte.
async fn answer(Path(case): Path<String>, asked: HeaderMap) -> Response<Body> {
    let (name, stays_open) = case.strip_suffix("-open").map_or((case.as_str(), false), |name| (name, true));
    let (content_type, body) = match name {
        "chat" => ("application/json", CHAT.to_owned()),
        "chat-stream" => ("text/event-stream; charset=utf-8", CHAT_STREAM.to_owned()),
        "chat-cut" => ("text/event-stream", CHAT_STREAM.split_inclusive("\n\n").take(1).collect()),
        "chat-told" => ("text/event-stream", CHAT_STREAM.split_inclusive("\n\n").take(2).collect()),
        "responses-stream" => ("text/event-stream", RESPONSES_STREAM.to_owned()),
        "message" => ("application/json", MESSAGE.to_owned()),
        "message-stream" => ("text/event-stream", format!("{MESSAGE_START}{MESSAGE_DELTA}")),
        "message-begun" => ("text/event-stream", MESSAGE_START.to_owned()),
        "plain" => ("text/plain", CHAT.to_owned()),
        "none" => ("application/json", "{\"choices\":[]}".to_owned()),
        "negative" => ("application/json", CHAT.replace("19", "-19")),
        "too-many" => ("application/json", CHAT.replace("\"completion_tokens\":10", "\"completion_tokens\":1001")),
        _ => ("application/json", String::new()),
    };
    let is_gzip = name == "gzip";
    let body = if is_gzip { BASE64_STANDARD.decode(GZIPPED).expect("base64") } else { body.into_bytes() };
    // Small pieces, so that nothing stands whole in one.
    let pieces: Vec<_> = body.chunks(7).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
    let end = if stays_open { stream::pending().boxed() } else { stream::empty().boxed() };
    let seen = asked.get(header::ACCEPT_ENCODING).cloned().unwrap_or(header::HeaderValue::from_static("nothing"));
    let answer = Response::builder().header(header::CONTENT_TYPE, content_type).header("x-accept-encoding", seen);
    let answer = if is_gzip { answer.header(header::CONTENT_ENCODING, "gzip") } else { answer };
    answer.body(Body::from_stream(stream::iter(pieces).chain(end))).expect("an answer")
}

struct Scene {
    stage: Stage,
    input: MeterId,
    cached: MeterId,
    output: MeterId,
    bytes: MeterId,
}

impl Scene {
    async fn new(world: impl FnOnce(&mut World, [MeterId; 4]), adjust: impl FnOnce(&mut Config)) -> Self {
        let model = serve(Router::new().route("/base/v1/llm/{case}", get(answer))).await;
        let ids = [MeterId::new(), MeterId::new(), MeterId::new(), MeterId::new()];
        let make = |made: &mut World| {
            let meter = |meter, source, default| {
                let (default_units, max_units) = (Micros::units(default), Micros::units(1_000));
                RouteMeter { meter, source, default_units, max_units }
            };
            let tokens = |id, kind, default| meter(id, UnitSource::Tokens { kind }, default);
            let mut route = made.routes[0].clone();
            (route.id, route.path) = (RouteId::new(), PATH.into());
            route.meters = vec![
                meter(made.requests, UnitSource::Call, 1),
                tokens(ids[0], TokenKind::Input, 100),
                tokens(ids[1], TokenKind::CachedInput, 3),
                tokens(ids[2], TokenKind::Output, 500),
                meter(ids[3], UnitSource::ResponseBytes, 0),
            ];
            made.routes.push(route);
            made.service.upstream = format!("http://{model}/base");
            world(made, ids);
        };
        let stage = Stage::with(make, adjust).await;
        let [input, cached, output, bytes] = ids;
        Self { stage, input, cached, output, bytes }
    }

    async fn usual() -> Self {
        Self::new(|_, _| (), |_| ()).await
    }

    fn get(&self, case: &str) -> reqwest::RequestBuilder {
        self.stage.get(&PATH.replace("{case}", case))
    }

    /// Calls, reads all of the answer, and returns it.
    async fn whole(&self, case: &str) -> Bytes {
        self.get(case).send().await.expect("an answer").bytes().await.expect("a body")
    }

    /// Calls, reads until so many bytes have come, and leaves.
    async fn leave_after(&self, case: &str, bytes: usize) {
        let mut body = self.get(case).send().await.expect("an answer").bytes_stream();
        let mut read = 0;
        while read < bytes {
            read += body.next().await.expect("a piece").expect("a piece").len();
        }
    }

    fn rows(&self, meter: MeterId) -> Vec<UsageRow> {
        self.stage.portal.rows().into_iter().filter(|row| row.key.meter == meter).collect()
    }

    /// Input, cached input and output of all calls, once so many have been recorded.
    async fn recorded(&self, calls: u64) -> (i128, i128, i128) {
        let mut sums = [0; 3];
        for (sum, meter) in sums.iter_mut().zip([self.input, self.cached, self.output]) {
            *sum = sum_of(&self.stage.portal.calls_of(meter, calls).await);
        }
        sums.into()
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = self.stage.client.get(self.stage.gateway.admin("/metrics")).send().await.expect("an answer").text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("tollkeeper_gateway_{name}_total ")));
        line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
    }

    async fn faults(&self) -> (u64, u64, u64) {
        (self.metric("units_defaulted").await, self.metric("units_malformed").await, self.metric("units_clamped").await)
    }
}

/// In whole units.
fn sum_of(rows: &[UsageRow]) -> i128 {
    rows.iter().map(|row| row.sum.0).sum::<i128>() / 1_000_000
}

#[tokio::test]
async fn both_vendors_are_read_in_both_forms() {
    let scene = Scene::usual().await;
    for (calls, (case, body)) in (1..).zip([
        ("chat", CHAT),
        ("chat-stream", CHAT_STREAM),
        ("responses-stream", RESPONSES_STREAM),
        ("message", MESSAGE),
        ("message-stream", &format!("{MESSAGE_START}{MESSAGE_DELTA}")),
    ]) {
        assert_eq!(scene.whole(case).await, body, "what passes is what was sent");
        let each = i128::from(calls);
        assert_eq!(scene.recorded(calls).await, (19 * each, 4 * each, 10 * each), "{case}");
    }
    assert_eq!(scene.faults().await, (0, 0, 0));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_say_is_defaulted_and_one_that_says_too_much_is_clamped() {
    let scene = Scene::usual().await;
    // Each defaults all three; a type that is not read says nothing, whatever stands in it.
    for case in ["none", "plain", "chat-cut", "no-such-case"] {
        scene.whole(case).await;
    }
    assert_eq!((scene.recorded(4).await, scene.faults().await), ((4 * 100, 4 * 3, 4 * 500), (12, 0, 0)));
    scene.whole("negative").await;
    assert_eq!((scene.recorded(5).await, scene.faults().await), ((5 * 100, 4 * 3 + 4, 4 * 500 + 10), (13, 1, 0)));
    scene.whole("too-many").await;
    assert_eq!((scene.recorded(6).await, scene.faults().await), ((5 * 100 + 19, 4 * 3 + 8, 4 * 500 + 10 + 1_000), (13, 1, 1)));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn a_compressed_answer_is_not_asked_for_and_not_read() {
    let scene = Scene::usual().await;
    let asked = scene.get("chat").header(header::ACCEPT_ENCODING, "gzip, br").send().await.expect("an answer");
    assert_eq!(asked.headers()["x-accept-encoding"], "identity");
    asked.bytes().await.expect("a body");
    assert_eq!(scene.recorded(1).await, (19, 4, 10));
    // One that comes compressed all the same passes as it is.
    let compressed = BASE64_STANDARD.decode(GZIPPED).expect("base64");
    assert_eq!(scene.whole("gzip").await, compressed);
    assert_eq!((scene.recorded(2).await, scene.faults().await), ((19 + 100, 4 + 3, 10 + 500), (3, 0, 0)));
    let bytes = scene.stage.portal.calls_of(scene.bytes, 2).await;
    assert_eq!(sum_of(&bytes), (CHAT.len() + compressed.len()) as i128, "bytes are those that were sent");
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn other_routes_keep_the_callers_encodings() {
    let output = |world: &mut World, _| world.route(PATH).meters.truncate(1);
    let scene = Scene::new(output, |_| ()).await;
    let answer = scene.get("chat").header(header::ACCEPT_ENCODING, "gzip, br").send().await.expect("an answer");
    assert_eq!(answer.headers()["x-accept-encoding"], "gzip, br");
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_owes_what_was_told_until_then() {
    // Of OpenAI's stream nothing was told: the defaults.
    let scene = Scene::usual().await;
    scene.leave_after("chat-cut-open", 10).await;
    assert_eq!((scene.recorded(1).await, scene.metric("units_estimated").await), ((100, 3, 500), 3));
    assert_eq!(scene.rows(scene.output)[0].incomplete, 1);
    // The usage had been told, the end had not.
    scene.leave_after("chat-told-open", CHAT_STREAM.len() - "data: [DONE]\n\n".len()).await;
    assert_eq!((scene.recorded(2).await, scene.metric("units_estimated").await), ((119, 7, 510), 3));
    // Anthropic's stream has told what came in; what goes out is at least what was told, and at least the default.
    scene.leave_after("message-begun-open", MESSAGE_START.len()).await;
    assert_eq!((scene.recorded(3).await, scene.metric("units_estimated").await), ((138, 11, 1_010), 4));
    assert_eq!(scene.faults().await, (0, 0, 0), "nobody must look at what a caller did not wait for");
    let incomplete = scene.rows(scene.output).iter().map(|row| row.incomplete).sum::<u64>();
    assert_eq!(incomplete, 3, "with their outcome");
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn what_was_told_beyond_the_default_is_owed() {
    let low = |world: &mut World, [_, _, output, _]: [MeterId; 4]| {
        let meters = &mut world.route(PATH).meters;
        meters.iter_mut().filter(|meter| meter.meter == output).for_each(|meter| meter.default_units = Micros(0));
    };
    let scene = Scene::new(low, |_| ()).await;
    scene.leave_after("message-begun-open", MESSAGE_START.len()).await;
    assert_eq!(scene.recorded(1).await, (19, 4, 1));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn what_was_told_is_recorded_while_the_stream_is_open() {
    let scene = Scene::new(|_, _| (), |config| config.interim_interval = Duration::from_millis(300)).await;
    let mut body = scene.get("message-stream-open").send().await.expect("an answer").bytes_stream();
    body.next().await.expect("a piece").expect("a piece");
    eventually("the figures stand in an interim record", async || {
        (sum_of(&scene.rows(scene.input)) == 19 && sum_of(&scene.rows(scene.output)) == 10).then_some(())
    })
    .await;
    assert!(scene.stage.portal.rows().iter().all(|row| row.count == 0), "no call has ended");
    drop(body);
    assert_eq!(scene.recorded(1).await, (19, 4, 10), "each token once");
    assert_eq!(scene.faults().await, (0, 0, 0));
    scene.stage.gateway.stop().await;
}

#[tokio::test]
async fn a_stream_of_tokens_settles_what_it_used() {
    let hard = |world: &mut World, [_, _, output, _]: [MeterId; 4]| {
        let limit = QuotaLimit {
            meter: output,
            limit_microunits: 1_009_000_000,
            enforcement: Enforcement::Hard,
            when_unreachable: WhenUnreachable::Deny,
        };
        world.plan.quotas = vec![limit];
    };
    let scene = Scene::new(hard, |config| config.lease_wait = Duration::from_millis(500)).await;
    scene.stage.portal.limit(scene.output, 1_009);
    // Each reserves 1,000 and uses 10, so a second one is admitted only if the first gave the rest back, and no third.
    let status = async |case| {
        let answer = scene.get(case).send().await.expect("an answer");
        let status = answer.status().as_u16();
        answer.bytes().await.expect("a body");
        status
    };
    assert_eq!(status("message-stream").await, 200);
    eventually("what is left is less than a call may use", async || {
        let status = status("chat-stream").await;
        assert_ne!(status, 200, "999 are left, and a call may use 1,000");
        (status == 429).then_some(())
    })
    .await;
    scene.stage.portal.limit(scene.output, 1_010);
    eventually("what is left is just enough", async || (status("chat-stream").await == 200).then_some(())).await;
    assert_eq!(scene.recorded(2).await.2, 20);
    scene.stage.gateway.stop().await;
}
