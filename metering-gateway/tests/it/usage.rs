//! Usage on its way to the portal (SEMANTICS M1 to M6).

use std::{collections::BTreeSet, time::Duration};

use gateway_control::{units::Micros, usage::AnsweredBy};
use reqwest::StatusCode;

use crate::harness::{Stage, eventually};

#[tokio::test]
async fn every_call_arrives_once_under_its_key() {
    let stage = Stage::new().await;
    let calls = (0..60).map(|call| {
        let path = ["/weather/v1/echo", "/weather/v1/echo/oslo", "/weather/v1/status/404"][call % 3];
        let stage = &stage;
        async move { stage.get(path).send().await.expect("an answer").status() }
    });
    let statuses = futures_util::future::join_all(calls).await;
    assert_eq!(statuses.iter().filter(|status| **status == StatusCode::NOT_FOUND).count(), 20);
    let rows = stage.portal.calls_of(stage.world.requests, 60).await;
    for row in &rows {
        let key = &row.key;
        let world = &stage.world;
        assert_eq!(
            (key.namespace, key.subscription, key.application),
            (world.subscription.namespace, world.subscription.id, world.subscription.application)
        );
        assert_eq!((key.plan_version, key.api_key, key.answered_by), (world.plan.id, world.keys[0].id, AnsweredBy::Upstream));
        assert_eq!((row.sum, row.min, row.max), (Micros::units(row.count.try_into().expect("few")), Micros::ONE, Micros::ONE));
        // Anchored on the 31st in Oslo: every period starts at midnight there, which is 22 or 23 o'clock UTC.
        let start = key.period_start.to_string();
        assert!(start.ends_with("T22:00:00Z") || start.ends_with("T23:00:00Z"), "{start}");
    }
    let of = |status: u16| rows.iter().filter(|row| row.key.status == status).map(|row| row.count).sum::<u64>();
    assert_eq!((of(200), of(404)), (40, 20));
    assert_eq!(rows.iter().map(|row| row.key.route).collect::<BTreeSet<_>>().len(), 3);
    let batches = stage.portal.batches();
    let receipts: u64 = batches.iter().flat_map(|batch| &batch.final_receipts).map(|(from, to)| to - from + 1).sum();
    assert_eq!(receipts, 60, "each receipt number stands in one batch");
    let latencies: u64 = batches.iter().flat_map(|batch| &batch.latency).flat_map(|row| &row.histogram).map(|(_, count)| count).sum();
    assert_eq!(latencies, 60);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_was_answered_is_in_the_journal_at_once() {
    let stage = Stage::with(|_| (), |config| config.journal.max_age = Duration::from_secs(3_600)).await;
    for calls in 1..=3_u64 {
        let answer = stage.get("/weather/v1/echo").send().await.expect("an answer");
        answer.bytes().await.expect("a body");
        // M1: the record is there before the last byte of the answer is, so nothing is waited for.
        let status: serde_json::Value =
            stage.client.get(stage.gateway.admin("/status")).send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!((&status["unshipped_records"], &status["journal"]["open_calls"]), (&calls.into(), &0.into()));
    }
    assert!(stage.portal.batches().is_empty());
    let Stage { portal, gateway, world, .. } = stage;
    gateway.stop().await;
    portal.calls_of(world.requests, 3).await;
}

#[tokio::test]
async fn a_segment_that_is_refused_holds_up_nothing_and_is_not_lost() {
    for status in [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::INTERNAL_SERVER_ERROR] {
        let stage = Stage::with(|_| (), |config| config.journal.max_age = Duration::from_millis(100)).await;
        stage.portal.refuse(0, Some(status));
        // Calls end on any core, and each stream has a first segment.
        let mut answered = 0;
        eventually("usage behind the refused segments arrives", async || {
            answered += u64::from(stage.get("/weather/v1/echo").send().await.ok()?.status() == StatusCode::OK);
            (!stage.portal.batches().is_empty() && stage.portal.refusals() > 0).then_some(())
        })
        .await;
        assert!(stage.portal.batches().iter().all(|batch| batch.segment.seq > 0));
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            let status: serde_json::Value =
                stage.client.get(stage.gateway.admin("/status")).send().await.expect("an answer").json().await.expect("JSON");
            assert!(status["alerts"].to_string().contains("segment 0 of stream"), "{status}");
            assert!(status["unshipped_records"].as_u64().expect("a number") > 0);
        }
        stage.portal.refuse(0, None);
        let Stage { portal, gateway, world, .. } = stage;
        gateway.stop().await;
        portal.calls_of(world.requests, answered).await;
    }
}

#[tokio::test]
async fn what_is_recorded_now_does_not_wait_for_a_backlog() {
    let stage = Stage::with(|_| (), |config| config.journal.max_age = Duration::from_millis(100)).await;
    stage.portal.go_away();
    let mut answered = 0;
    eventually("there is a backlog", async || {
        answered += u64::from(stage.get("/weather/v1/echo").send().await.ok()?.status() == StatusCode::OK);
        let status: serde_json::Value = stage.client.get(stage.gateway.admin("/status")).send().await.ok()?.json().await.ok()?;
        (status["journal"]["pending_segments"].as_u64()? >= 12).then_some(())
    })
    .await;
    // The two oldest segments of every stream hang at the portal.
    stage.portal.hang_below(2);
    stage.portal.come_back();
    eventually("usage from the other end arrives", async || (!stage.portal.batches().is_empty()).then_some(())).await;
    stage.portal.hang_below(0);
    stage.portal.calls_of(stage.world.requests, answered).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn with_the_portal_away_usage_is_kept_and_delivered_later() {
    let stage = Stage::new().await;
    stage.portal.go_away();
    for _ in 0..10 {
        assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    }
    eventually("the journal has sealed them", async || {
        let status: serde_json::Value = stage.client.get(stage.gateway.admin("/status")).send().await.ok()?.json().await.ok()?;
        (status["unshipped_records"] == 10 && status["journal"]["pending_segments"].as_u64()? > 0).then_some(())
    })
    .await;
    assert!(stage.portal.batches().is_empty());
    stage.portal.come_back();
    stage.portal.calls_of(stage.world.requests, 10).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_restored_ledger_is_offered_everything_again() {
    let stage = Stage::new().await;
    for _ in 0..5 {
        stage.get("/weather/v1/echo").send().await.expect("an answer");
    }
    stage.portal.calls_of(stage.world.requests, 5).await;
    stage.portal.lose_usage();
    stage.get("/weather/v1/echo").send().await.expect("an answer");
    stage.portal.calls_of(stage.world.requests, 6).await;
    stage.gateway.stop().await;
}
