//! Registers all jobs and schedules.

use tokio_util::sync::CancellationToken;

use crate::{app::App, error::Result};

/// Runs jobs until `shutdown` is cancelled.
pub async fn run(_app: App, shutdown: CancellationToken) -> Result<()> {
    shutdown.cancelled().await;
    Ok(())
}
