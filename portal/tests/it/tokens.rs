//! `/api/v1/tokens`.

use portal::identity::Role;
use serde_json::json;
use sqlx::PgPool;

use crate::support::Portal;

#[sqlx::test(migrations = "../migrations")]
async fn a_token_is_shown_once_works_and_is_revoked(pool: PgPool) {
    let portal = Portal::new(pool);
    let ada = portal.person("ada@example.com").await;
    let tenant = portal.tenant("Acme", &[(&ada, Role::Owner)]).await;
    let other = portal.tenant("Other", &[(&ada, Role::Owner)]).await;
    let first = portal.token(&ada, Some(tenant)).await;
    let made = portal.rest("POST", "/api/v1/tokens", &first, Some(json!({ "name": "ci" }))).await.expect_status(201).json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert_eq!(made["token"]["tenant"], json!(tenant), "a bound token makes bound tokens");
    portal.rest("POST", "/api/v1/tokens", &first, Some(json!({ "name": "ci", "tenant": other }))).await.expect_status(404);
    let list = portal.rest("GET", "/api/v1/tokens", &secret, None).await.expect_status(200);
    assert!(!list.body.contains(&secret));
    let path = format!("/api/v1/tokens/{}", made["token"]["id"].as_str().unwrap());
    let bob = portal.person("bob@example.com").await;
    let others = portal.token(&bob, None).await;
    portal.rest("DELETE", &path, &others, None).await.expect_status(404);
    let elsewhere = portal.token(&ada, Some(other)).await;
    portal.rest("DELETE", &path, &elsewhere, None).await.expect_status(404);
    portal.rest("DELETE", &path, &first, None).await.expect_status(204);
    let refused = portal.rest("GET", "/api/v1/tokens", &secret, None).await.expect_status(401);
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    assert_eq!(refused.json()["type"], "urn:tollkeeper:problem:unauthenticated");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_cookie_reads_but_never_writes(pool: PgPool) {
    let portal = Portal::new(pool);
    let ada = portal.person("ada@example.com").await;
    let mut browser = portal.browser(&ada).await;
    browser.get("/api/v1/tokens").await.expect_status(200);
    browser.post("/api/v1/tokens", &[("name", "ci")]).await.expect_status(401);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_token_ends_with_its_time_and_with_the_membership(pool: PgPool) {
    let portal = Portal::new(pool);
    let ada = portal.person("ada@example.com").await;
    let tenant = portal.tenant("Acme", &[(&ada, Role::Developer)]).await;
    let first = portal.token(&ada, Some(tenant)).await;
    let body = json!({ "name": "ci", "expires_at": "2026-03-10T13:00:00Z" });
    let made = portal.rest("POST", "/api/v1/tokens", &first, Some(body)).await.expect_status(201).json();
    let short = made["secret"].as_str().unwrap();
    portal.rest("GET", "/api/v1/applications", short, None).await.expect_status(200);
    portal.clock.advance(std::time::Duration::from_secs(3600));
    portal.rest("GET", "/api/v1/applications", short, None).await.expect_status(401);
    portal.rest("GET", "/api/v1/applications", &first, None).await.expect_status(200);
    sqlx::query("DELETE FROM memberships").execute(&portal.app.pool).await.unwrap();
    portal.rest("GET", "/api/v1/applications", &first, None).await.expect_status(404);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_bound_token_of_an_operator_operates_nothing(pool: PgPool) {
    let portal = Portal::new(pool);
    let operator = portal.operator("op@example.com").await;
    let tenant = portal.tenant("Acme", &[(&operator, Role::Owner)]).await;
    portal.tenant("Other", &[(&operator, Role::Owner)]).await;
    let (free, bound) = (portal.token(&operator, None).await, portal.token(&operator, Some(tenant)).await);
    let mut tx = portal.app.begin().await.unwrap();
    let found = portal::identity::api_token::authenticate(&mut tx, &bound, None, portal.now()).await.unwrap().unwrap();
    assert_eq!(found.actor.memberships, [(tenant, Role::Owner)]);
    tx.commit().await.unwrap();
    portal.rest("GET", "/api/v1/gateways", &free, None).await.expect_status(200);
    portal.rest("GET", "/api/v1/gateways", &bound, None).await.expect_status(403);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_token_makes_none_that_outlives_it(pool: PgPool) {
    let portal = Portal::new(pool);
    let ada = portal.person("ada@example.com").await;
    let endless = portal.token(&ada, None).await;
    let make = async |token: &str, expires_at: Option<&str>| {
        let body = json!({ "name": "ci", "expires_at": expires_at });
        portal.rest("POST", "/api/v1/tokens", token, Some(body)).await.expect_status(201).json()
    };
    assert_eq!(make(&endless, None).await["token"]["expires_at"], json!(null));
    let parent = make(&endless, Some("2026-03-11T12:00:00Z")).await;
    let parent = parent["secret"].as_str().unwrap();
    for (asked, given) in [
        (None, "2026-03-11T12:00:00Z"),
        (Some("2027-01-01T00:00:00Z"), "2026-03-11T12:00:00Z"),
        (Some("2026-03-10T13:00:00Z"), "2026-03-10T13:00:00Z"),
    ] {
        let child = make(parent, asked).await;
        let end: calendar::Timestamp = child["token"]["expires_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(end, given.parse().unwrap(), "{asked:?}");
    }
}
