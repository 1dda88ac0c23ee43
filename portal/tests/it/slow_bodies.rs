//! Callers that send slowly do not keep others from the portal.

use axum::body::Body;
use futures_util::{StreamExt, stream};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tower::ServiceExt;

use crate::support::Portal;

/// More than the pool has connections.
const SLOW: usize = 40;

#[sqlx::test(migrations = "../migrations")]
async fn a_body_that_does_not_come_holds_no_connection(pool: PgPool) {
    let portal = Portal::new(pool);
    let (go_on, wait) = watch::channel(false);
    let mut calls = JoinSet::new();
    for _ in 0..SLOW {
        let mut wait = wait.clone();
        let rest = stream::once(async move {
            wait.wait_for(|go_on| *go_on).await.expect("the test goes on");
            Ok::<_, std::io::Error>("&password=wrong")
        });
        let body = Body::from_stream(stream::iter([Ok("email=nobody@example.com")]).chain(rest));
        let request = http::Request::post("/sign-out").header("content-type", "application/x-www-form-urlencoded").body(body);
        calls.spawn(portal.router.clone().oneshot(request.expect("a request")));
    }
    // Each task has come to its body once this one has had its turn as often.
    for _ in 0..SLOW {
        tokio::task::yield_now().await;
    }
    portal.visitor().get("/sign-in").await.expect_status(200);
    go_on.send_replace(true);
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.expect("no panic").expect("an answer").status(), 303, "the body came whole");
    }
}

/// A hash that takes seconds to check, and that no password fits.
const SLOW_HASH: &str = "$argon2id$v=19$m=19456,t=200,p=1$c29tZSBzYWx0IG9mIGl0cw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[sqlx::test(migrations = "../migrations")]
async fn a_password_is_checked_without_a_connection(pool: PgPool) {
    let only_one = PgPoolOptions::new().max_connections(1).connect_with((*pool.connect_options()).clone()).await.expect("a connection");
    let portal = Portal::new(only_one);
    let ada = portal.person("ada@example.com").await;
    sqlx::query("UPDATE users SET password_hash = $1").bind(SLOW_HASH).execute(&pool).await.expect("the user");
    let mut visitor = portal.visitor();
    let signs_in = tokio::spawn(async move {
        let form = [("email", "ada@example.com"), ("password", "wrong")];
        visitor.post_raw("/sign-in", &form).await.status
    });
    still_serves_while(&portal, &pool, signs_in, 401).await;
    let mut signed_in = portal.browser(&ada).await;
    let changes = tokio::spawn(async move {
        let form = [("current_password", "wrong"), ("new_password", "correct horse battery")];
        signed_in.post("/account/password", &form).await.status
    });
    still_serves_while(&portal, &pool, changes, 422).await;
}

/// Reads pages while a password is checked, which begins when the attempt is counted.
async fn still_serves_while(portal: &Portal, pool: &PgPool, checking: JoinHandle<u16>, status: u16) {
    let counted = "SELECT EXISTS (SELECT FROM throttles WHERE key = 'sign-in:account:ada@example.com' AND hits > 0)";
    while !sqlx::query_scalar::<_, bool>(counted).fetch_one(pool).await.expect("the counters") {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        portal.visitor().get("/sign-in").await.expect_status(200);
    }
    assert!(!checking.is_finished(), "the pages had to wait until the password was checked");
    assert_eq!(checking.await.expect("no panic"), status);
    sqlx::query("DELETE FROM throttles").execute(pool).await.expect("the counters");
}
