//! One namespace at full blast, and what is left for the others (SEMANTICS N2).

use gateway_control::{
    credential::CredentialKind,
    policy::{EntryBody, Subscription},
    usage::Mode,
};
use ids::{ApiKeyId, ApplicationId, NamespaceId, SubscriptionId, Uuid};

use super::*;
use crate::harness::{credential, policy::entry, portal::MockPortal};

/// Adds another tenant on the same plan and returns its key.
pub fn settle(portal: &MockPortal, world: &World) -> String {
    let (namespace, application) = (NamespaceId::from_uuid(Uuid::now_v7()), ApplicationId::new());
    let subscription = Subscription { id: SubscriptionId::new(), namespace, application, ..world.subscription.clone() };
    let secret = credential(CredentialKind::Live);
    let key = gateway_control::policy::ApiKey {
        id: ApiKeyId::new(),
        digest: secret.digest(),
        namespace,
        application,
        mode: Mode::Live,
        expires_at: None,
    };
    portal.change(entry(EntryBody::Subscription(subscription)));
    portal.change(entry(EntryBody::ApiKey(key)));
    secret.reveal().to_owned()
}

/// Adds another tenant on the same plan, and returns its key once it works.
async fn neighbour(stage: &Stage) -> String {
    let key = settle(&stage.portal, &stage.world);
    let call = || stage.client.get(stage.gateway.url("/weather/v1/echo")).header("x-api-key", &key).send();
    eventually("the neighbour's key works", async || (call().await.ok()?.status() == 200).then_some(())).await;
    key
}

#[tokio::test]
async fn a_namespace_that_floods_a_hanging_upstream_leaves_room_for_the_others() {
    let hang = |_: &str| vec![Act::Pause(Duration::from_secs(2)), send(GOOD)];
    let bounds = |config: &mut Config| {
        config.cores = Some(1);
        config.max_open_calls = 40;
        config.namespace_share_percent = 50;
    };
    let (mut stage, upstream) = stage(hang, bounds).await;
    let key = neighbour(&stage).await;
    let bystander = Bystander::with_key(&stage, &key);
    let url = stage.gateway.url("/weather/v1/any/x");
    let flood = (0..200).map(|_| stage.client.get(&url).header("x-api-key", stage.world.live.reveal()).timeout(SOON).send());
    let mut served = 0;
    for answer in futures_util::future::join_all(flood).await {
        let answer = answer.expect("an answer");
        match answer.status().as_u16() {
            200 | 504 => served += 1,
            503 => {
                assert_eq!(answer.headers()["retry-after"], "1");
                let problem: serde_json::Value = answer.json().await.expect("JSON");
                assert_eq!(problem["type"], "urn:tollkeeper:problem:overloaded");
            }
            status => panic!("{status}"),
        }
    }
    assert!((1..=40).contains(&served), "{served} of 200 had a place at some time");
    let most = upstream.targets().iter().filter(|target| target.contains("/any/x")).count();
    assert!(most <= 40, "{most} reached the upstream");
    bystander.done().await;
    // Those who were refused were not admitted: no record, nothing to bill.
    hostile_rows(&mut stage, served).await;
    becomes(&stage, "open_calls", |open| open == 0).await;
    stage.gateway.stop().await;
}

/// A service has 16 connections: one namespace has 14 of them and one more, and the others call on the last.
#[tokio::test]
async fn a_namespace_whose_calls_hang_does_not_have_all_connections_of_a_service() {
    let hang = |target: &str| if target.contains("/any/x") { vec![Act::Pause(Duration::from_secs(60))] } else { vec![send(GOOD)] };
    let upstream = RawUpstream::start(hang).await;
    let address = upstream.address;
    let stage = Stage::with(
        |world| {
            hostile_world(world, address);
            (world.service.connect_timeout_ms, world.service.first_byte_timeout_ms) = (60_000, 60_000);
        },
        |config| {
            config.cores = Some(1);
            config.upstream.max_connections = 16;
        },
    )
    .await;
    let key = neighbour(&stage).await;
    let url = stage.gateway.url("/weather/v1/any/x");
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..40 {
        flood.spawn(stage.client.get(&url).header("x-api-key", stage.world.live.reveal()).send());
    }
    let hanging = || upstream.targets().iter().filter(|target| target.contains("/any/x")).count();
    eventually("it has all that it can have", async || (hanging() == 15).then_some(())).await;
    becomes(&stage, "upstream_calls_waiting", |waiting| waiting == 25).await;
    for _ in 0..10 {
        let call = stage.client.get(stage.gateway.url("/weather/v1/echo")).header("x-api-key", &key).timeout(SOON).send();
        assert_eq!(call.await.expect("an answer").status(), 200);
    }
    assert_eq!(hanging(), 15, "a connection on which another namespace was served is not for it");
    drop(flood);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn places_come_back_however_a_call_ends() {
    let bounds = |config: &mut Config| {
        config.cores = Some(1);
        config.max_open_calls = 4;
        config.namespace_share_percent = 50;
    };
    let (stage, _upstream) = stage(|_| vec![Act::Close], bounds).await;
    let key = stage.world.live.reveal().to_owned();
    for round in 0..20 {
        // An upstream that dies, a caller that leaves, a call that is well.
        let url = stage.gateway.url("/weather/v1/any/x");
        assert_eq!(stage.client.get(&url).header("x-api-key", &key).send().await.expect("an answer").status(), 502, "{round}");
        let mut raw = Raw::connect(&stage).await;
        raw.send(format!("POST /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\ncontent-length: 5\r\n\r\nab")).await;
        drop(raw);
        eventually("a call has a place", async || (stage.get("/weather/v1/echo").send().await.ok()?.status() == 200).then_some(())).await;
    }
    becomes(&stage, "open_calls", |open| open == 0).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_namespace_has_its_share_of_connections_and_loses_no_call_beyond_it() {
    let (stage, _upstream) = calm_stage(|config| {
        config.cores = Some(1);
        config.max_connections = 40;
        config.namespace_share_percent = 25;
    })
    .await;
    let neighbour = neighbour(&stage).await;
    let text = |key: &str| format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n");
    let loud = text(stage.world.live.reveal());
    let is_last = |answer: &str| answer.to_ascii_lowercase().contains("connection: close");
    let mut kept = Vec::new();
    let mut closed = 0;
    for _ in 0..20 {
        let mut raw = Raw::connect(&stage).await;
        raw.send(&loud).await;
        let answer = raw.answer().await;
        assert_eq!(statuses(&answer), [200], "no call is refused");
        if is_last(&answer) {
            assert_eq!(raw.rest().await, "", "closed after the answer");
            closed += 1;
        } else {
            kept.push(raw);
        }
    }
    // Those of the stage's own client, which asked first, count too.
    assert!((8..=10).contains(&kept.len()), "{} of 20 were kept", kept.len());
    assert_eq!(kept.len() + closed, 20);
    let metrics = stage.client.get(stage.gateway.admin("/metrics")).send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains(&format!("tollkeeper_gateway_surplus_connections_total {closed}\n")), "{closed} were closed: {metrics}");
    for raw in &mut kept {
        raw.send(&loud).await;
        assert!(!is_last(&raw.answer().await), "who has a place keeps it");
    }
    let mut quiet = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::connect(&stage).await;
        raw.send(text(&neighbour)).await;
        let answer = raw.answer().await;
        assert!(statuses(&answer) == [200] && !is_last(&answer), "the neighbour has a share of its own: {answer}");
        quiet.push(raw);
    }
    // A connection that changes sides counts for the new one only.
    let mut changed = kept.pop().expect("a connection");
    changed.send(text(&neighbour)).await;
    assert_eq!(statuses(&changed.answer().await), [200]);
    let mut raw = Raw::connect(&stage).await;
    raw.send(&loud).await;
    assert!(!is_last(&raw.answer().await), "its place was given back");
    drop((kept, raw));
    eventually("places come back", async || {
        let mut raw = Raw::connect(&stage).await;
        raw.send(&loud).await;
        (!is_last(&raw.answer().await)).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_surplus_connection_of_http2_is_told_to_go_and_its_call_is_answered() {
    let (stage, _upstream) = calm_stage(|config| {
        config.cores = Some(1);
        config.max_connections = 8;
        config.namespace_share_percent = 13;
    })
    .await;
    let key = stage.world.live.reveal().to_owned();
    let url = stage.gateway.url("/weather/v1/echo");
    let mut raw = Raw::connect(&stage).await;
    raw.send(format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n")).await;
    assert_eq!(statuses(&raw.answer().await), [200], "the one place is taken");
    let socket = tokio::net::TcpStream::connect(stage.gateway.addresses.data).await.expect("a connection");
    let handshake = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(socket));
    let (mut sender, driver) = handshake.await.expect("HTTP/2");
    let driver = tokio::spawn(driver);
    let request = http::Request::get(&url).header("x-api-key", &key).body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("the whole body").to_bytes();
    assert!(!body.is_empty());
    timeout(SOON, driver).await.expect("the gateway closes it").expect("no panic").expect("in order");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let (stage, _upstream) = calm_stage(|config| config.max_connections_per_address = 8).await;
    let key = stage.world.live.reveal().to_owned();
    let text = format!("GET /weather/v1/echo HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\n\r\n");
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::connect(&stage).await;
        raw.send(&text).await;
        assert_eq!(statuses(&raw.answer().await), [200]);
        held.push(raw);
    }
    for _ in 0..20 {
        let mut raw = Raw::connect(&stage).await;
        raw.send(&text).await;
        assert_eq!(raw.rest().await, "", "closed without an answer");
    }
    for raw in &mut held {
        raw.send(&text).await;
        assert_eq!(statuses(&raw.answer().await), [200], "who has a place keeps it");
    }
    drop(held);
    eventually("places come back", async || {
        let mut raw = Raw::connect(&stage).await;
        raw.send(&text).await;
        let mut byte = [0];
        (raw.0.read(&mut byte).await.ok()? == 1).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}
