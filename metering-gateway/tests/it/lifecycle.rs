//! Starting, going on without the portal, and stopping (SEMANTICS P2 to P4).

use std::{cell::Cell, time::Duration};

use gateway_control::policy::{EntryBody, Service};
use reqwest::StatusCode;

use crate::harness::{Stage, eventually, policy::entry};

#[tokio::test]
async fn goes_on_and_restarts_without_the_portal() {
    let stage = Stage::new().await;
    let served = Cell::new(0);
    let call = async |stage: &Stage| {
        let status = stage.get("/weather/v1/echo").send().await.expect("an answer").status();
        served.set(served.get() + u64::from(status == StatusCode::OK));
        status
    };
    assert_eq!(call(&stage).await, StatusCode::OK);
    stage.portal.go_away();
    assert_eq!(call(&stage).await, StatusCode::OK);
    let stage = stage.restart(|_| ()).await;
    assert_eq!(call(&stage).await, StatusCode::OK, "from the cached policy");
    let stage = stage.restart(|config| config.max_policy_age = Duration::from_secs(5)).await;
    eventually("the policy becomes too old", async || (call(&stage).await == StatusCode::SERVICE_UNAVAILABLE).then_some(())).await;
    eventually("the gateway is not ready", async || {
        let ready = stage.client.get(stage.gateway.admin("/readyz")).send().await.ok()?;
        (ready.status() == StatusCode::SERVICE_UNAVAILABLE && ready.text().await.ok()?.contains("policy")).then_some(())
    })
    .await;
    stage.portal.come_back();
    eventually("the portal is back", async || (call(&stage).await == StatusCode::OK).then_some(())).await;
    assert_eq!(stage.portal.snapshots(), 1, "a gateway that knows a generation gets the changes only");
    stage.portal.calls_of(stage.world.requests, served.get()).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_bad_entry_leaves_the_last_good_one_in_force_and_is_reported() {
    let stage = Stage::new().await;
    let bad = Service { upstream: "ftp://nowhere".into(), ..stage.world.service.clone() };
    stage.portal.change(entry(EntryBody::Service(bad)));
    let unreadable = format!(
        r#"{{"event":"entry","generation":99,"id":{{"kind":"route","id":"{}"}},"body":{{"kind":"route","path":7}}}}"#,
        stage.world.routes[0].id.uuid()
    );
    stage.portal.send_raw(unreadable + "\n");
    stage.portal.change(entry(EntryBody::Settings(stage.world.settings.clone())));
    let status = eventually("the status names both", async || stage.portal.status().filter(|status| status.bad_entries.len() == 2)).await;
    assert!(status.bad_entries.iter().any(|bad| bad.entry == stage.world.service.id.to_string() && bad.reason.contains("ftp://nowhere")));
    assert!(status.bad_entries.iter().any(|bad| bad.entry == stage.world.routes[0].id.to_string()));
    assert_eq!(stage.get("/weather/v1/echo").send().await.expect("an answer").status(), StatusCode::OK);
    stage.portal.change(entry(EntryBody::Service(stage.world.service.clone())));
    stage.portal.change(entry(EntryBody::Route(stage.world.routes[0].clone())));
    eventually("good ones clear it", async || stage.portal.status().filter(|status| status.bad_entries.is_empty())).await;
    stage.gateway.stop().await;
}

#[tokio::test]
async fn a_stop_lets_open_calls_finish_and_ships_everything() {
    let stage = Stage::new().await;
    let open = stage.get("/weather/v1/stream?pieces=10").send().await.expect("an answer");
    stage.get("/weather/v1/echo").send().await.expect("an answer");
    let address = stage.gateway.addresses.data;
    let Stage { gateway, portal, world, .. } = stage;
    gateway.ask_to_stop();
    let text = open.text().await.expect("the whole body");
    assert!(text.ends_with("data: 9\n\n"), "{text}");
    gateway.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
    let counted: u64 = portal.rows().iter().filter(|row| row.key.meter == world.requests).map(|row| row.count).sum();
    assert_eq!(counted, 2, "all usage was shipped before the end");
    let tokens: i128 = portal.rows().iter().filter(|row| row.key.meter == world.tokens).map(|row| row.sum.0).sum();
    assert_eq!(tokens, 10_000_000);
}

#[tokio::test]
async fn what_outlasts_the_drain_timeout_is_ended() {
    let stage = Stage::with(|_| (), |config| config.drain_timeout = Duration::from_millis(300)).await;
    let open = stage.get("/weather/v1/stream?pieces=1000").send().await.expect("an answer");
    let Stage { gateway, portal, world, .. } = stage;
    let asked = std::time::Instant::now();
    gateway.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    open.text().await.expect_err("the stream was cut, and says so");
    let rows: Vec<_> = portal.rows().into_iter().filter(|row| row.key.meter == world.tokens).collect();
    assert_eq!((rows[0].count, rows[0].incomplete), (1, 1));
}

#[tokio::test]
async fn the_admin_port_tells_how_it_is() {
    let stage = Stage::new().await;
    stage.get("/weather/v1/echo").send().await.expect("an answer");
    let get = async |path: &str| stage.client.get(stage.gateway.admin(path)).send().await.expect("an answer");
    assert_eq!(get("/healthz").await.status(), StatusCode::OK);
    assert_eq!(get("/readyz").await.status(), StatusCode::OK);
    let status: serde_json::Value = get("/status").await.json().await.expect("JSON");
    assert_eq!((&status["ready"], &status["policy"]["keys"]), (&true.into(), &2.into()));
    let metrics = get("/metrics").await.text().await.expect("text");
    assert!(metrics.contains("tollkeeper_gateway_admitted_calls_total{status=\"2xx\",answered_by=\"upstream\"} 1"), "{metrics}");
    assert!(metrics.contains("# TYPE tollkeeper_gateway_admitted_calls_total counter\n"));
    stage.gateway.stop().await;
}
