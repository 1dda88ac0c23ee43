//! Four faults, injected into the real stack, are each found within a minute and named.

use std::time::Duration;

use e2e::{caller::Caller, stack::Story, wait};
use sqlx::PgPool;

use crate::check;

/// Calls before the faults.
const CALLS: usize = 25;
/// What is promised.
const FOUND_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn four_faults_are_found_within_a_minute_and_named() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let rita = story.newcomer("Rita Reconcile", "rita@example.com").await?;
        rita.create_organization("Ledger Ltd").await?;
        let (_, key) = rita.ready_to_call("Abacus", "scale").await?;
        let caller = Caller::new(&story.gateway(), &key)?;
        let attempt = async || Ok(caller.get("/weather/v1/cities").await?.status.is_success().then_some(()));
        wait::until("the new key at the gateway", Duration::from_secs(2), attempt).await?;
        for _ in 1..CALLS {
            let answer = caller.get("/weather/v1/cities").await?;
            check!(answer.status.is_success(), "a call is served: {answer:?}");
        }
        let database = story.database().await?;
        told(&database).await?;
        all_equal(&database).await?;

        let deleted = "DELETE FROM usage_rollup_15m USING tenants t WHERE t.id = namespace_id AND t.name = 'Ledger Ltd'";
        check!(run(&database, deleted).await? > 0, "there was a rollup to delete");
        named(story, &database, "rollup_lost", "hour of 20").await?;

        let doubled = "UPDATE usage_rollup_day SET count = 2 * count, sum = 2 * sum FROM tenants t WHERE t.id = namespace_id AND t.name = 'Ledger Ltd'";
        check!(run(&database, doubled).await? > 0, "there was a rollup to double");
        named(story, &database, "rollup_doubled", "day of 20").await?;

        check!(run(&database, &delete_newest("usage_segments")).await? == 1, "there was a segment to delete");
        named(story, &database, "segment_missing", "receipt numbers").await?;

        // As if the transaction of that segment had never been committed, though the gateway was answered.
        run(&database, &delete_newest("usage_rows")).await?;
        let uncommitted = format!("UPDATE usage_streams u SET accepted_through = n.seq - 1 FROM ({NEWEST}) n WHERE u.journal_id = n.journal_id AND u.stream = n.stream");
        check!(run(&database, &uncommitted).await? == 1, "the stream goes back");
        named(story, &database, "ack_without_commit", "receipt numbers").await?;
        database.close().await;
        Ok(())
    })
    .await
}

/// The newest segment that a gateway has an ack for and that held calls.
const NEWEST: &str =
    "SELECT journal_id, stream, seq FROM gateway_segments WHERE finals > 0 ORDER BY acked_at DESC, journal_id, stream, seq DESC LIMIT 1";

fn delete_newest(table: &str) -> String {
    format!("DELETE FROM {table} s USING ({NEWEST}) n WHERE s.journal_id = n.journal_id AND s.stream = n.stream AND s.seq = n.seq")
}

/// Does what the triggers refuse, too.
async fn run(database: &PgPool, sql: &str) -> anyhow::Result<u64> {
    let mut tx = database.begin().await?;
    sqlx::query("SET LOCAL session_replication_role = replica").execute(&mut *tx).await?;
    let done = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

/// Waits until the gateway has told of all calls, by its acks.
async fn told(database: &PgPool) -> anyhow::Result<()> {
    let attempt = async || {
        let calls: Option<i64> =
            sqlx::query_scalar("SELECT sum(finals)::bigint FROM gateway_segments WHERE acked_at IS NOT NULL").fetch_one(database).await?;
        Ok((calls.unwrap_or(0) >= i64::try_from(CALLS)?).then_some(()))
    };
    let ((), took) = wait::until("the gateway's word on its segments", Duration::from_secs(30), attempt).await?;
    println!("reconciliation: the gateway told of its segments after {took:?}");
    Ok(())
}

/// Waits for a whole comparison that began after now, and sees that nothing differs.
async fn all_equal(database: &PgPool) -> anyhow::Result<()> {
    let before = now(database).await?;
    let attempt = async || {
        let fresh: bool = sqlx::query_scalar("SELECT coalesce(full_started_at > $1::text::timestamptz, false) FROM reconciliation_state")
            .bind(&before)
            .fetch_one(database)
            .await?;
        Ok(fresh.then_some(()))
    };
    wait::until("a whole comparison", FOUND_WITHIN, attempt).await?;
    let open: Vec<String> = sqlx::query_scalar("SELECT detail FROM reconciliation_differences").fetch_all(database).await?;
    check!(open.is_empty(), "nothing differs: {open:?}");
    Ok(())
}

async fn now(database: &PgPool) -> anyhow::Result<String> {
    Ok(sqlx::query_scalar("SELECT now()::text").fetch_one(database).await?)
}

/// Waits until a difference of this kind is on the operator's page, with words that name it.
async fn named(story: &Story, database: &PgPool, kind: &str, words: &str) -> anyhow::Result<()> {
    let attempt = async || {
        let details: Vec<String> =
            sqlx::query_scalar("SELECT detail FROM reconciliation_differences WHERE kind = $1 AND resolved_at IS NULL")
                .bind(kind)
                .fetch_all(database)
                .await?;
        Ok(details.into_iter().find(|detail| detail.contains(words)))
    };
    let (detail, took) = wait::until(&format!("a difference of kind {kind}"), FOUND_WITHIN, attempt).await?;
    println!("reconciliation: {kind} after {took:?}: {detail}");
    let page = story.operator().await?.open("/admin/reconciliation").await?;
    check!(page.text().contains(&detail), "the page names it: {page}");
    Ok(())
}
