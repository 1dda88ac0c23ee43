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
