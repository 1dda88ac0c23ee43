//! The job queue against a real Postgres.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use calendar::Timestamp;
use portal::{
    App,
    error::{Error, Result},
    jobs::{self, Job, When, runner::Runner},
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::support::Portal;

#[derive(Serialize, Deserialize)]
struct Failing {}

impl Job for Failing {
    const KIND: &'static str = "test.failing";
    const MAX_ATTEMPTS: i32 = 3;

    async fn run(self, _: &App, _: Timestamp) -> Result<()> {
        Err(Error::conflict("not today"))
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_failing_job_waits_longer_and_is_given_up(pool: PgPool) {
    let portal = Portal::new(pool);
    let mut tx = portal.app.begin().await.unwrap();
    jobs::enqueue(&mut tx, &Failing {}, portal.now()).await.unwrap();
    tx.commit().await.unwrap();
    let mut runner = Runner::new();
    runner.register::<Failing>();
    assert_eq!(runner.run_due(&portal.app).await.unwrap(), 1);
    assert_eq!(runner.run_due(&portal.app).await.unwrap(), 0, "the second attempt is not due yet");
    for _ in 0..2 {
        portal.clock.advance(Duration::from_secs(60));
        assert_eq!(runner.run_due(&portal.app).await.unwrap(), 1);
    }
    portal.clock.advance(Duration::from_secs(86_400));
    assert_eq!(runner.run_due(&portal.app).await.unwrap(), 0, "given up");
    let (attempts, error): (i32, String) =
        sqlx::query_as("SELECT attempts, last_error FROM jobs WHERE finished_at IS NOT NULL").fetch_one(&portal.app.pool).await.unwrap();
    assert_eq!(attempts, 3);
    assert!(error.contains("not today"), "{error}");
}

static RUNS: AtomicUsize = AtomicUsize::new(0);

#[derive(Serialize, Deserialize)]
struct Counting {}

impl Job for Counting {
    const KIND: &'static str = "test.counting";

    async fn run(self, _: &App, _: Timestamp) -> Result<()> {
        RUNS.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn racing_workers_run_each_job_once(pool: PgPool) {
    let portal = Portal::new(pool);
    let mut tx = portal.app.begin().await.unwrap();
    for _ in 0..40 {
        jobs::enqueue(&mut tx, &Counting {}, portal.now()).await.unwrap();
    }
    let key = || When { unique_key: Some("only".into()), run_at: None };
    assert!(jobs::enqueue_when(&mut tx, &Counting {}, key(), portal.now()).await.unwrap().is_some());
    assert!(jobs::enqueue_when(&mut tx, &Counting {}, key(), portal.now()).await.unwrap().is_none(), "the key is taken");
    tx.commit().await.unwrap();
    let mut runner = Runner::new();
    runner.register::<Counting>();
    let workers = (0..4).map(|_| {
        let (runner, app) = (runner.clone(), portal.app.clone());
        tokio::spawn(async move { runner.run_due(&app).await.unwrap() })
    });
    let mut attempts = 0;
    for worker in workers.collect::<Vec<_>>() {
        attempts += worker.await.unwrap();
    }
    assert_eq!((attempts, RUNS.load(Ordering::SeqCst)), (41, 41));
}

static HEALED: AtomicUsize = AtomicUsize::new(0);

#[derive(Serialize, Deserialize)]
struct PanicsOnce {}

impl Job for PanicsOnce {
    const KIND: &'static str = "test.panics_once";

    async fn run(self, _: &App, _: Timestamp) -> Result<()> {
        assert!(HEALED.fetch_add(1, Ordering::SeqCst) > 0, "the first attempt panics");
        Ok(())
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_panic_is_a_failure_and_a_lost_lease_runs_again(pool: PgPool) {
    let portal = Portal::new(pool);
    let mut tx = portal.app.begin().await.unwrap();
    jobs::enqueue(&mut tx, &PanicsOnce {}, portal.now()).await.unwrap();
    tx.commit().await.unwrap();
    let mut runner = Runner::new();
    runner.register::<PanicsOnce>();
    assert_eq!(runner.run_due(&portal.app).await.unwrap(), 1);
    // A worker claimed it and died: nothing runs until its lease ends.
    portal.clock.advance(Duration::from_secs(60));
    sqlx::query("UPDATE jobs SET locked_until = $1")
        .bind(portal.now().plus(Duration::from_secs(30)))
        .execute(&portal.app.pool)
        .await
        .unwrap();
    assert_eq!(runner.run_due(&portal.app).await.unwrap(), 0);
    portal.clock.advance(Duration::from_secs(30));
    assert_eq!(runner.run_due(&portal.app).await.unwrap(), 1);
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE finished_at IS NULL OR last_error IS NOT NULL")
        .fetch_one(&portal.app.pool)
        .await
        .unwrap();
    assert_eq!(open, 0);
}
