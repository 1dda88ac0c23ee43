//! Outages: the portal dies and calls go on; the gateway dies under load and no call is lost or doubled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use devstack::stack::Part;
use e2e::{
    caller::Caller,
    stack::Story,
    visitor::{Visitor, client},
    wait,
};
use sqlx::PgPool;

use crate::check;

/// How long after its return the portal may take to have everything.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Programs that call at the same time while the gateway is killed.
const CALLERS: usize = 8;
/// How often the gateway is killed under load.
const KILLS: u64 = 2;
/// How long they call before each kill.
const LOAD: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_an_outage() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let olga = story.newcomer("Olga Outage", "olga@example.com").await?;
        olga.create_organization("Outage Ltd").await?;
        let (_, key) = olga.ready_to_call("Ferry", "scale").await?;
        let caller = Caller::new(&story.gateway(), &key)?;
        let attempt = async || Ok(caller.get("/weather/v1/cities").await?.status.is_success().then_some(()));
        wait::until("the new key at the gateway", Duration::from_secs(2), attempt).await?;
        let served = 1;
        counted(&olga, served).await?;

        nothing_is_open(story).await?;

        let served = the_portal_is_away(story, &caller, served).await?;
        counted(&olga, served).await?;
        the_gateway_dies_under_load(story, &olga, &caller, served).await
    })
    .await
}

/// Waits until the usage page shows exactly this many calls.
async fn counted(olga: &Visitor, calls: u64) -> anyhow::Result<()> {
    let mut seen = 0;
    let attempt = async || {
        seen = olga.usage().await?.calls();
        Ok((seen >= calls).then_some(()))
    };
    let outcome = wait::until(&format!("{calls} calls on the usage page"), CATCH_UP, attempt).await;
    check!(outcome.is_ok() && seen == calls, "{calls} calls were answered, and the usage page shows {seen}");
    Ok(())
}

/// Before anything was killed, every admitted call is recorded: the operator's page names none that is open.
async fn nothing_is_open(story: &Story) -> anyhow::Result<()> {
    let page = story.operator().await?.open("/admin/gateways").await?;
    check!(page.text().contains("calls recorded, 0 open"), "every call has ended and is recorded: {page}");
    Ok(())
}

/// Calls go on from the policy that the gateway has, across a restart of it too, and their usage comes when the portal is back, once.
async fn the_portal_is_away(story: &mut Story, caller: &Caller, before: u64) -> anyhow::Result<u64> {
    const CALLS: u64 = 40;
    story.stack.kill(Part::Portal).await?;
    for _ in 0..CALLS {
        let answer = caller.get("/weather/v1/forecast?city=oslo").await?;
        check!(answer.status.is_success(), "calls go on without the portal: {answer:?}");
    }
    let unknown = Caller::new(&story.gateway(), "tk_live_00000000000000000000000000000000000000")?;
    check!(unknown.get("/weather/v1/cities").await?.status == 401, "unknown keys are refused without the portal");
    story.stack.kill(Part::Gateway).await?;
    story.stack.revive(Part::Gateway).await?;
    let answer = caller.get("/weather/v1/cities").await?;
    check!(answer.status.is_success(), "a gateway that starts without the portal serves from the policy on its disk: {answer:?}");
    let started = Instant::now();
    story.stack.revive(Part::Portal).await?;
    println!("outage: {CALLS} calls while the portal was away; it was back in {:?}", started.elapsed());
    Ok(before + CALLS + 1)
}

/// How many calls each side knows.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// Sent by the callers.
    sent: u64,
    /// Answered whole with 200.
    whole: u64,
}

/// The gateway is killed while programs call: answered whole <= recorded <= sent, and each call is recorded once.
async fn the_gateway_dies_under_load(story: &mut Story, olga: &Visitor, caller: &Caller, before: u64) -> anyhow::Result<()> {
    let database = story.database().await?;
    let mut total = Count::default();
    for _ in 0..KILLS {
        let round = load_until_killed(story, caller).await?;
        total = Count { sent: total.sent + round.sent, whole: total.whole + round.whole };
        story.stack.revive(Part::Gateway).await?;
        let answer = caller.get("/weather/v1/cities").await?;
        check!(answer.status.is_success(), "the gateway is back: {answer:?}");
        total = Count { sent: total.sent + 1, whole: total.whole + 1 };
    }
    let recorded = settled(story, &database).await? - before;
    println!(
        "outage: {KILLS} kills -9 of the gateway under load: {} sent, {} answered whole, {recorded} recorded",
        total.sent, total.whole
    );
    check!(total.whole <= recorded && recorded <= total.sent, "{recorded} recorded of {total:?}");
    counted(olga, before + recorded).await?;
    every_receipt_once(&database).await?;
    database.close().await;
    Ok(())
}

/// Calls from all sides until the gateway is killed in the middle of it.
async fn load_until_killed(story: &mut Story, caller: &Caller) -> anyhow::Result<Count> {
    let (sent, whole) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (caller, sent, whole, over) = (caller.clone(), sent.clone(), whole.clone(), over.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Acquire) {
                    sent.fetch_add(1, Ordering::AcqRel);
                    // After the kill, calls fail; that they do is the point.
                    let Ok(answer) = caller.get("/weather/v1/cities").await else { continue };
                    whole.fetch_add(u64::from(answer.status.is_success()), Ordering::AcqRel);
                }
            })
        })
        .collect();
    // The load itself is what is waited for: there is no event to await.
    tokio::time::sleep(LOAD).await;
    story.stack.kill(Part::Gateway).await?;
    over.store(true, Ordering::Release);
    for caller in callers {
        caller.await?;
    }
    let count = Count { sent: sent.load(Ordering::Acquire), whole: whole.load(Ordering::Acquire) };
    check!(count.whole > 20, "there was load: {count:?}");
    Ok(count)
}

/// Waits until the gateway has nothing left to ship, and says how many calls the portal then has of this tenant.
async fn settled(story: &Story, database: &PgPool) -> anyhow::Result<u64> {
    let http = client()?;
    let metrics = format!("{}/metrics", story.stack.gateway_admin_url());
    let attempt = async || {
        let text = http.get(&metrics).send().await?.text().await?;
        let unshipped = text.lines().find_map(|line| line.strip_prefix("tollkeeper_gateway_journal_unshipped_records ")).map(str::trim);
        Ok((unshipped == Some("0")).then_some(()))
    };
    wait::until("a journal with nothing unshipped", CATCH_UP, attempt).await?;
    let calls: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(count), 0)::bigint FROM usage_rows JOIN tenants ON tenants.id = namespace_id WHERE tenants.name = 'Outage Ltd'",
    )
    .fetch_one(database)
    .await?;
    Ok(u64::try_from(calls)?)
}

/// No receipt number of a stream stands in two segments, and what segments hold is what rows sum up to.
async fn every_receipt_once(database: &PgPool) -> anyhow::Result<()> {
    let doubled: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT journal_id, stream, (range->>0)::bigint AS first, (range->>1)::bigint AS last
             FROM usage_segments, jsonb_array_elements(final_receipts) AS range) AS a
         JOIN (SELECT journal_id, stream, (range->>0)::bigint AS first, (range->>1)::bigint AS last
             FROM usage_segments, jsonb_array_elements(final_receipts) AS range) AS b
         ON a.journal_id = b.journal_id AND a.stream = b.stream AND a.first < b.first AND b.first <= a.last",
    )
    .fetch_one(database)
    .await?;
    check!(doubled == 0, "{doubled} receipts stand in two segments");
    Ok(())
}
