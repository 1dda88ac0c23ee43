//! Sending again: only where it is safe, within a budget, and never twice in the records (SEMANTICS M8).

use std::time::Duration;

use gateway_control::options::ServiceOptions;
use reqwest::{Method, StatusCode};

use crate::harness::{
    Stage,
    member::{AT_ONCE, Manner, Member},
};

/// A gateway of one core in front of some members; no address is left out, so that each goes on being tried.
async fn stage(members: &[&Member], options: ServiceOptions) -> Stage {
    let addresses = members.iter().map(|member| member.address.to_string()).collect();
    let options = ServiceOptions { addresses, eject_after_failures: Some(0), ..options };
    Stage::with(|world| world.service.options = options.stated(), |config| config.cores = Some(1)).await
}

async fn call(stage: &Stage, method: Method, body: &'static str) -> (StatusCode, String) {
    let call = stage.client.request(method, stage.gateway.url("/weather/v1/any/x")).header("x-api-key", stage.world.live.reveal());
    let answer = call.body(body).send().await.expect("an answer");
    (answer.status(), answer.text().await.expect("a body"))
}

#[tokio::test]
async fn what_may_be_done_twice_is_sent_to_another_address_when_a_connection_breaks() {
    let (bad, good) = (Member::start(Manner::Cut).await, Member::start(AT_ONCE).await);
    let stage = stage(&[&bad, &good], ServiceOptions::default()).await;
    for _ in 0..20 {
        let (status, text) = call(&stage, Method::PUT, "whole").await;
        assert_eq!((status, text), (StatusCode::OK, format!("{} whole", good.address)));
        assert_eq!(call(&stage, Method::GET, "").await.0, StatusCode::OK);
    }
    assert!(bad.seen.calls() > 0, "the bad one was tried");
    assert_eq!(good.seen.calls(), 40);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn retries_make_one_record() {
    let (bad, good) = (Member::start(Manner::Cut).await, Member::start(AT_ONCE).await);
    let addresses = vec![bad.address.to_string(), good.address.to_string()];
    let options = ServiceOptions { addresses, eject_after_failures: Some(0), ..ServiceOptions::default() };
    let stage = Stage::with(|world| world.service.options = options.stated(), |config| config.cores = Some(1)).await;
    for _ in 0..20 {
        assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    }
    assert!(bad.seen.calls() > 0, "some were retried");
    let rows = stage.portal.calls_of(stage.world.requests, 20).await;
    assert!(rows.iter().all(|row| row.key.status == 200 && row.incomplete == 0), "{rows:?}");
    stage.gateway.stop().await;
    assert_eq!(stage.portal.rows().iter().map(|row| row.count).sum::<u64>(), 20);
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_sent_once() {
    let (bad, good) = (Member::start(Manner::Cut).await, Member::start(AT_ONCE).await);
    let stage = stage(&[&bad, &good], ServiceOptions::default()).await;
    let mut failed = 0;
    for _ in 0..30 {
        failed += usize::from(call(&stage, Method::POST, "once").await.0 == StatusCode::BAD_GATEWAY);
    }
    assert!(failed > 0);
    assert_eq!((bad.seen.calls(), good.seen.calls()), (failed, 30 - failed));
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_its_upstream_closed_while_idle_costs_no_call_that_may_be_repeated() {
    let member = Member::start(Manner::CutReused).await;
    let stage = stage(&[&member], ServiceOptions::default()).await;
    for _ in 0..3 {
        assert_eq!(call(&stage, Method::GET, "").await.0, StatusCode::OK);
        // Longer than what counts as having been in use a moment ago.
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    assert_eq!(call(&stage, Method::POST, "").await.0, StatusCode::BAD_GATEWAY, "nobody knows whether it was done");
    stage.gateway.stop().await;
}

#[tokio::test]
async fn answers_silence_and_nonsense_are_not_tried_again() {
    let member = Member::start(Manner::Status(500)).await;
    let other = Member::start(Manner::Status(500)).await;
    let stage = stage(&[&member, &other], ServiceOptions::default()).await;
    let seen = || member.seen.calls() + other.seen.calls();
    for (manner, status) in [
        (Manner::Status(500), StatusCode::INTERNAL_SERVER_ERROR),
        (Manner::Status(503), StatusCode::SERVICE_UNAVAILABLE),
        (Manner::Garbage, StatusCode::BAD_GATEWAY),
        (Manner::Hang, StatusCode::GATEWAY_TIMEOUT),
    ] {
        member.seen.be(manner);
        other.seen.be(manner);
        let before = seen();
        assert_eq!(call(&stage, Method::GET, "").await.0, status, "{manner:?}");
        assert_eq!(seen() - before, 1, "{manner:?}");
    }
    stage.gateway.stop().await;
}

#[tokio::test]
async fn retries_are_bounded_for_each_call_and_for_all() {
    let members = [Member::start(Manner::Cut).await, Member::start(Manner::Cut).await, Member::start(Manner::Cut).await];
    let [one, two, three] = &members;
    let seen = || members.iter().map(|member| member.seen.calls()).sum::<usize>();
    let stage = stage(&[one, two, three], ServiceOptions { max_retries: Some(2), ..ServiceOptions::default() }).await;
    assert_eq!(call(&stage, Method::GET, "").await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(seen(), 3, "two retries at most, each at another address");
    assert!(members.iter().all(|member| member.seen.calls() == 1));
    let started = std::time::Instant::now();
    for _ in 0..300 {
        assert_eq!(call(&stage, Method::GET, "").await.0, StatusCode::BAD_GATEWAY);
    }
    // A fifth of the calls, and ten at first and ten for each second that has passed.
    let most = 301 + 60 + 10 * (2 + started.elapsed().as_secs() as usize);
    assert!(seen() <= most, "{} were sent, {most} may be", seen());
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_service_may_want_no_retries() {
    let (one, two) = (Member::start(Manner::Cut).await, Member::start(Manner::Cut).await);
    let stage = stage(&[&one, &two], ServiceOptions { max_retries: Some(0), ..ServiceOptions::default() }).await;
    for _ in 0..10 {
        assert_eq!(call(&stage, Method::GET, "").await.0, StatusCode::BAD_GATEWAY);
    }
    assert_eq!(one.seen.calls() + two.seen.calls(), 10);
    stage.gateway.stop().await;
}
