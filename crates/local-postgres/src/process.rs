//! Child processes: a process group of their own (so that Ctrl-C reaches only the one who started them), output to a log file, an id file for the
//! next run, and an orderly stop.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::Child;

/// How often the death of a process that is not our child is looked for; the kernel tells parents only.
const ORPHAN_POLL: Duration = Duration::from_millis(50);

/// A child process.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    id_file: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `<data>/logs/<name>.log`.
    pub fn spawn(name: &'static str, mut command: Command, data: &Path) -> anyhow::Result<Self> {
        let log = data.join("logs").join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = tokio::process::Command::from(command).spawn().with_context(|| format!("cannot start {program}"))?;
        let id_file = data.join("run").join(format!("{name}.pid"));
        fs::write(&id_file, format!("{}\n{program}\n", child.id().unwrap_or_default()))?;
        Ok(Self { name, child, log, id_file })
    }

    /// The process's id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// The last lines of its log, for an error message.
    pub fn last_lines(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().map(|line| format!("    {line}\n")).collect()
    }

    /// Asks it to stop by `signal`, and kills it when `patience` is over. A process that does not end well says so by its status, which is an error.
    pub async fn stop(mut self, signal: Signal, patience: Duration) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, signal).with_context(|| format!("cannot stop the {}", self.name))?;
        }
        let Ok(status) = tokio::time::timeout(patience, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("the {} did not stop within {} s and was killed; its log is {}", self.name, patience.as_secs(), self.log.display());
        };
        fs::remove_file(&self.id_file).with_context(|| format!("cannot remove {}", self.id_file.display()))?;
        let status = status?;
        if !status.success() {
            bail!("the {} did not end well ({status}); its log is {}:\n{}", self.name, self.log.display(), self.last_lines());
        }
        Ok(())
    }

    /// Kills it as a crash would (`kill -9`), for tests. Its id file stays behind, as it does then.
    pub async fn kill_now(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Stops what an earlier run left behind because it was killed itself. The caller holds the data folder's lock, so no living run owns them.
pub async fn stop_orphans(data: &Path) -> anyhow::Result<Vec<String>> {
    let mut stopped = Vec::new();
    let mut paths = fs::read_dir(data.join("run"))?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    // The order of the names is the right one: a gateway ships its usage to the portal, and the portal needs Postgres.
    paths.sort();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let mut lines = text.lines();
        let (pid, program) = (lines.next().and_then(|line| line.parse::<i32>().ok()), lines.next().unwrap_or_default());
        if let Some(pid) = pid.and_then(Pid::from_raw).filter(|pid| runs(*pid, program)) {
            let signal = if program.ends_with("postgres") { Signal::INT } else { Signal::TERM };
            kill_process(pid, signal)?;
            wait_for_death(pid, program, Duration::from_secs(20)).await?;
            stopped.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
        fs::remove_file(&path)?;
    }
    Ok(stopped)
}

/// Whether a process with this id still runs that program: ids are used again, so the id alone proves nothing. A process that has ended and was not reaped
/// yet has no command line.
fn runs(pid: Pid, program: &str) -> bool {
    let command_line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_ok() && command_line.split(|byte| *byte == 0).next() == Some(program.as_bytes())
}

async fn wait_for_death(pid: Pid, program: &str, patience: Duration) -> anyhow::Result<()> {
    let gone = async {
        let mut poll = tokio::time::interval(ORPHAN_POLL);
        while runs(pid, program) {
            poll.tick().await;
        }
    };
    if tokio::time::timeout(patience, gone).await.is_err() {
        kill_process(pid, Signal::KILL)?;
    }
    Ok(())
}
