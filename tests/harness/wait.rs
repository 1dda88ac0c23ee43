//! Waiting for what must become true soon.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How often it is looked again.
const POLL: Duration = Duration::from_millis(20);

/// Looks again and again until `attempt` finds something, and says how long that took. An error ends it at once.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<(T, Duration)> {
    let started = Instant::now();
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        poll.tick().await;
        if let Some(found) = attempt().await? {
            return Ok((found, started.elapsed()));
        }
        if started.elapsed() > deadline {
            bail!("{what} did not come within {deadline:?}");
        }
    }
}
