//! Segments that arrive twice, late, out of order and in pieces; one that is damaged on the disk.

use std::{fs, path::Path};

use anyhow::Context;
use devstack::{replica::ReplicaOptions, stack::Part};
use e2e::{
    auditor::{Fate, Load, Mix},
    stack::Story,
    wait,
};

use crate::{
    check,
    gateway::options,
    meddler::{Meddler, Misdeed},
    world::{SHIPPED_WITHIN, World, metric, names, should_accept, status},
};

#[tokio::test(flavor = "multi_thread")]
async fn batches_arrive_twice_late_out_of_order_and_in_pieces() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(2)).await?;
        let meddler = Meddler::start(&world.story.portal(), &mut world.dice).await?;
        let ReplicaOptions { name, mut environment, wrapper } = options("meddled");
        environment.push(("GATEWAY_PORTAL_URL", meddler.url()));
        let gateway = world.gateway(ReplicaOptions { name, environment, wrapper }).await?;
        let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::FEW, &mut world.dice);
        let mut repeated = 0;
        let worst = [Misdeed::Twice, Misdeed::Late, Misdeed::RequestLost, Misdeed::AnswerLost, Misdeed::Cut];
        let attempt = async || Ok(worst.iter().all(|misdeed| meddler.done().get(misdeed) >= Some(&3)).then_some(()));
        wait::until("three of each misdeed", SHIPPED_WITHIN * 2, attempt).await?;
        // Once in the middle of it, and once at the end.
        let mut dice = world.dice.clone();
        repeated += meddler.repeat_all(&mut dice).await?;
        load.stop().await?;
        meddler.rest();
        world.shipped(&[&gateway]).await?;
        repeated += meddler.repeat_all(&mut dice).await?;
        let count = world.audit(&format!("batches mistreated {:?}, {repeated} sent again", meddler.done()), &[&gateway]).await?;
        check!(count.broken + count.refused == 0 && meddler.halves_taken() == 0, "{count:?}, {} halves were taken", meddler.halves_taken());
        gateway.stop().await
    })
    .await
}

/// Bytes are flipped while a gateway is dead: in a sealed segment that waits, and in the one that was being written. What stands before a damage is billed, what
/// stands behind it is lost, and said.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_segments_lose_what_stands_behind_the_damage_and_nothing_else() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(2)).await?;
        let ReplicaOptions { name, mut environment, wrapper } = options("damaged");
        // Segments are sealed when they are full, so that the kill finds records in one that is not.
        environment.push(("GATEWAY_JOURNAL_MAX_AGE", "10m".to_owned()));
        let mut gateway = world.gateway(ReplicaOptions { name, environment, wrapper }).await?;
        world.story.stack.kill(Part::Portal).await?;
        let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::FEW, &mut world.dice);
        let attempt = async || Ok((metric(&gateway, "tollkeeper_gateway_journal_pending_segments").await? >= 2).then_some(()));
        wait::until("segments that wait", SHIPPED_WITHIN, attempt).await?;
        load.stop().await?;
        gateway.kill().await?;
        let before = world.recorded(&[&gateway])?;
        flip_bytes(&world.folder(&gateway).join("journal"))?;
        gateway.revive(&world.story.stack).await?;
        world.story.stack.revive(Part::Portal).await?;
        world.shipped(&[&gateway]).await?;

        let after = world.recorded(&[&gateway])?;
        let (kept, all) = (after.marks(), before.marks());
        let lost: Vec<u64> = all.difference(&kept).copied().collect();
        check!(kept.is_subset(&all) && !lost.is_empty() && kept.len() > 20, "{} of {} records are left", kept.len(), all.len());
        let lines = world.book.lines();
        check!(lost.iter().all(|mark| matches!(lines[*mark as usize - 1].fate, Fate::Whole { .. })), "what is lost can be named");
        let expected = should_accept(&after);
        let accepted = world.comes_to(&expected).await?;
        check!(accepted == expected, "what was kept is accepted: {accepted:?}, {expected:?}");
        let alerts = status(&gateway).await?["alerts"].to_string();
        check!(alerts.matches("is damaged").count() == 2, "an operator hears of both segments: {alerts}");
        check!(metric(&gateway, "tollkeeper_gateway_journal_damaged_segments").await? == 2, "the originals are kept: {alerts}");
        println!(
            "fault: two flipped bytes: answered {}, recorded and accepted {}, lost and named {}; alerts: {alerts}",
            all.len(),
            kept.len(),
            lost.len()
        );
        gateway.stop().await
    })
    .await
}

/// Flips a byte in the middle of the largest sealed segment that waits, and one among the first records of one that was being written.
fn flip_bytes(journal: &Path) -> anyhow::Result<()> {
    const SECOND_RECORD: usize = 128 + 300;
    let (mut sealed, mut written) = (Vec::new(), Vec::new());
    for stream in ["0", "1"] {
        for entry in fs::read_dir(journal.join(stream))? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "seg") {
                continue;
            }
            let bytes = fs::read(&path)?;
            // Sealed ones end with a footer at their length; the others are as long as they were made, and those made ahead are empty.
            let is_sealed = bytes.get(bytes.len() - 120..).is_some_and(|footer| footer.starts_with(b"TKSEALED"));
            if is_sealed {
                sealed.push((bytes.len(), path));
            } else if bytes.get(SECOND_RECORD).is_some_and(|_| bytes[128..SECOND_RECORD].iter().any(|byte| *byte != 0)) {
                written.push(path);
            }
        }
    }
    let (length, largest) = sealed.into_iter().max().context("no sealed segment waits")?;
    flip(&largest, length / 2)?;
    flip(written.first().context("no segment was being written")?, SECOND_RECORD)
}

fn flip(path: &Path, offset: usize) -> anyhow::Result<()> {
    let mut bytes = fs::read(path)?;
    bytes[offset] ^= 0x10;
    Ok(fs::write(path, bytes)?)
}
