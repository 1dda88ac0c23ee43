//! Looks at what no request passes by, every [`INTERVAL`], and serves the metrics.

use std::time::Duration;

use axum::{Router, routing::get};
use tokio::net::TcpListener;

use crate::{
    App, entitlements,
    error::{Error, Result},
    gateways,
    identity::Actor,
    jobs,
    metrics::DifferenceLabel,
    reconciliation,
    usage::{streams, watermark},
};

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(15);

/// Keeps the gauges until the process stops, and raises alerts in the log.
pub async fn run(app: App) {
    loop {
        if let Err(error) = look(&app).await {
            tracing::warn!(?error, "the gauges could not be read; trying again");
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// One look.
pub async fn look(app: &App) -> Result<()> {
    let now = app.now();
    let actor = Actor::system();
    let mut tx = app.begin().await?;
    let gaps: Vec<_> = streams::list(&mut tx, &actor).await?.into_iter().filter(|stream| stream.alerts(now)).collect();
    for stream in &gaps {
        tracing::error!(
            gateway = %stream.gateway, journal = %stream.journal, stream = stream.stream, accepted_through = stream.accepted_through,
            missing = stream.gap.map(|gap| gap.missing), "segments of usage have been missing for more than a minute"
        );
    }
    let unattributed = streams::unattributed(&mut tx, &actor).await?;
    let lag = watermark::lag(&mut tx).await?;
    let lag_time = lag.since.map_or(Duration::ZERO, |since| now.since(since));
    if lag_time > watermark::LAG_ALERT_AFTER {
        tracing::error!(
            segments = lag.segments,
            rows = lag.rows,
            seconds = lag_time.as_secs(),
            "accepted usage is not in the sums; does a worker run?"
        );
    }
    let gateways = gateways::list(&mut tx, &actor).await?;
    let statuses = gateways.iter().flat_map(|gateway| &gateway.instances).filter_map(|instance| instance.status.as_ref());
    let unshipped: u64 = statuses.map(|status| status.unshipped_records).sum();
    let presumed_spent = entitlements::presumed_spent(&mut tx, now).await?;
    let backlog = jobs::backlog(&mut tx, now).await?;
    let (differences, progress) = reconciliation::gauges(&mut tx, &actor).await?;
    tx.commit().await?;
    let metrics = &app.metrics;
    for (kind, open) in differences {
        metrics.reconciliation_differences.get_or_create(&DifferenceLabel { kind: kind.as_str() }).set(open);
    }
    let seconds = |age: Duration| i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    metrics.reconciliation_full_age_seconds.set(seconds(progress.full_age(now)));
    metrics.reconciliation_pass_age_seconds.set(seconds(progress.pass_age(now)));
    metrics.usage_gaps.set(i64::try_from(gaps.len()).unwrap_or(i64::MAX));
    metrics.usage_unattributed_stored.set(i64::try_from(unattributed.rows).unwrap_or(i64::MAX));
    metrics.usage_rollup_pending_rows.set(i64::try_from(lag.rows).unwrap_or(i64::MAX));
    metrics.usage_rollup_lag_seconds.set(i64::try_from(lag_time.as_secs()).unwrap_or(i64::MAX));
    metrics.gateway_unshipped_records.set(i64::try_from(unshipped).unwrap_or(i64::MAX));
    metrics.quota_presumed_spent_units.set(i64::try_from(presumed_spent.0 / 1_000_000).unwrap_or(i64::MAX));
    metrics.jobs_waiting.set(backlog.waiting);
    metrics.jobs_failing.set(backlog.failing);
    Ok(())
}

/// Serves `/metrics` on a listener of its own where one is configured, until the process stops.
pub async fn serve_metrics(app: App) -> Result<()> {
    let Some(address) = app.config.metrics_listen else { return Ok(()) };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Error::internal(anyhow::anyhow!("cannot listen on {address} (PORTAL_METRICS_LISTEN): {error}")))?;
    let registry = app.metrics.registry();
    let router: Router =
        Router::new().route("/metrics", get(async move |headers: axum::http::HeaderMap| telemetry::metrics::render(&registry, &headers)));
    axum::serve(listener, router).with_graceful_shutdown(app.shutdown.clone().cancelled_owned()).await.map_err(Error::internal)
}
