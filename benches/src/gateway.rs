//! The gateway under test: the release binary that stands beside this one, with nothing turned off.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use gateway_control::credential::CredentialKind;

use crate::{
    process::{Process, Start, free_address},
    world::credential,
};

/// How long the gateway may take to be ready: it fetches the whole policy.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// Its address for operators.
    pub admin: SocketAddr,
}

/// How to start it.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Its name in tables.
    pub name: &'a str,
    /// Where the portal is, or was.
    pub portal: SocketAddr,
    /// The cores it may use; one runtime each.
    pub cores: &'a [usize],
    /// The folder of its journal and its cached policy.
    pub data: &'a Path,
    /// Where its output goes.
    pub folder: &'a Path,
    /// More arguments.
    pub more: &'a [&'a str],
}

impl Gateway {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(settings: &Settings<'_>) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("metering-gateway");
        let (address, admin) = (free_address()?, free_address()?);
        let portal = format!("http://{}", settings.portal);
        let (listen, admin_listen, cores) = (address.to_string(), admin.to_string(), settings.cores.len().to_string());
        let data = settings.data.display().to_string();
        let own = credential(CredentialKind::Gateway, 0);
        let mut arguments = vec!["--listen", &listen, "--admin-listen", &admin_listen, "--portal-url", &portal, "--data-dir", &data];
        // The mock portal shares its cores with the load: its answer may take longer than a call waits by default.
        arguments.extend(["--credential", own.reveal(), "--cores", &cores, "--retain-acked", "1s", "--lease-wait", "1s"]);
        arguments.extend(settings.more);
        let start = Start { name: settings.name, address, cores: settings.cores, folder: settings.folder };
        let process = Process::start(&start, &binary, &arguments).context("build it with `cargo build --release -p metering-gateway`")?;
        Ok(Self { process, admin })
    }

    /// Waits until it is ready, and says how long that took.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub fn wait_until_ready(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        while !self.admin_get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if started.elapsed() > READY_WITHIN {
                bail!("the gateway is not ready: {}", self.admin_get("/readyz")?);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(started.elapsed())
    }

    /// A gauge of its metrics that has no labels.
    ///
    /// # Errors
    /// When there is none.
    pub fn gauge(&self, name: &str) -> anyhow::Result<f64> {
        let metrics = self.admin_get("/metrics")?;
        let value = metrics.lines().find_map(|line| line.split_once(' ').filter(|(found, _)| found.ends_with(name)));
        value.with_context(|| format!("there is no gauge {name}"))?.1.parse().with_context(|| format!("{name} is no number"))
    }

    fn admin_get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
