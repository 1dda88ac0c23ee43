//! Registers all jobs and schedules.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    applications, billing,
    error::{Error, Result},
    identity,
    jobs::runner::Runner,
    mail, reconciliation,
    usage::partitions::MakePartitions,
    usage::watermark,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Runs jobs, and keeps the sums of usage up, until `shutdown` is cancelled.
pub async fn run(app: App, shutdown: CancellationToken) -> Result<()> {
    let sums = tokio::spawn(watermark::run(app.clone()));
    runner().run(app, shutdown).await?;
    sums.await.map_err(Error::internal)
}

/// A runner that knows every kind of job.
pub fn runner() -> Runner {
    let mut runner = Runner::new();
    runner.every::<billing::job::CloseDue>(billing::job::EVERY);
    runner.every::<billing::job::SettleCanceled>(billing::job::SettleCanceled::EVERY);
    runner.register::<mail::Send>();
    runner.every::<mail::RemoveOld>(DAY);
    runner.every::<identity::job::RemoveEnded>(HOUR);
    runner.every::<applications::job::RemoveTryItKeys>(HOUR);
    runner.every::<reconciliation::job::Compare>(reconciliation::job::EVERY);
    runner.every::<MakePartitions>(MakePartitions::EVERY);
    runner
}
