//! Registers all jobs and schedules.

use tokio_util::sync::CancellationToken;

use crate::{app::App, billing, error::Result, jobs::runner::Runner};

/// Runs jobs until `shutdown` is cancelled.
pub async fn run(app: App, shutdown: CancellationToken) -> Result<()> {
    runner().run(app, shutdown).await
}

/// A runner that knows every kind of job.
pub fn runner() -> Runner {
    let mut runner = Runner::new();
    runner.every::<billing::job::CloseDue>(billing::job::EVERY);
    runner
}
