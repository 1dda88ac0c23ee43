//! What others feel of an attack: a million wrong keys a minute, and one namespace as fast as it can.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use gateway_control::credential::CredentialKind;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{MissedTickBehavior, interval_at},
};

use crate::{
    load::{Load, request},
    open_loop::Latencies,
    peers,
    portal::MockPortal,
    process::{Cores, Process, in_turns},
    runs::{Bench, CONNECTIONS, PEERS, WARM_UP, median, say},
    windows::{Ratio, WINDOW, WINDOWS, Windows},
    world::{KEYS_PER_APPLICATION, World, credential},
};

/// Wrong keys in a second: a million in a minute.
const WRONG_KEYS: u64 = 16_667;
/// Connections that they come on.
const ATTACKERS: usize = 100;
/// What the others ask in a second meanwhile, each answer's time being measured, and on how many connections.
const OTHERS: f64 = 800.0;
const OTHERS_CONNECTIONS: usize = 16;
/// How much longer an attack lasts than what is measured of it: it begins before, and ends after.
const AROUND: Duration = Duration::from_secs(3);

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attack {
    /// Calls of the others in a second.
    pub others_per_second: f64,
    /// What they felt, proxy by proxy.
    pub felt: Vec<Felt>,
    /// Microseconds of the gateway's own time for each wrong key, the others' calls taken off.
    pub wrong_cpu_micros: f64,
    /// What the gateway's memory grew by with the first wave of wrong keys, in bytes.
    pub wrong_grown: u64,
}

/// What the others felt at one proxy: medians of windows, and how p99 compares with nothing else going on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Felt {
    /// The proxy.
    pub proxy: String,
    /// With nothing else going on.
    pub alone: Latencies,
    /// With wrong keys.
    pub with_wrong_keys: Latencies,
    /// Their p99 against nothing else.
    pub wrong_keys_ratio: Ratio,
    /// Wrong keys that were answered in a second, each with 401.
    pub wrong_per_second: f64,
    /// With a namespace that calls as fast as it can.
    pub with_blast: Latencies,
    /// Its p99 against nothing else.
    pub blast_ratio: Ratio,
    /// Its calls in a second, over all connections of a closed loop.
    pub blast_per_second: f64,
}

/// The windows of one proxy.
#[derive(Default)]
struct Felts {
    alone: Windows,
    with_wrong_keys: Windows,
    wrong_per_second: Vec<f64>,
    with_blast: Windows,
    blast_per_second: Vec<f64>,
}

/// Who attacks, and who is measured meanwhile.
struct Sides {
    attackers: Cores,
    others: Load,
    blast: Load,
}

impl Bench {
    /// Attacks HAProxy and a gateway, each on one core, and measures what other callers feel of it.
    ///
    /// # Errors
    /// When something does not start, one of the others is not served, or the attack does not reach its rate.
    pub fn attack(&self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let world = World { size: PEERS, upstream: upstream.address };
        let [attackers, listeners] = self.cores.two_loads();
        // The others are of one namespace, the blast of another one.
        let mut keys = world.keys();
        let others = Load::from_keys(&self.subfolder("others")?, keys.by_ref().take(KEYS_PER_APPLICATION), &listeners)?;
        let blast = Load::from_keys(&self.subfolder("blast")?, keys.take(KEYS_PER_APPLICATION), &attackers)?;
        let sides = Sides { attackers, others, blast };
        let haproxy = peers::haproxy(folder, &self.cores, &world)?;
        let portal = MockPortal::start(world)?;
        let gateway = self.gateway("gateway", &portal, &[])?;
        let proxies = [&haproxy, &gateway.process];
        for proxy in proxies {
            sides.others.closed_loop(proxy, CONNECTIONS, WARM_UP)?;
            sides.blast.closed_loop(proxy, CONNECTIONS, WARM_UP)?;
        }
        let (wrong_cpu_micros, wrong_grown) = sides.wrong_keys_cost(&gateway.process)?;
        let mut felts: Vec<Felts> = proxies.iter().map(|_| Felts::default()).collect();
        for _ in 0..WINDOWS {
            in_turns(&proxies, |number, proxy| sides.feel(proxy, &mut felts[number]))?;
        }
        let felt = felts.iter().zip(proxies).map(|(felts, proxy)| felts.felt(&proxy.name)).collect();
        let found = Attack { others_per_second: OTHERS, felt, wrong_cpu_micros, wrong_grown };
        say(&format!("{found:#?}"));
        self.keep("attack", &found)
    }
}

impl Sides {
    /// What the others feel.
    fn listen(&self, proxy: &Process) -> anyhow::Result<Latencies> {
        self.others.open_loop(proxy.address, OTHERS_CONNECTIONS, OTHERS, WINDOW)
    }

    /// What they feel while something else goes on, and what that gave.
    fn listen_during<T: Send>(
        &self,
        proxy: &Process,
        attack: impl FnOnce(Duration) -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<(Latencies, T)> {
        let wave = WINDOW + AROUND;
        std::thread::scope(|scope| {
            let attack = scope.spawn(move || attack(wave));
            let heard = self.listen(proxy);
            let given = attack.join().map_err(|_| anyhow::anyhow!("the attack panicked"))?;
            anyhow::Ok((heard?, given?))
        })
    }

    fn with_wrong_keys(&self, proxy: &Process) -> anyhow::Result<(Latencies, f64)> {
        self.listen_during(proxy, |wave| {
            self.attackers.keep_to_load()?;
            wrong_keys(proxy.address, wave)
        })
    }

    fn feel(&self, proxy: &Process, felts: &mut Felts) -> anyhow::Result<()> {
        felts.alone.push(self.listen(proxy)?);
        let (with_wrong_keys, per_second) = self.with_wrong_keys(proxy)?;
        felts.with_wrong_keys.push(with_wrong_keys);
        felts.wrong_per_second.push(per_second);
        let (with_blast, run) = self.listen_during(proxy, |wave| self.blast.closed_loop(proxy, CONNECTIONS, wave))?;
        felts.with_blast.push(with_blast);
        felts.blast_per_second.push(run.per_second);
        Ok(())
    }

    /// Microseconds of a proxy's own time for each wrong key, and what its memory grows by.
    fn wrong_keys_cost(&self, proxy: &Process) -> anyhow::Result<(f64, u64)> {
        let before = proxy.cpu();
        self.listen(proxy)?;
        let cpu_alone = proxy.cpu() - before;
        let (rss, before) = (proxy.rss(), proxy.cpu());
        let (_, per_second) = self.with_wrong_keys(proxy)?;
        let spent = (proxy.cpu() - before).saturating_sub(cpu_alone);
        let wrong = per_second * (WINDOW + AROUND).as_secs_f64();
        Ok((spent.as_secs_f64() * 1e6 / wrong, proxy.rss().saturating_sub(rss)))
    }
}

impl Felts {
    fn felt(&self, proxy: &str) -> Felt {
        Felt {
            proxy: proxy.into(),
            alone: self.alone.median(),
            with_wrong_keys: self.with_wrong_keys.median(),
            wrong_keys_ratio: self.with_wrong_keys.p99_against(&self.alone),
            wrong_per_second: median(&self.wrong_per_second, |rate| *rate),
            with_blast: self.with_blast.median(),
            blast_ratio: self.with_blast.p99_against(&self.alone),
            blast_per_second: median(&self.blast_per_second, |rate| *rate),
        }
    }
}

/// Asks with keys that are well-formed and unknown, each another one, at the rate. Returns how many were answered in a second.
///
/// # Errors
/// When one is answered with anything but 401, or the rate is not reached.
pub fn wrong_keys(address: SocketAddr, duration: Duration) -> anyhow::Result<f64> {
    let count = WRONG_KEYS as usize * duration.as_secs() as usize;
    // Made before the clock runs: their digests cost more than asking.
    let keys: Arc<Vec<String>> =
        Arc::new((0..count).map(|number| credential(CredentialKind::Live, 1_000_000_000 + number).reveal().to_owned()).collect());
    let answered = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = runtime.block_on(async {
        let started = Instant::now();
        let mut attackers = tokio::task::JoinSet::new();
        for number in 0..ATTACKERS {
            attackers.spawn(attacker(address, keys.clone(), number, duration, answered.clone()));
        }
        while let Some(ended) = attackers.join_next().await {
            ended.context("an attacker panicked")??;
        }
        anyhow::Ok(started.elapsed())
    })?;
    let per_second = answered.load(Relaxed) as f64 / took.as_secs_f64();
    if per_second < WRONG_KEYS as f64 * 0.95 {
        bail!("only {per_second:.0} wrong keys a second were answered, not {WRONG_KEYS}");
    }
    Ok(per_second)
}

/// One connection's part: a key at each tick, and its answer.
async fn attacker(
    address: SocketAddr,
    keys: Arc<Vec<String>>,
    number: usize,
    duration: Duration,
    answered: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let every = Duration::from_secs_f64(ATTACKERS as f64 / WRONG_KEYS as f64);
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let begin = tokio::time::Instant::now() + every.mul_f64(number as f64 / ATTACKERS as f64);
    let mut ticks = interval_at(begin, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut buffer = vec![0; 16 * 1024];
    let end = begin + duration;
    for key in keys.iter().skip(number).step_by(ATTACKERS) {
        ticks.tick().await;
        if tokio::time::Instant::now() >= end {
            break;
        }
        stream.write_all(request(key).as_bytes()).await?;
        refused(&mut stream, &mut buffer).await?;
        answered.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// Reads one answer, which must be 401.
async fn refused(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut read = 0;
    loop {
        let count = stream.read(&mut buffer[read..]).await?;
        read += count;
        let text = String::from_utf8_lossy(&buffer[..read]);
        if count == 0 || !"HTTP/1.1 401".starts_with(text.get(..12).unwrap_or(&text)) {
            bail!("a wrong key was not answered with 401: {text}");
        }
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if body.len() >= length.context("an answer without a length")? {
            return Ok(());
        }
    }
}
