//! `POST /control/v1/usage`

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use axum::Json;
use gateway_control::usage::{BatchAck, UsageBatch};
use ids::GatewayId;
use portal_api::Problem;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{call::GatewayCall, json::Body};
use crate::{
    api::problem,
    app::App,
    error::{Error, Kind, Result},
    metrics::Outcome,
    usage::{
        ingest::Accepted,
        last_used::{self, LastUsed},
        together::Together,
    },
};

/// How many batches are unpacked and written at once in a process: each may be 64 MiB.
const CONCURRENT_BATCHES: usize = 16;
/// How many of them are of one gateway, so that one with much to tell does not keep the others waiting.
const CONCURRENT_BATCHES_OF_GATEWAY: usize = 4;
/// How long a batch may wait for its turn; after that the gateway is asked to come again, and the journal keeps it.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Send usage
///
/// Takes the sums of one sealed segment, gzip or plain. Answers after the commit, and never before; a segment that was taken already changes nothing.
#[utoipa::path(
    post, path = "/control/v1/usage", operation_id = "usage.send", tag = "usage", request_body = UsageBatch,
    responses(
        (status = OK, description = "Where the stream stands now.", body = BatchAck),
        (status = CONFLICT, description = "This segment was taken with other bytes. Quarantine it and go on.", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn accept(Turn { call, place }: Turn, body: Body) -> Result<Json<BatchAck>, problem::Problem> {
    let started = Instant::now();
    let metrics = call.app.metrics.clone();
    let taken = take(&call, body).await;
    drop(place);
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
    let accepted = Together::accept(&call.app, call.gateway.clone(), batch, call.now).await?;
    let uses = call.app.last_used.due(accepted.last_used.clone());
    if let Err(error) = touch_keys(&call.app, &uses).await {
        tracing::warn!(?error, "when keys were last used could not be written; a later batch will");
    }
    Ok((accepted, rows))
}

async fn touch_keys(app: &App, uses: &[LastUsed]) -> Result<()> {
    if uses.is_empty() {
        return Ok(());
    }
    let mut tx = app.begin().await?;
    last_used::record(&mut tx, uses).await?;
    tx.commit().await?;
    Ok(())
}

/// Places among the batches that are being taken: so many at once, and so many of them for each gateway.
#[derive(Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    /// Of the gateways that have a place or wait for one.
    of_gateways: Mutex<HashMap<GatewayId, Weak<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(CONCURRENT_BATCHES)), of_gateways: Mutex::default() }
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
struct Place {
    _of_gateway: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    /// Waits for a place. A gateway that has its share waits without keeping others from theirs.
    async fn take(&self, gateway: GatewayId) -> Result<Place> {
        let own = self.of_gateway(gateway);
        let both = async {
            let of_gateway = own.acquire_owned().await?;
            Ok::<_, AcquireError>(Place { _of_gateway: of_gateway, _of_all: self.all.clone().acquire_owned().await? })
        };
        match timeout(TURN_TIMEOUT, both).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Error::new(Kind::Unavailable, "Too much usage is arriving at once. Send this segment again in a moment.")),
        }
    }

    fn of_gateway(&self, gateway: GatewayId) -> Arc<Semaphore> {
        let mut known = self.of_gateways.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, turns| turns.strong_count() > 0);
        let entry = known.entry(gateway).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(CONCURRENT_BATCHES_OF_GATEWAY));
            *entry = Arc::downgrade(&new);
            new
        })
    }
}

/// A call that has a place. It is extracted before the body is read.
#[derive(Debug)]
pub struct Turn {
    call: GatewayCall,
    place: Place,
}

impl axum::extract::FromRequestParts<App> for Turn {
    type Rejection = problem::Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, app: &App) -> Result<Self, problem::Problem> {
        let call = GatewayCall::from_request_parts(parts, app).await?;
        let place = app.ingest_turns.take(call.gateway.id).await?;
        Ok(Self { call, place })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_gateway_leaves_places_to_others() {
        let turns = Turns::default();
        let (greedy, modest) = (GatewayId::new(), GatewayId::new());
        let one = turns.take(greedy).await.expect("a place");
        let mut others = Vec::new();
        for _ in 1..CONCURRENT_BATCHES_OF_GATEWAY {
            others.push(turns.take(greedy).await.expect("a place"));
        }
        assert!(turns.take(greedy).now_or_never().is_none(), "it has its share");
        drop(turns.take(modest).now_or_never().expect("others need not wait").expect("a place"));
        drop(one);
        drop(turns.take(greedy).now_or_never().expect("a place is free again").expect("a place"));
        assert_eq!(turns.of_gateways.lock().expect("whole").len(), 1, "gateways without a place are forgotten");
    }

    #[tokio::test]
    async fn all_gateways_together_have_so_many() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for _ in 0..CONCURRENT_BATCHES {
            held.push(turns.take(GatewayId::new()).await.expect("a place"));
        }
        assert!(turns.take(GatewayId::new()).now_or_never().is_none());
    }
}
