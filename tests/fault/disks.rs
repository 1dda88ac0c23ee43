//! A gateway comes back with the disk that it had, with an older copy of it, and with an empty one.

use std::{fs, path::Path, process::Command};

use devstack::{replica::Replica, stack::Part};
use e2e::{
    auditor::{Fate, Load, Mix},
    stack::Story,
    wait,
};

use crate::{
    check,
    gateway::options,
    world::{SHIPPED_WITHIN, World, metric, names, should_accept, status},
};

/// What a part of a test waits for before it goes on.
const CALLS: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_loses_what_the_metric_said_and_nothing_else() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(2)).await?;
        let mut gateway = world.gateway(options("disk")).await?;
        some_calls(&mut world, &gateway).await?;
        // The same disk first: an orderly stop, and a start on what it left.
        gateway.ask_to_stop()?;
        check!(gateway.wait(std::time::Duration::from_secs(60)).await?.success(), "the gateway stops in order");
        gateway.revive(&world.story.stack).await?;
        some_calls(&mut world, &gateway).await?;
        let count = world.audit("restart with the same disk", &[&gateway]).await?;
        check!(count.broken == 0 && count.answered == count.recorded, "{count:?}");

        let shipped = world.recorded(&[&gateway])?;
        world.story.stack.kill(Part::Portal).await?;
        some_calls(&mut world, &gateway).await?;
        let at_risk = metric(&gateway, "tollkeeper_gateway_journal_unshipped_records").await?;
        gateway.kill().await?;
        let held = world.recorded(&[&gateway])?;
        fs::remove_dir_all(world.folder(&gateway))?;
        world.story.stack.revive(Part::Portal).await?;
        gateway.revive(&world.story.stack).await?;
        let before = world.book.len();
        some_calls(&mut world, &gateway).await?;
        world.shipped(&[&gateway]).await?;

        let lost = held.records() - shipped.records();
        check!(lost > 0 && lost == at_risk, "the metric said that {at_risk} records were not shipped; {lost} are lost");
        let now = world.recorded(&[&gateway])?;
        let answered = whole(&world, before);
        check!(now.marks().len() as u64 >= answered, "the new journal holds all calls since: {} of {answered}", now.marks().len());
        let mut accepted = shipped;
        world.read(&mut accepted, &[&gateway])?;
        let found = world.comes_to(&should_accept(&accepted)).await?;
        check!(found == should_accept(&accepted), "only the lost disk's records are missing: {found:?}, {:?}", should_accept(&accepted));
        println!(
            "fault: a lost disk: answered {}, recorded and accepted {}, lost {lost} records as the metric said",
            whole(&world, 0),
            found.calls
        );
        gateway.stop().await
    })
    .await
}

/// An older copy of the disk is put back, so that numbers of segments are used a second time, for other records. The portal refuses them, the gateway sets them aside,
/// says so, and goes on; nothing that was accepted changes, and nothing is billed twice.
#[tokio::test(flavor = "multi_thread")]
async fn segments_under_numbers_that_the_portal_knows_are_set_aside() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(2)).await?;
        let mut gateway = world.gateway(options("copied")).await?;
        some_calls(&mut world, &gateway).await?;
        gateway.kill().await?;
        let (folder, copy) = (world.folder(&gateway), world.story.stack.data_dir().join("older"));
        copy_folder(&folder, &copy)?;
        gateway.revive(&world.story.stack).await?;
        some_calls(&mut world, &gateway).await?;
        let count = world.audit("before an older copy of the disk is put back", &[&gateway]).await?;
        check!(count.answered == count.recorded, "{count:?}");
        let accepted = world.accepted().await?;

        gateway.kill().await?;
        fs::remove_dir_all(&folder)?;
        copy_folder(&copy, &folder)?;
        gateway.revive(&world.story.stack).await?;
        let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::FEW, &mut world.dice);
        // The numbers pass those that the portal knows, and then segments are taken again.
        let attempt = async || Ok((world.accepted().await?.calls >= accepted.calls + CALLS as u64).then_some(()));
        wait::until("segments to be taken again", SHIPPED_WITHIN, attempt).await?;
        load.stop().await?;
        world.shipped(&[&gateway]).await?;
        let quarantined = metric(&gateway, "tollkeeper_gateway_journal_quarantined_segments").await?;
        let alerts = status(&gateway).await?["alerts"].to_string();
        check!(
            quarantined > 0 && alerts.contains("was refused by the portal"),
            "what is refused is set aside and said: {quarantined}, {alerts}"
        );
        let found = world.accepted().await?;
        let (sent, answered) = (world.book.lines().iter().filter(|line| line.fate != Fate::NotSent).count() as u64, whole(&world, 0));
        check!(found.calls <= sent && found.calls >= accepted.calls, "nothing is billed twice: {found:?} of {sent} sent");
        println!(
            "fault: an older copy of a disk: answered {answered}, accepted {}, {quarantined} segments set aside, as the alerts say",
            found.calls
        );
        gateway.stop().await
    })
    .await
}

/// Calls until some more are answered.
async fn some_calls(world: &mut World<'_>, gateway: &Replica) -> anyhow::Result<()> {
    let wanted = whole(world, 0) + CALLS as u64;
    let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::FEW, &mut world.dice);
    let attempt = async || Ok((whole(world, 0) >= wanted).then_some(()));
    wait::until("answers", SHIPPED_WITHIN, attempt).await?;
    load.stop().await
}

/// How many exchanges from a place in the book on were answered whole.
fn whole(world: &World<'_>, from: usize) -> u64 {
    world.book.lines().iter().skip(from).filter(|line| matches!(line.fate, Fate::Whole { by_upstream: true, .. })).count() as u64
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    check!(copied.success(), "{} cannot be copied", from.display());
    Ok(())
}
