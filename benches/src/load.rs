//! The load: `wrk` in a closed loop over all keys, and calls at a fixed rate.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{
    open_loop::{Latencies, OpenLoop},
    process::{Cores, Process},
    world::{PATH, World},
};

/// Threads of `wrk`, which it divides its connections over.
const THREADS: usize = 2;

/// What runs load.
#[derive(Debug)]
pub struct Load {
    script: PathBuf,
    keys: Vec<String>,
    cores: Cores,
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
        let keys: Vec<String> = texts.collect();
        fs::write(folder.join("keys.txt"), keys.join("\n"))?;
        Ok(Self { script: write_script(folder, "keys.lua", &folder.join("keys.txt"))?, keys, cores: cores.clone() })
    }

    /// Calls as fast as the proxy answers.
    ///
    /// # Errors
    /// When `wrk` cannot be run.
    pub fn closed_loop(&self, proxy: &Process, connections: usize, duration: Duration) -> anyhow::Result<Run> {
        let before = proxy.cpu();
        let output = Command::new("taskset")
            .args([
                "-c",
                &Cores::list(&self.cores.load),
                "wrk",
                &format!("-t{THREADS}"),
                &format!("-c{connections}"),
                &format!("-d{}s", duration.as_secs()),
            ])
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

    /// Calls at a fixed rate, whether answers come or not.
    ///
    /// # Errors
    /// When an answer is not 200, or does not come.
    pub fn open_loop(&self, address: SocketAddr, connections: usize, rate: f64, duration: Duration) -> anyhow::Result<Latencies> {
        let requests: Vec<String> = self.keys.iter().map(|key| request(key)).collect();
        let calls = OpenLoop { requests: &requests, connections, rate, spins: self.cores.spare() };
        // A thread of its own keeps to a core of this load, and leaves the caller where it is.
        let [_, cores] = self.cores.two_loads();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                cores.keep_to_load()?;
                calls.run(address, duration)
            });
            run.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
        })
    }
}

/// A call, as it is written.
pub fn request(key: &str) -> String {
    format!("GET {PATH}?city=oslo HTTP/1.1\r\nhost: api.example.com\r\naccept: application/json\r\nx-api-key: {key}\r\n\r\n")
}

/// One call on a connection that stays open, whole answer and all.
///
/// # Errors
/// When it is not answered with 200.
pub fn call_once(stream: &mut TcpStream, key: &str) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // In one piece: the second of several would wait for the first one's acknowledgement.
    stream.set_nodelay(true)?;
    stream.write_all(request(key).as_bytes())?;
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
