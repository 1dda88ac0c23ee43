//! How long a backlog takes to drain: the journal of a gateway that recorded millions of calls while the portal was away, then a gateway process on it,
//! a portal process, and Postgres, all on the machine's cores.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use calendar::{Clock as _, SystemClock, Timestamp};
use gateway_control::{credential::CredentialKind, usage::AnsweredBy};
use journal::{Config, Dimensions, Journal, Keeper, KeyMode, MeterItem, Meters, Outcome, Usage};
use serde::{Deserialize, Serialize};

use super::{
    stand::{Stand, all_cores},
    tenants::{Dice, Tenants},
};
use crate::{
    gateway::{Gateway, Settings},
    runs::say,
};

/// Streams of the journal: one a core.
const STREAMS: u32 = 4;
/// How long it may take.
const DRAIN_WITHIN: Duration = Duration::from_secs(1800);

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backlog {
    /// Records in the journal.
    pub records: u64,
    /// Segments that they stood in.
    pub segments: i64,
    /// Usage rows that came of them.
    pub rows: i64,
    /// From the start of the gateway's process until the portal had accepted all.
    pub seconds: f64,
    /// Until the sums had all.
    pub summed_seconds: f64,
}

/// Runs it.
///
/// # Errors
/// When something does not start, or records are missing in the end.
pub async fn run(folder: &Path, records: u64) -> anyhow::Result<Backlog> {
    let stand = Stand::start(folder).await?;
    let tenants = Tenants::new(10_000);
    tenants.write(&stand.pool, 1).await?;
    let data = folder.join("gateway-data");
    let started = Instant::now();
    let (to, of) = (data.join("journal"), tenants.clone());
    tokio::task::spawn_blocking(move || record(&to, &of, records)).await??;
    say(&format!("recorded {records} calls in {:.1} s", started.elapsed().as_secs_f64()));
    let portal = stand.portal("portal")?;
    let started = Instant::now();
    let cores = all_cores();
    let credential = super::tenants::gateway_credential(0);
    ensure!(credential == crate::world::credential(CredentialKind::Gateway, 0), "the gateway proves who it is with this credential");
    let settings = Settings { name: "gateway", portal: portal.address, cores: &cores, data: &data, folder, more: &[] };
    let gateway = Gateway::start(&settings)?;
    let sum = async |sql: &'static str| sqlx::query_scalar::<_, i64>(sql).fetch_one(&stand.pool).await;
    let wait = async |sql: &'static str| {
        loop {
            let done = sum(sql).await?;
            say(&format!("{:6.1} s: {done} records", started.elapsed().as_secs_f64()));
            if done as u64 >= records {
                return anyhow::Ok(started.elapsed().as_secs_f64());
            }
            ensure!(started.elapsed() < DRAIN_WITHIN, "the backlog does not drain");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let seconds = wait("SELECT coalesce(sum(records), 0)::bigint FROM usage_segments").await?;
    let summed_seconds = wait("SELECT coalesce(sum(records), 0)::bigint FROM usage_segments WHERE rolled_up_at IS NOT NULL").await?;
    ensure!(sum("SELECT sum(count)::bigint FROM usage_rollup_day").await? as u64 == records, "the sums hold all records");
    let found = Backlog {
        records,
        segments: sum("SELECT count(*) FROM usage_segments").await?,
        rows: sum("SELECT count(*) FROM usage_rows").await?,
        seconds,
        summed_seconds,
    };
    drop((gateway, portal));
    stand.postgres.stop().await?;
    Ok(found)
}

/// Records calls that were made in the last half an hour, as the gateway does, and seals what is left.
fn record(folder: &Path, tenants: &Tenants, records: u64) -> anyhow::Result<()> {
    let now = SystemClock.now();
    // The gateway's own bound, so that nothing is trimmed.
    let config = Config { streams: STREAMS, ..Config::default() };
    std::fs::create_dir_all(folder)?;
    let opened = Journal::open(folder, config, now.micros())?;
    let keeper = Keeper::start(opened.journal.clone(), || (), || SystemClock.now().micros())?;
    let mut dice = Dice(7);
    let mut writers = opened.writers;
    for number in 0..records {
        let writer = writers.get_mut((number % u64::from(STREAMS)) as usize).context("there is a writer for each stream")?;
        let at = Timestamp::from_micros(now.micros() - 1_800_000_000 + (1_800_000_000.0 * number as f64 / records as f64) as i64);
        let receipt = loop {
            match writer.admit() {
                Ok(receipt) => break receipt,
                // The keeper makes the next segment.
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        writer.append(receipt, &call(tenants, &mut dice, at)?)?;
    }
    writers.into_iter().for_each(|writer| writer.close(now.micros()));
    drop(keeper);
    Ok(())
}

fn call(tenants: &Tenants, dice: &mut Dice, at: Timestamp) -> anyhow::Result<Usage> {
    let key = tenants.call(dice, at.floor_minute());
    let mut meters = Meters::new();
    let item = MeterItem { meter: key.meter.bytes(), micro_units: 1_000_000, unique_hash: 0 };
    ensure!(meters.push(item).is_ok(), "a record has room for a meter");
    Ok(Usage {
        admitted_at: at.micros(),
        duration_micros: 2_000 + dice.below(200_000),
        namespace: key.namespace.bytes(),
        subscription: key.subscription.bytes(),
        plan_version: key.plan_version.bytes(),
        period_start: key.period_start.micros(),
        application: key.application.bytes(),
        api_key: key.api_key.bytes(),
        route: key.route.bytes(),
        status: key.status,
        answered_by: match key.answered_by {
            AnsweredBy::Upstream => journal::AnsweredBy::Upstream,
            AnsweredBy::Gateway => journal::AnsweredBy::Gateway,
        },
        key_mode: KeyMode::Live,
        outcome: Outcome::Complete,
        meters,
        dimensions: Dimensions::default(),
    })
}
