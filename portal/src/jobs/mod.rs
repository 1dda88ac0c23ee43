//! Work that outlives a request: a queue in Postgres.
//!
//! A job is enqueued in the transaction of the change that needs it, so it exists exactly if the change does. A [`runner::Runner`] claims due jobs
//! with `FOR UPDATE SKIP LOCKED` and holds each under a lease; a worker that dies loses its lease and the job runs again. So a job runs **at least
//! once**, and its work must bear being repeated. A job that fails is tried again later and later, and given up after [`Job::MAX_ATTEMPTS`]: it then
//! stands finished with its `last_error`.
//!
//! - `README.md`: the invariants.
//! - [`store`]: all SQL.

pub mod runner;
mod store;

use std::{future::Future, time::Duration};

use calendar::Timestamp;
use ids::JobId;
use serde::{Serialize, de::DeserializeOwned};

use crate::{app::App, db::Tx, error::Result};

/// A kind of job: its payload, and its work.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The kind's name in Postgres, such as `mail.send`. It is never changed.
    const KIND: &'static str;
    /// After so many failures the job is given up.
    const MAX_ATTEMPTS: i32 = 10;
    /// Work that takes longer is ended and counts as failed.
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Does the work. `now` is when it was claimed.
    fn run(self, app: &App, now: Timestamp) -> impl Future<Output = Result<()>> + Send;
}

/// When a job runs, and beside which others.
#[derive(Debug, Clone, Default)]
pub struct When {
    /// While an unfinished job of the kind has this key, another is not enqueued.
    pub unique_key: Option<String>,
    /// Not before; at once if `None`.
    pub run_at: Option<Timestamp>,
}

/// Enqueues a job to run at once, or as soon as a worker is free.
pub async fn enqueue<J: Job>(tx: &mut Tx, job: &J, now: Timestamp) -> Result<JobId> {
    let id = JobId::new();
    store::insert(tx, id, J::KIND, &serde_json::to_value(job)?, None, now, now).await?;
    Ok(id)
}

/// Enqueues a job; `None` if an unfinished one has its unique key.
pub async fn enqueue_when<J: Job>(tx: &mut Tx, job: &J, when: When, now: Timestamp) -> Result<Option<JobId>> {
    let id = JobId::new();
    let run_at = when.run_at.unwrap_or(now);
    let inserted = store::insert(tx, id, J::KIND, &serde_json::to_value(job)?, when.unique_key.as_deref(), run_at, now).await?;
    Ok(inserted.then_some(id))
}

/// What the queue holds that should not stay there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Jobs that are due and wait for a worker.
    pub waiting: i64,
    /// Jobs that failed and will be tried again.
    pub failing: i64,
}

/// How far behind the workers are.
pub async fn backlog(tx: &mut Tx, now: Timestamp) -> Result<Backlog> {
    store::backlog(tx, now).await
}
