//! A gateway's clock is stepped, with libfaketime: it says that it is not ready (M9), and counts every call all the same.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use devstack::replica::{Replica, ReplicaOptions};
use e2e::{
    auditor::{Load, Mix},
    stack::Story,
    visitor::client,
    wait,
};

use crate::{
    check,
    gateway::options,
    world::{SHIPPED_WITHIN, World, names},
};

/// Seconds, one step after the other.
const STEPS: [i64; 5] = [3_600, -3_600, 90, -3, 0];
/// How long calls go on with each.
const STEP: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_stepped_clock_makes_a_gateway_unready_and_loses_nothing() -> anyhow::Result<()> {
    let library = library()?;
    Story::tell(async |story| {
        let mut world = World::make(story, &names(2)).await?;
        let clock = world.story.stack.data_dir().join("clock");
        step(&clock, 0)?;
        let ReplicaOptions { name, mut environment, wrapper } = options("stepped");
        environment.extend([
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // Only the wall clock is stepped, as it is on a machine.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]);
        let gateway = world.gateway(ReplicaOptions { name, environment, wrapper }).await?;
        let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::FEW, &mut world.dice);
        for seconds in STEPS {
            step(&clock, seconds)?;
            // Off by more than two seconds.
            let wanted = seconds.abs() <= 2;
            let attempt = async || Ok((readiness(&gateway).await? == wanted).then_some(()));
            wait::until(&format!("readiness {wanted} with the clock {seconds} s off"), SHIPPED_WITHIN, attempt).await?;
            tokio::time::sleep(STEP).await;
        }
        load.stop().await?;
        let count = world.audit(&format!("a clock stepped by {STEPS:?} seconds"), &[&gateway]).await?;
        check!(count.broken + count.refused == 0 && count.answered == count.recorded, "{count:?}");
        gateway.stop().await
    })
    .await
}

fn step(clock: &std::path::Path, seconds: i64) -> anyhow::Result<()> {
    // It is read at every look at the clock, so it must never be half there.
    let beside = clock.with_extension("new");
    fs::write(&beside, format!("{seconds:+}\n"))?;
    Ok(fs::rename(beside, clock)?)
}

/// Whether a gateway is ready; if not, the clock must be why.
async fn readiness(gateway: &Replica) -> anyhow::Result<bool> {
    let answer = client()?.get(format!("{}/readyz", gateway.admin_url())).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    check!(status.is_success() || text.contains("clock"), "not ready for another reason: {text}");
    Ok(status.is_success())
}

/// libfaketime, from Debian's `faketime`.
fn library() -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    folders
        .into_iter()
        .find(|path| path.is_file())
        .context("libfaketime is missing: install Debian's `faketime` (`scripts/setup test` does)")
}
