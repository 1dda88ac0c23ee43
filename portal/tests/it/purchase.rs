//! Organization, application, subscription, key: by the pages and by REST.

use std::time::Duration;

use portal::{
    identity::Role,
    subscriptions::{self, CreateSubscription},
};
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Browser, Portal};

/// The text after which a new key stands on the page.
fn shown_secret(body: &str) -> String {
    let from = body.find("data-secret>").expect("a secret") + "data-secret>".len();
    body[from..].split('<').next().unwrap().to_owned()
}

async fn new_tenant(browser: &mut Browser, name: &str) {
    let form = [("name", name), ("billing_email", "billing@example.com"), ("time_zone", "Pacific/Auckland")];
    assert_eq!(browser.post("/tenants/new", &form).await.location(), "/overview");
}

#[sqlx::test(migrations = "../migrations")]
async fn from_an_organization_to_a_key_by_the_pages(pool: PgPool) {
    let portal = Portal::new(pool);
    let weather = portal.product("weather").await;
    portal.plan("free", &[weather]).await;
    portal.plan("pro", &[weather]).await;
    let ada = portal.person("ada@example.com").await;
    let mut browser = portal.browser(&ada).await;
    assert_eq!(browser.get("/applications").await.location(), "/tenants/new");
    browser.get("/tenants/new").await.expect_status(200);
    new_tenant(&mut browser, "Acme, Inc.").await;
    browser.get("/settings").await.expect_status(200).body.contains("acme-inc");
    let form = browser.get("/subscribe?plan=free").await.expect_status(200);
    assert!(form.body.contains("Name of your application"));
    let to = browser.post("/subscribe", &[("plan", "free"), ("application_name", "Forecaster")]).await.location();
    assert!(to.starts_with("/applications/app_"), "{to}");
    browser.get(&to).await.expect_status(200);
    let page = browser.post(&format!("{to}/keys"), &[("name", "Production"), ("mode", "live")]).await.expect_status(200);
    let secret = shown_secret(&page.body);
    assert!(gateway_control::credential::Credential::parse(&secret).is_some(), "{secret}");
    assert!(!browser.get(&to).await.body.contains(&secret), "shown once");
    let key = page.body.split("/keys/key_").nth(1).unwrap().split('/').next().unwrap();
    let rotated = browser.post(&format!("{to}/keys/key_{key}/rotate"), &[("overlap_seconds", "86400")]).await.expect_status(200);
    assert_ne!(shown_secret(&rotated.body), secret);
    // Q8: the same application on another plan of the same product.
    let application = to.strip_prefix("/applications/").unwrap();
    let clash = browser.post("/subscribe", &[("plan", "pro"), ("application", application)]).await.expect_status(409);
    assert!(clash.body.contains("has the API weather already, by its subscription to the plan free"), "{}", clash.body);
    let list = browser.get("/subscriptions").await.expect_status(200);
    let from = list.body.find("/subscriptions/sub_").unwrap();
    let subscription = list.body[from..].split('"').next().unwrap().to_owned();
    let page = browser.get(&subscription).await.expect_status(200);
    assert!(page.body.contains("Pacific/Auckland") && page.body.contains("2026-03-11"), "the period begins on Auckland's day");
    browser.post(&format!("{subscription}/pause"), &[]).await.location();
    browser.post(&format!("{subscription}/resume"), &[]).await.location();
    let changed = browser.post(&format!("{subscription}/change"), &[("plan", "pro")]).await.location();
    assert_ne!(changed, subscription);
    browser.post(&format!("{changed}/cancel"), &[]).await.expect_status(422);
    assert_eq!(browser.post(&format!("{changed}/cancel"), &[("confirm", "yes")]).await.location(), "/subscriptions");
    // A cancelled subscription frees its product.
    browser.post("/subscribe", &[("plan", "free"), ("application", application)]).await.location();
    let audit = browser.get("/settings/audit").await.expect_status(200);
    for action in ["tenant.created", "application.created", "api_key.created", "subscription.plan_changed", "subscription.canceled"] {
        assert!(audit.body.contains(action), "{action}");
    }
    for path in ["/account", "/settings/members", "/settings/tokens", "/applications", "/subscriptions?all=1", "/subscribe"] {
        browser.get(path).await.expect_status(200);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_form_without_the_sessions_token_is_refused(pool: PgPool) {
    let portal = Portal::new(pool);
    let ada = portal.person("ada@example.com").await;
    portal.tenant("Acme", &[(&ada, Role::Owner)]).await;
    let mut browser = portal.browser(&ada).await;
    browser.post_raw("/applications", &[("name", "Forged")]).await.expect_status(403);
    browser.post_raw("/applications", &[("name", "Forged"), ("csrf", "0123")]).await.expect_status(403);
    assert!(!browser.get("/applications").await.body.contains("Forged"));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_rotated_key_works_for_the_overlap(pool: PgPool) {
    let portal = Portal::new(pool);
    let ada = portal.person("ada@example.com").await;
    let tenant = portal.tenant("Acme", &[(&ada, Role::Developer)]).await;
    let token = portal.token(&ada, Some(tenant)).await;
    let app = portal.rest("POST", "/api/v1/applications", &token, Some(json!({ "name": "A" }))).await.expect_status(201).json();
    let keys = format!("/api/v1/applications/{}/keys", app["id"].as_str().unwrap());
    let body = json!({ "name": "K", "mode": "live", "expires_at": "2026-04-10T12:00:00Z" });
    let old = portal.rest("POST", &keys, &token, Some(body)).await.expect_status(201).json();
    portal.clock.advance(Duration::from_secs(3600));
    let path = format!("{keys}/{}/rotate", old["key"]["id"].as_str().unwrap());
    portal.rest("POST", &path, &token, Some(json!({ "overlap_seconds": 2_592_001 }))).await.expect_status(422);
    let new = portal.rest("POST", &path, &token, Some(json!({ "overlap_seconds": 86_400 }))).await.expect_status(201).json();
    assert_eq!(new["key"]["replaces"], old["key"]["id"]);
    assert_eq!(new["key"]["expires_at"], "2026-04-10T13:00:00Z", "as long as the old key was meant to last");
    portal.rest("POST", &path, &token, Some(json!({ "overlap_seconds": 0 }))).await.expect_status(409);
    let list = |status: Vec<String>| status;
    let states = async || {
        let found = portal.rest("GET", &keys, &token, None).await.json();
        list(found["items"].as_array().unwrap().iter().map(|key| format!("{} {}", key["status"], key["expires_at"])).collect())
    };
    assert_eq!(states().await, ["\"active\" \"2026-04-10T13:00:00Z\"", "\"rotating\" \"2026-03-11T13:00:00Z\""]);
    portal.clock.advance(Duration::from_secs(86_400));
    assert_eq!(states().await[1], "\"expired\" \"2026-03-11T13:00:00Z\"");
}

/// A3: every column of every table is searched for the secrets that were handed out.
#[sqlx::test(migrations = "../migrations")]
async fn secrets_stand_in_no_column(pool: PgPool) {
    let portal = Portal::new(pool.clone());
    let ada = portal.person("ada@example.com").await;
    let tenant = portal.tenant("Acme", &[(&ada, Role::Owner)]).await;
    let token = portal.token(&ada, Some(tenant)).await;
    let browser = portal.browser(&ada).await;
    let app = portal.rest("POST", "/api/v1/applications", &token, Some(json!({ "name": "A" }))).await.expect_status(201).json();
    let keys = format!("/api/v1/applications/{}/keys", app["id"].as_str().unwrap());
    let made = portal.rest("POST", &keys, &token, Some(json!({ "name": "K", "mode": "test" }))).await.expect_status(201).json();
    let secrets =
        [token, made["secret"].as_str().unwrap().to_owned(), browser.cookies[portal::web::session_cookie(&portal.app.config)].clone()];
    let tables: Vec<String> = sqlx::query_scalar("SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert!(tables.len() > 20);
    for table in tables {
        let sql = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM \"{table}\" t");
        let all: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap();
        for secret in &secrets {
            let as_bytes = hex::encode(secret.as_bytes());
            assert!(!all.contains(secret.as_str()) && !all.contains(&as_bytes), "a secret stands in {table}");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_last_owner_stays_and_viewers_change_nothing(pool: PgPool) {
    let portal = Portal::new(pool);
    let (ada, eve) = (portal.person("ada@example.com").await, portal.person("eve@example.com").await);
    portal.tenant("Acme", &[(&ada, Role::Owner), (&eve, Role::Viewer)]).await;
    let mut browser = portal.browser(&ada).await;
    browser.post(&format!("/settings/members/{}/remove", ada.id), &[("confirm", "yes")]).await.location();
    browser.post(&format!("/settings/members/{}/role", ada.id), &[("role", "viewer")]).await.location();
    let page = browser.get("/settings/members").await.expect_status(200);
    assert!(page.body.contains("only owner") && page.body.contains("eve@example.com"));
    let mut viewer = portal.browser(&eve).await;
    viewer.get("/applications").await.expect_status(200);
    viewer.post("/applications", &[("name", "A")]).await.expect_status(403);
    viewer.post(&format!("/settings/members/{}/role", eve.id), &[("role", "owner")]).await.expect_status(403);
    // An owner removes her, and her session no longer sees the organization.
    browser.post(&format!("/settings/members/{}/remove", eve.id), &[("confirm", "yes")]).await.location();
    assert_eq!(viewer.get("/applications").await.location(), "/tenants/new");
}

/// Q8 under a race: of two subscriptions made at the same time, one is refused.
#[sqlx::test(migrations = "../migrations")]
async fn racing_subscriptions_do_not_both_cover_a_product(pool: PgPool) {
    let portal = Portal::new(pool);
    let weather = portal.product("weather").await;
    portal.plan("free", &[weather]).await;
    portal.plan("pro", &[weather]).await;
    let ada = portal.person("ada@example.com").await;
    let tenant = portal.tenant("Acme", &[(&ada, Role::Developer)]).await;
    let token = portal.token(&ada, Some(tenant)).await;
    let app = portal.rest("POST", "/api/v1/applications", &token, Some(json!({ "name": "A" }))).await.json();
    // The first has subscribed but not committed when the second comes: the second must wait, and then be told.
    let mut first = portal.app.begin().await.unwrap();
    let input = CreateSubscription { application: app["id"].as_str().unwrap().parse().unwrap(), plan: "free".into() };
    let actor = portal.actor(&ada, &[(tenant, Role::Developer)]);
    subscriptions::create(&mut first, &actor, tenant, input, portal.now()).await.unwrap();
    let body = json!({ "application": app["id"], "plan": "pro" });
    let second = portal.rest("POST", "/api/v1/subscriptions", &token, Some(body));
    let commit = async {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&portal.app.pool).await.unwrap() {
            tokio::task::yield_now().await;
        }
        first.commit().await.unwrap();
    };
    let (second, ()) = tokio::join!(second, commit);
    second.expect_status(409);
    portal.rest("DELETE", &format!("/api/v1/applications/{}", app["id"].as_str().unwrap()), &token, None).await.expect_status(409);
}
