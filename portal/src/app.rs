//! What every part shares, and the assembly of the router.

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware};
use calendar::{Clock, Timestamp};
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};

use crate::{
    Config, api, control,
    db::Tx,
    entitlements::Recalls,
    error::Result,
    metrics::{Metrics, count_requests},
    policy::Feed,
    receive::receive_first,
    usage, web,
};

/// The largest body that an edge reads unless a route says otherwise.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;

/// What every part shares. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    /// Postgres.
    pub pool: PgPool,
    /// Where `now` comes from.
    pub clock: Arc<dyn Clock>,
    /// Settings.
    pub config: Arc<Config>,
    /// Raised after a commit in this process that may have changed policy, so that the publisher need not wait for its next look.
    pub policy_wake: Arc<Notify>,
    /// Raised after a commit in this process that queued a job.
    pub jobs_wake: Arc<Notify>,
    /// The newest policy generation that this process knows, for the streams of its gateways.
    pub feed: Feed,
    /// The recalls of idle leases that this process hears of, for the streams of its gateways.
    pub recalls: Recalls,
    /// Places among the usage batches that are taken at once.
    pub ingest_turns: Arc<control::usage::Turns>,
    /// The usage batches that wait to be taken together.
    pub ingest_together: Arc<usage::together::Together>,
    /// When keys were used last, as far as this process has written it.
    pub last_used: Arc<usage::last_used::Remembered>,
    /// What Prometheus is told.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the process is to stop: streams that would never end end then.
    pub shutdown: CancellationToken,
}

impl App {
    /// Brings the parts together.
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>, config: Config) -> Self {
        Self {
            pool,
            clock,
            config: Arc::new(config),
            policy_wake: Arc::default(),
            jobs_wake: Arc::default(),
            feed: Feed::default(),
            recalls: Recalls::default(),
            ingest_turns: Arc::default(),
            ingest_together: Arc::default(),
            last_used: Arc::default(),
            metrics: Arc::default(),
            shutdown: CancellationToken::new(),
        }
    }

    /// The current instant. An edge reads it once a request.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Opens a transaction.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(self.pool.begin().await?)
    }

    /// Commits, and wakes those who wait for what it may have changed.
    pub async fn commit(&self, tx: Tx) -> Result<()> {
        tx.commit().await?;
        self.policy_wake.notify_waiters();
        self.jobs_wake.notify_one();
        Ok(())
    }
}

/// All that the portal serves on its one port.
pub fn router(app: App) -> Router {
    let counted = |edge| middleware::from_fn_with_state((app.clone(), edge), count_requests);
    Router::new()
        .merge(web::router(&app).layer(counted("pages")))
        .merge(api::router(&app).layer(counted("rest")))
        .merge(control::router(&app).layer(counted("control")))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(receive_first))
        .layer(CatchPanicLayer::custom(web::failure::panicked))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .with_state(app)
}

/// A request in the log: its path only, because queries hold the tokens of links that were sent by mail.
fn span(request: &axum::extract::Request) -> tracing::Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}
