//! Callers that send slowly do not keep others from the portal.

use axum::body::Body;
use futures_util::{StreamExt, stream};
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinSet};
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

#[sqlx::test(migrations = "../migrations")]
async fn many_sign_ins_at_once_do_not_wait_for_each_others_connections(pool: PgPool) {
    let portal = Portal::with_settings(pool, &[("PORTAL_TRUSTED_PROXY_HOPS", "1")]);
    let mut calls = JoinSet::new();
    for number in 0..SLOW / 2 {
        let mut browser = portal.visitor();
        browser.ip = format!("192.0.2.{number}");
        let email = format!("nobody{number}@example.com");
        calls.spawn(async move { browser.post_raw("/sign-in", &[("email", &email), ("password", "wrong")]).await.status });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.expect("no panic"), 401);
    }
}
