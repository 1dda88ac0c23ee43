//! The journal's disk is full, and its bound is reached: calls are refused before an admitted one lacks room for its record.

use std::{fs::File, io::Write, path::Path, time::Duration};

use anyhow::Context;
use devstack::{
    replica::{Replica, ReplicaOptions},
    stack::Part,
};
use e2e::{
    auditor::{Book, Fate, Load, Mix},
    stack::Story,
    wait,
};

use crate::{
    check,
    gateway::{DIES_WITH_THE_TEST, options},
    world::{SHIPPED_WITHIN, World, metric, names, should_accept},
};

/// How long calls go on while there is no room.
const FULL_FOR: Duration = Duration::from_secs(3);

/// Mounts a small file system over the gateway's folder, in a mount namespace of the gateway's own, and turns into the gateway. Whoever is not root may do so
/// in a user namespace, where the machine allows that. A machine that allows neither fails the test.
fn on_a_small_disk() -> Vec<std::ffi::OsString> {
    let mount = "mount -t tmpfs -o size=6m,mode=700 tmpfs \"$GATEWAY_DATA_DIR\" && exec \"$@\"";
    let unshare: &[&str] =
        if rustix::process::geteuid().is_root() { &["unshare", "--mount"] } else { &["unshare", "--mount", "--map-root-user"] };
    DIES_WITH_THE_TEST.iter().chain(unshare).chain(&["sh", "-c", mount, "sh"]).map(Into::into).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_calls_and_loses_none() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(2)).await?;
        std::fs::create_dir(world.story.stack.data_dir().join("full"))?;
        let gateway = world.gateway(ReplicaOptions { wrapper: on_a_small_disk(), ..options("full") }).await?;
        let folder = world.folder(&gateway);
        let disk = rustix::fs::statvfs(&folder)?;
        check!(disk.f_blocks * disk.f_frsize < 8 << 20, "the gateway has a small file system of its own, of {} blocks", disk.f_blocks);
        world.story.stack.kill(Part::Portal).await?;
        let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::FEW, &mut world.dice);
        answers(&world.book, 200).await?;
        let filler = fill(&folder)?;
        let attempt = async || Ok((refused(&world.book) > 50).then_some(()));
        wait::until("refusals", SHIPPED_WITHIN, attempt).await?;
        tokio::time::sleep(FULL_FOR).await;
        let refused_then = refused(&world.book);

        std::fs::remove_file(filler)?;
        world.story.stack.revive(Part::Portal).await?;
        answers(&world.book, 200).await?;
        load.stop().await?;
        let count = world.audit("a full disk", &[&gateway]).await?;
        check!(count.refused >= refused_then && count.broken == 0 && count.answered == count.recorded, "{count:?}");
        gateway.stop().await
    })
    .await
}

/// With `on_full = "serve_unbilled"`, what is beyond the bound is served, counted and not billed.
#[tokio::test(flavor = "multi_thread")]
async fn at_its_bound_a_journal_refuses_or_serves_unbilled_as_it_is_told() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(2)).await?;
        let bounded = |name, on_full: &str| {
            let ReplicaOptions { name, mut environment, wrapper } = options(name);
            environment.push(("GATEWAY_JOURNAL_DISK_BOUND_BYTES", (24 * crate::gateway::SEGMENT_BYTES).to_string()));
            environment.push(("GATEWAY_JOURNAL_ON_FULL", on_full.to_owned()));
            ReplicaOptions { name, environment, wrapper }
        };
        let refuses = world.gateway(bounded("refuses", "refuse")).await?;
        // What was acked is dropped early when the bound needs the room, so it is read before, and again when the journal is full.
        world.shipped(&[&refuses]).await?;
        let mut recorded = world.recorded(&[&refuses])?;
        world.story.stack.kill(Part::Portal).await?;
        let load = Load::start(&world.book, &[refuses.url()], &world.keys, Mix::FEW, &mut world.dice);
        let attempt = async || Ok((refused(&world.book) > 50).then_some(()));
        wait::until("refusals", SHIPPED_WITHIN, attempt).await?;
        load.stop().await?;
        world.read(&mut recorded, &[&refuses])?;
        world.story.stack.revive(Part::Portal).await?;
        world.shipped(&[&refuses]).await?;
        let count = world.judge("a journal at its bound that refuses", &recorded).await?;
        check!(count.broken == 0 && count.answered == count.recorded, "{count:?}");
        let before = count.answered;

        let serves = world.gateway(bounded("serves", "serve_unbilled")).await?;
        world.shipped(&[&serves]).await?;
        world.read(&mut recorded, &[&serves])?;
        world.story.stack.kill(Part::Portal).await?;
        let load = Load::start(&world.book, &[serves.url()], &world.keys, Mix::FEW, &mut world.dice);
        let attempt = async || Ok((unbilled(&serves).await? > 50).then_some(()));
        wait::until("unbilled calls", SHIPPED_WITHIN, attempt).await?;
        load.stop().await?;
        world.read(&mut recorded, &[&serves])?;
        world.story.stack.revive(Part::Portal).await?;
        world.shipped(&[&refuses, &serves]).await?;
        let unbilled = unbilled(&serves).await?;
        let accepted = world.comes_to(&should_accept(&recorded)).await?.calls;
        let recorded = recorded.finals().count() as u64;
        let answered = world.book.lines().iter().filter(|line| matches!(line.fate, Fate::Whole { by_upstream: true, .. })).count() as u64;
        println!(
            "fault: a journal at its bound that serves: answered {}, recorded {}, unbilled {unbilled}",
            answered - before,
            recorded - before
        );
        check!(answered == recorded + unbilled, "{answered} answered, {recorded} recorded, {unbilled} counted as unbilled");
        check!(accepted == recorded, "{accepted} accepted of {recorded}");
        refuses.stop().await?;
        serves.stop().await
    })
    .await
}

async fn unbilled(gateway: &Replica) -> anyhow::Result<u64> {
    metric(gateway, "tollkeeper_gateway_unbilled_calls_total").await
}

/// Waits for so many more whole answers.
async fn answers(book: &Book, more: usize) -> anyhow::Result<()> {
    let whole = || book.lines().iter().filter(|line| matches!(line.fate, Fate::Whole { by_upstream: true, .. })).count();
    let wanted = whole() + more;
    let attempt = async || Ok((whole() >= wanted).then_some(()));
    wait::until("answers", SHIPPED_WITHIN, attempt).await?;
    Ok(())
}

/// How many calls a gateway refused for want of room.
fn refused(book: &Book) -> u64 {
    book.lines().iter().filter(|line| line.fate == Fate::Whole { status: 503, by_upstream: false }).count() as u64
}

/// Writes a file until the disk is full.
fn fill(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let path = folder.join("filler");
    let mut file = File::create(&path).context("the gateway's file system cannot be written from outside")?;
    loop {
        match file.write(&[1; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(path),
            Err(error) => return Err(error.into()),
        }
    }
}
