//! One namespace at full blast, and what is left for the others (SEMANTICS N2).

use gateway_control::{
    credential::CredentialKind,
    policy::{EntryBody, Subscription},
    usage::Mode,
};
use ids::{ApiKeyId, ApplicationId, NamespaceId, SubscriptionId, Uuid};

use super::*;
use crate::harness::{credential, policy::entry};

/// Adds another tenant on the same plan and returns its key.
async fn neighbour(stage: &Stage) -> String {
    let (namespace, application) = (NamespaceId::from_uuid(Uuid::now_v7()), ApplicationId::new());
    let subscription = Subscription { id: SubscriptionId::new(), namespace, application, ..stage.world.subscription.clone() };
    let secret = credential(CredentialKind::Live);
    let key = gateway_control::policy::ApiKey {
        id: ApiKeyId::new(),
        digest: secret.digest(),
        namespace,
        application,
        mode: Mode::Live,
        expires_at: None,
    };
    stage.portal.change(entry(EntryBody::Subscription(subscription)));
    stage.portal.change(entry(EntryBody::ApiKey(key)));
    let key = secret.reveal().to_owned();
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
