//! `POST /control/v1/usage` (SEMANTICS M3 to M5).

use gateway_control::{
    units::Micros,
    usage::{LatencyRow, UsageBatch},
};
use ids::{JournalId, MeterId, NamespaceId, RouteId, SubscriptionId, TenantId};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{World, batch, gateway},
};

const USAGE: &str = "/control/v1/usage";

async fn total(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar::<_, Option<i64>>(sql).fetch_one(pool).await.unwrap().unwrap_or(0)
}

#[sqlx::test(migrations = "../migrations")]
async fn a_segment_is_taken_once_in_any_order_and_by_any_fold_version(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let gateway = gateway(&portal, "one", None).await;
    let send = async |seq: u64| {
        let batch = batch(gateway.journal, 3, seq, seq * 10, vec![world.row(&portal, 10, 200)]);
        let (status, ack) = gateway.post(&portal, USAGE, &batch).await;
        assert_eq!(status, 200, "{ack}");
        (ack["accepted_through"].as_u64(), ack["safe_through"].as_u64())
    };
    assert_eq!(send(2).await, (None, None), "0 and 1 are missing");
    assert_eq!(send(0).await, (Some(0), Some(0)));
    assert_eq!(send(4).await, (Some(0), Some(0)));
    assert_eq!(send(1).await, (Some(2), Some(2)));
    for again in [0, 2, 4, 1] {
        assert_eq!(send(again).await, (Some(2), Some(2)));
    }
    assert_eq!(send(3).await, (Some(4), Some(4)));
    let pool = &portal.app.pool;
    assert_eq!(total(pool, "SELECT count(*) FROM usage_rows").await, 5);
    assert_eq!(total(pool, "SELECT sum(count)::bigint FROM usage_rollup_15m").await, 50);
    assert_eq!(total(pool, "SELECT sum(sum)::bigint FROM usage_rollup_day WHERE billable").await, 50);
    assert_eq!(total(pool, "SELECT used::bigint FROM quota_ledger").await, 50);
    assert_eq!(total(pool, "SELECT recorded FROM usage_streams").await, 50);
    assert_eq!(total(pool, "SELECT next_receipt FROM usage_streams").await, 50);
    assert_eq!(total(pool, "SELECT count(*) FROM api_keys WHERE last_used_at IS NOT NULL").await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_key_with_other_bytes_is_refused_and_changes_nothing(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let one = gateway(&portal, "one", None).await;
    let taken = batch(one.journal, 0, 0, 0, vec![world.row(&portal, 10, 200)]);
    assert_eq!(one.post(&portal, USAGE, &taken).await.0, 200);
    let mut other = batch(one.journal, 0, 0, 0, vec![world.row(&portal, 99, 200)]);
    other.segment.segment_digest.0[0] ^= 1;
    let (status, problem) = one.post(&portal, USAGE, &other).await;
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:tollkeeper:problem:conflict")));
    assert_eq!(total(&portal.app.pool, "SELECT sum(count)::bigint FROM usage_rollup_day").await, 10);
    // Another gateway cannot write to this journal, nor read where it stands.
    let two = gateway(&portal, "two", None).await;
    assert_eq!(two.post(&portal, USAGE, &taken).await.0, 403);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_billable_is_the_plan_versions_rule(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let gateway = gateway(&portal, "one", None).await;
    let mut test = world.row(&portal, 1, 200);
    test.key.mode = gateway_control::usage::Mode::Test;
    let mut own = world.row(&portal, 2, 204);
    own.key.answered_by = gateway_control::usage::AnsweredBy::Gateway;
    let mut rows = vec![test, own];
    rows.extend([(4, 200), (8, 404), (16, 429), (32, 500), (64, 401)].map(|(calls, status)| world.row(&portal, calls, status)));
    rows.sort_by(|one, two| one.key.cmp(&two.key));
    let (status, answer) = gateway.post(&portal, USAGE, &batch(gateway.journal, 0, 0, 0, rows)).await;
    assert_eq!(status, 200, "{answer}");
    let pool = &portal.app.pool;
    assert_eq!(total(pool, "SELECT sum(count)::bigint FROM usage_rollup_15m WHERE billable").await, 12);
    assert_eq!(total(pool, "SELECT sum(count)::bigint FROM usage_rollup_15m").await, 127);
    assert_eq!(total(pool, "SELECT used::bigint FROM quota_ledger").await, 12);
}

#[sqlx::test(migrations = "../migrations")]
async fn usage_of_unknown_ids_is_kept_and_belongs_to_nobody(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let other = portal.tenant("Other", &[]).await;
    let scoped = gateway(&portal, "scoped", Some(vec![world.namespace()])).await;
    let row = |change: &dyn Fn(&mut gateway_control::usage::UsageRow)| {
        let mut row = world.row(&portal, 1, 200);
        change(&mut row);
        row
    };
    let mut rows = vec![
        row(&|_| {}),
        row(&|row| row.key.subscription = SubscriptionId::new()),
        row(&|row| row.key.route = RouteId::new()),
        row(&|row| row.key.meter = MeterId::new()),
        row(&|row| row.key.minute = "2031-01-01T00:00:00Z".parse().unwrap()),
        row(&|row| row.key.namespace = NamespaceId::of(TenantId::new())),
        row(&|row| row.key.namespace = NamespaceId::of(other)),
        row(&|row| row.key.dimensions = vec![("model".into(), "a\0b".into())]),
    ];
    rows.sort_by(|one, two| one.key.cmp(&two.key));
    let (status, answer) = scoped.post(&portal, USAGE, &batch(scoped.journal, 0, 0, 0, rows)).await;
    assert_eq!(status, 200, "{answer}");
    let pool = &portal.app.pool;
    assert_eq!(total(pool, "SELECT count(*) FROM usage_unattributed").await, 6);
    assert_eq!(total(pool, "SELECT count(*) FROM usage_rows").await, 2);
    assert_eq!(total(pool, "SELECT sum(count)::bigint FROM usage_rollup_day").await, 2);
    let reasons: Vec<String> = sqlx::query_scalar("SELECT reason FROM usage_unattributed ORDER BY reason").fetch_all(pool).await.unwrap();
    assert!(reasons.iter().any(|reason| reason.contains("does not serve the namespace")), "{reasons:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn latency_is_taken_of_served_namespaces_only(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let other = portal.tenant("Other", &[]).await;
    let row = world.row(&portal, 1, 200);
    let latency = LatencyRow {
        namespace: row.key.namespace,
        subscription: row.key.subscription,
        route: row.key.route,
        minute: row.key.minute,
        histogram: vec![(100, 1)],
    };
    // Another organization's row says nothing of this one's subscription, nor does the other way round.
    let crossed = LatencyRow { namespace: NamespaceId::of(other), ..latency.clone() };
    let unknown = LatencyRow { subscription: SubscriptionId::new(), ..latency.clone() };
    let theirs = gateway(&portal, "foreign", Some(vec![NamespaceId::of(other)])).await;
    let ours = gateway(&portal, "own", Some(vec![world.namespace()])).await;
    let everybodys = gateway(&portal, "all", None).await;
    for (gateway, seq, sent, taken) in [
        (&theirs, 0, &latency, 0),
        (&theirs, 1, &crossed, 0),
        (&ours, 0, &crossed, 0),
        (&ours, 1, &unknown, 0),
        (&everybodys, 0, &crossed, 0),
        (&ours, 2, &latency, 1),
        (&everybodys, 1, &latency, 2),
    ] {
        let sent = UsageBatch { latency: vec![sent.clone()], ..batch(gateway.journal, 0, seq, seq, vec![row.clone()]) };
        let (status, answer) = gateway.post(&portal, USAGE, &sent).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            total(&portal.app.pool, "SELECT coalesce(sum(get_byte(histogram, 1)), 0)::bigint FROM usage_latency_day").await,
            taken,
            "{:?}",
            sent.latency
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn malformed_batches_are_refused_by_the_name_of_the_field(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let gateway = gateway(&portal, "one", None).await;
    let good = serde_json::to_value(batch(gateway.journal, 0, 0, 0, vec![world.row(&portal, 3, 200)])).unwrap();
    let cases: [(&str, Value, &str); 9] = [
        ("/format", json!(2), "format"),
        ("/fold_version", json!(9), "fold_version"),
        ("/rows/0/minute", json!("2026-03-10T12:00:01Z"), "rows[0].minute"),
        ("/rows/0/sum", json!("-1"), "rows[0].sum"),
        ("/rows/0/incomplete", json!(4), "rows[0].count"),
        ("/rows/0/count", json!(i64::MAX), "rows[0].count"),
        ("/final_receipts", json!([[0, 3]]), "final_receipts"),
        ("/final_receipts", json!([[1, 2], [2, 2]]), "final_receipts"),
        ("/rows/0/namespace", json!("ten_01h455vb4pex5vsknk084sn02q"), "body"),
    ];
    for (path, value, field) in cases {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        let (status, problem) = gateway.post(&portal, USAGE, &bad).await;
        assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some(field)), "{problem}");
    }
    assert_eq!(total(&portal.app.pool, "SELECT count(*) FROM usage_segments").await, 0);
}

/// Many segments of several streams, each sent by two portals at once: everything is counted once, nothing deadlocks, every stream becomes whole.
#[sqlx::test(migrations = "../migrations")]
async fn racing_portals_take_each_segment_once(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1_000_000).await;
    let gateway = gateway(&portal, "one", None).await;
    let mut tasks = Vec::new();
    for (stream, seq) in (0..3_u16).flat_map(|stream| (0..12_u64).map(move |seq| (stream, seq))) {
        for _ in 0..2 {
            let rows = [200, 201, 404, 500].map(|status| world.row(&portal, 5, status));
            let (portal_router, gateway, batch) = (
                Portal { app: portal.app.clone(), clock: portal.clock.clone(), router: portal.router.clone() },
                gateway.clone(),
                batch(gateway.journal, stream, seq, seq * 20, rows.to_vec()),
            );
            tasks.push(tokio::spawn(async move { gateway.post(&portal_router, USAGE, &batch).await }));
        }
    }
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    let pool = &portal.app.pool;
    assert_eq!(total(pool, "SELECT count(*) FROM usage_segments").await, 36);
    assert_eq!(total(pool, "SELECT sum(count)::bigint FROM usage_rows").await, 36 * 20);
    assert_eq!(total(pool, "SELECT sum(count)::bigint FROM usage_rollup_15m").await, 36 * 20);
    assert_eq!(total(pool, "SELECT used::bigint FROM quota_ledger").await, 36 * 15);
    assert_eq!(total(pool, "SELECT min(accepted_through) FROM usage_streams").await, 11);
}

#[sqlx::test(migrations = "../migrations")]
async fn sums_keep_their_extremes_and_the_latest_value(pool: PgPool) {
    let portal = Portal::new(pool);
    let world = World::new(&portal, 1000).await;
    let gateway = gateway(&portal, "one", None).await;
    for (seq, (sum, last, seconds)) in [("2.5", "0.5", 30), ("0.000001", "0.000001", 10), ("7", "6", 59)].into_iter().enumerate() {
        let mut row = world.row(&portal, 2, 200);
        let micros: Micros = sum.parse().unwrap();
        (row.sum, row.min, row.max, row.last) = (micros, last.parse().unwrap(), micros, last.parse().unwrap());
        row.last_at = row.key.minute.plus(std::time::Duration::from_secs(seconds));
        row.uniques = vec![1, u64::MAX];
        let (status, answer) = gateway.post(&portal, USAGE, &batch(gateway.journal, 0, seq as u64, seq as u64 * 2, vec![row])).await;
        assert_eq!(status, 200, "{answer}");
    }
    let sums: (String, String, String, String) = sqlx::query_as("SELECT sum::text, min::text, max::text, last::text FROM usage_rollup_15m")
        .fetch_one(&portal.app.pool)
        .await
        .unwrap();
    assert_eq!(sums, ("9.500001".into(), "0.000001".into(), "7".into(), "6".into()));
    let uniques: Vec<i64> = sqlx::query_scalar("SELECT uniques FROM usage_rows LIMIT 1").fetch_one(&portal.app.pool).await.unwrap();
    assert_eq!(uniques, [1, -1]);
    // A journal that nobody bound says nothing of where it stands.
    assert_ne!(gateway.journal, JournalId::new());
}
