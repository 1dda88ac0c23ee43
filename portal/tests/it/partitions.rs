//! Monthly partitions of usage.

use std::time::Duration;

use portal::{
    identity::Actor,
    reconciliation,
    usage::{partitions, watermark},
};
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{World, batch, gateway},
};

async fn partition_of_row(pool: &PgPool) -> String {
    sqlx::query_scalar("SELECT tableoid::regclass::text FROM usage_rows").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn usage_without_a_partition_is_kept_and_moves_when_its_month_is_made(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let gateway = gateway(&portal, "one", None).await;
    let rows = vec![world.row(&portal, 1, 200)];
    assert_eq!(gateway.post(&portal, "/control/v1/usage", &batch(gateway.journal, 0, 0, 0, rows)).await.0, 200);
    assert_eq!(partition_of_row(&portal.app.pool).await, "usage_rows_default");
    let mut tx = portal.app.begin().await.unwrap();
    assert_eq!(partitions::make_ahead(&mut tx, portal.now()).await.unwrap(), 8, "four months of two tables");
    assert_eq!(partitions::make_ahead(&mut tx, portal.now()).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(partition_of_row(&portal.app.pool).await, "usage_rows_2026_03");
    let mut tx = portal.app.begin().await.unwrap();
    let (from, to) = ("2025-12-31T23:59:59Z".parse().unwrap(), "2026-02-01T00:00:00Z".parse().unwrap());
    assert_eq!(partitions::make_between(&mut tx, from, to).await.unwrap(), 6);
    tx.commit().await.unwrap();
    // The worker makes them too.
    portal.clock.set("2026-07-15T00:00:00Z".parse().unwrap());
    let mut tx = portal.app.begin().await.unwrap();
    portal::jobs::enqueue(&mut tx, &partitions::MakePartitions::default(), portal.now()).await.unwrap();
    tx.commit().await.unwrap();
    portal.run_jobs().await;
    let months: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_latency'::regclass AND inhrelid <> 'usage_latency_default'::regclass",
    )
    .fetch_one(&portal.app.pool)
    .await
    .unwrap();
    assert_eq!(months, 7 + 4);
}

/// What was accepted stays as it is, in whichever partition: nobody changes or deletes a row, by a slip of the hand either.
#[sqlx::test(migrations = "../migrations")]
async fn accepted_rows_are_never_changed(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let gateway = gateway(&portal, "one", None).await;
    let mut nobodys = world.row(&portal, 1, 200);
    nobodys.key.route = ids::RouteId::new();
    let mut rows = vec![world.row(&portal, 1, 200), nobodys];
    rows.sort_by(|one, two| one.key.cmp(&two.key));
    assert_eq!(gateway.post(&portal, "/control/v1/usage", &batch(gateway.journal, 0, 0, 0, rows)).await.0, 200);
    let refused = async |sql: &'static str| {
        let refused = sqlx::query(sql).execute(&portal.app.pool).await.expect_err(sql).to_string();
        assert!(refused.contains("is appended to and never changed"), "{sql}: {refused}");
    };
    for partition in ["usage_rows_default", "usage_rows_2026_03"] {
        assert_eq!(partition_of_row(&portal.app.pool).await, partition);
        for sql in ["UPDATE usage_rows SET count = 2", "DELETE FROM usage_rows", "TRUNCATE usage_rows"] {
            refused(sql).await;
        }
        let mut tx = portal.app.begin().await.unwrap();
        partitions::make_ahead(&mut tx, portal.now()).await.unwrap();
        // When they have moved, nothing may be deleted any more.
        sqlx::query("DELETE FROM usage_rows").execute(&mut *tx).await.expect_err("the transaction that moved rows");
        tx.rollback().await.unwrap();
        let mut tx = portal.app.begin().await.unwrap();
        partitions::make_ahead(&mut tx, portal.now()).await.unwrap();
        tx.commit().await.unwrap();
    }
    refused("DELETE FROM usage_rows_2026_03").await;
    for sql in ["UPDATE usage_unattributed SET reason = 'none'", "DELETE FROM usage_unattributed", "TRUNCATE usage_unattributed"] {
        refused(sql).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn months_are_dropped_by_retention_while_sums_and_open_periods_stay(pool: PgPool) {
    let portal = Portal::with_settings(pool, &[("PORTAL_USAGE_ROWS_MONTHS", "2")]);
    let world = World::new(&portal, 1000).await;
    let gateway = gateway(&portal, "one", None).await;
    let mut tx = portal.app.begin().await.unwrap();
    partitions::make_between(&mut tx, portal.now(), "2026-09-01T00:00:00Z".parse().unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    for seq in 0..4 {
        portal.clock.set(format!("2026-0{}-10T00:00:00Z", 3 + seq).parse().unwrap());
        let rows = vec![world.row(&portal, 1, 200)];
        assert_eq!(gateway.post(&portal, "/control/v1/usage", &batch(gateway.journal, 0, seq, seq, rows)).await.0, 200);
    }
    let count = async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&portal.app.pool).await.unwrap();
    let clean = async |open_from: &'static str| {
        sqlx::query("UPDATE subscriptions SET open_from = $1::timestamptz").bind(open_from).execute(&portal.app.pool).await.unwrap();
        let mut tx = portal.app.begin().await.unwrap();
        portal::jobs::enqueue(&mut tx, &partitions::MakePartitions::default(), portal.now()).await.unwrap();
        tx.commit().await.unwrap();
        portal.run_jobs().await;
        count("SELECT count(*) FROM usage_rows").await
    };
    // What is not in the sums stays, however old it is.
    sqlx::query("UPDATE usage_segments SET rolled_up_at = NULL, rolled_up_by_route_at = NULL WHERE seq = 0")
        .execute(&portal.app.pool)
        .await
        .unwrap();
    portal.clock.set("2026-07-10T00:00:00Z".parse().unwrap());
    assert_eq!(clean("2026-07-01").await, 4);
    sqlx::query("UPDATE usage_segments SET rolled_up_at = accepted_at, rolled_up_by_route_at = accepted_at")
        .execute(&portal.app.pool)
        .await
        .unwrap();
    // July: rows of May and later are kept anyway, and those of April because its period is open.
    portal.clock.set("2026-07-10T00:00:00Z".parse().unwrap());
    assert_eq!(clean("2026-03-01").await, 4);
    assert_eq!(clean("2026-04-01").await, 3);
    assert_eq!(clean("2026-07-01").await, 2);
    let mut tx = portal.app.begin().await.unwrap();
    assert_eq!(partitions::rows_from(&mut tx).await.unwrap(), Some("2026-05-01T00:00:00Z".parse().unwrap()));
    assert_eq!(count("SELECT sum(count)::bigint FROM usage_rollup_day").await, 4, "the sums stay");
    // A segment of a dropped month is still known.
    let again = vec![world.row(&portal, 1, 200)];
    assert_eq!(gateway.post(&portal, "/control/v1/usage", &batch(gateway.journal, 0, 0, 0, again)).await.0, 200);
    assert_eq!(count("SELECT sum(count)::bigint FROM usage_rollup_day").await, 4);
}

/// Waits until somebody waits for an advisory lock, and for nothing else.
async fn somebody_waits(pool: &PgPool) {
    wait(pool, 1).await;
}

/// Returns once so many wait for advisory locks.
async fn wait(pool: &PgPool, count: i64) {
    let look = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(pool).await.unwrap() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("it waits until rows have moved");
}

/// A statement that began while rows moved would see them in neither partition: whoever compares them, or adds them to the sums, waits.
#[sqlx::test(migrations = "../migrations")]
async fn who_reads_rows_waits_while_they_move(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let gateway = gateway(&portal, "one", None).await;
    assert_eq!(
        gateway.post_only(&portal, "/control/v1/usage", &batch(gateway.journal, 0, 0, 0, vec![world.row(&portal, 1, 200)])).await.0,
        200
    );
    for adds in [true, false] {
        let mut moving = portal.app.begin().await.unwrap();
        partitions::make_ahead(&mut moving, portal.now()).await.unwrap();
        let (app, now) = (portal.app.clone(), portal.now());
        let reading = tokio::spawn(async move {
            if adds {
                let mut tx = app.begin().await.unwrap();
                assert_eq!(watermark::catch_up(&mut tx, now).await.unwrap(), 1);
                tx.commit().await.unwrap();
            } else {
                assert!(reconciliation::compare(&app, &Actor::system(), now).await.unwrap().finished);
            }
        });
        somebody_waits(&portal.app.pool).await;
        moving.commit().await.unwrap();
        reading.await.unwrap();
    }
    let mut tx = portal.app.begin().await.unwrap();
    assert_eq!(reconciliation::differences(&mut tx, &Actor::system(), false, 10, 0).await.unwrap(), []);
}

/// Who makes partitions and adds to the sums in one transaction, as generated history is taken, holds the lock that a worker waits for while he waits for
/// none that the worker holds.
#[sqlx::test(migrations = "../migrations")]
async fn adding_to_the_sums_beside_a_worker_is_no_deadlock(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 100).await;
    let gateway = gateway(&portal, "one", None).await;
    assert_eq!(
        gateway.post_only(&portal, "/control/v1/usage", &batch(gateway.journal, 0, 0, 0, vec![world.row(&portal, 1, 200)])).await.0,
        200
    );
    let mut tx = portal.app.begin().await.unwrap();
    partitions::make_ahead(&mut tx, portal.now()).await.unwrap();
    let worker = tokio::spawn(watermark::run(portal.app.clone()));
    // Those who keep sums and those who keep histograms wait for the partitions, and have taken nothing else before.
    wait(&portal.app.pool, 2).await;
    let added = tokio::time::timeout(Duration::from_secs(20), watermark::catch_up(&mut tx, portal.now())).await.expect("it does not wait");
    assert_eq!(added.expect("no deadlock"), 1);
    tx.commit().await.unwrap();
    portal.app.shutdown.cancel();
    worker.await.unwrap();
    let count = sqlx::query_scalar::<_, i64>("SELECT sum(count)::bigint FROM usage_rollup_day").fetch_one(&portal.app.pool).await.unwrap();
    assert_eq!(count, 1, "once");
}
