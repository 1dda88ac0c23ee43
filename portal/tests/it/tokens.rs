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
