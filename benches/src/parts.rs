//! What parts of the gateway cost: the journal, one hot key over all cores, idle connections.

use std::{net::TcpStream, sync::atomic::Ordering::Relaxed, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    gateway::{Gateway, Settings},
    load::Load,
    peers,
    portal::MockPortal,
    process::Process,
    runs::{Bench, CONNECTIONS, PEERS, WARM_UP, median, say},
    world::World,
};

/// What was found of the hot key.
#[derive(Debug, Serialize, Deserialize)]
pub struct HotKey {
    /// Cores that served.
    pub cores: usize,
    /// Requests a second with all keys.
    pub spread_per_second: f64,
    /// With one key.
    pub hot_per_second: f64,
    /// Microseconds of processor time a request with all keys.
    pub spread_cpu_micros: f64,
    /// With one key.
    pub hot_cpu_micros: f64,
}

/// What the journal costs.
#[derive(Debug, Serialize, Deserialize)]
pub struct JournalCost {
    /// Microseconds of processor time a request: everything on.
    pub on_cpu_micros: f64,
    /// With a journal that is full, so that calls are served without records.
    pub off_cpu_micros: f64,
    /// Requests a second: everything on.
    pub on_per_second: f64,
    /// With a journal that is full.
    pub off_per_second: f64,
    /// Records that had not been shipped after a while at its most, and how many calls it had been answering in a second.
    pub unshipped_records: f64,
    /// That rate.
    pub long_per_second: f64,
}

/// For how long a gateway serves all it can, to see whether shipping keeps up.
const LONG: Duration = Duration::from_secs(60);

/// Memory of idle connections.
#[derive(Debug, Serialize, Deserialize)]
pub struct Idle {
    /// How many there were.
    pub connections: usize,
    /// Bytes each, by proxy.
    pub rows: Vec<(String, u64)>,
}

impl Bench {
    /// One key that everybody uses, on a gateway with a core for each of the machine's.
    ///
    /// # Errors
    /// When something does not start or cannot be measured.
    pub fn hot_key(&self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let world = World { size: PEERS, upstream: upstream.address };
        let load = Load::new(folder, &world, &self.cores)?;
        let hot = Load::from_keys(&self.subfolder("hot")?, world.keys().take(1), &self.cores)?;
        let portal = MockPortal::start(world)?;
        let cores: Vec<usize> = (0..self.cores.count).collect();
        let data = folder.join("data-wide");
        let settings = Settings { name: "wide", portal: portal.address, cores: &cores, data: &data, folder, more: &[] };
        let gateway = Gateway::start(&settings)?;
        gateway.wait_until_ready()?;
        load.closed_loop(&gateway.process, CONNECTIONS, WARM_UP)?;
        let (mut spread, mut one) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            spread.push(load.closed_loop(&gateway.process, CONNECTIONS, self.duration)?);
            one.push(hot.closed_loop(&gateway.process, CONNECTIONS, self.duration)?);
        }
        let found = HotKey {
            cores: cores.len(),
            spread_per_second: median(&spread, |run| run.per_second),
            hot_per_second: median(&one, |run| run.per_second),
            spread_cpu_micros: median(&spread, |run| run.cpu_micros),
            hot_cpu_micros: median(&one, |run| run.cpu_micros),
        };
        say(&format!("{found:#?}"));
        self.keep("hot-key", &found)
    }

    /// Everything on, and beside it the same gateway with a journal that is full: no records, no segments, nothing to ship.
    ///
    /// # Errors
    /// When something does not start or cannot be measured.
    pub fn journal(&self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let world = World { size: PEERS, upstream: upstream.address };
        let load = Load::new(folder, &world, &self.cores)?;
        let (portal, silent) = (MockPortal::start(world)?, MockPortal::start(world)?);
        silent.state.refuses_usage.store(true, Relaxed);
        let full = ["--on-full", "serve_unbilled", "--segment-size-bytes", "65536", "--disk-bound-bytes", "1048576"];
        let (on, off) = (self.gateway("on", &portal, &[])?, self.gateway("off", &silent, &full)?);
        for gateway in [&on, &off] {
            load.closed_loop(&gateway.process, CONNECTIONS, WARM_UP)?;
        }
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            with.push(load.closed_loop(&on.process, CONNECTIONS, self.duration)?);
            without.push(load.closed_loop(&off.process, CONNECTIONS, self.duration)?);
        }
        let long = load.closed_loop(&on.process, CONNECTIONS, LONG)?;
        let unshipped_records = on.gauge("journal_unshipped_records")?;
        let found = JournalCost {
            on_cpu_micros: median(&with, |run| run.cpu_micros),
            off_cpu_micros: median(&without, |run| run.cpu_micros),
            on_per_second: median(&with, |run| run.per_second),
            off_per_second: median(&without, |run| run.per_second),
            unshipped_records,
            long_per_second: long.per_second,
        };
        say(&format!("{found:#?}"));
        self.keep("journal", &found)
    }

    /// Memory of connections on which nothing happens, after one call on each.
    ///
    /// # Errors
    /// When something does not start or cannot be measured.
    pub fn idle(&self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let world = World { size: PEERS, upstream: upstream.address };
        let key = world.keys().next().context("there is a key")?;
        let portal = MockPortal::start(world)?;
        let gateway = self.gateway("gateway", &portal, &[])?;
        let proxies = [peers::haproxy(folder, &self.cores, &world)?, gateway.process];
        // HAProxy takes two files a connection and refuses more than that: with few files there are fewer connections.
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = usize::try_from(files / 2).unwrap_or(usize::MAX).min(10_000).min(peers::MAX_CONNECTIONS - 100);
        let mut rows = Vec::new();
        for proxy in &proxies {
            rows.push((proxy.name.clone(), idle_bytes(proxy, &key, connections)?));
        }
        let found = Idle { connections, rows };
        say(&format!("{found:#?}"));
        self.keep("idle", &found)
    }
}

/// Memory that each idle connection takes.
fn idle_bytes(proxy: &Process, key: &str, connections: usize) -> anyhow::Result<u64> {
    let open = |count: usize| -> anyhow::Result<Vec<TcpStream>> {
        (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect(proxy.address)?;
                crate::load::call_once(&mut stream, key)?;
                Ok(stream)
            })
            .collect()
    };
    // What the first connections make stays for the later ones.
    let warm = open(100)?;
    let before = proxy.rss();
    let idle = open(connections)?;
    std::thread::sleep(Duration::from_secs(2));
    let after = proxy.rss();
    drop((warm, idle));
    Ok(after.saturating_sub(before) / connections as u64)
}
