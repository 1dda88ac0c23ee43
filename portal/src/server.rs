//! The portal as a process: listens, serves, and stops without cutting anybody off.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::{
    App, app, entitlements,
    error::{Error, Result},
    listener::{self, Bounds},
    monitor, policy, usage, worker,
};

/// How long requests that are under way may take once the process is to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Which parts of the portal this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Pages, REST and gateway control.
    Serve,
    /// Those, and the jobs.
    ServeAndWork,
}

/// Serves on `listener` until [`App::shutdown`] is cancelled; then ends the endless streams and gives the rest ten seconds.
pub async fn serve(app: App, listener: TcpListener, parts: Parts) -> Result<()> {
    let worker = (parts == Parts::ServeAndWork).then(|| tokio::spawn(worker::run(app.clone(), app.shutdown.clone())));
    make_partitions(&app).await?;
    let publisher = tokio::spawn(policy::publish::run(app.clone()));
    let follower = tokio::spawn(policy::feed::follow(app.clone()));
    let recalls = tokio::spawn(entitlements::follow_recalls(app.clone()));
    let monitor = tokio::spawn(monitor::run(app.clone()));
    let metrics = tokio::spawn(monitor::serve_metrics(app.clone()));
    let stop = app.shutdown.clone();
    let bounds = Bounds { connections: app.config.max_connections, head_timeout: app.config.head_timeout };
    let served = listener::serve(app::router(app.clone()), listener, bounds, stop.clone());
    tokio::pin!(served);
    tokio::select! {
        () = &mut served => {}
        () = stop.cancelled() => if tokio::time::timeout(DRAIN, served).await.is_err() {
            tracing::warn!("some requests did not end within {} s and were cut off", DRAIN.as_secs());
        },
    }
    app.shutdown.cancel();
    publisher.await.map_err(Error::internal)?;
    follower.await.map_err(Error::internal)?;
    recalls.await.map_err(Error::internal)?;
    monitor.await.map_err(Error::internal)?;
    metrics.await.map_err(Error::internal)??;
    if let Some(worker) = worker {
        worker.await.map_err(Error::internal)??;
    }
    Ok(())
}

/// Usage may arrive before a worker has run for the first time.
async fn make_partitions(app: &App) -> Result<()> {
    let mut tx = app.begin().await?;
    usage::partitions::make_ahead(&mut tx, app.now()).await?;
    tx.commit().await?;
    Ok(())
}
