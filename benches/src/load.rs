//! The load: `wrk` in a closed loop over all keys, `h2load` at a fixed rate.

use std::{
    fs,
    io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{
    process::{Cores, Process},
    world::{PATH, World},
};

/// Threads of `wrk`, which it divides its connections over.
const THREADS: usize = 2;

/// What runs load.
#[derive(Debug)]
pub struct Load {
    script: PathBuf,
    first_key: String,
    log: PathBuf,
    cores: String,
}

/// What one run in a closed loop gave.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Answers other than 2xx and 3xx, and broken connections.
    pub errors: u64,
    /// Requests a second.
    pub per_second: f64,
    /// The proxy's own user and system time a request, in microseconds.
    pub cpu_micros: f64,
    /// How much of one core the proxy used.
    pub busy: f64,
}

/// Latencies at a fixed rate, in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Latencies {
    /// The median.
    pub p50: u64,
    /// Of a hundred, one is slower.
    pub p99: u64,
    /// Of a thousand, one is slower.
    pub p999: u64,
}

impl Load {
    /// Writes the keys for the load.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn new(folder: &Path, world: &World, cores: &Cores) -> anyhow::Result<Self> {
        Self::from_keys(folder, world.keys(), cores)
    }

    /// The same with some of the keys.
    ///
    /// # Errors
    /// When the disk refuses, or there are none.
    pub fn from_keys(folder: &Path, texts: impl Iterator<Item = String>, cores: &Cores) -> anyhow::Result<Self> {
        let keys = folder.join("keys.txt");
        let mut file = BufWriter::new(fs::File::create(&keys)?);
        let mut first_key = None;
        for key in texts {
            writeln!(file, "{key}")?;
            first_key.get_or_insert(key);
        }
        file.flush()?;
        Ok(Self {
            script: write_script(folder, "keys.lua", &keys)?,
            first_key: first_key.context("there are no keys")?,
            log: folder.join("h2load.log"),
            cores: Cores::list(&cores.load),
        })
    }

    /// The same load with one key for all calls.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn with_one_key(&self, folder: &Path) -> anyhow::Result<Self> {
        let keys = folder.join("one-key.txt");
        fs::write(&keys, format!("{}\n", self.first_key))?;
        let script = write_script(folder, "one-key.lua", &keys)?;
        Ok(Self { script, first_key: self.first_key.clone(), log: self.log.clone(), cores: self.cores.clone() })
    }

    /// Calls as fast as the proxy answers.
    ///
    /// # Errors
    /// When `wrk` cannot be run.
    pub fn closed_loop(&self, proxy: &Process, connections: usize, duration: Duration) -> anyhow::Result<Run> {
        let before = proxy.cpu();
        let output = Command::new("taskset")
            .args(["-c", &self.cores, "wrk", &format!("-t{THREADS}"), &format!("-c{connections}"), &format!("-d{}s", duration.as_secs())])
            .arg("-s")
            .arg(&self.script)
            .arg(format!("http://{}/", proxy.address))
            .output()
            .context("cannot run wrk; `scripts/setup bench` installs it")?;
        let cpu = proxy.cpu() - before;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        }
        let number = |before: &str, after: &str| -> Option<f64> {
            let line = text.lines().find(|line| line.contains(after))?;
            let rest = if before.is_empty() { line } else { line.split_once(before)?.1 };
            rest.split_whitespace().next()?.trim_end_matches(',').parse().ok()
        };
        let requests = number("", " requests in ").context("wrk told no number of requests")?;
        let socket_errors: f64 = ["connect ", "read ", "write ", "timeout "].iter().filter_map(|kind| number(kind, "Socket errors:")).sum();
        let errors = number("responses:", "Non-2xx").unwrap_or(0.0) + socket_errors;
        Ok(Run {
            errors: errors as u64,
            per_second: number("Requests/sec:", "Requests/sec:").context("wrk told no rate")?,
            cpu_micros: cpu.as_secs_f64() * 1e6 / requests,
            busy: cpu.as_secs_f64() / duration.as_secs_f64(),
        })
    }

    /// Calls at a fixed rate, whether answers come or not, with one key.
    ///
    /// # Errors
    /// When `h2load` cannot be run, or nothing was answered.
    pub fn open_loop(&self, address: SocketAddr, connections: usize, rate: u64, duration: Duration) -> anyhow::Result<Latencies> {
        // It appends to what is there.
        let _ = fs::remove_file(&self.log);
        let output = Command::new("taskset")
            .args(["-c", &self.cores, "h2load", "--h1", "-t1", "--warm-up-time=1"])
            .args([format!("-c{connections}"), format!("-D{}", duration.as_secs()), format!("--rps={}", rate / connections as u64)])
            .arg(format!("--log-file={}", self.log.display()))
            .args(["-H", &format!("x-api-key: {}", self.first_key), "-H", "accept: application/json"])
            .arg(format!("http://{address}{PATH}?city=oslo"))
            .output()
            .context("cannot run h2load; `scripts/setup bench` installs it")?;
        if !output.status.success() {
            bail!("h2load failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let mut micros = Vec::new();
        for line in BufReader::new(fs::File::open(&self.log)?).lines() {
            // Start in microseconds, status, duration in microseconds.
            let line = line?;
            let mut fields = line.split('\t').skip(1);
            if fields.next() != Some("200") {
                bail!("an answer at {rate} requests a second was none: {line}");
            }
            micros.extend(fields.next().and_then(|field| field.parse::<u64>().ok()));
        }
        micros.sort_unstable();
        let share = |per_mille: usize| micros.get(micros.len() * per_mille / 1_000).or(micros.last()).copied().unwrap_or(0);
        if micros.is_empty() {
            bail!("h2load measured nothing");
        }
        Ok(Latencies { p50: share(500), p99: share(990), p999: share(999) })
    }
}

/// One call on a connection that stays open, whole answer and all.
///
/// # Errors
/// When it is not answered with 200.
pub fn call_once(stream: &mut TcpStream, key: &str) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // In one piece: the second of several would wait for the first one's acknowledgement.
    stream.set_nodelay(true)?;
    stream.write_all(format!("GET {PATH} HTTP/1.1\r\nhost: api.example.com\r\nx-api-key: {key}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    let whole = |answer: &[u8]| {
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        head.is_some_and(|head| answer.len() >= head + 4 + crate::peers::ANSWER_BYTES)
    };
    while !whole(&answer) {
        let count = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..count]);
        if count == 0 || !answer.starts_with(b"HTTP/1.1 200") {
            bail!("a call was not answered with 200: {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(())
}

fn write_script(folder: &Path, name: &str, keys: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    // Requests are put together from strings that are ready: `wrk.format` would cost the load more than the call costs the proxy.
    let text = format!(
        "local counter = 0\n\
         function setup(thread) thread:set('offset', counter); counter = counter + 1 end\n\
         local keys, at = {{}}, 0\n\
         local head = 'GET {PATH}?city=oslo HTTP/1.1\\r\\nHost: api.example.com\\r\\nAccept: application/json\\r\\nX-Api-Key: '\n\
         function init()\n\
         \x20 for key in io.lines('{}') do keys[#keys + 1] = key end\n\
         \x20 at = math.floor(#keys * offset / {THREADS})\n\
         end\n\
         function request()\n\
         \x20 at = at + 1\n  if at > #keys then at = 1 end\n\
         \x20 return head .. keys[at] .. '\\r\\n\\r\\n'\n\
         end\n",
        keys.display()
    );
    fs::write(&path, text)?;
    Ok(path)
}
