//! `POST /control/v1/usage`

use std::time::{Duration, Instant};

use axum::Json;
use gateway_control::usage::{BatchAck, UsageBatch};
use tokio::time::timeout;

use super::{call::GatewayCall, json::Body};
use crate::{
    api::problem::Problem,
    app::App,
    error::{Error, Kind, Result},
    metrics::Outcome,
    usage::ingest::{self, Accepted, LastUsed},
};

/// How many batches are unpacked and written at once in a process: each may be 64 MiB.
pub const CONCURRENT_BATCHES: usize = 8;
/// How long a batch may wait for its turn; after that the gateway is asked to come again, and the journal keeps it.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the sums of one sealed segment. Answers after the commit, and never before.
pub async fn accept(call: GatewayCall, turn: Turn, body: Body) -> Result<Json<BatchAck>, Problem> {
    let started = Instant::now();
    let metrics = call.app.metrics.clone();
    let taken = take(&call, body).await;
    drop(turn);
    match &taken {
        Ok((accepted, rows)) => {
            metrics.batch(if accepted.duplicate { Outcome::Duplicate } else { Outcome::Accepted });
            if !accepted.duplicate {
                metrics.usage_rows.inc_by(*rows);
                metrics.usage_unattributed_rows.inc_by(u64::try_from(accepted.unattributed).unwrap_or(u64::MAX));
            }
            metrics.usage_accept_seconds.observe(started.elapsed().as_secs_f64());
        }
        Err(error) => match error.kind {
            Kind::Conflict => metrics.batch(Outcome::Conflict),
            Kind::Invalid | Kind::Forbidden | Kind::TooLarge => metrics.batch(Outcome::Refused),
            _ => {}
        },
    }
    let (accepted, _) = taken?;
    Ok(Json(accepted.ack))
}

async fn take(call: &GatewayCall, body: Body) -> Result<(Accepted, u64)> {
    // Reading 64 MiB of JSON takes a while, during which a thread of the runtime must not stand still.
    let batch: UsageBatch = tokio::task::spawn_blocking(move || body.parse()).await.map_err(Error::internal)??;
    let rows = u64::try_from(batch.rows.len()).unwrap_or(u64::MAX);
    let mut tx = call.begin().await?;
    let accepted = ingest::accept(&mut tx, &call.gateway, &batch, call.now).await?;
    tx.commit().await?;
    if let Err(error) = touch_keys(&call.app, &accepted.last_used).await {
        tracing::warn!(?error, "when keys were last used could not be written; a later batch will");
    }
    Ok((accepted, rows))
}

async fn touch_keys(app: &App, uses: &[LastUsed]) -> Result<()> {
    if uses.is_empty() {
        return Ok(());
    }
    let mut tx = app.begin().await?;
    ingest::record_last_used(&mut tx, uses).await?;
    tx.commit().await?;
    Ok(())
}

/// A place among the batches that are being taken. It is extracted after the credential and before the body is read.
#[derive(Debug)]
pub struct Turn {
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl axum::extract::FromRequestParts<App> for Turn {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut axum::http::request::Parts, app: &App) -> Result<Self, Problem> {
        match timeout(TURN_TIMEOUT, app.ingest_turns.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Self { _permit: permit }),
            _ => Err(Error::new(Kind::Unavailable, "Too much usage is arriving at once. Send this segment again in a moment.").into()),
        }
    }
}
