//! The `tollkeeper` command.

mod terminal;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tollkeeper: sell and share APIs, with exact metering.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole product on this machine: database, portal, gateway and demo APIs
    Up(up::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Up(arguments) => up::run(arguments).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            terminal::failure(&error);
            ExitCode::FAILURE
        }
    }
}
