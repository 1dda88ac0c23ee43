//! Answered, recorded, accepted, rolled up and invoiced: what does not agree is found and named (SEMANTICS M7).

use std::time::Duration;

use gateway_control::{
    FORMAT,
    policy::Generation,
    status::{GatewayStatus, SegmentReport, StreamReport},
};
use portal::{
    identity::{Actor, Role},
    reconciliation::{self, Difference, Kind},
};
use sqlx::PgPool;

use crate::{
    support::Portal,
    world::{TestGateway, World, batch, gateway},
};

const USAGE: &str = "/control/v1/usage";

/// What a gateway says of a stream that has sealed so many segments, all acked.
fn report(next_receipt: u64, next_seq: u64) -> StreamReport {
    StreamReport {
        stream: 0,
        first_receipt: 1,
        next_receipt,
        finished: next_receipt - 1,
        open: 0,
        broken: 0,
        is_exact: true,
        next_seq,
        pending: Vec::new(),
    }
}

fn acked(seq: u64, numbers: (u64, u64)) -> SegmentReport {
    SegmentReport {
        stream: 0,
        seq,
        records: numbers.1 - numbers.0 + 1,
        first_receipt: None,
        next_receipt: numbers.1 + 1,
        acked: true,
        finals: Some(numbers.1 - numbers.0 + 1),
        final_receipts: vec![numbers],
    }
}

async fn tell(portal: &Portal, gateway: &TestGateway, streams: Vec<StreamReport>, segments: Vec<SegmentReport>) {
    let status = GatewayStatus {
        format: FORMAT,
        version: "0.1.0".into(),
        journal_id: gateway.journal,
        now: portal.now(),
        started_at: portal.now(),
        generation: Generation(0),
        unshipped_records: 0,
        journal_bytes: 0,
        bad_entries: Vec::new(),
        alerts: Vec::new(),
        streams,
        segments,
    };
    let (status, answer) = gateway.post(portal, "/control/v1/status", &status).await;
    assert_eq!(status, 204, "{answer}");
}

/// Three segments of ten calls each, in three hours, and a gateway that tells of all of them.
async fn three_segments(portal: &Portal) -> (World, TestGateway) {
    let world = World::new(portal, 1_000_000).await;
    let gateway = gateway(portal, "edge", None).await;
    for seq in 0..3_u64 {
        portal.clock.advance(Duration::from_secs(3600));
        let mut sent = batch(gateway.journal, 0, seq, seq * 10, vec![world.row(portal, 10, 200)]);
        sent.records = 10;
        sent.final_receipts = vec![(seq * 10 + 1, seq * 10 + 10)];
        sent.next_receipt = seq * 10 + 11;
        let (status, answer) = gateway.post(portal, USAGE, &sent).await;
        assert_eq!(status, 200, "{answer}");
    }
    let told = (0..3).map(|seq| acked(seq, (seq * 10 + 1, seq * 10 + 10))).collect();
    tell(portal, &gateway, vec![report(31, 3)], told).await;
    (world, gateway)
}

/// One pass as the job makes it, ten seconds later; what is open after it.
async fn compare(portal: &Portal) -> Vec<Difference> {
    portal.clock.advance(Duration::from_secs(10));
    let pass = reconciliation::compare(&portal.app, &Actor::system(), portal.now()).await.expect("a pass");
    assert!(pass.finished, "so little is gone through in one pass");
    let mut tx = portal.app.begin().await.expect("a transaction");
    reconciliation::differences(&mut tx, &Actor::system(), false, 200, 0).await.expect("differences")
}

fn kinds(differences: &[Difference]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = differences.iter().map(|difference| difference.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Does what the triggers refuse, too.
async fn run(portal: &Portal, sql: &'static str) {
    let mut tx = portal.app.pool.begin().await.expect("a transaction");
    sqlx::query("SET LOCAL session_replication_role = replica").execute(&mut *tx).await.expect("no triggers");
    let done = sqlx::query(sql).execute(&mut *tx).await.expect(sql);
    tx.commit().await.expect("a commit");
    assert!(done.rows_affected() > 0, "{sql} changed nothing");
}

#[sqlx::test(migrations = "../migrations")]
async fn all_is_equal_when_nothing_went_wrong(pool: PgPool) {
    let portal = Portal::new(pool);
    three_segments(&portal).await;
    assert_eq!(compare(&portal).await, []);
    // Nor with what belongs to nobody, is a test, is answered by the gateway, or is not billed.
    let world = World { key: ids::ApiKeyId::new(), ..sqlx_world(&portal).await };
    let other = gateway(&portal, "other", None).await;
    let mut rows = [200, 101, 404, 429, 503].map(|status| world.row(&portal, 3, status)).to_vec();
    rows[0].key.mode = gateway_control::usage::Mode::Test;
    rows[2].key.answered_by = gateway_control::usage::AnsweredBy::Gateway;
    let mut nobodys = world.row(&portal, 1, 200);
    nobodys.key.route = ids::RouteId::new();
    rows.push(nobodys);
    rows.sort_by(|one, two| one.key.cmp(&two.key));
    let (status, answer) = other.post(&portal, USAGE, &batch(other.journal, 0, 0, 0, rows)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(compare(&portal).await, []);
}

/// The world that [`three_segments`] made.
async fn sqlx_world(portal: &Portal) -> World {
    let (tenant, subscription, version, application, route, meter): (ids::Uuid, ids::Uuid, ids::Uuid, ids::Uuid, ids::Uuid, ids::Uuid) =
        sqlx::query_as("SELECT namespace_id, subscription_id, plan_version_id, application_id, route_id, meter_id FROM usage_rows LIMIT 1")
            .fetch_one(&portal.app.pool)
            .await
            .expect("a row");
    World {
        product: ids::ApiProductId::new(),
        service: ids::ServiceId::new(),
        route: ids::RouteId::from_uuid(route),
        meter: ids::MeterId::from_uuid(meter),
        plan: ids::PlanId::new(),
        plan_version: ids::PlanVersionId::from_uuid(version),
        tenant: ids::TenantId::from_uuid(tenant),
        application: ids::ApplicationId::from_uuid(application),
        subscription: ids::SubscriptionId::from_uuid(subscription),
        key: ids::ApiKeyId::new(),
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deleted_rollup_row_is_named_by_subscription_and_hour(pool: PgPool) {
    let portal = Portal::new(pool);
    let (world, _) = three_segments(&portal).await;
    run(&portal, "DELETE FROM usage_rollup_15m WHERE bucket = '2026-03-10T14:00:00Z'").await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::RollupLost]);
    assert_eq!(found[0].place.subscription, Some(world.subscription));
    assert_eq!(found[0].at.map(|at| at.to_string()).as_deref(), Some("2026-03-10T14:00:00Z"));
    assert_eq!((found[0].expected.to_string(), found[0].found.to_string()), ("10".into(), "0".into()));
    assert!(found[0].detail.contains("hour of 2026-03-10T14:00:00Z"), "{}", found[0].detail);
    // A daily sum is a rollup too.
    run(&portal, "DELETE FROM usage_rollup_day").await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::RollupLost], "the quota had moved by what is gone, and is right");
    assert!(found.iter().any(|it| it.detail.contains("day of 2026-03-10T00:00:00Z") && it.expected == 30.into()), "{found:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_doubled_rollup_is_named_and_is_resolved_when_it_is_mended(pool: PgPool) {
    let portal = Portal::new(pool);
    let (world, _) = three_segments(&portal).await;
    run(&portal, "UPDATE usage_rollup_15m SET count = 2 * count, sum = 2 * sum WHERE bucket = '2026-03-10T15:00:00Z'").await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::RollupDoubled]);
    assert_eq!(found[0].place.subscription, Some(world.subscription));
    assert_eq!(found[0].at.map(|at| at.to_string()).as_deref(), Some("2026-03-10T15:00:00Z"));
    assert_eq!((found[0].expected.to_string(), found[0].found.to_string()), ("10".into(), "20".into()));
    let again = compare(&portal).await;
    assert_eq!((again.len(), again[0].id), (1, found[0].id), "the same difference, seen again");
    run(&portal, "UPDATE usage_rollup_15m SET count = count / 2, sum = sum / 2 WHERE bucket = '2026-03-10T15:00:00Z'").await;
    assert_eq!(compare(&portal).await, []);
    let mut tx = portal.app.begin().await.expect("a transaction");
    let resolved = reconciliation::differences(&mut tx, &Actor::system(), true, 200, 0).await.expect("differences");
    assert_eq!(resolved.iter().map(|it| it.id).collect::<Vec<_>>(), [found[0].id], "what was wrong stays known");
}

#[sqlx::test(migrations = "../migrations")]
async fn sums_by_route_that_were_deleted_doubled_moved_or_made_up_are_named(pool: PgPool) {
    let portal = Portal::new(pool);
    let (world, _) = three_segments(&portal).await;
    let one = async |expected: Kind, width: &str| {
        let found = compare(&portal).await;
        assert_eq!(kinds(&found), [expected], "{found:?}");
        assert_eq!(found[0].place.subscription, Some(world.subscription));
        assert!(found[0].detail.contains(&format!("{width}, sums by route: 1 sums")), "{}", found[0].detail);
        (found[0].expected.to_string(), found[0].found.to_string())
    };
    run(&portal, "CREATE TABLE kept AS SELECT * FROM usage_route_hour WHERE bucket = '2026-03-10T14:00:00Z'").await;
    run(&portal, "DELETE FROM usage_route_hour WHERE bucket = '2026-03-10T14:00:00Z'").await;
    assert_eq!(one(Kind::RollupLost, "hour of 2026-03-10T14:00:00Z").await, ("10".into(), "0".into()));
    run(&portal, "INSERT INTO usage_route_hour SELECT namespace_id, subscription_id, plan_version_id, period_start, bucket, route_id, meter_id, status, mode,
        billable, 2 * count_00, 2 * count_15, 2 * count_30, 2 * count_45, 2 * sum, max, last, last_at FROM kept")
    .await;
    assert_eq!(one(Kind::RollupDoubled, "hour of 2026-03-10T14:00:00Z").await, ("10".into(), "20".into()));
    // As many calls, in other quarters.
    run(&portal, "UPDATE usage_route_hour SET count_00 = (count_00 + count_30) / 4, count_30 = (count_00 + count_30) / 4, count_15 = 0, count_45 = 0,
        sum = sum / 2 WHERE bucket = '2026-03-10T14:00:00Z'").await;
    assert_eq!(one(Kind::RollupDiffers, "hour of 2026-03-10T14:00:00Z").await, ("10".into(), "10".into()));
    run(&portal, "DELETE FROM usage_route_hour WHERE bucket = '2026-03-10T14:00:00Z'").await;
    run(&portal, "INSERT INTO usage_route_hour SELECT * FROM kept").await;
    assert_eq!(compare(&portal).await, []);
    // A day, and a sum that nothing is behind, where there is no usage at all.
    run(&portal, "UPDATE usage_route_day SET count = 3 * count, sum = 3 * sum").await;
    assert_eq!(one(Kind::RollupDoubled, "day of 2026-03-10T00:00:00Z").await, ("30".into(), "90".into()));
    run(&portal, "UPDATE usage_route_day SET count = count / 3, sum = sum / 3").await;
    run(&portal, "INSERT INTO usage_route_day SELECT namespace_id, subscription_id, plan_version_id, period_start, bucket - interval '30 days', route_id,
        meter_id, status, mode, billable, 1, 1, max, last, last_at FROM usage_route_day").await;
    assert_eq!(one(Kind::RollupDiffers, "day of 2026-02-08T00:00:00Z").await, ("0".into(), "1".into()));
    run(&portal, "DELETE FROM usage_route_day WHERE bucket < '2026-03-01Z'").await;
    run(&portal, "DELETE FROM usage_route_day").await;
    assert_eq!(one(Kind::RollupLost, "day of 2026-03-10T00:00:00Z").await, ("30".into(), "0".into()));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_sum_without_usage_behind_it_and_a_changed_row_are_named(pool: PgPool) {
    let portal = Portal::new(pool);
    three_segments(&portal).await;
    run(&portal, "UPDATE usage_rollup_15m SET bucket = bucket - interval '40 days' WHERE bucket = '2026-03-10T15:00:00Z'").await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::RollupLost, Kind::RollupDiffers]);
    run(&portal, "UPDATE usage_rollup_15m SET bucket = bucket + interval '40 days' WHERE bucket < '2026-03-01T00:00:00Z'").await;
    run(&portal, "UPDATE usage_rows SET status = 500 WHERE minute < '2026-03-10T14:00:00Z'").await;
    assert_eq!(kinds(&compare(&portal).await), [Kind::RollupDiffers]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deleted_segment_is_named_by_journal_stream_numbers_and_count(pool: PgPool) {
    let portal = Portal::new(pool);
    let (_, gateway) = three_segments(&portal).await;
    run(&portal, "DELETE FROM usage_segments WHERE seq = 1").await;
    run(&portal, "DELETE FROM usage_rows WHERE seq = 1").await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::Recorded, Kind::SegmentMissing, Kind::RollupDiffers]);
    let lost = found.iter().find(|it| it.kind == Kind::SegmentMissing).expect("the segment");
    assert_eq!((lost.place.journal, lost.place.stream, lost.place.seq), (Some(gateway.journal), Some(0), Some(1)));
    assert_eq!(lost.expected, 10.into());
    assert!(lost.detail.contains("10 calls, receipt numbers 11 to 20"), "{}", lost.detail);
    assert!(lost.detail.contains(&gateway.journal.to_string()), "{}", lost.detail);
    // Without the gateway's word, its neighbours bound what it held.
    run(&portal, "DELETE FROM gateway_segments").await;
    run(&portal, "DELETE FROM gateway_streams").await;
    let found = compare(&portal).await;
    let lost = found.iter().find(|it| it.kind == Kind::SegmentMissing).expect("the segment");
    assert!(lost.detail.contains("among the receipt numbers 11 to 30"), "{}", lost.detail);
}

#[sqlx::test(migrations = "../migrations")]
async fn rows_that_went_from_a_segment_are_named(pool: PgPool) {
    let portal = Portal::new(pool);
    let (_, gateway) = three_segments(&portal).await;
    run(&portal, "DELETE FROM usage_rows WHERE seq = 2").await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::RowsDiffer, Kind::RollupDiffers]);
    let rows = found.iter().find(|it| it.kind == Kind::RowsDiffer).expect("the segment");
    assert_eq!((rows.place.journal, rows.place.seq), (Some(gateway.journal), Some(2)));
    assert!(rows.detail.contains("receipt numbers 21 to 30"), "{}", rows.detail);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_quota_ledger_that_is_not_what_was_rolled_up_is_named(pool: PgPool) {
    let portal = Portal::new(pool);
    let (world, gateway) = three_segments(&portal).await;
    run(&portal, "UPDATE quota_ledger SET used = used + 7").await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::LedgerUsed]);
    assert_eq!((found[0].place.subscription, found[0].expected, found[0].found), (Some(world.subscription), 30.into(), 37.into()));
    assert!(
        found[0].detail.contains(&world.meter.to_string()) && found[0].detail.contains("period from 2026-03-01"),
        "{}",
        found[0].detail
    );
    run(&portal, "UPDATE quota_ledger SET used = used - 7").await;
    assert_eq!(compare(&portal).await, []);
    // What was taken and is not in the sums yet is no difference; nor is what moves no quota.
    let mut rows = vec![world.row(&portal, 5, 200), world.row(&portal, 6, 503)];
    rows.sort_by(|one, two| one.key.cmp(&two.key));
    assert_eq!(gateway.post_only(&portal, USAGE, &batch(gateway.journal, 0, 3, 30, rows)).await.0, 200);
    let mut tx = portal.app.begin().await.expect("a transaction");
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM usage_segments WHERE rolled_up_at IS NULL").fetch_one(&mut *tx).await.expect("it");
    drop(tx);
    assert_eq!(waiting, 1);
    let found = compare(&portal).await;
    assert!(found.iter().all(|it| it.kind != Kind::LedgerUsed), "{found:?}");
    run(&portal, "DELETE FROM quota_ledger").await;
    let lost = compare(&portal).await.into_iter().find(|it| it.kind == Kind::LedgerUsed).expect("the ledger");
    assert_eq!((lost.expected, lost.found), (35.into(), 0.into()));
    // A wrong ledger is named beside a lost daily sum, by what was accepted.
    run(&portal, "DELETE FROM usage_rollup_day").await;
    let lost = compare(&portal).await;
    assert_eq!(kinds(&lost), [Kind::RollupLost, Kind::LedgerUsed], "{lost:?}");
    assert!(lost.iter().any(|it| it.kind == Kind::LedgerUsed && it.expected == 35.into()), "{lost:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn largest_and_last_values_that_differ_from_their_usage_are_named(pool: PgPool) {
    let portal = Portal::new(pool);
    let (world, _) = three_segments(&portal).await;
    for aggregation in ["max", "latest"] {
        sqlx::query("UPDATE meters SET aggregation = $1").bind(aggregation).execute(&portal.app.pool).await.expect("a meter");
        assert_eq!(compare(&portal).await, [], "{aggregation}");
        for (table, at) in [
            ("usage_rollup_15m", "hour of 2026-03-10T14:00:00Z, by key"),
            ("usage_rollup_day", "day of 2026-03-10T00:00:00Z, by key"),
            ("usage_route_hour", "hour of 2026-03-10T14:00:00Z, by route"),
            ("usage_route_day", "day of 2026-03-10T00:00:00Z, by route"),
        ] {
            let set = async |level: i32| {
                let sql = format!(
                    "UPDATE {table} SET max = {level}, last = {level} WHERE bucket IN ('2026-03-10T00:00:00Z', '2026-03-10T14:00:00Z')"
                );
                sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&portal.app.pool).await.expect("a change");
            };
            set(4).await;
            let found = compare(&portal).await;
            assert_eq!(kinds(&found), [Kind::RollupLevels], "{aggregation} {table}");
            assert_eq!((found[0].place.subscription, found[0].expected, found[0].found), (Some(world.subscription), 1.into(), 4.into()));
            assert!(found.len() == 1 && found[0].detail.contains(at), "{found:?}");
            set(1).await;
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_ack_without_a_commit_is_named(pool: PgPool) {
    let portal = Portal::new(pool);
    let (_, gateway) = three_segments(&portal).await;
    // The gateway was answered for the segment 3, and its transaction was lost.
    tell(&portal, &gateway, vec![report(36, 4)], vec![acked(3, (31, 35))]).await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::AckWithoutCommit]);
    assert_eq!((found[0].place.journal, found[0].place.seq, found[0].expected), (Some(gateway.journal), Some(3), 5.into()));
    assert!(found[0].detail.contains("5 calls, receipt numbers 31 to 35"), "{}", found[0].detail);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_waits_at_the_gateway_is_not_lost_and_what_vanished_there_is(pool: PgPool) {
    let portal = Portal::new(pool);
    let (_, gateway) = three_segments(&portal).await;
    let sealed = |seq, first: u64, next| SegmentReport {
        first_receipt: Some(first),
        next_receipt: next,
        acked: false,
        finals: None,
        final_receipts: Vec::new(),
        ..acked(seq, (first, next - 1))
    };
    let waits = StreamReport { pending: vec![(3, 4)], ..report(41, 5) };
    tell(&portal, &gateway, vec![waits], vec![sealed(3, 31, 36), sealed(4, 36, 41)]).await;
    assert_eq!(compare(&portal).await, []);
    // A file was removed from its disk, and the gateway was started again.
    let lost = StreamReport { pending: vec![(4, 4)], first_receipt: 41, finished: 0, ..report(41, 5) };
    tell(&portal, &gateway, vec![lost], Vec::new()).await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::SegmentLost]);
    assert_eq!(found[0].place.seq, Some(3));
    assert!(found[0].detail.contains("5 records, among the receipt numbers 31 to 35"), "{}", found[0].detail);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_gateways_own_count_must_add_up_and_be_recorded(pool: PgPool) {
    let portal = Portal::new(pool);
    let (_, gateway) = three_segments(&portal).await;
    tell(&portal, &gateway, vec![StreamReport { finished: 28, open: 1, ..report(31, 3) }], Vec::new()).await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::Receipts]);
    assert!(
        found[0].detail.contains("admitted 30 calls since its start, and counts 28 finished, 1 open and 0 broken"),
        "{}",
        found[0].detail
    );
    // While calls come and go too fast to be read at once, nothing is said; at rest, what is finished is recorded.
    tell(&portal, &gateway, vec![StreamReport { is_exact: false, finished: 28, open: 1, ..report(31, 3) }], Vec::new()).await;
    assert_eq!(compare(&portal).await, []);
    for _ in 0..4 {
        tell(&portal, &gateway, vec![StreamReport { finished: 32, open: 1, ..report(34, 3) }], Vec::new()).await;
        portal.clock.advance(Duration::from_secs(5));
    }
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::Recorded]);
    assert!(found[0].detail.contains("has finished 32 calls since its start and has nothing left to send, and 30"), "{}", found[0].detail);
    // What came after its last word is not in it.
    for _ in 0..4 {
        tell(&portal, &gateway, vec![StreamReport { finished: 29, open: 1, ..report(31, 3) }], Vec::new()).await;
        portal.clock.advance(Duration::from_secs(5));
    }
    assert_eq!(compare(&portal).await, [], "the open call has ended");
    for _ in 0..4 {
        tell(&portal, &gateway, vec![report(31, 3)], Vec::new()).await;
        portal.clock.advance(Duration::from_secs(5));
    }
    let mut sent = batch(gateway.journal, 0, 3, 0, vec![sqlx_world(&portal).await.row(&portal, 2, 200)]);
    (sent.final_receipts, sent.next_receipt) = (vec![(31, 32)], 33);
    assert_eq!(gateway.post(&portal, USAGE, &sent).await.0, 200);
    assert_eq!(compare(&portal).await, [], "two calls have ended since");
    // Its word on a segment is compared with what was taken.
    let more = SegmentReport { records: 12, finals: Some(12), ..acked(2, (21, 30)) };
    tell(&portal, &gateway, vec![report(31, 3)], vec![more]).await;
    let found = compare(&portal).await;
    assert_eq!(kinds(&found), [Kind::SegmentDiffers]);
}

#[sqlx::test(migrations = "../migrations")]
async fn calls_that_broke_in_earlier_runs_are_named_and_are_no_difference(pool: PgPool) {
    let portal = Portal::new(pool);
    let (_, gateway) = three_segments(&portal).await;
    // Killed while 31 to 34 and 36 were open; 35 is recorded.
    let mut sent = batch(gateway.journal, 0, 3, 0, vec![sqlx_world(&portal).await.row(&portal, 1, 200)]);
    sent.final_receipts = vec![(35, 35)];
    sent.next_receipt = 37;
    assert_eq!(gateway.post(&portal, USAGE, &sent).await.0, 200);
    let after = StreamReport { first_receipt: 37, next_receipt: 37, finished: 0, ..report(37, 4) };
    tell(&portal, &gateway, vec![after], Vec::new()).await;
    assert_eq!(compare(&portal).await, []);
    let mut tx = portal.app.begin().await.expect("a transaction");
    let streams = reconciliation::overview(&mut tx, &Actor::system()).await.expect("an overview").streams;
    assert_eq!((streams[0].admitted, streams[0].recorded, streams[0].open), (36, 31, Some(0)));
    assert_eq!((streams[0].broken, streams[0].broken_numbers.as_str()), (Some(5.into()), "31 to 34, 36"));
    assert_eq!(streams[0].on_the_way(), 0.into());
    drop(tx);
    // Power was lost, and the journal went on far above: nobody took the numbers between, and 36 cannot be told from them any more.
    let far = 37 + (1 << 32);
    let after = StreamReport { first_receipt: far, next_receipt: far + 2, finished: 0, open: 2, ..report(far, 4) };
    tell(&portal, &gateway, vec![after], Vec::new()).await;
    assert_eq!(compare(&portal).await, []);
    let mut tx = portal.app.begin().await.expect("a transaction");
    let streams = reconciliation::overview(&mut tx, &Actor::system()).await.expect("an overview").streams;
    assert_eq!((streams[0].admitted, streams[0].open, streams[0].broken), (37, Some(2), Some(4.into())));
    assert_eq!(streams[0].on_the_way(), 0.into());
}

#[sqlx::test(migrations = "../migrations")]
async fn the_job_finds_what_is_wrong_and_the_monitor_tells(pool: PgPool) {
    let portal = Portal::new(pool);
    three_segments(&portal).await;
    portal.run_jobs().await;
    run(&portal, "DELETE FROM usage_rollup_15m WHERE bucket = '2026-03-10T14:00:00Z'").await;
    let runner_starts = portal.now().plus(reconciliation::job::EVERY);
    portal.clock.set(runner_starts);
    let mut tx = portal.app.begin().await.expect("a transaction");
    portal::jobs::enqueue(&mut tx, &reconciliation::job::Compare::default(), portal.now()).await.expect("a job");
    tx.commit().await.expect("a commit");
    portal.run_jobs().await;
    portal::monitor::look(&portal.app).await.expect("a look");
    let registry = portal.app.metrics.registry();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    assert!(text.contains("portal_reconciliation_differences{kind=\"rollup_lost\"} 1\n"), "{text}");
    assert!(text.contains("portal_reconciliation_differences{kind=\"segment_missing\"} 0\n"), "{text}");
    assert!(text.contains("portal_reconciliation_full_age_seconds 0\n"), "{text}");
    portal.clock.advance(Duration::from_secs(90));
    portal::monitor::look(&portal.app).await.expect("a look");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    assert!(text.contains("portal_reconciliation_full_age_seconds 90\n"), "{text}");
}

#[sqlx::test(migrations = "../migrations")]
async fn operators_see_all_and_members_their_own(pool: PgPool) {
    let portal = Portal::new(pool);
    let (world, gateway) = three_segments(&portal).await;
    let operator = portal.operator("olga@example.com").await;
    let (ada, eve) = (portal.person("ada@example.com").await, portal.person("eve@example.com").await);
    sqlx::query("INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, 'viewer', now())")
        .bind(world.tenant.uuid())
        .bind(ada.id.uuid())
        .execute(&portal.app.pool)
        .await
        .expect("a member");
    portal.tenant("Elsewhere", &[(&eve, Role::Owner)]).await;
    compare(&portal).await;
    let mut admin = portal.browser(&operator).await;
    let page = admin.get("/admin/reconciliation").await.expect_status(200).body;
    assert!(page.contains("All equal"), "{page}");
    run(&portal, "DELETE FROM usage_segments WHERE seq = 1").await;
    compare(&portal).await;
    let page = admin.get("/admin/reconciliation").await.expect_status(200).body;
    for text in ["Segment missing", "receipt numbers 11 to 20", &format!("/admin/gateways/{}", gateway.id)] {
        assert!(page.contains(text), "{text} in {page}");
    }
    let token = portal.token(&operator, None).await;
    let answer = portal.rest("GET", "/api/v1/reconciliation", &token, None).await.expect_status(200).json();
    assert!(answer["differences"].as_array().is_some_and(|all| all.iter().any(|it| it["kind"] == "segment_missing")), "{answer}");
    let path = format!("/api/v1/subscriptions/{}/reconciliation", world.subscription);
    let own = portal.token(&ada, Some(world.tenant)).await;
    let answer = portal.rest("GET", &path, &own, None).await.expect_status(200).json();
    assert_eq!(answer["meters"][0]["accepted"], "30", "{answer}");
    assert_eq!(answer["meters"][0]["rolled_up"], "30", "{answer}");
    portal.rest("GET", &path, &portal.token(&eve, None).await, None).await.expect_status(404);
    portal.rest("GET", "/api/v1/reconciliation", &own, None).await.expect_status(403);
    let page = portal.browser(&ada).await.get(&format!("/subscriptions/{}", world.subscription)).await.expect_status(200).body;
    assert!(page.contains("Metered and billed"), "{page}");
}
