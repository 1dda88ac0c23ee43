//! The gateway at scale: start, memory, throughput and latency with a million keys, and while the policy changes.

use std::{
    fs,
    net::SocketAddr,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    attack::wrong_keys,
    gateway::{Gateway, Settings},
    load::Load,
    open_loop::Latencies,
    peers,
    portal::MockPortal,
    process::free_address,
    runs::{Bench, CONNECTIONS, WARM_UP, median, say},
    windows::{Ratio, WINDOW, WINDOWS, Windows},
    world::{Size, World},
};

/// The installation that is usual here.
const SMALL: Size = Size { keys: 10_000, routes: 10 };
/// The one that is large.
const LARGE: Size = Size { keys: 1_000_000, routes: 10_000 };
/// An installation of nothing, for the memory that a gateway takes without keys.
const EMPTY: Size = Size { keys: 10, routes: 10 };
/// How long keys are called one after the other.
const SWEEP: Duration = Duration::from_secs(10);
/// For how long the gateway may take to cache its policy.
const CACHED_WITHIN: Duration = Duration::from_secs(60);
/// Changes of policy in a second.
const CHANGES: u64 = 1_000;

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scale {
    /// Keys and routes of the large installation.
    pub keys: usize,
    /// Its routes.
    pub routes: usize,
    /// From the start of the process to the first answer, without a portal, in milliseconds.
    pub start_millis: u128,
    /// Resident memory without keys, after a start from the cache, in bytes.
    pub rss_empty: u64,
    /// With all keys.
    pub rss: u64,
    /// Keys that were then called once each, one after the other.
    pub swept_keys: usize,
    /// Requests a second of that.
    pub sweep_per_second: f64,
    /// Microseconds of processor time a request of that.
    pub sweep_cpu_micros: f64,
    /// Memory after that.
    pub rss_swept: u64,
    /// Requests a second with few keys.
    pub small_per_second: f64,
    /// The same calls, with all keys known.
    pub per_second: f64,
    /// Microseconds of processor time a request with few keys.
    pub small_cpu_micros: f64,
    /// With all keys.
    pub cpu_micros: f64,
    /// Latencies at half the rate, with a quiet policy.
    pub quiet: Latencies,
    /// The same while the policy changes.
    pub changing: Latencies,
    /// How p99 compares then.
    pub changing_ratio: Ratio,
    /// Changes that were made meanwhile.
    pub changes: u64,
}

impl Bench {
    /// A million keys and ten thousand routes.
    ///
    /// # Errors
    /// When something does not start or cannot be measured.
    pub fn scale(&self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let (_, rss_empty) = self.start_from_cache("empty", World { size: EMPTY, upstream: upstream.address })?;
        let world = World { size: LARGE, upstream: upstream.address };
        let (start, rss) = self.start_from_cache("large", world)?;
        say(&format!("start {start:?}, {rss_empty} bytes empty, {rss} bytes with {} keys", LARGE.keys));

        let small = World { size: SMALL, ..world };
        let small_load = Load::new(&self.subfolder("small-load")?, &small, &self.cores)?;
        let small_portal = MockPortal::start(small)?;
        let small_gateway = self.gateway("small", &small_portal, &[])?;
        let sweep = Load::new(&self.subfolder("large-load")?, &world, &self.cores)?;
        // The first keys of both installations are the same, so the same calls can be made to both.
        let load = &small_load;
        let portal = MockPortal::start(world)?;
        let gateway = self.gateway("large", &portal, &[])?;
        load.closed_loop(&small_gateway.process, CONNECTIONS, WARM_UP)?;
        load.closed_loop(&gateway.process, CONNECTIONS, WARM_UP)?;
        let (mut with_few, mut with_all) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            with_few.push(load.closed_loop(&small_gateway.process, CONNECTIONS, self.duration)?);
            with_all.push(load.closed_loop(&gateway.process, CONNECTIONS, self.duration)?);
        }
        drop(small_gateway);
        let swept = sweep.closed_loop(&gateway.process, CONNECTIONS, SWEEP)?;
        let rss_swept = gateway.process.rss();
        let per_second = median(&with_all, |run| run.per_second);
        let rate = per_second / 2.0;
        let (mut quiet, mut changing) = (Windows::default(), Windows::default());
        let before = portal.state.changed.load(Relaxed);
        for _ in 0..WINDOWS {
            quiet.push(load.open_loop(gateway.process.address, CONNECTIONS, rate, WINDOW)?);
            portal.state.changes_per_second.store(CHANGES, Relaxed);
            changing.push(load.open_loop(gateway.process.address, CONNECTIONS, rate, WINDOW)?);
            portal.state.changes_per_second.store(0, Relaxed);
        }
        let found = Scale {
            keys: LARGE.keys,
            routes: LARGE.routes,
            start_millis: start.as_millis(),
            rss_empty,
            rss,
            swept_keys: ((swept.per_second * SWEEP.as_secs_f64()) as usize).min(LARGE.keys),
            sweep_per_second: swept.per_second,
            sweep_cpu_micros: swept.cpu_micros,
            rss_swept,
            small_per_second: median(&with_few, |run| run.per_second),
            per_second,
            small_cpu_micros: median(&with_few, |run| run.cpu_micros),
            cpu_micros: median(&with_all, |run| run.cpu_micros),
            quiet: quiet.median(),
            changing: changing.median(),
            changing_ratio: changing.p99_against(&quiet),
            changes: portal.state.changed.load(Relaxed) - before,
        };
        say(&format!("{found:#?}"));
        self.keep("scale", &found)
    }

    /// Lets a gateway cache the policy, then starts another from it without a portal: how long until it serves, and what memory it takes.
    fn start_from_cache(&self, name: &str, world: World) -> anyhow::Result<(Duration, u64)> {
        let portal = MockPortal::start(world)?;
        let data = self.folder.path().join(format!("data-{name}"));
        let gateway = self.gateway(name, &portal, &[])?;
        let started = Instant::now();
        // It is written beside and renamed, so it is whole once it is there.
        while !fs::exists(data.join("policy.v2"))? {
            anyhow::ensure!(started.elapsed() < CACHED_WITHIN, "the policy is not cached within {CACHED_WITHIN:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        say(&format!("{name}: cached {:?} after the gateway was ready", started.elapsed()));
        // Dropped, it is killed.
        drop(gateway);
        let nobody: SocketAddr = free_address()?;
        let settings =
            Settings { name: "restarted", portal: nobody, cores: &[self.cores.proxy], data: &data, folder: self.folder.path(), more: &[] };
        let started = Instant::now();
        let gateway = Gateway::start(&settings)?;
        gateway.wait_until_ready()?;
        let took = started.elapsed();
        // What loading needed for a moment goes back to the system when the process works again: the allocator looks at it then.
        wrong_keys(gateway.process.address, Duration::from_secs(3))?;
        Ok((took, gateway.process.rss()))
    }
}
