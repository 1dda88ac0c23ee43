//! The portal's command line.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use calendar::SystemClock;
use clap::{Parser, Subcommand, ValueEnum};
use portal::{
    App, Config, db,
    identity::{
        Actor,
        user::{self, NewUser},
    },
    random, server,
};
use telemetry::log::{self, LogFormat};
use tokio::net::TcpListener;

/// The control plane of Tollkeeper. Settings come from the environment; see docs/OPERATIONS.md.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What is logged, as a `tracing` filter
    #[arg(long, env = "PORTAL_LOG", default_value = "info,sqlx=warn", global = true)]
    log: String,
    /// How the log looks: text or json
    #[arg(long, env = "PORTAL_LOG_FORMAT", default_value = "text", global = true)]
    log_format: LogFormat,
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
    /// Make a person of the platform team, and print the password once
    Operator {
        /// The person's address
        #[arg(long)]
        email: String,
        /// The person's name
        #[arg(long, default_value = "Operator")]
        name: String,
    },
    /// Print an OpenAPI document
    Openapi {
        /// Of which calls
        #[arg(value_enum, default_value_t = Contract::Portal)]
        contract: Contract,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Contract {
    /// The REST API
    Portal,
    /// What gateways and the portal say to each other
    GatewayControl,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
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

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Command::Openapi { contract } = arguments.command {
        let document = match contract {
            Contract::Portal => portal::api::openapi_json()?,
            Contract::GatewayControl => portal::control::openapi_json()?,
        };
        #[allow(clippy::print_stdout, reason = "the document is what the command is for")]
        {
            println!("{document}");
        }
        return Ok(());
    }
    log::init(arguments.log_format, &arguments.log)?;
    let config = Config::from_env()?;
    let pool = db::connect(&config.database_url, config.database_connections).await.context("cannot reach Postgres at DATABASE_URL")?;
    if let Command::Migrate = arguments.command {
        return Ok(db::migrate(&pool).await?);
    }
    let listen = config.listen;
    if let Command::Operator { email, name } = arguments.command {
        return make_operator(&App::new(pool, Arc::new(SystemClock), config), email, name).await;
    }
    let app = App { shutdown: telemetry::shutdown::on_signal()?, ..App::new(pool, Arc::new(SystemClock), config) };
    if let Command::Serve { with_worker } = arguments.command {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen} (PORTAL_LISTEN)"))?;
        let parts = if with_worker { server::Parts::ServeAndWork } else { server::Parts::Serve };
        server::serve(app, listener, parts).await?;
    } else {
        portal::worker::run(app.clone(), app.shutdown.clone()).await?;
    }
    Ok(())
}

/// Makes an operator whose address counts as verified: whoever may run this command has proven more than a mail would.
async fn make_operator(app: &App, email: String, name: String) -> anyhow::Result<()> {
    let (password, _) = random::token()?;
    let mut tx = app.begin().await?;
    let input = NewUser { email, name, password: password.clone(), is_operator: true };
    let user = user::create(&mut tx, &Actor::system(), input, app.now()).await.map_err(named_fields)?;
    app.commit(tx).await?;
    #[allow(clippy::print_stdout, reason = "the password is shown this once")]
    {
        println!("Operator {} was made. Password, shown this once: {password}", user.email);
    }
    Ok(())
}

/// An error of the input as one line for the terminal.
fn named_fields(error: portal::error::Error) -> anyhow::Error {
    let fields: Vec<String> = error.fields.iter().map(|field| format!("--{}: {}", field.field, field.message)).collect();
    if fields.is_empty() { error.into() } else { anyhow::anyhow!(fields.join("; ")) }
}
