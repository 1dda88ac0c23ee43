//! The process: settings, log, signals, and the gateway until it has drained.

use std::sync::Arc;

use calendar::SystemClock;
use metering_gateway::{Config, Listeners};

/// A call makes and frees some dozens of small objects on one thread, which this allocator does at about a third of the system's cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let config = Config::from_args();
    telemetry::log::init(config.log_format, &config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = telemetry::shutdown::on_signal()?;
        metering_gateway::run(config, Arc::new(SystemClock), Listeners::default(), shutdown, None).await
    })
}
