//! `tollkeeper with-postgres -- command`: what tests and the query check run under.

use std::process::ExitCode;

use anyhow::Context;
use devstack::{data_dir::DataDir, postgres::Postgres};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Apply the migrations first
    #[arg(long)]
    migrate: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Below a folder that the account of a server started by root may pass through.
    let folder = tempfile::Builder::new().prefix("tollkeeper-").tempdir_in("/tmp").context("cannot create a temporary folder")?;
    let data = DataDir::open(folder.path())?;
    let postgres = Postgres::start_with(&data, &["fsync=off", "synchronous_commit=off", "full_page_writes=off"]).await?;
    if arguments.migrate {
        devstack::migrate(postgres.url()).await?;
    }
    let status = tokio::process::Command::new(&arguments.command[0])
        .args(&arguments.command[1..])
        .env("DATABASE_URL", postgres.url())
        .status()
        .await
        .with_context(|| format!("cannot run {}", arguments.command[0]));
    postgres.stop().await?;
    Ok(status?.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
