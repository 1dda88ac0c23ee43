//! From signing up to being signed in, by the pages alone.

use std::time::Duration;

use sqlx::PgPool;

use crate::support::{Browser, Portal, newest_link};

const PASSWORD: &str = "correct horse battery";

async fn sign_up(browser: &mut Browser, email: &str) {
    let form = [("name", "Ada"), ("email", email), ("password", PASSWORD)];
    let answer = browser.post("/sign-up", &form).await.expect_status(200);
    assert!(answer.body.contains("Check your mail"));
}

async fn sign_in(browser: &mut Browser, email: &str, password: &str) -> u16 {
    browser.post("/sign-in", &[("email", email), ("password", password)]).await.status
}

fn with_mailbox(pool: PgPool) -> Portal {
    Portal::with_settings(pool, &[("PORTAL_DEV_MAILBOX", "true"), ("PORTAL_TRUSTED_PROXY_HOPS", "1")])
}

#[sqlx::test(migrations = "../migrations")]
async fn sign_up_verify_sign_in_and_out(pool: PgPool) {
    let portal = with_mailbox(pool);
    let mut browser = portal.visitor();
    sign_up(&mut browser, "Ada@example.com").await;
    let link = newest_link(&mut browser).await;
    let page = browser.get(&link).await.expect_status(200);
    let token = page.field("token").unwrap();
    assert_eq!(browser.post("/verify", &[("token", &token), ("password", PASSWORD)]).await.location(), "/");
    assert_eq!(browser.get("/").await.location(), "/tenants/new", "verifying signs in, and leads on");
    let mut elsewhere = portal.visitor();
    elsewhere.post("/verify", &[("token", &token), ("password", PASSWORD)]).await.expect_status(404);
    browser.get("/tenants/new").await.expect_status(200);
    browser.post("/sign-out", &[]).await.location();
    assert_eq!(
        browser.post("/sign-in", &[("email", "ada@EXAMPLE.com"), ("password", PASSWORD), ("next", "/dev/mailbox")]).await.location(),
        "/dev/mailbox"
    );
    let signed_in = browser.clone();
    let page = browser.get("/dev/mailbox").await.expect_status(200);
    assert!(page.body.contains("Sign out"));
    browser.post("/sign-out", &[]).await.location();
    let mut stolen = signed_in;
    assert!(!stolen.get("/dev/mailbox").await.body.contains("Sign out"), "the session is over, not just the cookie");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_taken_address_is_not_told(pool: PgPool) {
    let portal = with_mailbox(pool);
    portal.person("ada@example.com").await;
    let mut browser = portal.visitor();
    sign_up(&mut browser, "ada@example.com").await;
    assert_eq!(newest_link(&mut browser).await, "/sign-in");
    let wrong = browser.post("/sign-in", &[("email", "ada@example.com"), ("password", PASSWORD)]).await.expect_status(401);
    let unknown = browser.post("/sign-in", &[("email", "eve@example.com"), ("password", PASSWORD)]).await.expect_status(401);
    assert_eq!(wrong.body.replace("ada@", "eve@"), unknown.body);
}

#[sqlx::test(migrations = "../migrations")]
async fn fields_are_named_and_kept(pool: PgPool) {
    let portal = Portal::new(pool);
    let mut browser = portal.visitor();
    let form = [("name", "Ada & Co"), ("email", "not an address"), ("password", "short")];
    let page = browser.post("/sign-up", &form).await.expect_status(422);
    assert!(page.body.contains("Enter an e-mail address like") && page.body.contains("at least 10 characters"), "{}", page.body);
    assert!(page.body.contains("Ada &#38; Co"), "what was entered stays: {}", page.body);
    browser.get("/dev/mailbox").await.expect_status(404);
}

#[sqlx::test(migrations = "../migrations")]
async fn guesses_are_throttled_by_account_and_by_address(pool: PgPool) {
    let portal = with_mailbox(pool);
    let mut browser = portal.visitor();
    for _ in 0..10 {
        assert_eq!(sign_in(&mut browser, "ada@example.com", "wrong password").await, 401);
    }
    let refused = browser.post("/sign-in", &[("email", "ADA@example.com"), ("password", "wrong password")]).await.expect_status(429);
    assert!(refused.body.contains("Too many attempts"));
    let mut elsewhere = portal.visitor();
    elsewhere.ip = "198.51.100.9".into();
    assert_eq!(sign_in(&mut elsewhere, "ada@example.com", "wrong password").await, 429, "the account, from anywhere");
    for i in 0..39 {
        assert_eq!(sign_in(&mut browser, &format!("user{i}@example.com"), "wrong password").await, 401);
    }
    assert_eq!(sign_in(&mut browser, "other@example.com", "wrong password").await, 429, "the address, for any account");
    assert_eq!(sign_in(&mut elsewhere, "other@example.com", "wrong password").await, 401);
    portal.clock.advance(Duration::from_secs(900));
    assert_eq!(sign_in(&mut browser, "ada@example.com", "wrong password").await, 401, "a new window");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reset_ends_every_session_and_works_once(pool: PgPool) {
    let portal = with_mailbox(pool);
    let ada = portal.person("ada@example.com").await;
    let mut signed_in = portal.browser(&ada).await;
    let mut browser = portal.visitor();
    let known = browser.post("/reset", &[("email", "ada@example.com")]).await.expect_status(200).body;
    let unknown = browser.post("/reset", &[("email", "eve@example.com")]).await.expect_status(200).body;
    assert_eq!(known, unknown.replace("eve@", "ada@"));
    let link = newest_link(&mut browser).await;
    let token = browser.get(&link).await.expect_status(200).field("token").unwrap();
    browser.post("/reset/new", &[("token", &token), ("password", "password123")]).await.expect_status(422);
    assert_eq!(browser.post("/reset/new", &[("token", &token), ("password", PASSWORD)]).await.location(), "/sign-in?reset=1");
    browser.post("/reset/new", &[("token", &token), ("password", "another password")]).await.expect_status(404);
    assert!(!signed_in.get("/dev/mailbox").await.body.contains("Sign out"));
    assert_eq!(sign_in(&mut browser, "ada@example.com", PASSWORD).await, 303);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_new_password_leaves_tokens_which_are_revoked_together(pool: PgPool) {
    let portal = with_mailbox(pool);
    let mut browser = portal.visitor();
    sign_up(&mut browser, "ada@example.com").await;
    let link = newest_link(&mut browser).await;
    let token = browser.get(&link).await.expect_status(200).field("token").unwrap();
    browser.post("/verify", &[("token", &token), ("password", PASSWORD)]).await.location();
    let ada = crate::support::Person { id: session_user(&portal).await, email: "ada@example.com".into() };
    let (one, two, bob) = (portal.token(&ada, None).await, portal.token(&ada, None).await, portal.person("bob@example.com").await);
    let others = portal.token(&bob, None).await;
    let mut elsewhere = portal.browser(&ada).await;
    browser.get("/account").await.expect_status(200);
    let wrong = browser.post("/account/password", &[("current_password", "a guess"), ("new_password", "another password")]).await;
    assert!(wrong.status == 422 && wrong.body.contains("This is not your password."), "{}", wrong.body);
    let changed = browser.post("/account/password", &[("current_password", PASSWORD), ("new_password", "another password")]).await;
    assert_eq!(changed.location(), "/account");
    let page = browser.get("/account").await.expect_status(200).body;
    assert!(page.contains("Your REST tokens go on to work") && page.contains("Revoke all tokens"), "{page}");
    assert!(elsewhere.get("/account").await.location().starts_with("/sign-in"));
    assert_eq!(sign_in(&mut elsewhere, "ada@example.com", PASSWORD).await, 401);
    portal.rest("GET", "/api/v1/tokens", &one, None).await.expect_status(200);

    browser.post("/settings/tokens/revoke-all", &[]).await.expect_status(422);
    browser.post("/settings/tokens/revoke-all", &[("confirm", "yes")]).await.expect_status(303);
    for gone in [&one, &two] {
        portal.rest("GET", "/api/v1/tokens", gone, None).await.expect_status(401);
    }
    portal.rest("GET", "/api/v1/tokens", &others, None).await.expect_status(200);
    let logged: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_log WHERE action = 'api_token.revoked'").fetch_one(&portal.app.pool).await.unwrap();
    assert_eq!(logged, 2);
}

async fn session_user(portal: &Portal) -> ids::UserId {
    let id: uuid::Uuid = sqlx::query_scalar("SELECT user_id FROM sessions").fetch_one(&portal.app.pool).await.unwrap();
    ids::UserId::from_uuid(id)
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_ends_without_use_and_at_the_latest_after_a_month(pool: PgPool) {
    let portal = Portal::new(pool);
    let ada = portal.person("ada@example.com").await;
    const DAY: Duration = Duration::from_secs(86_400);
    let (mut unused, mut used) = (portal.browser(&ada).await, portal.browser(&ada).await);
    for day in 1..30 {
        portal.clock.advance(DAY);
        assert_eq!(used.get("/account").await.status, 200, "day {day}");
    }
    assert!(unused.get("/account").await.location().starts_with("/sign-in"), "14 days without use");
    portal.clock.advance(DAY);
    assert!(used.get("/account").await.location().starts_with("/sign-in"), "30 days, used each of them");
}

#[sqlx::test(migrations = "../migrations")]
async fn links_expire_and_mails_are_throttled(pool: PgPool) {
    let portal = with_mailbox(pool);
    let mut browser = portal.visitor();
    sign_up(&mut browser, "ada@example.com").await;
    let link = newest_link(&mut browser).await;
    assert_eq!(sign_in(&mut browser, "ada@example.com", PASSWORD).await, 303);
    assert_eq!(browser.get("/tenants/new").await.location(), "/verify");
    for _ in 0..4 {
        browser.post("/verify/resend", &[]).await.expect_status(200);
    }
    browser.post("/verify/resend", &[]).await.expect_status(429);
    portal.clock.advance(Duration::from_secs(48 * 3600));
    let token = link.split("token=").nth(1).unwrap();
    browser.post("/verify", &[("token", token), ("password", PASSWORD)]).await.expect_status(404);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_link_verifies_only_together_with_the_password(pool: PgPool) {
    let portal = with_mailbox(pool);
    let mut eve = portal.visitor();
    eve.ip = "198.51.100.9".into();
    let mut ada = portal.visitor();
    sign_up(&mut ada, "ada@example.com").await;
    // Somebody else signs up with her address afterwards: the newest link belongs to the password of that person.
    let form = [("name", "Eve"), ("email", "ada@example.com"), ("password", "the password of eve")];
    eve.post("/sign-up", &form).await.expect_status(200);
    let link = newest_link(&mut ada).await;
    let token = ada.get(&link).await.expect_status(200).field("token").unwrap();
    ada.post("/verify", &[("token", &token)]).await.expect_status(401);
    let refused = ada.post("/verify", &[("token", &token), ("password", PASSWORD)]).await.expect_status(401);
    assert!(refused.body.contains("not the one that was chosen last") && refused.body.contains("/reset"), "{}", refused.body);
    assert_eq!(refused.field("token"), Some(token.clone()), "the form is shown again");
    assert_eq!(sign_in(&mut eve, "ada@example.com", "the password of eve").await, 303);
    assert_eq!(eve.get("/tenants/new").await.location(), "/verify", "her link has verified nothing");
    for _ in 0..8 {
        ada.post("/verify", &[("token", &token), ("password", "a guess")]).await.expect_status(401);
    }
    ada.post("/verify", &[("token", &token), ("password", "a guess")]).await.expect_status(429);
}

#[sqlx::test(migrations = "../migrations")]
async fn forms_of_other_sites_are_refused(pool: PgPool) {
    let portal = with_mailbox(pool);
    let request = http::Request::builder()
        .method("POST")
        .uri("/sign-in")
        .header("origin", "https://evil.example")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(axum::body::Body::from("email=a%40b.c&password=x"))
        .unwrap();
    let response = tower::ServiceExt::oneshot(portal.router.clone(), request).await.unwrap();
    assert_eq!(response.status(), 403);
}

#[sqlx::test(migrations = "../migrations")]
async fn https_marks_the_cookie_and_the_host(pool: PgPool) {
    let plain = Portal::new(pool.clone());
    let ada = plain.person("ada@example.com").await;
    let page = plain.browser(&ada).await.get("/account").await.expect_status(200);
    assert!(page.headers.get("strict-transport-security").is_none(), "a local start has no https");
    let portal = Portal::with_settings(pool, &[("PORTAL_PUBLIC_URL", "https://portal.example.com")]);
    let mut browser = portal.browser(&ada).await;
    assert!(browser.cookies.contains_key("__Host-tollkeeper_session"));
    let page = browser.get("/account").await.expect_status(200);
    assert_eq!(page.headers["strict-transport-security"], "max-age=31536000");
    let gone = browser.post("/sign-out", &[]).await;
    let cookie = gone.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-tollkeeper_session=;") && cookie.contains("Secure") && cookie.contains("Path=/"), "{cookie}");
    let token = browser.cookies.clone();
    assert!(token.is_empty(), "{token:?}");
    let mut old = portal.visitor();
    old.cookies.insert("tollkeeper_session".into(), plain.browser(&ada).await.cookies["tollkeeper_session"].clone());
    assert!(old.get("/account").await.location().starts_with("/sign-in"), "the name that other hosts may set is not read");
}
