//! `tollkeeper up`: the whole product on this machine.

use std::{fs::File, io::IsTerminal, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, bail};
use devstack::{
    data_dir,
    ports::Ports,
    stack::{Options, Progress, Stack},
};
use telemetry::shutdown;
use tracing_subscriber::EnvFilter;

use crate::terminal::{self, Step, bold, dim};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where everything is kept [default: a folder of your user]
    #[arg(long, env = "TOLLKEEPER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Remove all data first, after asking
    #[arg(long)]
    fresh: bool,
    /// Do not ask before --fresh removes data
    #[arg(long, requires = "fresh")]
    yes: bool,
    /// Start empty: no demo APIs, tenants or usage
    #[arg(long)]
    no_demo: bool,
    /// A Postgres that runs elsewhere; without it, a private one is started
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Port of the portal
    #[arg(long, env = "TOLLKEEPER_PORTAL_PORT", default_value_t = Ports::default().portal)]
    portal_port: u16,
    /// Port of the gateway, where API calls go
    #[arg(long, env = "TOLLKEEPER_GATEWAY_PORT", default_value_t = Ports::default().gateway)]
    gateway_port: u16,
    /// Port of the gateway's health and metrics
    #[arg(long, env = "TOLLKEEPER_GATEWAY_ADMIN_PORT", default_value_t = Ports::default().gateway_admin)]
    gateway_admin_port: u16,
    /// Port of the demo APIs
    #[arg(long, env = "TOLLKEEPER_DEMO_PORT", default_value_t = Ports::default().demo_api)]
    demo_port: u16,
    /// Password of the demo accounts, and of the first operator
    #[arg(long, env = "TOLLKEEPER_PASSWORD", hide_env_values = true, default_value = "tollkeeper-demo")]
    password: String,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let options = options(&arguments)?;
    if options.fresh && !confirm_fresh(&arguments, &options)? {
        terminal::line("Nothing was removed.");
        return Ok(ExitCode::FAILURE);
    }
    log_to_file(&options)?;
    let stop = shutdown::on_signal()?;
    terminal::line(format!("{} starts; data lies in {}", bold("Tollkeeper"), options.data_dir.display()));
    let mut steps = Steps(None);
    let start = Stack::start(&options, &mut steps);
    // A start that is interrupted is left to finish, so that there is a whole stack to stop.
    let mut stack = match start.await {
        Ok(stack) => stack,
        Err(error) => {
            steps.fail();
            return Err(error);
        }
    };
    terminal::line(summary(&stack, &options, started));
    let failure = tokio::select! {
        () = stop.cancelled() => None,
        error = stack.failed() => Some(error),
    };
    if let Some(error) = &failure {
        terminal::failure(error);
    }
    terminal::line("\nStopping: finishing open calls and shipping usage ...");
    let stopped = stack.stop().await;
    match (failure, stopped) {
        (None, Ok(())) => {
            terminal::line("Stopped. All data is kept.");
            Ok(ExitCode::SUCCESS)
        }
        (Some(_), _) => Ok(ExitCode::FAILURE),
        (None, Err(error)) => Err(error),
    }
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    let data_dir = arguments.data_dir.clone().map_or_else(data_dir::default_path, Ok)?;
    let database_url = arguments.database_url.clone().filter(|url| !url.is_empty());
    if arguments.fresh && database_url.is_some() {
        bail!("--fresh removes the private database only; empty the one that DATABASE_URL names yourself, or unset DATABASE_URL");
    }
    if arguments.password.chars().count() < 10 {
        bail!("--password must have at least 10 characters");
    }
    Ok(Options {
        data_dir: std::path::absolute(data_dir)?,
        database_url,
        ports: Ports {
            portal: arguments.portal_port,
            gateway: arguments.gateway_port,
            gateway_admin: arguments.gateway_admin_port,
            demo_api: arguments.demo_port,
        },
        demo: !arguments.no_demo,
        password: arguments.password.clone(),
        fresh: arguments.fresh,
        postgres_settings: &[],
    })
}

fn confirm_fresh(arguments: &Arguments, options: &Options) -> anyhow::Result<bool> {
    if arguments.yes || !options.data_dir.join("postgres").exists() {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("--fresh removes {}; add --yes to confirm where nobody can be asked", options.data_dir.display());
    }
    Ok(terminal::confirm(&format!("This removes every account, key and usage record in {}.", options.data_dir.display()))?)
}

/// The log of this process goes beside the others; the terminal shows only what matters.
fn log_to_file(options: &Options) -> anyhow::Result<()> {
    let folder = options.data_dir.join("logs");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}; choose another folder with --data-dir", folder.display()))?;
    let file = File::options().create(true).append(true).open(folder.join("tollkeeper.log"))?;
    tracing_subscriber::fmt().with_ansi(false).with_env_filter(EnvFilter::new("info,sqlx=warn")).with_writer(file).init();
    Ok(())
}

struct Steps(Option<Step>);

impl Steps {
    fn fail(&mut self) {
        if let Some(step) = self.0.take() {
            step.failed();
        }
    }
}

impl Progress for Steps {
    fn started(&mut self, what: &str) {
        self.0 = Some(terminal::step(what));
    }

    fn done(&mut self, note: &str) {
        if let Some(step) = self.0.take() {
            step.done(note);
        }
    }
}

fn summary(stack: &Stack, options: &Options, started: Instant) -> String {
    let mut lines = vec![
        format!("\n{} in {}\n", bold("Ready"), terminal::short(started.elapsed())),
        format!("  Portal     {}", bold(stack.portal_url())),
        format!("  Gateway    {}", stack.gateway_url()),
        String::new(),
    ];
    for login in &stack.seed.logins {
        lines.push(format!("  {:<10} {}  password {}", login.role, bold(&login.email), options.password));
    }
    lines.push(format!(
        "  {:<10} sign up at {}/sign-up; its mail arrives at {}/dev/mailbox",
        "Newcomer",
        stack.portal_url(),
        stack.portal_url()
    ));
    if let Some(key) = &stack.seed.key {
        lines.push("\n  A call through the gateway, and where its usage shows within two seconds:\n".to_owned());
        lines.push(format!("    curl '{}/weather/v1/forecast?city=oslo' -H 'x-api-key: {key}'", stack.gateway_url()));
        lines.push(format!("    {}/usage", stack.portal_url()));
    }
    lines.push(format!("\n  Data and logs  {}", dim(stack.data_dir().display())));
    lines.push(format!("  Stop           {}", dim("Ctrl-C; a second start keeps everything")));
    lines.join("\n")
}
