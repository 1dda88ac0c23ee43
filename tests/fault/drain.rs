//! SIGTERM under load: no call fails, and everything is recorded and shipped when the process has ended.

use std::time::{Duration, Instant};

use devstack::replica::ReplicaOptions;
use e2e::{
    auditor::{Fate, Load, Mix},
    stack::Story,
    wait,
};

use crate::{
    check,
    gateway::options,
    world::{World, names},
};

const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
const ROUNDS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_fails_no_call_and_leaves_nothing_unshipped() -> anyhow::Result<()> {
    Story::tell(async |story| {
        let mut world = World::make(story, &names(4)).await?;
        let ReplicaOptions { name, mut environment, wrapper } = options("drained");
        environment.push(("GATEWAY_DRAIN_DELAY", "1s".to_owned()));
        environment.push(("GATEWAY_DRAIN_TIMEOUT", format!("{}s", DRAIN_TIMEOUT.as_secs())));
        let mut gateway = world.gateway(ReplicaOptions { name, environment, wrapper }).await?;
        for round in 1..=ROUNDS {
            let load = Load::start(&world.book, &[gateway.url()], &world.keys, Mix::CROWD, &mut world.dice);
            let attempt = async || Ok(Some(world.book.in_flight()).filter(|in_flight| *in_flight >= 200));
            let (in_flight, _) = wait::until("exchanges in flight", Duration::from_secs(60), attempt).await?;
            let asked = Instant::now();
            gateway.ask_to_stop()?;
            let status = gateway.wait(DRAIN_TIMEOUT * 3).await?;
            let took = asked.elapsed();
            load.stop().await?;
            check!(status.success(), "the gateway ends well: {status}");
            check!(took < DRAIN_TIMEOUT, "the gateway ended after {took:?}");
            // Nobody is left who could ship: what the portal has now is all there is.
            let recorded = world.recorded(&[&gateway])?;
            let count =
                world.judge(&format!("SIGTERM with {in_flight} exchanges in flight, round {round}, over in {took:?}"), &recorded).await?;
            check!(count.refused == 0, "no call was refused: {count:?}");
            // A call that meets the end of its connection, or of the listener that it had just reached, was not taken, and its client repeats it.
            let lines = world.book.lines();
            let failed = lines.iter().find(|line| line.fate == Fate::Broken && (line.seen > 0 || line.received > 0));
            check!(failed.is_none(), "a call failed: {failed:?}");
            check!(count.broken <= lines.len() as u64 / 100, "too many connections ended under a call: {count:?}");
            check!(count.answered == count.recorded && count.recorded == count.admitted, "all are recorded: {count:?}");
            gateway.revive(&world.story.stack).await?;
        }
        gateway.stop().await
    })
    .await
}
