//! The measurements. Each writes what it found into a file of the results' folder, from which the report is made.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    gateway::{Gateway, Settings},
    load::{Load, Run},
    open_loop::Latencies,
    peers,
    portal::MockPortal,
    process::{Cores, Process, in_turns},
    windows::{Ratio, WINDOW, WINDOWS, Windows},
    world::{Size, World},
};

/// How long a proxy is called before each run that counts, so that the run finds it as it is in use and not as it is after a rest: leases of subscriptions
/// that rest go back to the ledger, connections to the upstream close.
pub const WARM_UP: Duration = Duration::from_secs(2);
/// Connections of a run in a closed loop.
pub const CONNECTIONS: usize = 64;
/// The peers' installation.
pub const PEERS: Size = Size { keys: 10_000, routes: 10 };

/// Where and how measurements are made.
#[derive(Debug)]
pub struct Bench {
    /// How long one takes.
    pub duration: Duration,
    /// How often it is repeated.
    pub rounds: usize,
    /// Where results go.
    pub results: PathBuf,
    /// Which core does what.
    pub cores: Cores,
    /// Configurations, keys, logs and journals; removed at the end.
    pub folder: TempDir,
}

/// The row of a proxy in the table of peers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    /// The proxy.
    pub name: String,
    /// Medians of the rounds.
    pub per_second: f64,
    /// Microseconds of its own time a request.
    pub cpu_micros: f64,
    /// How much of its core it used.
    pub busy: f64,
    /// Calls that were not answered with 2xx, over all rounds.
    pub errors: u64,
    /// At the fixed rate, of each figure the median of the windows.
    pub latencies: Latencies,
    /// How p99 and p99.9 compare with HAProxy's, window by window.
    pub p99: Ratio,
    /// The same for p99.9.
    pub p999: Ratio,
}

/// The table of peers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Peers {
    /// Cores of the machine.
    pub cores: usize,
    /// Requests a second of the open loop.
    pub rate: f64,
    /// The proxies.
    pub rows: Vec<Peer>,
}

impl Bench {
    /// Keeps the load to its cores.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn new(duration: Duration, rounds: usize, results: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(results)?;
        let cores = Cores::divide();
        cores.keep_to_load()?;
        let folder = TempDir::new()?;
        Ok(Self { duration, rounds, results: results.to_owned(), cores, folder })
    }

    /// Keeps what a measurement found.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(&self, name: &str, found: &impl Serialize) -> anyhow::Result<()> {
        let path = self.results.join(name).with_extension("json");
        fs::write(&path, serde_json::to_string_pretty(found)?).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A gateway on the proxy's core, with its portal.
    pub fn gateway(&self, name: &str, portal: &MockPortal, more: &[&str]) -> anyhow::Result<Gateway> {
        let data = self.folder.path().join(format!("data-{name}"));
        let settings = Settings { name, portal: portal.address, cores: &[self.cores.proxy], data: &data, folder: self.folder.path(), more };
        let gateway = Gateway::start(&settings)?;
        gateway.wait_until_ready()?;
        Ok(gateway)
    }

    /// A folder of its own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn subfolder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// One proxy job on each peer.
    ///
    /// # Errors
    /// When one does not start or cannot be measured.
    pub fn peers(&self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let world = World { size: PEERS, upstream: upstream.address };
        let load = Load::new(folder, &world, &self.cores)?;
        let portal = MockPortal::start(world)?;
        let gateway = self.gateway("gateway", &portal, &[])?;
        let mut proxies = vec![
            peers::relay(folder, &self.cores, upstream.address)?,
            peers::haproxy(folder, &self.cores, &world)?,
            peers::nginx(folder, &self.cores, &world)?,
        ];
        if let Some(binary) = envoy() {
            proxies.push(peers::envoy(&binary, folder, &self.cores, &world)?);
        }
        proxies.push(gateway.process);
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); proxies.len()];
        let all: Vec<&Process> = proxies.iter().collect();
        for _ in 0..self.rounds {
            in_turns(&all, |number, proxy| {
                load.closed_loop(proxy, CONNECTIONS, WARM_UP)?;
                runs[number].push(load.closed_loop(proxy, CONNECTIONS, self.duration)?);
                Ok(())
            })?;
        }
        let haproxy = proxies.iter().position(|proxy| proxy.name == "haproxy").context("haproxy is a peer")?;
        let rate = median(&runs[haproxy], |run| run.per_second) / 2.0;
        let mut windows: Vec<Windows> = proxies.iter().map(|_| Windows::default()).collect();
        // Proxies differ by less than what the machine's neighbours do to a window.
        for _ in 0..2 * WINDOWS {
            in_turns(&all, |number, proxy| {
                windows[number].push(load.open_loop(proxy.address, CONNECTIONS, rate, WINDOW)?);
                Ok(())
            })?;
        }
        let row = |(number, proxy): (usize, &Process)| row(proxy, &runs[number], &windows[number], &windows[haproxy]);
        let rows: Vec<Peer> = proxies.iter().enumerate().map(row).collect();
        for row in &rows {
            say(&format!("{row:?}"));
        }
        self.keep("peers", &Peers { cores: self.cores.count, rate, rows })
    }

    /// Waits with a gateway for profilers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve(&self, keys: usize) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let world = World { size: Size { keys, ..PEERS }, upstream: upstream.address };
        let load = Load::new(folder, &world, &self.cores)?;
        let portal = MockPortal::start(world)?;
        let gateway = self.gateway("gateway", &portal, &[])?;
        say(&format!("portal http://{}, gateway http://{}, keys in {}", portal.address, gateway.process.address, folder.display()));
        loop {
            let run = load.closed_loop(&gateway.process, CONNECTIONS, self.duration)?;
            say(&format!("{:.0}/s, {:.2} us of processor time a request, {} errors", run.per_second, run.cpu_micros, run.errors));
        }
    }
}

/// The Envoy to run, where `ENVOY` names one.
#[allow(clippy::disallowed_methods, reason = "the one setting of a tool that is not part of the product")]
fn envoy() -> Option<PathBuf> {
    std::env::var_os("ENVOY").map(PathBuf::from)
}

/// The median of a figure over runs.
pub fn median<T>(runs: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(proxy: &Process, runs: &[Run], windows: &Windows, of_haproxy: &Windows) -> Peer {
    Peer {
        name: proxy.name.clone(),
        per_second: median(runs, |run| run.per_second),
        cpu_micros: median(runs, |run| run.cpu_micros),
        busy: median(runs, |run| run.busy),
        errors: runs.iter().map(|run| run.errors).sum(),
        latencies: windows.median(),
        p99: windows.p99_against(of_haproxy),
        p999: windows.p999_against(of_haproxy),
    }
}

/// Says how far it is.
#[allow(clippy::print_stderr, reason = "a tool for the command line")]
pub fn say(text: &str) {
    eprintln!("{text}");
}
