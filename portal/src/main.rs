//! The portal's command line.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use calendar::SystemClock;
use clap::{Parser, Subcommand};
use portal::{App, Config, db, server};
use tokio::{net::TcpListener, signal::unix};

/// The control plane of Tollkeeper. Settings come from the environment; see docs/OPERATIONS.md.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve pages, REST and gateways
    Serve {
        /// Run the jobs in this process too, for installations without a separate worker
        #[arg(long, env = "PORTAL_WITH_WORKER")]
        with_worker: bool,
    },
    /// Run jobs: mails, closing periods, partitions
    Worker,
    /// Apply the migrations that the database lacks
    Migrate,
    /// Print the OpenAPI document of the REST API
    Openapi,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the last words of the process")]
            {
                eprintln!("portal: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    if let Command::Openapi = command {
        #[allow(clippy::print_stdout, reason = "the document is what the command is for")]
        {
            println!("{}", portal::api::openapi_json()?);
        }
        return Ok(());
    }
    let config = Config::from_env()?;
    let pool = db::connect(&config.database_url, config.database_connections).await.context("cannot reach Postgres at DATABASE_URL")?;
    let listen = config.listen;
    match command {
        Command::Migrate => return Ok(db::migrate(&pool).await?),
        Command::Serve { with_worker } => {
            let app = App::new(pool, Arc::new(SystemClock), config);
            stop_on_signal(&app)?;
            let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen} (PORTAL_LISTEN)"))?;
            let parts = if with_worker { server::Parts::ServeAndWork } else { server::Parts::Serve };
            server::serve(app, listener, parts).await?;
        }
        Command::Worker => {
            let app = App::new(pool, Arc::new(SystemClock), config);
            stop_on_signal(&app)?;
            portal::worker::run(app.clone(), app.shutdown.clone()).await?;
        }
        Command::Openapi => {}
    }
    Ok(())
}

/// SIGTERM and SIGINT stop the process in an orderly way.
fn stop_on_signal(app: &App) -> anyhow::Result<()> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;
    let shutdown = app.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}
