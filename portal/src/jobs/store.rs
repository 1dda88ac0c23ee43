//! All SQL of the queue.

use calendar::Timestamp;
use ids::{JobId, Uuid};
use serde_json::Value;
use sqlx::PgPool;

use super::Backlog;
use crate::{db::Tx, error::Result};

/// A job that this process holds the lease of. `attempt` fences it: who lost the lease to another attempt can no longer finish the job.
#[derive(Debug)]
pub(super) struct Claimed {
    pub id: Uuid,
    pub kind: String,
    pub payload: Value,
    pub attempt: i32,
    pub run_at: Timestamp,
}

pub(super) async fn insert(
    tx: &mut Tx,
    id: JobId,
    kind: &str,
    payload: &Value,
    unique_key: Option<&str>,
    run_at: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO jobs (id, kind, payload, unique_key, run_at, created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (kind, unique_key) WHERE finished_at IS NULL AND unique_key IS NOT NULL DO NOTHING",
        id.uuid(),
        kind,
        payload,
        unique_key,
        run_at,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn claim(pool: &PgPool, kinds: &[String], limit: i64, now: Timestamp, locked_until: Timestamp) -> Result<Vec<Claimed>> {
    let rows = sqlx::query_as!(
        Claimed,
        r#"UPDATE jobs SET attempts = attempts + 1, locked_until = $4
           WHERE id IN (
               SELECT id FROM jobs
               WHERE finished_at IS NULL AND run_at <= $3 AND (locked_until IS NULL OR locked_until <= $3) AND kind = ANY($1)
               ORDER BY run_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
           RETURNING id, kind, payload, attempts AS attempt, run_at"#,
        kinds,
        limit,
        now,
        locked_until,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

pub(super) async fn finish(tx: &mut Tx, job: &Claimed, error: Option<&str>, now: Timestamp) -> Result<bool> {
    let done = sqlx::query!(
        "UPDATE jobs SET finished_at = $3, locked_until = NULL, last_error = $4 WHERE id = $1 AND attempts = $2 AND finished_at IS NULL",
        job.id,
        job.attempt,
        now,
        error,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn retry(tx: &mut Tx, job: &Claimed, error: &str, run_at: Timestamp) -> Result<()> {
    sqlx::query!(
        "UPDATE jobs SET run_at = $3, locked_until = NULL, last_error = $4 WHERE id = $1 AND attempts = $2 AND finished_at IS NULL",
        job.id,
        job.attempt,
        run_at,
        error,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes finished jobs: what succeeded before the first time, what was given up before the second.
pub(super) async fn remove_finished(tx: &mut Tx, succeeded_before: Timestamp, failed_before: Timestamp) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM jobs WHERE (finished_at < $1 AND last_error IS NULL) OR finished_at < $2",
        succeeded_before,
        failed_before,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn backlog(tx: &mut Tx, now: Timestamp) -> Result<Backlog> {
    let backlog = sqlx::query_as!(
        Backlog,
        r#"SELECT count(*) FILTER (WHERE run_at <= $1 AND (locked_until IS NULL OR locked_until <= $1)) AS "waiting!",
                  count(*) FILTER (WHERE last_error IS NOT NULL) AS "failing!"
           FROM jobs WHERE finished_at IS NULL"#,
        now
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(backlog)
}
