//! `with-postgres [--migrate] -- command`: runs a command with `DATABASE_URL` naming a private, empty Postgres that is removed afterwards. Tests run
//! under it, and the check of the queries.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use local_postgres::{
    data_dir::{self, DataDir},
    postgres::Postgres,
};
use sqlx::{Connection, PgConnection, migrate::Migrator};

/// Run a command with DATABASE_URL naming a private, empty Postgres that is removed afterwards
#[derive(Debug, Parser)]
struct Arguments {
    /// Apply the migrations of this folder first
    #[arg(long, value_name = "FOLDER")]
    migrate: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the last words of the process")]
            {
                eprintln!("with-postgres: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let folder = data_dir::temporary("tollkeeper-")?;
    let data = DataDir::open(folder.path())?;
    let postgres = Postgres::start_with(&data, &["fsync=off", "synchronous_commit=off", "full_page_writes=off"]).await?;
    let outcome = run_command(&arguments, postgres.url()).await;
    postgres.stop().await?;
    outcome
}

async fn run_command(arguments: &Arguments, url: &str) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &arguments.migrate {
        let migrator = Migrator::new(folder.as_path()).await.context("cannot read the migrations")?;
        let mut connection = PgConnection::connect(url).await?;
        migrator.run(&mut connection).await.context("cannot apply the migrations")?;
    }
    let (program, rest) = arguments.command.split_first().context("a command is needed")?;
    let status = tokio::process::Command::new(program)
        .args(rest)
        .env("DATABASE_URL", url)
        .status()
        .await
        .with_context(|| format!("cannot run {program}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
