//! Processes under test: started on one core, looked at through `/proc`, ended with their owner.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_setaffinity},
};

/// For how long a process may take to listen.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How often, and for how long, a process is looked at until it rests.
const SETTLE_LOOKS: usize = 15;
const SETTLE_LOOK: Duration = Duration::from_millis(200);

/// Which core does what. Fewer than four cores share.
#[derive(Debug, Clone)]
pub struct Cores {
    /// How many there are.
    pub count: usize,
    /// Runs the upstream.
    pub upstream: usize,
    /// Runs the proxy under test.
    pub proxy: usize,
    /// Run the load and the mock portal.
    pub load: Vec<usize>,
}

impl Cores {
    /// Divides what the machine has.
    pub fn divide() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let upstream = count - 1;
        let proxy = count.saturating_sub(2);
        let load = if count > 3 { (0..count - 2).collect() } else { vec![0] };
        Self { count, upstream, proxy, load }
    }

    /// Whether the load has cores that nothing else is measured on.
    pub fn spare(&self) -> bool {
        self.count > 3
    }

    /// Keeps this process, and what it starts without a core of its own, off the cores under test.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep_to_load(&self) -> anyhow::Result<()> {
        let mut set = CpuSet::new();
        self.load.iter().for_each(|core| set.set(*core));
        Ok(sched_setaffinity(None, &set)?)
    }

    /// The cores of the load in two parts, so that one load does not wait for the other; the same twice where there is only one.
    pub fn two_loads(&self) -> [Self; 2] {
        let (one, other) = self.load.split_at(self.load.len() / 2);
        [if one.is_empty() { other } else { one }, other].map(|load| Self { load: load.to_vec(), ..self.clone() })
    }

    /// The list of cores as `taskset` has it.
    pub fn list(cores: &[usize]) -> String {
        cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

/// A free port of 127.0.0.1.
///
/// # Errors
/// When there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?)
}

/// A process that is ended when this is dropped.
#[derive(Debug)]
pub struct Process {
    /// Its name in tables.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures each of some processes that share their cores, while the others stand still: what one does at rest is no burden of another.
///
/// # Errors
/// When a process has ended, or cannot be measured.
pub fn in_turns(processes: &[&Process], mut measure: impl FnMut(usize, &Process) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let pause = |pauses: bool| processes.iter().try_for_each(|process| process.pause(pauses));
    pause(true)?;
    for (number, process) in processes.iter().enumerate() {
        process.pause(false)?;
        measure(number, process)?;
        process.settle();
        process.pause(true)?;
    }
    pause(false)
}

/// What to start.
#[derive(Debug)]
pub struct Start<'a> {
    /// Its name in tables.
    pub name: &'a str,
    /// Where it will listen.
    pub address: SocketAddr,
    /// The cores it may use.
    pub cores: &'a [usize],
    /// Where its output goes.
    pub folder: &'a Path,
}

impl Process {
    /// Starts a program on its cores and waits until it listens.
    ///
    /// # Errors
    /// When it is not there, or ends, or does not listen in time.
    pub fn start(start: &Start<'_>, program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let log = start.folder.join(format!("{}.log", start.name.replace(' ', "-")));
        let out = File::create(&log)?;
        // Even if this process is killed, nothing of what it started is left.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c", &Cores::list(start.cores)])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut process = Self { name: start.name.to_owned(), address: start.address, child, log };
        process.wait_until_listening()?;
        Ok(process)
    }

    fn wait_until_listening(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait()?.is_some() || started.elapsed() > START_WITHIN {
                bail!("{} does not listen on {}:\n{}", self.name, self.address, fs::read_to_string(&self.log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// When it does not in time, or fails.
    pub fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let asked = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} ended with {status}:\n{}", self.name, fs::read_to_string(&self.log).unwrap_or_default()),
                None if asked.elapsed() > within => bail!("{} does not stop", self.name),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Duration {
        let tick_hz = rustix::param::clock_ticks_per_second();
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        // proc(5): utime and stime are fields 14 and 15; what stands behind the name starts with field 3.
        let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1_000 / tick_hz)
    }

    /// Has it stand still, or go on.
    ///
    /// # Errors
    /// When it has ended.
    fn pause(&self, pauses: bool) -> anyhow::Result<()> {
        let signal = if pauses { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("{} has ended", self.name))
    }

    /// Waits until it rests: what it does behind its answers is not to be another's burden, which is measured next.
    pub fn settle(&self) {
        for _ in 0..SETTLE_LOOKS {
            let before = self.cpu();
            std::thread::sleep(SETTLE_LOOK);
            if self.cpu() - before <= SETTLE_LOOK / 10 {
                return;
            }
        }
    }

    /// Memory that is in RAM and is its own or shared by it, in bytes.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
    }
}
