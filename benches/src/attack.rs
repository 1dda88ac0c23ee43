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
    load::{Latencies, Load},
    peers,
    portal::MockPortal,
    runs::{Bench, CONNECTIONS, PEERS, say},
    world::{KEYS_PER_APPLICATION, PATH, World, credential},
};

/// Wrong keys in a second: a million in a minute.
const WRONG_KEYS: u64 = 16_667;
/// Connections that they come on.
const ATTACKERS: usize = 100;
/// What the others ask in a second meanwhile, each answer's time being measured, and on how many connections.
const OTHERS: u64 = 800;
const OTHERS_CONNECTIONS: usize = 16;

/// What was found. Latencies are those of the others.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attack {
    /// Calls of the others in a second.
    pub others_per_second: u64,
    /// Nobody else calls.
    pub alone: Latencies,
    /// Wrong keys that were answered in a second, each with 401.
    pub wrong_per_second: f64,
    /// With wrong keys.
    pub with_wrong_keys: Latencies,
    /// Microseconds of the gateway's own time for each wrong key, the others' calls taken off.
    pub wrong_cpu_micros: f64,
    /// What the gateway's memory grew by, in bytes.
    pub wrong_grown: u64,
    /// Calls in a second of the namespace that calls as fast as it can, over all connections of a closed loop.
    pub blast_per_second: f64,
    /// With that namespace.
    pub with_blast: Latencies,
}

impl Bench {
    /// Attacks a gateway on one core, and measures what other callers feel of it.
    ///
    /// # Errors
    /// When something does not start, one of the others is not served, or the attack does not reach its rate.
    pub fn attack(&self) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let upstream = peers::upstream(folder, &self.cores)?;
        let world = World { size: PEERS, upstream: upstream.address };
        let [attackers, listeners] = self.cores.two_loads();
        let others = Load::new(&self.subfolder("others")?, &world, &listeners)?;
        // The others use the first key, so the blast is of another namespace's keys.
        let blast =
            Load::from_keys(&self.subfolder("blast")?, world.keys().skip(KEYS_PER_APPLICATION).take(KEYS_PER_APPLICATION), &attackers)?;
        let portal = MockPortal::start(world)?;
        let gateway = self.gateway("gateway", &portal, &[])?;
        let process = &gateway.process;
        others.closed_loop(process, CONNECTIONS, Duration::from_secs(2))?;
        blast.closed_loop(process, CONNECTIONS, Duration::from_secs(2))?;
        let listen = || others.open_loop(process.address, OTHERS_CONNECTIONS, OTHERS, self.duration);
        // The load's own warm-up of a second lies before it.
        let wave = self.duration + Duration::from_secs(3);

        let (before, alone) = (process.cpu(), listen()?);
        let cpu_alone = process.cpu() - before;
        let (rss, before) = (process.rss(), process.cpu());
        let (with_wrong_keys, wrong) = std::thread::scope(|scope| {
            let attack = scope.spawn(|| {
                attackers.keep_to_load()?;
                wrong_keys(process.address, wave)
            });
            let heard = listen();
            let spent = process.cpu() - before;
            let wrong = attack.join().map_err(|_| anyhow::anyhow!("the attack panicked"))?;
            anyhow::Ok(((heard?, spent), wrong?))
        })?;
        let (with_wrong_keys, spent) = with_wrong_keys;
        let wrong_grown = process.rss().saturating_sub(rss);
        let (with_blast, run) = std::thread::scope(|scope| {
            let attack = scope.spawn(|| blast.closed_loop(process, CONNECTIONS, wave));
            let heard = listen();
            let run = attack.join().map_err(|_| anyhow::anyhow!("the blast panicked"))?;
            anyhow::Ok((heard?, run?))
        })?;
        let wrong_in_time = wrong * (self.duration.as_secs_f64() + 1.0);
        let found = Attack {
            others_per_second: OTHERS,
            alone,
            wrong_per_second: wrong,
            with_wrong_keys,
            wrong_cpu_micros: spent.saturating_sub(cpu_alone).as_secs_f64() * 1e6 / wrong_in_time,
            wrong_grown,
            blast_per_second: run.per_second,
            with_blast,
        };
        say(&format!("{found:#?}"));
        self.keep("attack", &found)
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
        let request = format!("GET {PATH} HTTP/1.1\r\nhost: api.example.com\r\nx-api-key: {key}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
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
