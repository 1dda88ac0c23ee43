//! The demo against a real Postgres.

use std::{sync::Arc, time::Instant};

use calendar::{Clock, ManualClock};
use devstack::seed::{self, SeedOptions, SeedReport};
use portal::{App, Config};
use sqlx::PgPool;

const NOW: &str = "2026-11-21T22:07:31Z";

fn app(pool: PgPool) -> (App, ManualClock) {
    let clock = ManualClock::at(NOW.parse().expect("a timestamp"));
    let config = Config::from_lookup(|name| (name == "DATABASE_URL").then(|| "postgres://unused".to_owned())).expect("settings");
    (App::new(pool, Arc::new(clock.clone()), config), clock)
}

fn options(demo: bool) -> SeedOptions {
    SeedOptions { demo, demo_api: "http://127.0.0.1:8090".into(), password: "correct horse battery".into() }
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.expect(sql)
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_demo_adds_up_and_is_kept(pool: PgPool) {
    let (app, clock) = app(pool.clone());
    let started = Instant::now();
    let first = seed::run(&app, &options(true)).await.expect("the demo");
    #[allow(clippy::print_stdout, reason = "how long it took is part of the tests' output")]
    {
        println!("the demo took {:?}, {} rows of usage", started.elapsed(), count(&pool, "SELECT count(*) FROM usage_rows").await);
    }
    assert!(first.created);
    assert_eq!(first.logins.iter().map(|login| login.role).collect::<Vec<_>>(), ["Operator", "Developer"]);

    // What was accepted is what was rolled up, by key and by route.
    for (table, count) in [
        ("usage_rollup_15m", "count"),
        ("usage_rollup_day", "count"),
        ("usage_route_hour", "count_00 + count_15 + count_30 + count_45"),
        ("usage_route_day", "count"),
    ] {
        let sql = format!(
            "SELECT (SELECT sum(sum) FROM usage_rows) = (SELECT sum(sum) FROM {table}) AND (SELECT sum(count) FROM usage_rows) = (SELECT sum({count}) FROM {table})"
        );
        let adds_up: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.expect("sums");
        assert!(adds_up, "{table}");
    }
    let late = count(&pool, "SELECT count(*) FROM usage_rows WHERE minute > '2026-11-21T22:07:31Z'").await;
    assert_eq!(late, 0, "nothing lies in the future");
    assert!(count(&pool, "SELECT count(*) FROM usage_rows WHERE minute > '2026-11-21T21:00:00Z'").await > 0, "the last hour has calls");

    // The invoices are those of the closed periods, numbered without gaps, and add up to their lines.
    assert_eq!(count(&pool, "SELECT count(*) FROM invoices WHERE state = 'paid'").await, 2);
    assert_eq!(count(&pool, "SELECT count(*) FROM invoices WHERE state = 'finalized'").await, 1);
    assert_eq!(
        count(
            &pool,
            "SELECT count(*) FROM invoices i WHERE i.total <> (SELECT sum(amount) FROM invoice_lines l WHERE l.invoice_id = i.id)"
        )
        .await,
        0
    );
    let numbers: Vec<i64> = sqlx::query_scalar("SELECT number FROM invoices ORDER BY number").fetch_all(&pool).await.expect("numbers");
    assert_eq!(numbers, [1, 2, 3]);

    clock.set(clock.now().plus(std::time::Duration::from_secs(3_600)));
    let rows = count(&pool, "SELECT count(*) FROM usage_rows").await;
    let second = seed::run(&app, &options(true)).await.expect("the second start");
    assert_eq!((second.created, &second.logins), (false, &first.logins));
    assert_ne!(second.key, first.key);
    assert_eq!(count(&pool, "SELECT count(*) FROM usage_rows").await, rows);
    let live = count(&pool, "SELECT count(*) FROM api_keys WHERE name = 'Printed by tollkeeper up' AND revoked_at IS NULL").await;
    assert_eq!(live, 1, "the key of the start before is revoked");
}

#[sqlx::test(migrations = "../../migrations")]
async fn without_the_demo_there_is_an_operator_only(pool: PgPool) {
    let (app, _) = app(pool.clone());
    let SeedReport { created, logins, key } = seed::run(&app, &options(false)).await.expect("the operator");
    assert!(created && key.is_none());
    assert_eq!(logins.len(), 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM users WHERE is_operator").await, 1);
    assert_eq!(count(&pool, "SELECT count(*) FROM tenants").await + count(&pool, "SELECT count(*) FROM api_products").await, 0);
}
