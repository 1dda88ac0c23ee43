//! The whole stack: started in order, watched, and stopped in the reverse order.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use calendar::{Clock, SystemClock};
use portal::{App, Config, db};
use rustix::process::Signal;

use crate::{
    data_dir::DataDir,
    demo_api::DemoApi,
    gateway_credential,
    ports::Ports,
    postgres::Postgres,
    process::{self, Process},
    seed::{self, SeedReport},
};

/// How often a process that starts is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(20);
const READY_PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(30);
const NO_CLUSTER: &str = "the stack runs on a database of its own only where DATABASE_URL names none";

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder.
    pub data_dir: PathBuf,
    /// A server that runs elsewhere; without it, a private cluster is started.
    pub database_url: Option<String>,
    /// The ports to listen on.
    pub ports: Ports,
    /// Whether to fill an empty installation with the demo.
    pub demo: bool,
    /// The password of the demo accounts, and of the first operator.
    pub password: String,
    /// Whether to remove all data first.
    pub fresh: bool,
    /// Settings of the private cluster beside its own, such as `fsync=off` for tests that no power loss concerns.
    pub postgres_settings: &'static [&'static str],
}

/// Hears of each step, to show progress.
pub trait Progress {
    /// A step starts.
    fn started(&mut self, what: &str);
    /// The step that started last has ended; `note` says something about the result.
    fn done(&mut self, note: &str);
}

/// Shows nothing, for tests.
#[derive(Debug)]
pub struct Silent;

impl Progress for Silent {
    fn started(&mut self, _what: &str) {}
    fn done(&mut self, _note: &str) {}
}

/// A part that can be killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Pages, REST, gateway control and the worker.
    Portal,
    /// The data plane.
    Gateway,
    /// The private cluster.
    Postgres,
}

/// The running stack.
#[derive(Debug)]
pub struct Stack {
    postgres: Option<Postgres>,
    portal: Process,
    gateway: Process,
    demo_api: Option<DemoApi>,
    data: DataDir,
    /// The ports in use.
    pub ports: Ports,
    /// The database.
    pub database_url: String,
    /// What the demo consists of.
    pub seed: SeedReport,
}

impl Stack {
    /// Starts everything and waits until each part is ready. What was started is stopped again when a later part fails.
    pub async fn start(options: &Options, progress: &mut impl Progress) -> anyhow::Result<Self> {
        let data = DataDir::open(&options.data_dir)?;
        process::stop_orphans(data.root()).await?;
        let ports = options.ports.resolve()?;
        if options.fresh {
            data.wipe()?;
        }
        progress.started("Postgres");
        let postgres = match &options.database_url {
            Some(_) => None,
            None => Some(Postgres::start_with(&data, options.postgres_settings).await?),
        };
        let database_url = options.database_url.clone().or_else(|| postgres.as_ref().map(|postgres| postgres.url().to_owned()));
        let database_url = database_url.context("there is no database to connect to")?;
        progress.done(if postgres.is_some() { "private cluster" } else { "as DATABASE_URL names it" });
        match Self::start_on(options, data, ports, database_url, progress).await {
            Ok(stack) => Ok(Self { postgres, ..stack }),
            Err(error) => {
                if let Some(postgres) = postgres {
                    postgres.stop().await?;
                }
                Err(error)
            }
        }
    }

    async fn start_on(
        options: &Options,
        data: DataDir,
        ports: Ports,
        database_url: String,
        progress: &mut impl Progress,
    ) -> anyhow::Result<Self> {
        progress.started("Migrations");
        let environment = portal_environment(&database_url, ports);
        let config = Config::from_lookup(|name| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()))?;
        let pool = db::connect(&database_url, 8).await.context("cannot reach the database")?;
        db::migrate(&pool).await.context("cannot apply the migrations")?;
        let app = App::new(pool, Arc::new(SystemClock), config);
        progress.done("");

        let demo_api = if options.demo { Some(start_demo_api(ports, &app.clock)?) } else { None };
        progress.started(if options.demo { "Demo data" } else { "First operator" });
        let seed_options = seed::SeedOptions {
            demo: options.demo,
            demo_api: format!("http://127.0.0.1:{}", ports.demo_api),
            password: options.password.clone(),
        };
        let seed = seed::run(&app, &seed_options).await.context("cannot write the demo data")?;
        progress.done(if seed.created { "written" } else { "kept" });
        let credential = gateway_credential::ensure(&app, &data).await?;
        app.pool.close().await;

        progress.started("Portal");
        let portal = start_portal(&data, ports, &database_url).await?;
        progress.done("");

        progress.started("Gateway");
        let gateway = match start_gateway(&data, ports, &credential).await {
            Ok(gateway) => gateway,
            Err(error) => {
                portal.stop(Signal::TERM, STOP_PATIENCE).await?;
                return Err(error);
            }
        };
        progress.done("");
        Ok(Self { postgres: None, portal, gateway, demo_api, data, ports, database_url, seed })
    }

    /// Where people go.
    pub fn portal_url(&self) -> String {
        format!("http://localhost:{}", self.ports.portal)
    }

    /// Where API calls go.
    pub fn gateway_url(&self) -> String {
        format!("http://localhost:{}", self.ports.gateway)
    }

    /// Where the gateway's health and metrics are.
    pub fn gateway_admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.gateway_admin)
    }

    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }

    /// Where everything is kept.
    pub fn data_dir(&self) -> &Path {
        self.data.root()
    }

    /// The processes with their ids, for reports.
    pub fn process_ids(&mut self) -> Vec<(&'static str, u32)> {
        let mut ids: Vec<_> =
            [&self.portal, &self.gateway].into_iter().filter_map(|process| Some((process.name(), process.id()?))).collect();
        ids.extend(self.postgres.as_mut().and_then(|postgres| Some(("postgres", postgres.process().id()?))));
        ids
    }

    /// Kills a part as a crash would (`kill -9`), for stories of outages.
    pub async fn kill(&mut self, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Portal => self.portal.kill_now().await,
            Part::Gateway => self.gateway.kill_now().await,
            Part::Postgres => self.private_cluster()?.kill().await,
        }
    }

    /// Starts a part again that was killed, and waits until it is ready.
    pub async fn revive(&mut self, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Portal => self.portal = start_portal(&self.data, self.ports, &self.database_url).await?,
            Part::Gateway => {
                let credential = self.data.secret(gateway_credential::SECRET)?.context("the gateway has no credential")?;
                self.gateway = start_gateway(&self.data, self.ports, &credential).await?;
            }
            Part::Postgres => {
                let Some(postgres) = &mut self.postgres else { bail!(NO_CLUSTER) };
                postgres.revive(&self.data).await?;
            }
        }
        Ok(())
    }

    /// The private cluster, for what only it can do.
    pub fn private_cluster(&mut self) -> anyhow::Result<&mut Postgres> {
        self.postgres.as_mut().context(NO_CLUSTER)
    }

    /// Waits until a part ends by itself, which it should not; the error says which one and shows the end of its log.
    pub async fn failed(&mut self) -> anyhow::Error {
        let postgres = async {
            match &mut self.postgres {
                Some(postgres) => postgres.process().wait().await,
                None => std::future::pending().await,
            }
        };
        let (name, status) = tokio::select! {
            status = self.portal.wait() => (self.portal.name(), status),
            status = self.gateway.wait() => (self.gateway.name(), status),
            status = postgres => ("postgres", status),
        };
        let log = self.data.path("logs").join(format!("{name}.log"));
        match status {
            Ok(status) => anyhow::anyhow!("the {name} ended ({status}); its log is {}", log.display()),
            Err(error) => error.context(format!("cannot watch the {name}")),
        }
    }

    /// Stops everything: the gateway first, so that it ships its usage while the portal can still take it.
    pub async fn stop(self) -> anyhow::Result<()> {
        let gateway = self.gateway.stop(Signal::TERM, STOP_PATIENCE).await;
        let portal = self.portal.stop(Signal::TERM, STOP_PATIENCE).await;
        let demo_api = match self.demo_api {
            Some(demo_api) => demo_api.stop().await,
            None => Ok(()),
        };
        let postgres = match self.postgres {
            Some(postgres) => postgres.stop().await,
            None => Ok(()),
        };
        gateway.and(portal).and(demo_api).and(postgres)
    }
}

async fn start_portal(data: &DataDir, ports: Ports, database_url: &str) -> anyhow::Result<Process> {
    let mut command = Command::new(binary("portal")?);
    command.args(["serve", "--with-worker"]).envs(portal_environment(database_url, ports));
    ready_or_stopped(Process::spawn("portal", command, data.root())?, ports.portal).await
}

async fn start_gateway(data: &DataDir, ports: Ports, credential: &str) -> anyhow::Result<Process> {
    let mut command = Command::new(binary("metering-gateway")?);
    command.envs(gateway_environment(data, ports, credential));
    start_gateway_process(data, "gateway", ports, command).await
}

pub(crate) async fn start_gateway_process(data: &DataDir, name: &'static str, ports: Ports, command: Command) -> anyhow::Result<Process> {
    ready_or_stopped(Process::spawn(name, command, data.root())?, ports.gateway_admin).await
}

async fn ready_or_stopped(mut process: Process, port: u16) -> anyhow::Result<Process> {
    match wait_until_ready(&mut process, port).await {
        Ok(()) => Ok(process),
        Err(error) => {
            process.stop(Signal::TERM, STOP_PATIENCE).await?;
            Err(error)
        }
    }
}

fn start_demo_api(ports: Ports, clock: &Arc<dyn Clock>) -> anyhow::Result<DemoApi> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.demo_api));
    let listener = TcpListener::bind(addr).with_context(|| format!("cannot listen on {addr} for the demo APIs"))?;
    Ok(DemoApi::start(listener, clock.clone())?)
}

fn portal_environment(database_url: &str, ports: Ports) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", database_url.to_owned()),
        ("PORTAL_LISTEN", format!("127.0.0.1:{}", ports.portal)),
        ("PORTAL_PUBLIC_URL", format!("http://localhost:{}", ports.portal)),
        ("PORTAL_GATEWAY_URL", format!("http://localhost:{}", ports.gateway)),
        ("PORTAL_DEV_MAILBOX", "true".to_owned()),
    ]
}

pub(crate) fn gateway_environment(data: &DataDir, ports: Ports, credential: &str) -> Vec<(&'static str, String)> {
    vec![
        ("GATEWAY_LISTEN", format!("127.0.0.1:{}", ports.gateway)),
        ("GATEWAY_ADMIN_LISTEN", format!("127.0.0.1:{}", ports.gateway_admin)),
        ("GATEWAY_PORTAL_URL", format!("http://127.0.0.1:{}", ports.portal)),
        ("GATEWAY_CREDENTIAL", credential.to_owned()),
        ("GATEWAY_DATA_DIR", data.path("gateway").display().to_string()),
        // Everything shares one machine here, which may be busy: a first call rather waits for its lease than fails.
        ("GATEWAY_LEASE_WAIT", "1s".to_owned()),
        // A newcomer watches the usage page; sealing twice a second keeps the way from a call to an open page below two seconds.
        ("GATEWAY_JOURNAL_MAX_AGE", "500ms".to_owned()),
        // No balancer stands in front that had to notice a stop.
        ("GATEWAY_DRAIN_DELAY", "0s".to_owned()),
    ]
}

/// A binary of the workspace: beside the current one, or a folder up, where tests find it.
pub(crate) fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let current = std::env::current_exe().context("cannot tell where this program is")?;
    current
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("the program `{name}` was not found beside {}; build it with `cargo build --bins`", current.display()))
}

/// Asks `/readyz` until it says so, the process ends, or patience is over.
async fn wait_until_ready(process: &mut Process, port: u16) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
    let url = format!("http://127.0.0.1:{port}/readyz");
    let mut reason = String::from("it does not answer");
    let ready = async {
        let mut poll = tokio::time::interval(READY_POLL);
        loop {
            poll.tick().await;
            match client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => reason = answer.text().await.unwrap_or_default(),
                Err(_) => {}
            }
        }
    };
    let name = process.name();
    let outcome = tokio::select! {
        ready = tokio::time::timeout(READY_PATIENCE, ready) => Ok(ready.is_ok()),
        status = process.wait() => Err(status?),
    };
    match outcome {
        Ok(true) => Ok(()),
        Ok(false) => bail!("the {name} was not ready after {} s: {reason}\n{}", READY_PATIENCE.as_secs(), process.last_lines()),
        Err(status) => bail!("the {name} ended at start ({status}):\n{}", process.last_lines()),
    }
}
