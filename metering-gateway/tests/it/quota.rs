//! Hard quotas by leases (SEMANTICS Q2 to Q6).

use gateway_control::policy::RouteMeter;
use quota::{Enforcement, QuotaLimit, WhenUnreachable};
use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{Stage, eventually};

async fn stage(limit_units: i64, when_unreachable: WhenUnreachable) -> Stage {
    let stage = Stage::with(
        |world| {
            let limit_microunits = limit_units * 1_000_000;
            world.plan.quotas =
                vec![QuotaLimit { meter: world.requests, limit_microunits, enforcement: Enforcement::Hard, when_unreachable }];
        },
        |config| config.lease_wait = std::time::Duration::from_millis(500),
    )
    .await;
    stage.portal.limit(stage.world.requests, limit_units);
    stage
}

#[tokio::test]
async fn exactly_the_limit_is_admitted_and_then_it_is_used_up() {
    let stage = stage(25, WhenUnreachable::Deny).await;
    let calls = (0..40).map(|_| async { stage.get("/weather/v1/echo").send().await.expect("an answer") });
    let answers = futures_util::future::join_all(calls).await;
    let admitted = answers.iter().filter(|answer| answer.status() == StatusCode::OK).count();
    assert!(admitted <= 25, "{admitted} of 25");
    // Who came when another call had just taken the last unit of the lease asks again.
    let mut admitted = admitted;
    let denied = eventually("the quota is used up", async || {
        let answer = stage.get("/weather/v1/echo").send().await.expect("an answer");
        admitted += usize::from(answer.status() == StatusCode::OK);
        (answer.status() == StatusCode::TOO_MANY_REQUESTS).then_some(answer)
    })
    .await;
    assert_eq!(admitted, 25);
    assert!(denied.headers()["ratelimit"].to_str().expect("text").starts_with("\"quota\";r=0;t="));
    assert!(denied.headers()["ratelimit-policy"].to_str().expect("text").starts_with("\"quota\";q=25;w="));
    assert!(denied.headers().contains_key("retry-after"));
    let body: Value = denied.json().await.expect("JSON");
    assert_eq!(body["type"], "urn:tollkeeper:problem:quota-used-up");
    assert_eq!((&body["limit"], &body["used"], &body["plan"]), (&Value::from(25), &Value::from(25), &Value::from("pro")));
    assert!(body["resets_at"].as_str().expect("an instant") > "2026");
    stage.portal.calls_of(stage.world.requests, 25).await;

    // A limit that is raised is noticed.
    stage.portal.limit(stage.world.requests, 26);
    eventually("one more is admitted", async || {
        (stage.get("/weather/v1/echo").send().await.expect("an answer").status() == StatusCode::OK).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn what_is_not_billable_gives_its_units_back() {
    let stage = stage(5, WhenUnreachable::Deny).await;
    for _ in 0..20 {
        let answer = stage.get("/weather/v1/status/503").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            answer.headers().get("content-type").is_none_or(|value| value != "application/problem+json"),
            "it is the upstream's answer"
        );
    }
    for _ in 0..5 {
        eventually("admitted", async || {
            (stage.get("/weather/v1/echo").send().await.expect("an answer").status() == StatusCode::OK).then_some(())
        })
        .await;
    }
    eventually("used up", async || {
        let status = stage.get("/weather/v1/echo").send().await.expect("an answer").status();
        assert_ne!(status, StatusCode::OK, "a sixth call was admitted");
        (status == StatusCode::TOO_MANY_REQUESTS).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn units_elsewhere_are_unknown_and_not_used_up() {
    let stage = stage(10, WhenUnreachable::Deny).await;
    stage.portal.elsewhere(10);
    let answer = stage.get("/weather/v1/echo").send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["type"], "urn:tollkeeper:problem:quota-unknown");
    stage.portal.elsewhere(0);
    eventually("they came back", async || {
        (stage.get("/weather/v1/echo").send().await.expect("an answer").status() == StatusCode::OK).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn without_the_portal_the_plan_decides() {
    let stage = stage(1_000, WhenUnreachable::Allow { max_microunits: 3_000_000 }).await;
    stage.portal.go_away();
    let mut admitted = 0;
    for _ in 0..6 {
        let status = stage.get("/weather/v1/echo").send().await.expect("an answer").status();
        assert!(matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE), "{status}");
        admitted += usize::from(status == StatusCode::OK);
    }
    assert_eq!(admitted, 3, "the plan's stated exposure");
    stage.portal.come_back();
    eventually("leases are had again", async || {
        (stage.get("/weather/v1/echo").send().await.expect("an answer").status() == StatusCode::OK).then_some(())
    })
    .await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn leases_are_given_back_when_idle_and_at_the_end() {
    let stage = stage(1_000, WhenUnreachable::Deny).await;
    for _ in 0..4 {
        assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    }
    eventually("only what was spent is out", async || (stage.portal.granted_units() == 4).then_some(())).await;
    assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    stage.gateway.stop().await;
    assert_eq!(stage.portal.granted_units(), 5, "the rest was given back before the end");
}

#[tokio::test]
async fn a_costly_call_reserves_its_bound_and_settles_what_it_used() {
    let stage = Stage::with(
        |world| {
            let tokens = world.tokens;
            let quota = QuotaLimit {
                meter: tokens,
                limit_microunits: 150_000_000,
                enforcement: Enforcement::Hard,
                when_unreachable: WhenUnreachable::Deny,
            };
            world.plan.quotas = vec![quota];
            let meter = world.route("/weather/v1/units/{units}").meters.iter_mut().find(|meter| meter.meter == tokens).expect("the meter");
            *meter = RouteMeter { max_units: gateway_control::units::Micros::units(100), ..meter.clone() };
        },
        |config| config.lease_wait = std::time::Duration::from_millis(500),
    )
    .await;
    stage.portal.limit(stage.world.tokens, 150);
    let call = async |units: u32| stage.get(&format!("/weather/v1/units/{units}")).send().await.expect("an answer").status();
    for _ in 0..5 {
        eventually("there is room for the bound", async || (call(10).await == StatusCode::OK).then_some(())).await;
    }
    assert_eq!(call(60).await, StatusCode::OK);
    // 40 are left: a call that may cost 100 is not let through.
    let status =
        eventually("the ledger has spoken", async || Some(call(1).await).filter(|status| *status != StatusCode::SERVICE_UNAVAILABLE)).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_one_quota_denies_takes_from_none() {
    let stage = Stage::with(
        |world| {
            let quota = |meter, units: i64| QuotaLimit {
                meter,
                limit_microunits: units * 1_000_000,
                enforcement: Enforcement::Hard,
                when_unreachable: WhenUnreachable::Deny,
            };
            let (requests, tokens) = (world.requests, world.tokens);
            world.plan.quotas = vec![quota(tokens, 1_000), quota(requests, 3)];
            let meter = world.route("/weather/v1/units/{units}").meters.iter_mut().find(|meter| meter.meter == tokens).expect("the meter");
            *meter = RouteMeter { max_units: gateway_control::units::Micros::units(100), ..meter.clone() };
        },
        |config| config.lease_wait = std::time::Duration::from_millis(500),
    )
    .await;
    stage.portal.limit(stage.world.tokens, 1_000);
    stage.portal.limit(stage.world.requests, 3);
    let call = async || stage.get("/weather/v1/units/10").send().await.expect("an answer").status();
    let mut admitted = 0;
    eventually("used up", async || {
        let status = call().await;
        admitted += usize::from(status == StatusCode::OK);
        (status == StatusCode::TOO_MANY_REQUESTS).then_some(())
    })
    .await;
    assert_eq!(admitted, 3);
    for _ in 0..5 {
        assert_eq!(call().await, StatusCode::TOO_MANY_REQUESTS);
    }
    // Three calls and thirty tokens are all that the gateway then holds of both.
    eventually("the rest is given back", async || (stage.portal.granted_units() == 33).then_some(())).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn under_a_new_epoch_everything_that_is_held_is_declared() {
    let stage = stage(1_000, WhenUnreachable::Deny).await;
    for _ in 0..4 {
        assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    }
    let epoch = stage.portal.lose_usage();
    let declared = eventually("the leases are declared", async || {
        // The first exchange that names the epoch says that everything has been declared under it.
        let first = stage.portal.exchanges().into_iter().find(|exchange| exchange.ledger_epoch == Some(epoch))?;
        Some(first.slots.first().expect("what is held").declared.expect("what is declared"))
    })
    .await;
    assert!(declared.granted.0 - declared.given_back.0 >= 4_000_000, "{declared:?}");
    assert_eq!(declared.finished, gateway_control::units::Micros::units(4));
    stage.gateway.stop().await;
}
