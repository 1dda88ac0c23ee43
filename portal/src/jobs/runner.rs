//! Claims due jobs and runs them.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use calendar::Timestamp;
use ids::JobId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Job, store};
use crate::{
    app::App,
    error::{Error, Result},
};

/// How long the runner waits for a wake before it looks at the queue anyway: other processes enqueue without waking this one.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How many jobs run at once in a process.
const CONCURRENCY: usize = 8;
/// How much longer the lease lasts than the work may, so that a job is not started twice.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(3600);
/// The unique key of scheduled jobs.
const SCHEDULE_KEY: &str = "schedule";

type Work = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

#[derive(Clone)]
struct Kind {
    work: Arc<dyn Fn(App, Value, Timestamp) -> Work + Send + Sync>,
    max_attempts: i32,
    timeout: Duration,
    /// For scheduled kinds: the time from one run to the next, and the payload.
    every: Option<(Duration, Value)>,
}

/// The kinds of jobs that a process runs.
#[derive(Clone, Default)]
pub struct Runner {
    kinds: BTreeMap<&'static str, Kind>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}

impl Runner {
    /// A runner that knows no kind but its own housekeeping.
    pub fn new() -> Self {
        let mut runner = Self::default();
        runner.every::<RemoveFinishedJobs>(Duration::from_secs(3600));
        runner
    }

    /// Runs jobs of this kind.
    pub fn register<J: Job>(&mut self) {
        self.add::<J>(None);
    }

    /// Runs a job of this kind at once after the first start, and again and again with this time between the starts. Over all workers at most one
    /// is open at a time.
    pub fn every<J: Job + Default>(&mut self, interval: Duration) {
        let payload = serde_json::to_value(J::default()).expect("a job's payload is JSON");
        self.add::<J>(Some((interval, payload)));
    }

    fn add<J: Job>(&mut self, every: Option<(Duration, Value)>) {
        let work = Arc::new(|app: App, payload: Value, now: Timestamp| -> Work {
            Box::pin(async move {
                let job: J = serde_json::from_value(payload)?;
                job.run(&app, now).await
            })
        });
        let clash = self.kinds.insert(J::KIND, Kind { work, max_attempts: J::MAX_ATTEMPTS, timeout: J::TIMEOUT, every });
        assert!(clash.is_none(), "two kinds of jobs are called {}", J::KIND);
    }

    /// Runs due jobs until `shutdown` is cancelled; then lets those that run come to their end.
    pub async fn run(self, app: App, shutdown: CancellationToken) -> Result<()> {
        let mut running = JoinSet::new();
        let mut scheduled = false;
        loop {
            let free = CONCURRENCY - running.len();
            let looked = async {
                if !scheduled {
                    self.start_schedules(&app).await?;
                    scheduled = true;
                }
                if free > 0 {
                    self.start_due(&app, free, &mut running).await?;
                }
                Ok::<_, Error>(())
            }
            .await;
            if let Err(error) = looked {
                tracing::warn!(?error, "the job queue cannot be read; trying again");
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = running.join_next(), if !running.is_empty() => {}
                () = app.jobs_wake.notified(), if running.len() < CONCURRENCY => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
        while running.join_next().await.is_some() {}
        Ok(())
    }

    /// Runs what is due by the app's clock, and what that makes due, until nothing is; for tests and tools. Answers how many attempts were made.
    pub async fn run_due(&self, app: &App) -> Result<usize> {
        let mut attempts = 0;
        loop {
            let mut running = JoinSet::new();
            let started = self.start_due(app, CONCURRENCY, &mut running).await?;
            while running.join_next().await.is_some() {}
            if started == 0 {
                return Ok(attempts);
            }
            attempts += started;
        }
    }

    fn kind_names(&self) -> Vec<String> {
        self.kinds.keys().map(|kind| (*kind).to_owned()).collect()
    }

    /// Makes sure that each scheduled kind has its next job.
    async fn start_schedules(&self, app: &App) -> Result<()> {
        let now = app.now();
        let mut tx = app.begin().await?;
        for (kind, registered) in &self.kinds {
            if let Some((_, payload)) = &registered.every {
                store::insert(&mut tx, JobId::new(), kind, payload, Some(SCHEDULE_KEY), now, now).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    async fn start_due(&self, app: &App, limit: usize, running: &mut JoinSet<()>) -> Result<usize> {
        let now = app.now();
        let longest = self.kinds.values().map(|kind| kind.timeout).max().unwrap_or(POLL_INTERVAL);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let claimed = store::claim(&app.pool, &self.kind_names(), limit, now, now.plus(longest + LEASE_MARGIN)).await?;
        let started = claimed.len();
        for job in claimed {
            let Some(kind) = self.kinds.get(job.kind.as_str()).cloned() else { continue };
            running.spawn(attempt(app.clone(), kind, job, now));
        }
        Ok(started)
    }
}

/// One attempt of one job, and the note of how it went.
async fn attempt(app: App, kind: Kind, job: store::Claimed, now: Timestamp) {
    // A task of its own, so that a panic is this attempt's failure and not the runner's.
    let work = tokio::spawn(tokio::time::timeout(kind.timeout, (kind.work)(app.clone(), job.payload.clone(), now)));
    let outcome = match work.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Error::internal(anyhow::anyhow!("took longer than {:?}", kind.timeout))),
        Err(panic) => Err(Error::internal(anyhow::anyhow!("panicked: {panic}"))),
    };
    if let Err(error) = settle(&app, &kind, &job, outcome).await {
        // The lease ends by itself, and the job is tried again.
        tracing::error!(job = %JobId::from_uuid(job.id), kind = job.kind, ?error, "the outcome of a job could not be stored");
    }
}

async fn settle(app: &App, kind: &Kind, job: &store::Claimed, outcome: Result<()>) -> Result<()> {
    let now = app.now();
    let mut tx = app.begin().await?;
    let error = outcome.err().map(|error| format!("{error:?}"));
    if let Some(error) = error.as_deref().filter(|_| job.attempt < kind.max_attempts) {
        let wait = backoff(job.attempt, job.id.as_bytes()[15]);
        tracing::warn!(job = %JobId::from_uuid(job.id), kind = job.kind, attempt = job.attempt, error, "a job failed; it will be tried again");
        store::retry(&mut tx, job, error, now.plus(wait)).await?;
    } else {
        if let Some(error) = &error {
            tracing::error!(job = %JobId::from_uuid(job.id), kind = job.kind, attempt = job.attempt, error, "a job was given up");
        }
        let finished = store::finish(&mut tx, job, error.as_deref(), now).await?;
        if let Some((interval, payload)) = kind.every.as_ref().filter(|_| finished) {
            let next = job.run_at.plus(*interval).max(now);
            store::insert(&mut tx, JobId::new(), &job.kind, payload, Some(SCHEDULE_KEY), next, now).await?;
        }
    }
    tx.commit().await?;
    app.jobs_wake.notify_one();
    Ok(())
}

/// 5 s, 10 s, 20 s ... up to an hour, each up to a quarter longer, so that jobs which failed together are not tried again together.
fn backoff(attempt: i32, spread: u8) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(20);
    let wait = FIRST_RETRY.saturating_mul(1 << doublings).min(LAST_RETRY);
    wait + wait / 4 * u32::from(spread) / 255
}

/// Housekeeping of the queue itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RemoveFinishedJobs {}

impl Job for RemoveFinishedJobs {
    const KIND: &'static str = "jobs.remove_finished";

    async fn run(self, app: &App, now: Timestamp) -> Result<()> {
        let mut tx = app.begin().await?;
        let day = Duration::from_secs(86_400);
        store::remove_finished(&mut tx, now.minus(day), now.minus(day * 30)).await?;
        tx.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_wait_longer_and_longer_up_to_a_bound() {
        let waits: Vec<u64> = (1..=13).map(|attempt| backoff(attempt, 0).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
        assert_eq!(backoff(1, 255), Duration::from_millis(6250));
        assert!(backoff(i32::MAX, 255) <= LAST_RETRY * 5 / 4);
    }
}
