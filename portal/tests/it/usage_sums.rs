//! Sums of accepted usage: exact, whoever adds them, whenever usage comes (SEMANTICS M5, M7, M9).

use std::time::Duration;

use calendar::Timestamp;
use gateway_control::{
    units::Micros,
    usage::{LatencyRow, UsageBatch, UsageRow},
};
use ids::JournalId;
use portal::{
    billing::{self, Closed},
    identity::Actor,
    usage::watermark,
};
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{World, batch, gateway},
};

const USAGE: &str = "/control/v1/usage";

async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar::<_, Option<i64>>(sql).fetch_one(pool).await.unwrap().unwrap_or(0)
}

/// A row of so many calls, so many minutes ago.
fn row(world: &World, portal: &Portal, calls: u64, status: u16, minutes_ago: u64) -> UsageRow {
    let mut row = world.row(portal, calls, status);
    row.key.minute = row.key.minute.minus(Duration::from_secs(60 * minutes_ago));
    row.last_at = row.key.minute.plus(Duration::from_secs(calls % 60));
    (row.max, row.last) = (Micros::units(calls as i64), Micros::units((calls * 7 % 11) as i64));
    row
}

/// What is wrong with the sums, by one comparison with the rows, written anew: how many sums differ in anything.
pub async fn differences(pool: &PgPool) -> i64 {
    let of_quarter =
        |quarter| format!("coalesce(sum(count) FILTER (WHERE floor(extract(epoch FROM minute) / 900)::bigint % 4 = {quarter}), 0)");
    let quarters = [0, 1, 2, 3].map(of_quarter).join(", ");
    let mut all = 0;
    for (table, width, key, calls, stored_calls) in [
        ("usage_rollup_15m", 900, "api_key_id", "sum(count)", "count"),
        ("usage_rollup_day", 86_400, "api_key_id", "sum(count)", "count"),
        ("usage_route_hour", 3600, "NULL::uuid", &*quarters, "count_00, count_15, count_30, count_45"),
        ("usage_route_day", 86_400, "NULL::uuid", "sum(count)", "count"),
    ] {
        let (min, stored_min) = if key == "api_key_id" { ("min(min)", "min") } else { ("NULL::numeric", "NULL::numeric") };
        let sql = format!(
            "WITH expected AS (
                 SELECT subscription_id, plan_version_id, period_start, {key}, route_id, meter_id, status, mode,
                     to_timestamp(floor(extract(epoch FROM minute) / {width}) * {width}) AS bucket,
                     mode = 'live' AND answered_by = 'upstream' AND status BETWEEN 200 AND 499 AND status NOT IN (401, 403, 429) AS billable,
                     ARRAY[{calls}]::numeric[], sum(sum), {min}, max(max), (array_agg(last ORDER BY last_at DESC, last DESC))[1], max(last_at)
                 FROM usage_rows GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
             found AS (
                 SELECT subscription_id, plan_version_id, period_start, {key}, route_id, meter_id, status, mode, bucket, billable,
                     ARRAY[{stored_calls}]::numeric[], sum, {stored_min}, max, last, last_at
                 FROM {table})
             SELECT count(*) FROM ((TABLE expected EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE expected)) d"
        );
        all += sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap();
    }
    all
}

#[sqlx::test(migrations = "../migrations")]
async fn sums_are_exact_with_three_adding_while_usage_arrives_late_and_twice(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1_000_000).await;
    let gateway = gateway(&portal, "one", None).await;
    // As three workers would.
    let adding: Vec<_> = (0..3).map(|_| tokio::spawn(watermark::run(portal.app.clone()))).collect();
    let mut sending = Vec::new();
    for stream in 0..4_u16 {
        let (portal_here, gateway, world) = (portal.share(), gateway.clone(), world.clone());
        sending.push(tokio::spawn(async move {
            for seq in 0..20_u64 {
                // Some usage is of now, some is hours and days old.
                let ago = [0, 3, 50, 700, 3000][(seq % 5) as usize] + u64::from(stream);
                let rows = [200_u16, 404, 429, 500].map(|status| row(&world, &portal_here, 1 + seq + u64::from(status) / 100, status, ago));
                let batch = batch(gateway.journal, stream, seq, seq * 1000, rows.to_vec());
                for _ in 0..=seq % 2 {
                    let (status, answer) = gateway.post_only(&portal_here, USAGE, &batch).await;
                    assert_eq!(status, 200, "{answer}");
                }
            }
        }));
    }
    for task in sending {
        task.await.unwrap();
    }
    let waiting = async {
        while number(&portal.app.pool, "SELECT count(*) FROM usage_segments WHERE rolled_up_at IS NULL").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the sums follow");
    assert_eq!(number(&portal.app.pool, "SELECT count(*) FROM usage_rows").await, 4 * 20 * 4);
    assert_eq!(differences(&portal.app.pool).await, 0);
    portal.app.shutdown.cancel();
    for task in adding {
        task.await.unwrap();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_round_that_is_cut_off_adds_nothing_and_marks_nothing(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let gateway = gateway(&portal, "one", None).await;
    for seq in 0..3 {
        let rows = vec![row(&world, &portal, 5, 200, seq)];
        assert_eq!(gateway.post_only(&portal, USAGE, &batch(gateway.journal, 0, seq, seq * 5, rows)).await.0, 200);
    }
    let pool = &portal.app.pool;
    assert_eq!(number(pool, "SELECT used::bigint FROM quota_ledger").await, 15, "quotas move with the acceptance");
    let mut tx = portal.app.begin().await.unwrap();
    assert_eq!(watermark::catch_up(&mut tx, portal.now()).await.unwrap(), 3);
    tx.rollback().await.unwrap();
    assert_eq!(number(pool, "SELECT count(*) FROM usage_rollup_15m").await, 0);
    assert_eq!(number(pool, "SELECT count(*) FROM usage_route_hour").await, 0);
    let mut tx = portal.app.begin().await.unwrap();
    let lag = watermark::lag(&mut tx).await.unwrap();
    assert_eq!((lag.segments, lag.rows, lag.since), (3, 3, Some(portal.now())));
    assert_eq!(watermark::catch_up(&mut tx, portal.now()).await.unwrap(), 3);
    assert_eq!(watermark::catch_up(&mut tx, portal.now()).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(differences(pool).await, 0);
    assert_eq!(number(pool, "SELECT sum(count)::bigint FROM usage_rollup_day").await, 15);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_period_is_closed_only_when_the_sums_have_what_came_in_time(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1_000_000).await;
    sqlx::query(
        "INSERT INTO rate_cards (id, plan_version_id, position, name, meter_id, price) VALUES (gen_random_uuid(), $1, 0, 'Calls', $2, $3)",
    )
    .bind(world.plan_version.uuid())
    .bind(world.meter.uuid())
    .bind(serde_json::json!({ "type": "unit", "unit_amount": "0.01" }))
    .execute(&portal.app.pool)
    .await
    .unwrap();
    sqlx::query("UPDATE subscriptions SET started_at = '2026-03-01T00:00:00Z', open_from = '2026-03-01T00:00:00Z'")
        .execute(&portal.app.pool)
        .await
        .unwrap();
    let gateway = gateway(&portal, "one", None).await;
    assert_eq!(gateway.post_only(&portal, USAGE, &batch(gateway.journal, 0, 0, 0, vec![row(&world, &portal, 40, 200, 0)])).await.0, 200);
    let close = async |at: Timestamp| {
        let mut tx = portal.app.begin().await.unwrap();
        let closed = billing::close_next(&mut tx, &Actor::system(), world.tenant, world.subscription, at).await.unwrap();
        tx.commit().await.unwrap();
        closed
    };
    let after: Timestamp = "2026-04-01T01:00:01Z".parse().unwrap();
    assert_eq!(close(after).await, Closed::NotDue, "a segment is not in the sums");
    portal.roll_up().await;
    assert!(matches!(close(after).await, Closed::Invoice(_)));
    let total: String = sqlx::query_scalar("SELECT total::text FROM invoices").fetch_one(&portal.app.pool).await.unwrap();
    assert!(total.starts_with("0.4"), "{total}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_that_is_refused_takes_none_of_those_beside_it_along(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1_000_000).await;
    let (one, two) = (gateway(&portal, "one", None).await, gateway(&portal, "two", None).await);
    let good = |journal: JournalId, seq: u64| batch(journal, 0, seq, seq, vec![row(&world, &portal, 1, 200, 0)]);
    assert_eq!(one.post(&portal, USAGE, &good(one.journal, 0)).await.0, 200);
    let mut other_bytes = good(one.journal, 0);
    other_bytes.segment.segment_digest.0[0] ^= 1;
    let malformed = UsageBatch { rows: vec![row(&world, &portal, 1, 200, 0), row(&world, &portal, 1, 200, 0)], ..good(one.journal, 1) };
    let theirs = good(one.journal, 2);
    let mut tasks = Vec::new();
    for (gateway, batch, expected) in (3..23)
        .map(|seq| (&one, good(one.journal, seq), 200))
        .chain([(&one, other_bytes, 409), (&one, malformed, 422), (&two, theirs, 403)])
        .chain((0..10).map(|seq| (&two, good(two.journal, seq), 200)))
    {
        let (portal, gateway) = (portal.share(), gateway.clone());
        tasks.push(tokio::spawn(async move { (gateway.post_only(&portal, USAGE, &batch).await, expected) }));
    }
    for task in tasks {
        let ((status, answer), expected) = task.await.unwrap();
        assert_eq!(status, expected, "{answer}");
    }
    assert_eq!(number(&portal.app.pool, "SELECT count(*) FROM usage_rows").await, 31);
    assert_eq!(number(&portal.app.pool, "SELECT used::bigint FROM quota_ledger").await, 31);
}

#[sqlx::test(migrations = "../migrations")]
async fn histograms_are_merged_by_hour_and_day(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let gateway = gateway(&portal, "one", None).await;
    let histogram = |minutes_ago: u64, histogram: Vec<(u16, u64)>| {
        let row = row(&world, &portal, 1, 200, minutes_ago);
        LatencyRow {
            namespace: row.key.namespace,
            subscription: row.key.subscription,
            route: row.key.route,
            minute: row.key.minute,
            histogram,
        }
    };
    // Written by a portal of the release before.
    sqlx::query("INSERT INTO usage_latency SELECT $1, $2, $3, $4, '[[100, 3]]', gen_random_uuid(), 0, 0")
        .bind(world.tenant.uuid())
        .bind(world.subscription.uuid())
        .bind(world.route.uuid())
        .bind(portal.now())
        .execute(&portal.app.pool)
        .await
        .unwrap();
    for (seq, sent) in [histogram(0, vec![(100, 1), (300, 70_000)]), histogram(1, vec![(50, 2), (100, 1)])].into_iter().enumerate() {
        let seq = seq as u64;
        let sent = UsageBatch { latency: vec![sent], ..batch(gateway.journal, 0, seq, seq, vec![row(&world, &portal, 1, 200, 0)]) };
        assert_eq!(gateway.post(&portal, USAGE, &sent).await.0, 200);
    }
    let mut tx = portal.app.begin().await.unwrap();
    let range = calendar::Period { from: portal.now().minus(Duration::from_secs(90_000)), to: portal.now().plus(Duration::from_secs(60)) };
    let query = portal::usage::query::Query::new(world.tenant, range, calendar::TimeZone::UTC);
    let found = portal::usage::query::latency(&mut tx, &Actor::system(), &query).await.unwrap().expect("calls");
    assert_eq!(found.calls, 70_007);
    assert_eq!(number(&portal.app.pool, "SELECT count(*) FROM usage_latency_day").await, 1);
    assert_eq!(
        number(&portal.app.pool, "SELECT (SELECT count(*) FROM usage_latency) + (SELECT count(*) FROM usage_latency_pending)").await,
        0
    );
}
