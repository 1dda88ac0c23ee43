//! `/admin/gateways` and `/api/v1/gateways`.

use gateway_control::{
    FORMAT,
    policy::Generation,
    status::{BadEntry, GatewayStatus},
};
use portal::identity::Role;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{World, batch, gateway},
};

#[sqlx::test(migrations = "../migrations")]
async fn an_operator_registers_rotates_and_revokes_on_pages(pool: PgPool) {
    let portal = Portal::new(pool);
    let operator = portal.operator("olga@example.com").await;
    portal.tenant("Acme", &[]).await;
    let mut browser = portal.browser(&operator).await;
    let empty = browser.get("/admin/gateways").await.expect_status(200);
    assert!(empty.body.contains("No gateways yet"), "{}", empty.body);
    browser.get("/admin/gateways/new").await.expect_status(200);

    let wrong = browser.post("/admin/gateways", &[("name", " "), ("namespaces", "")]).await.expect_status(422);
    assert!(wrong.body.contains("1 to 100 characters"), "{}", wrong.body);
    let wrong = browser.post("/admin/gateways", &[("name", "frankfurt"), ("namespaces", "acme nowhere")]).await.expect_status(422);
    assert!(wrong.body.contains("There is no namespace `nowhere`"), "{}", wrong.body);

    let issued = browser.post("/admin/gateways", &[("name", "frankfurt"), ("namespaces", "acme")]).await.expect_status(200);
    assert_eq!(issued.headers["cache-control"], "no-store");
    let credential = credential_in(&issued.body);
    assert!(issued.body.contains("GATEWAY_PORTAL_URL=http://127.0.0.1:8080"), "{}", issued.body);
    let again = browser.post("/admin/gateways", &[("name", "frankfurt"), ("namespaces", "")]).await.expect_status(422);
    assert!(again.body.contains("Another gateway has this name"), "{}", again.body);

    let list = browser.get("/admin/gateways").await.expect_status(200);
    assert!(!list.body.contains(&credential) && list.body.contains("frankfurt") && list.body.contains("acme"), "{}", list.body);
    let id = list.body.split("/admin/gateways/gw_").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let page = format!("/admin/gateways/gw_{id}");
    assert!(browser.get(&page).await.expect_status(200).body.contains("Never heard of"));

    // Both ask first.
    assert_eq!(browser.post(&format!("{page}/rotate"), &[("overlap_hours", "0")]).await.location(), page);
    assert_eq!(browser.post(&format!("{page}/revoke"), &[("confirm", "yes")]).await.location(), page);
    assert!(browser.get(&page).await.body.contains("Type the gateway&#39;s name"));
    let rotated = browser.post(&format!("{page}/rotate"), &[("overlap_hours", "0"), ("confirm", "yes")]).await.expect_status(200);
    assert_ne!(credential_in(&rotated.body), credential);
    assert_eq!(browser.post(&format!("{page}/revoke"), &[("confirm", "frankfurt")]).await.location(), "/admin/gateways");
    assert!(browser.get("/admin/gateways").await.body.contains("Revoked"));
    let audited: Vec<String> =
        sqlx::query_scalar("SELECT action FROM audit_log ORDER BY at, id").fetch_all(&portal.app.pool).await.unwrap();
    assert_eq!(audited, ["gateway.created", "gateway.credential_rotated", "gateway.revoked"]);
}

fn credential_in(body: &str) -> String {
    let from = body.find("tk_gway_").expect("a credential");
    body[from..from + gateway_control::credential::CREDENTIAL_LEN].to_owned()
}

#[sqlx::test(migrations = "../migrations")]
async fn what_gateways_report_and_what_arrived_is_shown(pool: PgPool) {
    let portal = Portal::new(pool);
    let operator = portal.operator("olga@example.com").await;
    let world = World::new(&portal, 100).await;
    let one = gateway(&portal, "one", None).await;
    let status = GatewayStatus {
        format: FORMAT,
        version: "0.1.0".into(),
        journal_id: one.journal,
        now: portal.now(),
        started_at: portal.now(),
        generation: Generation(0),
        unshipped_records: 1234,
        journal_bytes: 8_000_000,
        bad_entries: vec![BadEntry { entry: "service svc_1".into(), reason: "no host\0".into() }],
        alerts: vec!["a segment was set aside".into()],
        streams: Vec::new(),
        segments: Vec::new(),
    };
    assert_eq!(one.post(&portal, "/control/v1/status", &status).await.0, 204);
    for (seq, first) in [(0, 0), (2, 20)] {
        let mut row = world.row(&portal, 10, 200);
        if seq == 2 {
            row.key.route = ids::RouteId::new();
        }
        assert_eq!(one.post(&portal, "/control/v1/usage", &batch(one.journal, 4, seq, first, vec![row])).await.0, 200);
    }
    let mut browser = portal.browser(&operator).await;
    let live = browser.get("/admin/gateways/live").await.expect_status(200).body;
    for text in ["Live", "1234", "2 alerts", "one, core 4", "is unknown (1 rows)"] {
        assert!(live.contains(text), "{text}: {live}");
    }
    assert!(!live.contains("Segments are missing"), "a gap is given a minute");
    portal.clock.advance(std::time::Duration::from_secs(61));
    let live = browser.get("/admin/gateways/live").await.expect_status(200).body;
    assert!(live.contains("Segments are missing") && live.contains("Offline"), "{live}");
    let page = browser.get(&format!("/admin/gateways/{}", one.id)).await.expect_status(200).body;
    for text in ["a segment was set aside", "no host", "0.1.0"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    // The monitor says the same in metrics.
    portal::monitor::look(&portal.app).await.unwrap();
    let metrics = &portal.app.metrics;
    assert_eq!((metrics.usage_gaps.get(), metrics.usage_unattributed_stored.get(), metrics.gateway_unshipped_records.get()), (1, 1, 1234));
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_else_sees_gateways(pool: PgPool) {
    let portal = Portal::new(pool);
    let one = gateway(&portal, "one", None).await;
    let ada = portal.person("ada@example.com").await;
    portal.tenant("Acme", &[(&ada, Role::Owner)]).await;
    let mut browser = portal.browser(&ada).await;
    for path in ["/admin/gateways", "/admin/gateways/live", "/admin/gateways/new", &format!("/admin/gateways/{}", one.id)] {
        browser.get(path).await.expect_status(403);
    }
    browser.post("/admin/gateways", &[("name", "mine")]).await.expect_status(403);
    browser.post(&format!("/admin/gateways/{}/revoke", one.id), &[("confirm", "one")]).await.expect_status(403);
    browser.post(&format!("/admin/gateways/{}/rotate", one.id), &[("confirm", "yes"), ("overlap_hours", "1")]).await.expect_status(403);
    assert_eq!(portal.visitor().get("/admin/gateways").await.location(), "/sign-in?next=%2Fadmin%2Fgateways");
    let token = portal.token(&ada, None).await;
    for (method, path, body) in [
        ("GET", "/api/v1/gateways".to_owned(), None),
        ("POST", "/api/v1/gateways".to_owned(), Some(json!({ "name": "mine" }))),
        ("POST", format!("/api/v1/gateways/{}/rotate", one.id), Some(json!({}))),
        ("DELETE", format!("/api/v1/gateways/{}", one.id), None),
    ] {
        portal.rest(method, &path, &token, body.clone()).await.expect_status(403);
        portal.rest(method, &path, "", body).await.expect_status(401);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn gateways_by_rest(pool: PgPool) {
    let portal = Portal::new(pool);
    let operator = portal.operator("olga@example.com").await;
    let token = portal.token(&operator, None).await;
    let created = portal.rest("POST", "/api/v1/gateways", &token, Some(json!({ "name": "oslo" }))).await.expect_status(201).json();
    let id = created["gateway"]["id"].as_str().unwrap().to_owned();
    assert!(created["credential"].as_str().unwrap().starts_with("tk_gway_"));
    let rotate = format!("/api/v1/gateways/{id}/rotate");
    let rotated = portal.rest("POST", &rotate, &token, Some(json!({ "overlap_seconds": 60 }))).await.expect_status(200).json();
    assert_eq!(rotated["gateway"]["previous_until"], "2026-03-10T12:01:00Z");
    let problem = portal.rest("POST", &rotate, &token, Some(json!({ "overlap_seconds": 604_801 }))).await.expect_status(422).json();
    assert_eq!(problem["errors"][0]["field"], "overlap_seconds");
    portal.rest("DELETE", &format!("/api/v1/gateways/{id}"), &token, None).await.expect_status(204);
    portal.rest("POST", &rotate, &token, Some(json!({}))).await.expect_status(409);
    let list = portal.rest("GET", "/api/v1/gateways", &token, None).await.expect_status(200).json();
    assert_eq!(list["items"][0]["revoked_at"], "2026-03-10T12:00:00Z");
    portal.rest("DELETE", "/api/v1/gateways/gw_01h455vb4pex5vsknk084sn02q", &token, None).await.expect_status(404);
}

/// `/metrics` is on its own listener and nowhere else.
#[sqlx::test(migrations = "../migrations")]
async fn metrics_are_served_apart(pool: PgPool) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let portal = Portal::with_settings(pool, &[("PORTAL_METRICS_LISTEN", &free.to_string())]);
    let server = tokio::spawn(portal::monitor::serve_metrics(portal.app.clone()));
    portal.visitor().get("/healthz").await.expect_status(200);
    portal.visitor().get("/metrics").await.expect_status(404);
    let text = loop {
        match reqwest::get(format!("http://{free}/metrics")).await {
            Ok(answer) => break answer.text().await.unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(text.contains("portal_http_requests_total{edge=\"pages\",status=\"2xx\"} 1"), "{text}");
    assert!(text.contains("# TYPE portal_http_requests_total counter\n"), "{text}");
    portal.app.shutdown.cancel();
    server.await.unwrap().unwrap();
}
