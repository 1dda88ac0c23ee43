//! SIGTERM under load: no call fails, and everything is recorded and shipped when the process has ended.

use std::time::{Duration, Instant};

use devstack::replica::ReplicaOptions;
use e2e::{
    auditor::{Entry, Fate, Load, Mix},
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
/// See [`was_late`].
const RESTED: Duration = Duration::from_millis(700);

/// What HTTP/1.1 cannot avoid: a request that crosses with the close of a connection on which nothing had passed for long, and of which nothing came
/// to anybody; callers repeat it (RFC 9112, 9.3.1). A gateway that leaves closes connections that have rested for a second. A caller that was kept from
/// asking for almost as long is no sign of a fault.
fn was_late(line: &Entry) -> bool {
    line.seen == 0 && line.received == 0 && line.rested.is_some_and(|rested| rested > RESTED)
}

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
            let lines = world.book.lines();
            let mut broken = lines.iter().filter(|line| line.fate == Fate::Broken && !was_late(line));
            let failed = broken.next();
            check!(failed.is_none(), "{} calls failed, such as {failed:?}", broken.count() + 1);
            check!(count.answered == count.recorded && count.recorded == count.admitted, "all are recorded: {count:?}");
            gateway.revive(&world.story.stack).await?;
        }
        gateway.stop().await
    })
    .await
}
